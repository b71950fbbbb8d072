// From the pixels of a picture to the network's input: letterbox, and one table from pixel to input value.
//
// Computes what OpenCV's resize with INTER_LINEAR computes on 8-bit pictures (11-bit coefficients; halving exactly
// means averaging 2×2), so that the network gets the same bytes as in Python.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include "retinaface/json.hpp"
#include "retinaface/spec.hpp"

namespace retinaface {

enum class Order { kBgr, kRgb, kBgra, kRgba, kGray };

// Pixels in somebody else's memory: 8 bits a channel, rows `stride` bytes apart (negative: bottom up).
struct Picture {
  const std::uint8_t* pixels = nullptr;
  int width = 0;  // pixels
  int height = 0;
  std::ptrdiff_t stride = 0;  // bytes
  Order order = Order::kBgr;
};

constexpr int kMaxSide = 65535;                                 // pixels
constexpr std::int64_t kMaxPixels = std::int64_t{1} << 28;

inline int bytes_per_pixel(Order order) {
  return order == Order::kGray ? 1 : order == Order::kBgra || order == Order::kRgba ? 4 : 3;
}

// Throws Error where the description contradicts itself.
inline void check(const Picture& picture) {
  const std::string size = std::to_string(picture.width) + "x" + std::to_string(picture.height);
  if (picture.width < 1 || picture.height < 1 || picture.width > kMaxSide || picture.height > kMaxSide ||
      std::int64_t{picture.width} * picture.height > kMaxPixels) {
    throw Error("picture is " + size + ", expected sides of 1 to 65535 and at most 2^28 pixels");
  }
  const std::ptrdiff_t row = std::ptrdiff_t{picture.width} * bytes_per_pixel(picture.order);
  if (picture.pixels == nullptr || (picture.stride < row && picture.stride > -row)) {
    throw Error("picture of " + size + ": no pixels, or rows of " + std::to_string(picture.stride) +
                " bytes, expected at least " + std::to_string(row));
  }
}

struct LetterboxSize {
  int rows = 0;  // of the picture inside the input
  int columns = 0;
  double scale = 0;  // input pixels per picture pixel
};

inline LetterboxSize letterbox_size(int image_height, int image_width, int height, int width) {
  const double scale = std::min(static_cast<double>(height) / image_height, static_cast<double>(width) / image_width);
  const auto side = [scale](int image, int most) {
    return std::clamp(static_cast<int>(image * scale + 0.5), 1, most);
  };
  return {side(image_height, height), side(image_width, width), scale};
}

struct Shape {
  int height = 0;  // pixels
  int width = 0;
};
inline bool operator==(const Shape& a, const Shape& b) { return a.height == b.height && a.width == b.width; }

// The smallest of a model's shapes that holds the letterboxed picture at the scale of the model's own input: one side is
// the model's own, the other 3/5, 7/10, 3/4 or all of it, up to a multiple of 32. Few, as another shape costs half the
// time of a detection. Whole numbers: in float, 384 rows could come out as 384.0000001 and take 480.
inline Shape auto_shape(int image_height, int image_width, Shape own) {
  const auto shortened = [](int side, std::int64_t numerator, std::int64_t denominator) {
    for (const auto& [part, whole] : {std::pair(3, 5), std::pair(7, 10), std::pair(3, 4)}) {
      const int unit = whole * 32, found = (side * part + unit - 1) / unit * 32;
      if (found * denominator >= numerator) return found;
    }
    return side;
  };
  if (std::int64_t{own.height} * image_width <= std::int64_t{own.width} * image_height) {
    return {own.height, shortened(own.width, std::int64_t{image_width} * own.height, image_height)};
  }
  return {shortened(own.height, std::int64_t{image_height} * own.width, image_width), own.width};
}

namespace detail {

// Two source positions and their weights, in 1/2048, for each target position.
struct Taps {
  std::vector<int> first, second;
  std::vector<std::int16_t> weight0, weight1;
  std::vector<std::int16_t> pairs;  // weight0, weight1 of each target, four times: what a vector multiplies with

