// Small entries of a zip archive that is appended to other bytes. Every read is bounded: the file is a stranger's.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace retinaface {

constexpr std::size_t kMaxEntryBytes = std::size_t{1} << 20;

namespace detail {

// Little-endian numbers at any offset; the caller has checked that they lie inside.
inline std::uint32_t u16(std::string_view bytes, std::size_t at) {
  const std::uint32_t high = static_cast<std::uint8_t>(bytes[at + 1]);
  return static_cast<std::uint8_t>(bytes[at]) | high << 8;
}
inline std::uint32_t u32(std::string_view bytes, std::size_t at) { return u16(bytes, at) | u16(bytes, at + 2) << 16; }

inline bool inside(std::string_view bytes, std::size_t at, std::size_t length) {
  return at <= bytes.size() && length <= bytes.size() - at;
}

inline std::uint32_t crc32(std::string_view bytes) {
  std::uint32_t crc = ~std::uint32_t{0};
  for (const char byte : bytes) {
    crc ^= static_cast<std::uint8_t>(byte);
    for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0u);
  }
  return ~crc;
}

// RFC 1951. Nothing is written beyond the size that the archive announces, nothing read beyond the input.
class Inflater {
 public:
  static std::optional<std::string> inflate(std::string_view packed, std::size_t size) {
    Inflater state(packed, size);
    bool last = false;
    while (!last) {
      last = state.bits(1) != 0;
      const unsigned type = state.bits(2);
      const bool ok = type == 0 ? state.stored() : type == 1 ? state.fixed() : type == 2 && state.dynamic();
      if (!ok || state.failed_) return std::nullopt;
    }
    if (state.out_.size() != size) return std::nullopt;
    return std::move(state.out_);
  }

 private:
  static constexpr int kMaxBits = 15;

  // Canonical Huffman code: how many codes of each length, and the symbols in the order of their codes.
  struct Huffman {
    std::array<std::uint16_t, kMaxBits + 1> count{};
    std::array<std::uint16_t, 288> symbol{};

    bool build(const std::uint8_t* lengths, int symbols) {
      count.fill(0);
      for (int i = 0; i < symbols; i++) count[lengths[i]]++;
      count[0] = 0;
      std::array<std::uint16_t, kMaxBits + 2> first{};
      int left = 1;
      for (int length = 1; length <= kMaxBits; length++) {
        left = 2 * left - count[static_cast<std::size_t>(length)];
        if (left < 0) return false;  // more codes than there are
        first[static_cast<std::size_t>(length) + 1] = static_cast<std::uint16_t>(
            first[static_cast<std::size_t>(length)] + count[static_cast<std::size_t>(length)]);
      }
      for (int i = 0; i < symbols; i++) {
        if (lengths[i]) symbol[first[lengths[i]]++] = static_cast<std::uint16_t>(i);
      }
      return true;
    }
  };

  Inflater(std::string_view packed, std::size_t size) : in_(packed), size_(size) { out_.reserve(size); }

  unsigned bits(int count) {
    while (held_ < count) {
      if (at_ == in_.size()) {
        failed_ = true;
        return 0;
      }
      buffer_ |= static_cast<std::uint32_t>(static_cast<std::uint8_t>(in_[at_++])) << held_;
      held_ += 8;
    }
    const unsigned value = buffer_ & ((1u << count) - 1);
    buffer_ >>= count;
    held_ -= count;
    return value;
  }

  int decode(const Huffman& code) {
    int value = 0, first = 0, index = 0;
    for (std::size_t length = 1; length <= kMaxBits && !failed_; length++) {
      value |= static_cast<int>(bits(1));
      const int count = code.count[length];
      if (value - count < first) return code.symbol[static_cast<std::size_t>(index + value - first)];
      index += count;
      first = (first + count) << 1;
      value <<= 1;
    }
    failed_ = true;
    return -1;
  }

  bool stored() {
    buffer_ = 0;
    held_ = 0;
    if (!inside(in_, at_, 4)) return false;
    const std::size_t length = u16(in_, at_);
    if (length != (~u16(in_, at_ + 2) & 0xffff)) return false;
    at_ += 4;
    if (!inside(in_, at_, length) || length > size_ - out_.size()) return false;
    out_.append(in_.substr(at_, length));
    at_ += length;
    return true;
  }

  bool fixed() {
    std::array<std::uint8_t, 288 + 30> lengths;
    for (std::size_t i = 0; i < 288; i++) lengths[i] = i < 144 ? 8 : i < 256 ? 9 : i < 280 ? 7 : 8;
    for (std::size_t i = 288; i < lengths.size(); i++) lengths[i] = 5;
    Huffman literals, distances;
    return literals.build(lengths.data(), 288) && distances.build(lengths.data() + 288, 30) &&
           block(literals, distances);
  }

