// Answers the cases that the Python tests write: driver COMMAND CASES ANSWERS. exchange.py describes the files.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iostream>
#include <iterator>
#include <map>
#include <string>
#include <vector>

#include "retinaface/retinaface.hpp"

#ifdef WITH_PICTURES
#include "pictures.hpp"
#endif

namespace {

using retinaface::Error;

std::string read_all(const char* path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

// The case file, value by value; each block of bytes is copied, so that the sanitizer knows its end.
class Cases {
 public:
  explicit Cases(const char* path) : bytes_(read_all(path)) {}

  template <class Value>
  Value next() {
    Value value;
    std::memcpy(&value, take(sizeof value).data(), sizeof value);
    return value;
  }
  template <class Value>
  std::vector<Value> many(std::size_t count) {
    std::vector<Value> values(count);
    const std::string raw = take(count * sizeof(Value));
    if (!raw.empty()) std::memcpy(values.data(), raw.data(), raw.size());
    return values;
  }
  std::string text() { return take(static_cast<std::size_t>(next<std::int32_t>())); }

 private:
  std::string take(std::size_t size) {
    if (size > bytes_.size() - at_) throw Error("the case file ends early");
    at_ += size;
    return bytes_.substr(at_ - size, size);
  }

  std::string bytes_;
  std::size_t at_ = 0;
};

template <class Value>
void put(std::string& out, const Value& value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

struct Values {
  std::vector<std::int8_t> quantized;
  std::vector<float> floats;
  float scale = 0;
  int zero_point = 0;

  retinaface::Tensor tensor() const {
    return {quantized.empty() ? nullptr : quantized.data(), floats.data(), scale, zero_point};
  }
};

using Use = void (*)(std::string& out, const std::vector<retinaface::Face>& faces);

void decode_each(Cases& cases, std::string& out, const retinaface::MeshBasis* basis, Use use) {
  const std::string name = "case";
  for (std::int32_t left = cases.next<std::int32_t>(); left > 0; left--) {
    const retinaface::json::Value document = retinaface::json::Reader::parse(cases.text());
    const retinaface::Spec spec = retinaface::detail::SpecChecker(document, name).spec();
    const double score_threshold = cases.next<double>(), iou_threshold = cases.next<double>();
    const int height = cases.next<std::int32_t>(), width = cases.next<std::int32_t>();
    const double scale = cases.next<double>();
    std::map<std::string, Values> tensors;
    for (std::int32_t count = cases.next<std::int32_t>(); count > 0; count--) {
      Values& values = tensors[cases.text()];
      const bool quantized = cases.next<std::int32_t>() == 0;
      const std::size_t size = static_cast<std::size_t>(cases.next<std::int32_t>());
      values.scale = cases.next<float>();
      values.zero_point = cases.next<std::int32_t>();
      if (quantized) values.quantized = cases.many<std::int8_t>(size);
      if (!quantized) values.floats = cases.many<float>(size);
    }
    std::vector<retinaface::Level> levels;
    for (const int stride : spec.strides) {
      const std::string suffix = "_" + std::to_string(stride);
      levels.push_back({tensors.at("score" + suffix).tensor(), tensors.at("box" + suffix).tensor(),
                        tensors.at("landmark" + suffix).tensor(),
                        basis ? tensors.at("mesh" + suffix).tensor() : retinaface::Tensor{}});
    }
    const auto faces = retinaface::decode_faces(spec, {spec.input_height, spec.input_width}, levels, height, width,
                                                scale, score_threshold, iou_threshold, basis);
    put(out, static_cast<std::int32_t>(faces.size()));
    use(out, faces);
  }
}

std::string decode(Cases& cases) {
  std::string out;
  decode_each(cases, out, nullptr, [](std::string& to, const std::vector<retinaface::Face>& faces) {
    for (const retinaface::Face& face : faces) {
      put(to, static_cast<std::int32_t>(face.anchor));
      put(to, face.score);
      put(to, face.box);
      put(to, face.landmarks);
    }
  });
  return out;
}

std::string meshes(Cases& cases) {
  std::string out;
  const retinaface::MeshBasis basis(cases.text(), "cases");
  decode_each(cases, out, &basis, [](std::string& to, const std::vector<retinaface::Face>& faces) {
    for (const retinaface::Face& face : faces) {
      for (const float angle : {face.pose.yaw, face.pose.pitch, face.pose.roll}) put(to, angle);
      for (const float value : face.mesh) put(to, value);
    }
  });
  return out;
}

// A line for each file: how many coefficients its mesh has, "none", or the error.
std::string bases(Cases& cases) {
  std::string out;
  for (std::int32_t left = cases.next<std::int32_t>(); left > 0; left--) {
    try {
      const auto basis = retinaface::read_basis(cases.text(), "model");
      out += basis ? "ok " + std::to_string(basis->coefficients()) + "\n" : "none\n";
    } catch (const Error& error) {
      out += std::string("error ") + error.what() + "\n";
    }
  }
  return out;
}

std::string tables(Cases& cases) {
  std::string out;
  for (std::int32_t left = cases.next<std::int32_t>(); left > 0; left--) {
    const std::vector<double> mean = cases.many<double>(3);
    const float scale = cases.next<float>();
    const retinaface::InputTable table(mean, scale, cases.next<std::int32_t>());
    for (std::size_t pixel = 0; pixel < 256; pixel++) {
      for (std::size_t channel = 0; channel < 3; channel++) put(out, table.quantized(pixel, channel));
    }
  }
  return out;
}

// The network's input of a picture, int8, or float32 where the scale is 0.
std::string inputs(Cases& cases) {
  std::string out;
  for (std::int32_t left = cases.next<std::int32_t>(); left > 0; left--) {
    const retinaface::Shape shape = {cases.next<std::int32_t>(), cases.next<std::int32_t>()};
    retinaface::Spec spec;
    spec.antialias = cases.next<std::int32_t>() != 0;
    spec.mean = cases.many<double>(3);
    const float scale = cases.next<float>();
    const int zero_point = cases.next<std::int32_t>();
    const auto order = static_cast<retinaface::Order>(cases.next<std::int32_t>());
    const int height = cases.next<std::int32_t>(), width = cases.next<std::int32_t>();
    const std::ptrdiff_t row = std::ptrdiff_t{width} * retinaface::bytes_per_pixel(order);
    const std::vector<std::uint8_t> pixels = cases.many<std::uint8_t>(static_cast<std::size_t>(row * height));
    const std::size_t values = static_cast<std::size_t>(shape.height) * static_cast<std::size_t>(shape.width) * 3;
    const retinaface::Picture picture = {pixels.data(), width, height, row, order};
    if (scale > 0) {
      std::vector<std::int8_t> tensor(values, 99);
      retinaface::InputWriter writer(spec, shape, retinaface::InputTable(spec.mean, scale, zero_point));
      writer.write(picture, tensor.data());
      const std::vector<std::int8_t> first = tensor;
      writer.write(picture, tensor.data());  // with the buffers of the first time
      if (first != tensor) throw Error("the second input of the same picture differs");
      out.append(reinterpret_cast<const char*>(tensor.data()), values);
    } else {
      std::vector<float> tensor(values, 9999);
      retinaface::InputWriter writer(spec, shape, retinaface::InputTable(spec.mean));
      writer.write(picture, tensor.data());
      out.append(reinterpret_cast<const char*>(tensor.data()), values * sizeof(float));
    }
  }
  return out;
}

std::string shapes(Cases& cases) {
  std::string out;
  for (std::int32_t left = cases.next<std::int32_t>(); left > 0; left--) {
    const std::vector<std::int32_t> sides = cases.many<std::int32_t>(4);
    const retinaface::Shape shape = retinaface::auto_shape(sides[0], sides[1], {sides[2], sides[3]});
    const retinaface::LetterboxSize size = retinaface::letterbox_size(sides[0], sides[1], sides[2], sides[3]);
    for (const std::int32_t value : {shape.height, shape.width, size.rows, size.columns}) put(out, value);
  }
  return out;
}

// A line for each file: what the metadata says, or the error.
std::string metadata(Cases& cases) {
  std::string out;
  for (std::int32_t left = cases.next<std::int32_t>(); left > 0; left--) {
    try {
      const retinaface::Spec spec = retinaface::read_spec(cases.text(), "model");
      char line[256];
      std::snprintf(line, sizeof line, "ok %d %d %d %.17g %.17g %d %d %zu\n", spec.input_height, spec.input_width,
                    static_cast<int>(spec.antialias), spec.score_threshold, spec.iou_threshold, spec.max_candidates,
                    spec.max_faces, spec.strides.size());
      out += line;
    } catch (const Error& error) {
      out += std::string("error ") + error.what() + "\n";
    }
  }
  return out;
}

#ifdef WITH_PICTURES
// A line for each file, size and a sum over its pixels, or the error.
std::string pictures_command(Cases& cases) {
  std::string out;
  for (std::int32_t left = cases.next<std::int32_t>(); left > 0; left--) {
    try {
      const pictures::Image image = pictures::decode(cases.text(), "picture");
      const char* pixels = reinterpret_cast<const char*>(image.pixels.data());
      const std::uint32_t crc = retinaface::detail::crc32({pixels, image.pixels.size()});
      const std::string size = std::to_string(image.height) + " " + std::to_string(image.width);
      out += "ok " + size + " " + std::to_string(crc) + "\n";
    } catch (const Error& error) {
      out += std::string("error ") + error.what() + "\n";
    }
  }
  return out;
}
#endif

}  // namespace

int main(int count, char** arguments) {
  std::map<std::string, std::string (*)(Cases&)> commands = {{"decode", decode},
                                                             {"meshes", meshes},
                                                             {"bases", bases},
                                                             {"tables", tables},
                                                             {"inputs", inputs},
                                                             {"shapes", shapes},
                                                             {"metadata", metadata}};
#ifdef WITH_PICTURES
  commands["pictures"] = pictures_command;
#endif
  if (count != 4 || commands.count(arguments[1]) == 0) {
    std::cerr << "usage: driver COMMAND CASES ANSWERS\n";
    return 2;
  }
  try {
    Cases cases(arguments[2]);
    std::ofstream(arguments[3], std::ios::binary) << commands[arguments[1]](cases);
  } catch (const std::exception& error) {
    std::cerr << "driver: " << error.what() << "\n";
    return 1;
  }
  return 0;
}