  // OpenCV moves positions beyond the border to it across (`clamp_weights`), but only clamps the rows down.
  void build(int target, int source, bool clamp_weights) {
    for (std::vector<int>* index : {&first, &second}) index->resize(static_cast<std::size_t>(target));
    for (std::vector<std::int16_t>* weight : {&weight0, &weight1}) weight->resize(static_cast<std::size_t>(target));
    pairs.resize(static_cast<std::size_t>(target) * 8);
    const double step = 1.0 / (static_cast<double>(target) / source);
    const int last = source - 1;
    for (int i = 0; i < target; i++) {
      const std::size_t at = static_cast<std::size_t>(i);
      const float position = static_cast<float>((i + 0.5) * step - 0.5);
      int index = static_cast<int>(std::floor(position));
      float fraction = position - static_cast<float>(index);
      if (clamp_weights && (index < 0 || index >= last)) {
        index = std::clamp(index, 0, last);
        fraction = 0;
      }
      first[at] = std::clamp(index, 0, last);
      second[at] = std::clamp(index + 1, 0, last);
      weight0[at] = static_cast<std::int16_t>(std::lrint((1.0f - fraction) * 2048.0f));
      weight1[at] = static_cast<std::int16_t>(std::lrint(fraction * 2048.0f));
      for (std::size_t k = 8 * at; k < 8 * (at + 1); k++) pairs[k] = k % 2 ? weight1[at] : weight0[at];
    }
  }
};

// Rows of a source whose blue, green and red lie at these places of a pixel of `Step` bytes.
template <int Step, int B, int G, int R>
struct Layout {
  static constexpr int kStep = Step;
  static constexpr std::array<int, 3> kAt = {B, G, R};
};

template <class Use>
void with_layout(Order order, Use&& use) {
  switch (order) {
    case Order::kBgr: return use(Layout<3, 0, 1, 2>());
    case Order::kRgb: return use(Layout<3, 2, 1, 0>());
    case Order::kBgra: return use(Layout<4, 0, 1, 2>());
    case Order::kRgba: return use(Layout<4, 2, 1, 0>());
    case Order::kGray: return use(Layout<1, 0, 0, 0>());
  }
}

// Means of 2×2 pixels, halves up, of two source rows.
template <class L>
void halve_rows(const std::uint8_t* upper, const std::uint8_t* lower, int columns, std::uint8_t* out) {
  int column = 0;
#if defined(__SSE2__)
  if constexpr (L::kStep == 3) {
    // Two means at a time, out of twelve bytes of each row; sixteen are read, and four beyond the means are written.
    const __m128i zero = _mm_setzero_si128(), two = _mm_set1_epi16(2);
    for (; column + 4 <= columns; column += 2, upper += 12, lower += 12, out += 6) {
      const __m128i above = _mm_loadu_si128(reinterpret_cast<const __m128i*>(upper));
      const __m128i below = _mm_loadu_si128(reinterpret_cast<const __m128i*>(lower));
      const __m128i first = _mm_add_epi16(_mm_unpacklo_epi8(above, zero), _mm_unpacklo_epi8(below, zero));
      const __m128i above6 = _mm_srli_si128(above, 6), below6 = _mm_srli_si128(below, 6);
      const __m128i second = _mm_add_epi16(_mm_unpacklo_epi8(above6, zero), _mm_unpacklo_epi8(below6, zero));
      // Words 0-2 of each: left sums; words 3-5: right ones.
      const __m128i left = _mm_unpacklo_epi64(first, second);
      const __m128i right = _mm_unpacklo_epi64(_mm_srli_si128(first, 6), _mm_srli_si128(second, 6));
      __m128i means = _mm_srli_epi16(_mm_add_epi16(_mm_add_epi16(left, right), two), 2);
      if constexpr (L::kAt[0] == 2) {
        means = _mm_shufflehi_epi16(_mm_shufflelo_epi16(means, _MM_SHUFFLE(3, 0, 1, 2)), _MM_SHUFFLE(3, 0, 1, 2));
      }
      const __m128i bytes = _mm_packus_epi16(means, means);
      const std::int32_t pixel0 = _mm_cvtsi128_si32(bytes), pixel1 = _mm_cvtsi128_si32(_mm_srli_epi64(bytes, 32));
      std::memcpy(out, &pixel0, 4);
      std::memcpy(out + 3, &pixel1, 4);
    }
  }
#endif
  for (; column < columns; column++, upper += 2 * L::kStep, lower += 2 * L::kStep, out += 3) {
    for (std::size_t c = 0; c < 3; c++) {
      const int left = L::kAt[c], right = L::kAt[c] + L::kStep;
      out[c] = static_cast<std::uint8_t>((upper[left] + upper[right] + lower[left] + lower[right] + 2) >> 2);
    }
  }
}

template <class L>
void copy_row(const std::uint8_t* in, int columns, std::uint8_t* out) {
  for (int column = 0; column < columns; column++, in += L::kStep, out += 3) {
    for (std::size_t c = 0; c < 3; c++) out[c] = in[L::kAt[c]];
  }
}

// Interpolates one source row across: sums of pixel · weight, divided by 16 to fit 15 bits. `out` has room for one
// value more than 3 a column.
template <class L>
void scale_row(const std::uint8_t* in, int source_columns, const Taps& across, std::int16_t* out) {
  std::size_t column = 0;
  const std::size_t columns = across.first.size();
#if defined(__SSE2__)
  if constexpr (L::kStep >= 3) {
    // A load of eight bytes holds a pixel and its right neighbour; the row must have them. A pixel without a neighbour
    // has no weight for it.
    const int last = source_columns - (L::kStep == 3 ? 3 : 2);
    const auto sums = [&](std::size_t target) {
      const std::uint8_t* from = in + std::ptrdiff_t{across.first[target]} * L::kStep;
      const __m128i pixels = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from));
      const __m128i both = _mm_unpacklo_epi8(pixels, _mm_srli_epi64(pixels, 8 * L::kStep));
      const __m128i weights = _mm_loadu_si128(reinterpret_cast<const __m128i*>(across.pairs.data() + 8 * target));
      const __m128i sum = _mm_madd_epi16(_mm_unpacklo_epi8(both, _mm_setzero_si128()), weights);
      return _mm_srai_epi32(L::kAt[0] == 2 ? _mm_shuffle_epi32(sum, _MM_SHUFFLE(3, 0, 1, 2)) : sum, 4);
    };
    for (; column + 2 <= columns && across.first[column + 1] <= last; column += 2) {
      const __m128i two = _mm_packs_epi32(sums(column), sums(column + 1));
      _mm_storel_epi64(reinterpret_cast<__m128i*>(out + 3 * column), two);
      _mm_storel_epi64(reinterpret_cast<__m128i*>(out + 3 * column + 3), _mm_srli_si128(two, 8));
    }
  }
#endif
  for (; column < columns; column++) {
    const std::uint8_t* left = in + std::ptrdiff_t{across.first[column]} * L::kStep;
    const std::uint8_t* right = in + std::ptrdiff_t{across.second[column]} * L::kStep;
    for (std::size_t c = 0; c < 3; c++) {
      const int sum = left[L::kAt[c]] * across.weight0[column] + right[L::kAt[c]] * across.weight1[column];
      out[3 * column + c] = static_cast<std::int16_t>(sum >> 4);
    }
  }
  static_cast<void>(source_columns);
}

