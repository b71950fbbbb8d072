// Faces of JPEG and PNG files as JSON, in the format of tflite.detect --json.
//
//     retinaface_detect --model M.tflite [--threads N] [--score_threshold P] [--mesh] [--pose] [--json F] PICTURE ...
//
// The exit code is 1 if a picture cannot be used; the others are processed all the same.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <string>
#include <vector>

#include "large_pages.hpp"
#include "pictures.hpp"
#include "retinaface/litert.hpp"

namespace {

constexpr std::size_t kMaxModelBytes = std::size_t{1} << 31, kMaxPictureBytes = std::size_t{1} << 28;

struct Options {
  std::string model, json = "-";
  int threads = 1;
  double score_threshold = -1;
  bool mesh = false, pose = false;
  std::vector<std::string> pictures;
};

double number(const std::string& flag, const std::string& text, double low, double high) {
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  if (text.empty() || *end != '\0' || !(value >= low && value <= high)) {
    char range[64];
    std::snprintf(range, sizeof range, "%g to %g", low, high);
    throw retinaface::Error(flag + " is \"" + text + "\", expected a number from " + range);
  }
  return value;
}

Options parse(int count, char** arguments) {
  Options options;
  for (int i = 1; i < count; i++) {
    const std::string argument = arguments[i];
    if (argument.rfind("--", 0) != 0) {
      options.pictures.push_back(argument);
      continue;
    }
    if (argument == "--mesh" || argument == "--pose") {
      (argument == "--mesh" ? options.mesh : options.pose) = true;
      continue;
    }
    if (++i == count) throw retinaface::Error(argument + " needs a value");
    if (argument == "--model") {
      options.model = arguments[i];
    } else if (argument == "--json") {
      options.json = arguments[i];
    } else if (argument == "--threads") {
      options.threads = static_cast<int>(number(argument, arguments[i], 1, 256));
    } else if (argument == "--score_threshold") {
      options.score_threshold = number(argument, arguments[i], 0, 1);
    } else {
      throw retinaface::Error("unknown flag " + argument);
    }
  }
  if (options.model.empty() || options.pictures.empty()) {
    throw retinaface::Error("usage: retinaface_detect --model M.tflite [--threads N] [--score_threshold P] [--mesh] "
                            "[--pose] [--json F] PICTURE ...");
  }
  return options;
}

// `text` in quotes, as JSON wants it; bytes outside ASCII stay as they are.
std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    if (static_cast<unsigned char>(c) >= 0x20) {
      out += c;
    } else {
      char escape[8];
      std::snprintf(escape, sizeof escape, "\\u%04x", static_cast<unsigned>(c));
      out += escape;
    }
  }
  return out + "\"";
}

// Rounded to `places` digits, without needless zeros: the same number as Python's round() writes.
std::string rounded(double value, int places) {
  char text[64];
  std::snprintf(text, sizeof text, "%.*f", places, value);
  std::string result = text;
  result.erase(result.find_last_not_of('0') + 1);
  return result.back() == '.' ? result + "0" : result;
}

std::string to_json(const retinaface::Face& face, const Options& options) {
  std::string out = "{\"box\": [";
  for (std::size_t i = 0; i < 4; i++) out += (i ? ", " : "") + rounded(static_cast<double>(face.box[i]), 3);
  out += "], \"score\": " + rounded(static_cast<double>(face.score), 6) + ", \"landmarks\": [";
  for (std::size_t i = 0; i < 10; i += 2) {
    out += (i ? ", [" : "[") + rounded(static_cast<double>(face.landmarks[i]), 3) + ", " +
           rounded(static_cast<double>(face.landmarks[i + 1]), 3) + "]";
  }
  out += "]";
  const auto two = [](float value) { return rounded(static_cast<double>(value), 2); };
  if (options.pose) {
    out += ", \"pose\": {\"yaw\": " + two(face.pose.yaw) + ", \"pitch\": " + two(face.pose.pitch) +
           ", \"roll\": " + two(face.pose.roll) + "}";
  }
  if (options.mesh) {
    out += ", \"mesh\": [";
    for (std::size_t i = 0; i < face.mesh.size(); i += 3) {
      out += (i ? ", [" : "[") + two(face.mesh[i]) + ", " + two(face.mesh[i + 1]) + ", " + two(face.mesh[i + 2]) + "]";
    }
    out += "]";
  }
  return out + "}";
}

int run(const Options& options) {
  retinaface::FaceDetector detector(retinaface::read_file(options.model, kMaxModelBytes, "model"), options.model,
                                    options.threads);
  if ((options.mesh || options.pose) && !detector.has_mesh()) {
    const char* flag = options.mesh ? "--mesh" : "--pose";
    throw retinaface::Error(options.model + " has no mesh, expected a model with one for " + flag);
  }
  std::string json = "{";
  int failed = 0;
  for (const std::string& path : options.pictures) {
    try {
      const pictures::Image image = pictures::decode(retinaface::read_file(path, kMaxPictureBytes, "picture"), path);
      const std::vector<retinaface::Face> faces = detector.detect(image.picture(), options.score_threshold);
      json += (json.size() > 1 ? ",\n" : "") + quoted(path) + ": [";
      for (std::size_t i = 0; i < faces.size(); i++) json += (i ? ",\n " : "\n ") + to_json(faces[i], options);
      json += "]";
    } catch (const retinaface::Error& error) {
      std::cerr << error.what() << "\n";
      failed = 1;
    }
  }
  json += "}\n";
  if (options.json == "-") {
    std::cout << json;
  } else if (!(std::ofstream(options.json) << json << std::flush)) {
    throw retinaface::Error(options.json + ": cannot write the file");
  }
  return failed;
}

}  // namespace

int main(int count, char** arguments) {
  use_large_pages();
  try {
    return run(parse(count, arguments));
  } catch (const std::exception& error) {
    std::cerr << "retinaface_detect: " << error.what() << "\n";
    return 1;
  }
}