  bool dynamic() {
    static constexpr std::array<std::uint8_t, 19> kOrder = {16, 17, 18, 0, 8,  7, 9,  6, 10, 5,
                                                            11, 4,  12, 3, 13, 2, 14, 1, 15};
    const int literal_count = static_cast<int>(bits(5)) + 257;
    const int distance_count = static_cast<int>(bits(5)) + 1;
    const std::size_t code_count = bits(4) + 4;
    if (literal_count > 286 || distance_count > 30) return false;
    std::array<std::uint8_t, 19> code_lengths{};
    for (std::size_t i = 0; i < code_count; i++) code_lengths[kOrder[i]] = static_cast<std::uint8_t>(bits(3));
    Huffman codes;
    if (!codes.build(code_lengths.data(), 19)) return false;
    std::array<std::uint8_t, 286 + 30> lengths{};
    const std::size_t total = static_cast<std::size_t>(literal_count + distance_count);
    for (std::size_t i = 0; i < total;) {
      const int symbol = decode(codes);
      if (symbol < 0) return false;
      if (symbol < 16) {
        lengths[i++] = static_cast<std::uint8_t>(symbol);
        continue;
      }
      if (symbol == 16 && i == 0) return false;
      const std::uint8_t value = symbol == 16 ? lengths[i - 1] : std::uint8_t{0};
      const std::size_t repeat = symbol == 16 ? 3 + bits(2) : symbol == 17 ? 3 + bits(3) : 11 + bits(7);
      if (failed_ || repeat > total - i) return false;
      for (std::size_t k = 0; k < repeat; k++) lengths[i++] = value;
    }
    Huffman literals, distances;
    return literals.build(lengths.data(), literal_count) &&
           distances.build(lengths.data() + literal_count, distance_count) && block(literals, distances);
  }

  bool block(const Huffman& literals, const Huffman& distances) {
    static constexpr std::array<std::uint16_t, 29> kLength = {3,  4,  5,  6,   7,   8,   9,   10,  11, 13,
                                                              15, 17, 19, 23,  27,  31,  35,  43,  51, 59,
                                                              67, 83, 99, 115, 131, 163, 195, 227, 258};
    static constexpr std::array<std::uint8_t, 29> kLengthBits = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2,
                                                                 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0};
    static constexpr std::array<std::uint16_t, 30> kDistance = {
        1,   2,   3,   4,   5,   7,    9,    13,   17,   25,   33,   49,   65,    97,    129,
        193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577};
    for (;;) {
      const int symbol = decode(literals);
      if (symbol < 0) return false;
      if (symbol == 256) return true;
      if (symbol < 256) {
        if (out_.size() == size_) return false;
        out_.push_back(static_cast<char>(symbol));
        continue;
      }
      const std::size_t code = static_cast<std::size_t>(symbol) - 257;
      if (code >= kLength.size()) return false;
      const std::size_t length = kLength[code] + bits(kLengthBits[code]);
      const int place = decode(distances);
      if (place < 0 || static_cast<std::size_t>(place) >= kDistance.size()) return false;
      const std::size_t distance = kDistance[static_cast<std::size_t>(place)] + bits(place < 2 ? 0 : (place - 2) / 2);
      if (failed_ || distance > out_.size() || length > size_ - out_.size()) return false;
      for (std::size_t i = 0; i < length; i++) out_.push_back(out_[out_.size() - distance]);
    }
  }

  std::string_view in_;
  std::size_t size_;
  std::string out_;
  std::size_t at_ = 0;
  std::uint32_t buffer_ = 0;
  int held_ = 0;
  bool failed_ = false;
};

constexpr std::size_t kCentral = 46;  // bytes of what an archive's directory says of an entry

// Where the directory of the archive at a file's end lists an entry; none where there is no archive or no such entry.
inline std::optional<std::size_t> find_entry(std::string_view file, std::string_view name) {
  constexpr std::size_t kEnd = 22, kMaxComment = 0xffff;
  if (file.size() < kEnd) return std::nullopt;
  const std::size_t last = file.size() - kEnd, stop = last < kMaxComment ? 0 : last - kMaxComment;
  std::size_t end = last + 1;
  while (end > stop && u32(file, end - 1) != 0x06054b50) end--;
  if (end == stop) return std::nullopt;
  end--;
  std::size_t at = u32(file, end + 16);
  for (unsigned entries = u16(file, end + 10); entries > 0; entries--) {
    if (!inside(file, at, kCentral) || u32(file, at) != 0x02014b50) return std::nullopt;
    const std::size_t length = u16(file, at + 28);
    if (!inside(file, at + kCentral, length)) return std::nullopt;
    if (file.substr(at + kCentral, length) == name) return at;
    at += kCentral + length + u16(file, at + 30) + u16(file, at + 32);
  }
  return std::nullopt;
}

}  // namespace detail

// Whether the archive at a file's end lists an entry, damaged or not.
inline bool has_entry(std::string_view file, std::string_view name) {
  return detail::find_entry(file, name).has_value();
}

// The bytes of one entry of the archive at a file's end.
//
// Offsets in the archive count from the file's start, as Python's zipfile writes them when it appends. None where there
// is no archive, no such entry, or it is damaged, larger than 1 MiB, or neither stored nor deflated.
inline std::optional<std::string> read_entry(std::string_view file, std::string_view name) {
  constexpr std::size_t kLocal = 30;
  const std::optional<std::size_t> found = detail::find_entry(file, name);
  if (!found) return std::nullopt;
  const std::size_t at = *found;
  const unsigned method = detail::u16(file, at + 10);
  const std::size_t packed = detail::u32(file, at + 20), size = detail::u32(file, at + 24);
  const std::size_t local = detail::u32(file, at + 42);
  if (packed > kMaxEntryBytes || size > kMaxEntryBytes) return std::nullopt;
  if (!detail::inside(file, local, kLocal) || detail::u32(file, local) != 0x04034b50) return std::nullopt;
  const std::size_t start = local + kLocal + detail::u16(file, local + 26) + detail::u16(file, local + 28);
  if (!detail::inside(file, start, packed)) return std::nullopt;
  const std::string_view data = file.substr(start, packed);
  std::optional<std::string> result;
  if (method == 0 && packed == size) result = std::string(data);
  if (method == 8) result = detail::Inflater::inflate(data, size);
  if (result && detail::crc32(*result) != detail::u32(file, at + 16)) return std::nullopt;
  return result;
}

}  // namespace retinaface