// One row between two of `scale_row`'s, of `count` values.
inline void blend_rows(const std::int16_t* upper, const std::int16_t* lower, int weight0, int weight1,
                       std::size_t count, std::uint8_t* out) {
  std::size_t i = 0;
#if defined(__SSE2__)
  const __m128i w0 = _mm_set1_epi16(static_cast<std::int16_t>(weight0));
  const __m128i w1 = _mm_set1_epi16(static_cast<std::int16_t>(weight1)), two = _mm_set1_epi16(2);
  const auto blend = [&](std::size_t at) {
    const __m128i a = _mm_mulhi_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(upper + at)), w0);
    const __m128i b = _mm_mulhi_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(lower + at)), w1);
    return _mm_srai_epi16(_mm_add_epi16(_mm_add_epi16(a, b), two), 2);
  };
  for (; i + 16 <= count; i += 16) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + i), _mm_packus_epi16(blend(i), blend(i + 8)));
  }
#endif
  for (; i < count; i++) {
    const int sum = (upper[i] * weight0 >> 16) + (lower[i] * weight1 >> 16);
    out[i] = static_cast<std::uint8_t>((sum + 2) >> 2);
  }
}

}  // namespace detail

// Scales pictures to fit an input, bilinear; rows come out one by one, B, G, R. Buffers are used again for the next.
class Letterbox {
 public:
  // Prepares for this picture, whose pixels must stay until its last row was read. Throws Error.
  LetterboxSize start(const Picture& picture, Shape input, bool antialias) {
    check(picture);
    size_ = letterbox_size(picture.height, picture.width, input.height, input.width);
    source_ = picture;
    while (antialias && source_.height >= 2 * size_.rows && source_.width >= 2 * size_.columns) halve();
    same_ = source_.height == size_.rows && source_.width == size_.columns;
    half_ = source_.height == 2 * size_.rows && source_.width == 2 * size_.columns;
    const std::size_t values = static_cast<std::size_t>(size_.columns) * 3;
    row_.resize(values);
    if (!same_ && !half_) {
      const std::array<int, 4> key = {size_.columns, source_.width, size_.rows, source_.height};
      if (key != taps_of_) {
        across_.build(size_.columns, source_.width, true);
        down_.build(size_.rows, source_.height, false);
        taps_of_ = key;
      }
      upper_.resize(values + 1);
      lower_.resize(values + 1);
      upper_row_ = lower_row_ = -1;
    }
    return size_;
  }

