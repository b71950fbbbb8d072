// JPEG and PNG files as a viewer shows them: EXIF orientation applied, alpha dropped, 16 bits as 8, all as B, G, R.
#pragma once

#include <array>
#include <csetjmp>
#include <cstdio>  // jpeglib.h needs it first
#include <cstring>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <jpeglib.h>
#include <jerror.h>
#include <png.h>

#include "retinaface/retinaface.hpp"

namespace pictures {

constexpr std::int64_t kMostPixels = 178956970;  // as Pillow: beyond, a small file would take gigabytes

struct Image {
  int width = 0, height = 0;
  std::vector<std::uint8_t> pixels;  // B, G, R, row by row

  // Refuses sizes that a damaged or hostile header may claim; why not, or null.
  const char* resize(std::uint32_t new_width, std::uint32_t new_height) {
    if (new_width < 1 || new_height < 1 || new_width > retinaface::kMaxSide || new_height > retinaface::kMaxSide ||
        std::int64_t{new_width} * new_height > kMostPixels) {
      return "an impossible or far too large size";
    }
    width = static_cast<int>(new_width);
    height = static_cast<int>(new_height);
    pixels.resize(std::size_t{new_width} * new_height * 3);
    return nullptr;
  }
  std::uint8_t* row(std::size_t y) { return pixels.data() + y * static_cast<std::size_t>(width) * 3; }
  retinaface::Picture picture() const {
    return {pixels.data(), width, height, std::ptrdiff_t{width} * 3, retinaface::Order::kBgr};
  }
};

// The EXIF orientation 1-8 of a JPEG's APP1 segment; 1 where there is none or it is damaged.
inline int exif_orientation(std::string_view segment) {
  if (segment.size() < 14 || segment.substr(0, 6) != std::string_view("Exif\0\0", 6)) return 1;
  const std::string_view tiff = segment.substr(6);
  const bool big = tiff[0] == 'M';
  const auto u16 = [&](std::size_t at) {
    const std::uint32_t value = retinaface::detail::u16(tiff, at);
    return big ? (value & 0xff) << 8 | value >> 8 : value;
  };
  const std::size_t directory = big ? u16(4) << 16 | u16(6) : u16(6) << 16 | u16(4);
  if (!retinaface::detail::inside(tiff, directory, 2)) return 1;
  for (std::size_t entry = 0; entry < u16(directory); entry++) {
    const std::size_t at = directory + 2 + 12 * entry;
    if (!retinaface::detail::inside(tiff, at, 12)) return 1;
    if (u16(at) == 0x0112) return u16(at + 8) >= 1 && u16(at + 8) <= 8 ? static_cast<int>(u16(at + 8)) : 1;
  }
  return 1;
}

inline Image upright(Image image, int orientation) {
  if (orientation == 1) return image;
  const bool swapped = orientation >= 5;
  Image out;
  out.resize(static_cast<std::uint32_t>(swapped ? image.height : image.width),
             static_cast<std::uint32_t>(swapped ? image.width : image.height));
  const bool flip_x = orientation == 2 || orientation == 3 || orientation == 6 || orientation == 7;
  const bool flip_y = orientation == 3 || orientation == 4 || orientation == 7 || orientation == 8;
  for (int y = 0; y < out.height; y++) {
    std::uint8_t* to = out.row(static_cast<std::size_t>(y));
    for (int x = 0; x < out.width; x++, to += 3) {  // upright (x, y) was stored at (from_x, from_y)
      const int a = flip_x ? out.width - 1 - x : x, b = flip_y ? out.height - 1 - y : y;
      const int from_x = swapped ? b : a, from_y = swapped ? a : b;
      std::memcpy(to, image.row(static_cast<std::size_t>(from_y)) + 3 * from_x, 3);
    }
  }
  return out;
}

struct Failure {  // what the libraries jump out of their depths to
  jpeg_error_mgr manager;  // first: libjpeg hands out a pointer to it
  std::jmp_buf jump;
  char text[JMSG_LENGTH_MAX];
};

// libjpeg's only way out of a call is a jump; nothing with a destructor lives in here.
inline bool decode_jpeg(std::string_view bytes, Image& image, int& orientation, Failure& failure) {
  jpeg_decompress_struct decoder;
  decoder.err = jpeg_std_error(&failure.manager);
  failure.manager.error_exit = [](j_common_ptr info) {
    Failure* self = reinterpret_cast<Failure*>(info->err);
    info->err->format_message(info, self->text);
    std::longjmp(self->jump, 1);
  };
  failure.manager.emit_message = [](j_common_ptr info, int level) {  // a picture that ends early is none
    if (level < 0 && info->err->msg_code == JWRN_JPEG_EOF) info->err->error_exit(info);
  };
  jpeg_create_decompress(&decoder);
  if (setjmp(failure.jump)) {
    jpeg_destroy_decompress(&decoder);
    return false;
  }
  jpeg_mem_src(&decoder, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size());
  jpeg_save_markers(&decoder, JPEG_APP0 + 1, 0xffff);
  jpeg_read_header(&decoder, TRUE);
  for (auto marker = decoder.marker_list; marker != nullptr && orientation == 1; marker = marker->next) {
    orientation = exif_orientation({reinterpret_cast<const char*>(marker->data), marker->data_length});
  }
  decoder.out_color_space = JCS_EXT_BGR;
  const char* wrong = decoder.num_components > 3 ? "four colours, expected grey or colour"
                                                 : image.resize(decoder.image_width, decoder.image_height);
  if (wrong != nullptr) {
    std::snprintf(failure.text, sizeof failure.text, "%s", wrong);
    std::longjmp(failure.jump, 1);
  }
  jpeg_start_decompress(&decoder);
  while (decoder.output_scanline < decoder.output_height) {
    JSAMPROW row = image.row(decoder.output_scanline);
    jpeg_read_scanlines(&decoder, &row, 1);
  }
  jpeg_finish_decompress(&decoder);
  jpeg_destroy_decompress(&decoder);
  return true;
}

inline bool decode_png(std::string_view bytes, Image& image, std::vector<png_bytep>& rows, Failure& failure) {
  const auto fail = [](png_structp png, png_const_charp text) {
    Failure* self = static_cast<Failure*>(png_get_error_ptr(png));
    std::snprintf(self->text, sizeof self->text, "%s", text);
    std::longjmp(self->jump, 1);
  };
  png_structp png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &failure, fail, [](png_structp, png_const_charp) {});
  png_infop info = png == nullptr ? nullptr : png_create_info_struct(png);
  if (info == nullptr || setjmp(failure.jump)) {
    png_destroy_read_struct(&png, &info, nullptr);
    return false;
  }
  png_set_read_fn(png, &bytes, [](png_structp reader, png_bytep out, png_size_t count) {
    std::string_view& left = *static_cast<std::string_view*>(png_get_io_ptr(reader));
    if (count > left.size()) png_error(reader, "the file ends early");
    std::memcpy(out, left.data(), count);
    left.remove_prefix(count);
  });
  png_set_user_limits(png, retinaface::kMaxSide, retinaface::kMaxSide);
  png_read_info(png, info);
  if (const char* wrong = image.resize(png_get_image_width(png, info), png_get_image_height(png, info))) {
    png_error(png, wrong);
  }
  png_set_expand(png);
  png_set_strip_16(png);
  png_set_gray_to_rgb(png);
  png_set_strip_alpha(png);
  png_set_bgr(png);
  png_set_interlace_handling(png);
  png_read_update_info(png, info);
  if (png_get_rowbytes(png, info) != static_cast<std::size_t>(image.width) * 3) png_error(png, "unknown pixel format");
  rows.resize(static_cast<std::size_t>(image.height));
  for (std::size_t y = 0; y < rows.size(); y++) rows[y] = image.row(y);
  png_read_image(png, rows.data());
  png_read_end(png, nullptr);
  png_destroy_read_struct(&png, &info, nullptr);
  return true;
}

// A whole JPEG or PNG file; `name` is what errors call it. Throws retinaface::Error.
inline Image decode(std::string_view bytes, const std::string& name) {
  Image image;
  int orientation = 1;
  Failure failure{};
  std::vector<png_bytep> rows;
  const bool jpeg = bytes.substr(0, 2) == "\xff\xd8";
  if (!jpeg && bytes.substr(0, 4) != "\x89PNG") throw retinaface::Error(name + ": neither JPEG nor PNG");
  const bool ok = jpeg ? decode_jpeg(bytes, image, orientation, failure) : decode_png(bytes, image, rows, failure);
  if (!ok) throw retinaface::Error(name + ": cannot decode (" + failure.text + "), expected a complete picture");
  return upright(std::move(image), orientation);
}

}  // namespace pictures
