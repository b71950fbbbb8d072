// A strict JSON reader of bounded depth, for documents of at most 1 MiB.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <locale>
#include <map>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace retinaface {

// What is wrong with a model file, a picture or a call: one line that names it, what was found and what is expected.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

namespace json {

enum class Kind { kNull, kBool, kNumber, kString, kArray, kObject };

struct Value {
  Kind kind = Kind::kNull;
  bool boolean = false;
  bool whole = false;  // a number written without fraction and exponent
  double number = 0;   // infinite where it leaves double
  std::string text;
  std::vector<Value> items;
  std::map<std::string, Value> fields;
};

class Reader {
 public:
  // Throws Error; the message says what is wrong at which byte.
  static Value parse(std::string_view text) {
    Reader reader(text);
    reader.check_utf8();
    Value value = reader.value(0);
    reader.skip_space();
    if (reader.at_ != text.size()) reader.fail("text after the document");
    return value;
  }

 private:
  static constexpr int kMaxDepth = 64;
  static constexpr std::size_t kMaxNumber = 400;  // characters; no double needs as many

  explicit Reader(std::string_view text) : text_(text) {}

  [[noreturn]] void fail(const char* what) const {
    throw Error(std::string(what) + " at byte " + std::to_string(at_));
  }

  char peek() const {
    if (at_ == text_.size()) fail("unexpected end");
    return text_[at_];
  }

  void skip_space() {
    while (at_ < text_.size() && std::string_view(" \t\r\n").find(text_[at_]) != std::string_view::npos) at_++;
  }

  void take(char expected) {
    if (peek() != expected) fail("unexpected character");
    at_++;
  }

  Value value(int depth) {
    if (depth > kMaxDepth) fail("nested too deeply");
    skip_space();
    Value result;
    switch (peek()) {
      case '{':
        result.kind = Kind::kObject;
        members(result, '}', depth);
        break;
      case '[':
        result.kind = Kind::kArray;
        members(result, ']', depth);
        break;
      case '"':
        result.kind = Kind::kString;
        result.text = string();
        break;
      case 't':
        word("true");
        result.kind = Kind::kBool;
        result.boolean = true;
        break;
      case 'f':
        word("false");
        result.kind = Kind::kBool;
        break;
      case 'n':
        word("null");
        break;
      default:
        number(result);
    }
    return result;
  }

  void members(Value& result, char close, int depth) {
    at_++;
    skip_space();
    if (peek() == close) {
      at_++;
      return;
    }
    for (;;) {
      if (close == '}') {
        skip_space();
        if (peek() != '"') fail("expected a name");
        std::string key = string();
        skip_space();
        take(':');
        result.fields[std::move(key)] = value(depth + 1);
      } else {
        result.items.push_back(value(depth + 1));
      }
      skip_space();
      const char next = peek();
      if (next != ',' && next != close) fail("expected a comma or the end of a list");
      at_++;
      if (next == close) return;
    }
  }

  void word(std::string_view word) {
    if (text_.substr(at_, word.size()) != word) fail("expected a value");
    at_ += word.size();
  }

  bool digits() {
    const std::size_t start = at_;
    while (at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9') at_++;
    return at_ > start;
  }

  void number(Value& result) {
    const std::size_t start = at_;
    bool whole = true;
    if (peek() == '-') at_++;
    const std::size_t first = at_;
    if (!digits() || (text_[first] == '0' && at_ > first + 1)) fail("expected a value");
    if (at_ < text_.size() && text_[at_] == '.') {
      at_++;
      whole = false;
      if (!digits()) fail("expected digits");
    }
    if (at_ < text_.size() && (text_[at_] == 'e' || text_[at_] == 'E')) {
      at_++;
      whole = false;
      if (at_ < text_.size() && (text_[at_] == '+' || text_[at_] == '-')) at_++;
      if (!digits()) fail("expected digits");
    }
    result.kind = Kind::kNumber;
    result.whole = whole;
    if (at_ - start > kMaxNumber) {
      result.number = std::numeric_limits<double>::infinity();
      return;
    }
    // Not strtod: it reads the decimal point of the program's locale.
    std::istringstream stream{std::string(text_.substr(start, at_ - start))};
    stream.imbue(std::locale::classic());
    if (!(stream >> result.number)) result.number = std::numeric_limits<double>::infinity();
  }

  std::string string() {
    take('"');
    std::string result;
    for (;;) {
      const char c = peek();
      at_++;
      if (c == '"') return result;
      if (static_cast<unsigned char>(c) < 0x20) fail("control character in a string");
      if (c != '\\') {
        result += c;
        continue;
      }
      const char escape = peek();
      at_++;
      static constexpr std::string_view kFrom = "\"\\/bfnrt", kTo = "\"\\/\b\f\n\r\t";
      const std::size_t simple = kFrom.find(escape);
      if (simple != std::string_view::npos) {
        result += kTo[simple];
      } else if (escape == 'u') {
        append(result, escaped());
      } else {
        fail("unknown escape");
      }
    }
  }

  std::uint32_t hex4() {
    std::uint32_t code = 0;
    for (int i = 0; i < 4; i++, at_++) {
      const std::size_t digit = std::string_view("0123456789abcdef0123456789ABCDEF").find(peek());
      if (digit == std::string_view::npos) fail("bad \\u escape");
      code = code << 4 | static_cast<std::uint32_t>(digit % 16);
    }
    return code;
  }

  // One character of one or two \u escapes; a surrogate without its other half becomes U+FFFD.
  std::uint32_t escaped() {
    const std::uint32_t code = hex4();
    if (code < 0xd800 || code > 0xdfff) return code;
    if (code < 0xdc00 && text_.substr(at_, 2) == "\\u") {
      const std::size_t before = at_;
      at_ += 2;
      const std::uint32_t low = hex4();
      if (low >= 0xdc00 && low <= 0xdfff) return 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
      at_ = before;
    }
    return 0xfffd;
  }

  static void append(std::string& out, std::uint32_t code) {
    const auto byte = [&out](std::uint32_t value) { out += static_cast<char>(static_cast<unsigned char>(value)); };
    if (code < 0x80) return byte(code);
    if (code < 0x800) {
      byte(0xc0 | code >> 6);
    } else {
      if (code < 0x10000) {
        byte(0xe0 | code >> 12);
      } else {
        byte(0xf0 | code >> 18);
        byte(0x80 | (code >> 12 & 0x3f));
      }
      byte(0x80 | (code >> 6 & 0x3f));
    }
    byte(0x80 | (code & 0x3f));
  }

  void check_utf8() {
    for (at_ = 0; at_ < text_.size();) {
      const unsigned char lead = static_cast<unsigned char>(text_[at_]);
      std::size_t length = lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
      if ((lead >= 0x80 && lead < 0xc2) || lead > 0xf4) length = 0;
      if (length == 0 || text_.size() - at_ < length) fail("no UTF-8");
      for (std::size_t i = 1; i < length; i++) {
        const unsigned char next = static_cast<unsigned char>(text_[at_ + i]);
        const unsigned low = i > 1 ? 0x80 : lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
        const unsigned high = i > 1 ? 0xbf : lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
        if (next < low || next > high) fail("no UTF-8");
      }
      at_ += length;
    }
    at_ = 0;
  }

  std::string_view text_;
  std::size_t at_ = 0;
};

}  // namespace json
}  // namespace retinaface