  // Row `row` of the scaled picture, 3 · columns bytes; fastest when asked for in order. Valid until the next call.
  const std::uint8_t* row(int row) {
    if (same_) return copied(row);
    detail::with_layout(source_.order, [&](auto layout) {
      using L = decltype(layout);
      if (half_) {
        detail::halve_rows<L>(line(2 * row), line(2 * row + 1), size_.columns, row_.data());
      } else {
        interpolate<L>(static_cast<std::size_t>(row));
      }
    });
    return row_.data();
  }

 private:
  const std::uint8_t* line(int row) const { return source_.pixels + std::ptrdiff_t{row} * source_.stride; }

  const std::uint8_t* copied(int row) {
    if (source_.order == Order::kBgr) return line(row);
    detail::with_layout(source_.order, [&](auto layout) {
      detail::copy_row<decltype(layout)>(line(row), size_.columns, row_.data());
    });
    return row_.data();
  }

  void halve() {
    const int rows = source_.height / 2, columns = source_.width / 2;
    const std::ptrdiff_t stride = std::ptrdiff_t{columns} * 3;
    halved_.resize(std::max(halved_.size(), static_cast<std::size_t>(rows) * static_cast<std::size_t>(stride)));
    // From the second time on in place: what is written lies before what is still to be read.
    detail::with_layout(source_.order, [&](auto layout) {
      for (int row = 0; row < rows; row++) {
        detail::halve_rows<decltype(layout)>(line(2 * row), line(2 * row + 1), columns, halved_.data() + row * stride);
      }
    });
    source_ = {halved_.data(), columns, rows, stride, Order::kBgr};
  }

  template <class L>
  void interpolate(std::size_t row) {
    const int first = down_.first[row], second = down_.second[row];
    if (first == lower_row_) {
      std::swap(upper_, lower_);
      std::swap(upper_row_, lower_row_);
    }
    if (first != upper_row_) detail::scale_row<L>(line(first), source_.width, across_, upper_.data());
    upper_row_ = first;
    if (second != lower_row_) detail::scale_row<L>(line(second), source_.width, across_, lower_.data());
    lower_row_ = second;
    detail::blend_rows(upper_.data(), lower_.data(), down_.weight0[row], down_.weight1[row], row_.size(), row_.data());
  }

  LetterboxSize size_;
  Picture source_;
  bool same_ = false, half_ = false;
  std::vector<std::uint8_t> halved_, row_;
  std::array<int, 4> taps_of_{};
  detail::Taps across_, down_;
  std::vector<std::int16_t> upper_, lower_;
  int upper_row_ = -1, lower_row_ = -1;
};

// The network's input value for each pixel value: mean and quantization in one table, made in double.
class InputTable {
 public:
  // `scale` and `zero_point` of an int8 input.
  InputTable(const std::vector<double>& mean, float scale, int zero_point) {
    for (std::size_t i = 0; i < 256 * 3; i++) {
      const double value = static_cast<double>(i / 3) - mean[i % 3];
      const double quantized = std::floor(value / static_cast<double>(scale) + 0.5) + zero_point;
      quantized_[i] = static_cast<std::int8_t>(std::clamp(quantized, -128.0, 127.0));
    }
    find_affine(static_cast<double>(scale));
  }

  // Of a float32 input.
  explicit InputTable(const std::vector<double>& mean) {
    for (std::size_t i = 0; i < 256 * 3; i++) {
      floats_[i] = static_cast<float>(static_cast<double>(i / 3) - mean[i % 3]);
    }
  }

  std::int8_t quantized(std::size_t pixel, std::size_t channel) const { return quantized_[pixel * 3 + channel]; }

  void apply(const std::uint8_t* row, std::size_t count, std::int8_t* out) const {
    std::size_t i = 0;
    if (affine_) {
      for (; i + kBlock <= count; i += kBlock) {
        for (std::size_t k = 0; k < kBlock; k++) {
          const std::uint16_t product =
              static_cast<std::uint16_t>((std::uint32_t{static_cast<std::uint16_t>(row[i + k] << 8)} * factor_) >> 16);
          const std::uint16_t sum = static_cast<std::uint16_t>(product + offsets_[k]);
          out[i + k] = static_cast<std::int8_t>((sum >> 8) ^ 0x80);
        }
      }
    }
    for (; i < count; i++) out[i] = quantized_[row[i] * std::size_t{3} + i % 3];
  }

  void apply(const std::uint8_t* row, std::size_t count, float* out) const {
    for (std::size_t i = 0; i < count; i++) out[i] = floats_[row[i] * std::size_t{3} + i % 3];
  }

 private:
  static constexpr std::size_t kBlock = 48;  // values: whole pixels and whole vectors

  // The same table as value = (pixel · factor + offset) >> 8, which runs on vectors; kept only where every pixel value
  // of every channel comes out right.
  void find_affine(double scale) {
    const double exact = 65536.0 / scale;
    for (int step = -3; step <= 3 && !affine_; step++) {
      factor_ = static_cast<std::uint16_t>(std::clamp(std::floor(exact) + step, 0.0, 65535.0));
      affine_ = true;
      for (std::size_t channel = 0; channel < 3 && affine_; channel++) {
        int low = -65536, high = 65535;  // offsets that fit every pixel value
        for (std::size_t pixel = 0; pixel < 256; pixel++) {
          const int product = static_cast<int>((static_cast<std::uint32_t>(pixel << 8) * factor_) >> 16);
          const int wanted = (quantized(pixel, channel) + 128) * 256;
          low = std::max(low, wanted - product);
          high = std::min(high, wanted + 255 - product);
        }
        affine_ = low <= high;
        for (std::size_t k = channel; k < kBlock; k += 3) offsets_[k] = static_cast<std::uint16_t>(low & 0xffff);
      }
    }
  }

  std::array<std::int8_t, 256 * 3> quantized_{};
  std::array<float, 256 * 3> floats_{};
  bool affine_ = false;
  std::uint16_t factor_ = 0;
  std::array<std::uint16_t, kBlock> offsets_{};
};

// Fills the network's input [height, width, 3], int8 or float32, with a picture; the rest is the rounded mean.
class InputWriter {
 public:
  InputWriter(const Spec& spec, Shape input, InputTable table)
      : input_(input), antialias_(spec.antialias), table_(std::move(table)) {
    for (int column = 0; column < input.width; column++) {
      for (const double mean : spec.mean) fill_.push_back(static_cast<std::uint8_t>(std::floor(mean + 0.5)));
    }
  }

  // Throws Error where the picture's description contradicts itself.
  template <class Value>
  LetterboxSize write(const Picture& picture, Value* tensor) {
    const LetterboxSize size = letterbox_.start(picture, input_, antialias_);
    const std::size_t width = fill_.size(), used = static_cast<std::size_t>(size.columns) * 3;
    for (int row = 0; row < input_.height; row++, tensor += width) {
      if (row < size.rows) {
        table_.apply(letterbox_.row(row), used, tensor);
        table_.apply(fill_.data(), width - used, tensor + used);
      } else {
        table_.apply(fill_.data(), width, tensor);
      }
    }
    return size;
  }

 private:
  Shape input_;
  bool antialias_;
  InputTable table_;
  Letterbox letterbox_;
  std::vector<std::uint8_t> fill_;
};

}  // namespace retinaface
