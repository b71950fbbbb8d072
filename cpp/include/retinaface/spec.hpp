// What a model file says about itself: retinaface.json, zip-appended to the .tflite. docs/model-file.md has the rules.
#pragma once

#include <cmath>
#include <cstddef>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "retinaface/json.hpp"
#include "retinaface/zip_tail.hpp"

namespace retinaface {

struct Spec {
  int input_height = 0;  // pixels, a multiple of 32, as is input_width
  int input_width = 0;
  std::vector<double> mean;                       // of B, G, R, 0-255; subtracted, and the letterbox's fill
  std::vector<int> strides;                       // pixels, finest first
  std::vector<std::vector<double>> anchor_sizes;  // side lengths in input pixels, per stride
  double variance_centre = 0;
  double variance_size = 0;
  bool antialias = false;  // halve pictures that are at least twice as large as the input
  double score_threshold = 0;
  double iou_threshold = 0;
  int max_candidates = 0;
  int max_faces = 0;
  std::string quantization;
  std::string source;
};

constexpr std::string_view kSpecFile = "retinaface.json";

namespace detail {

// The checks, field by field.
class SpecChecker {
 public:
  SpecChecker(const json::Value& data, const std::string& name) : data_(data), name_(name) {}

  Spec spec() const {
    need(data_.kind == json::Kind::kObject, "expected an object");
    static const std::set<std::string> kFields = {
        "format_version", "input_height",   "input_width",    "color_order",   "mean",
        "strides",        "anchor_sizes",   "variances",      "landmark_names", "score_threshold",
        "iou_threshold",  "max_candidates", "max_faces",      "quantization",  "ap",
        "source",         "antialias"};
    for (const auto& field : data_.fields) need(kFields.count(field.first) == 1, "it has an unknown field");
    for (const std::string& field : kFields) {
      need(field == "antialias" || data_.fields.count(field) == 1, "it lacks " + field);
    }
    need(whole("format_version", 1) == 1, "format_version is not 1");
    need(at("color_order").text == "BGR", "color_order is not \"BGR\"");
    need(at("ap").kind == json::Kind::kObject, "ap is no object");
    static const std::vector<std::string> kLandmarks = {"left_eye", "right_eye", "nose", "left_mouth", "right_mouth"};
    std::vector<std::string> landmarks;
    for (const json::Value& item : array("landmark_names")) landmarks.push_back(item.text);
    need(landmarks == kLandmarks, "landmark_names are not left_eye, right_eye, nose, left_mouth, right_mouth");

    Spec spec;
    spec.input_height = side("input_height");
    spec.input_width = side("input_width");
    spec.mean = numbers(array("mean"), "mean");
    need(spec.mean.size() == 3, "mean is not 3 numbers");
    for (const double mean : spec.mean) need(mean >= 0 && mean <= 255, "mean is not in 0-255");
    read_anchors(spec);
    const std::vector<double> variances = numbers(array("variances"), "variances");
    need(variances.size() == 2, "variances are not 2 numbers");
    for (const double variance : variances) need(variance > 0 && variance <= 10, "variances are not in (0, 10]");
    spec.variance_centre = variances[0];
    spec.variance_size = variances[1];
    if (data_.fields.count("antialias")) {
      need(at("antialias").kind == json::Kind::kBool, "antialias is neither true nor false");
      spec.antialias = at("antialias").boolean;
    }
    spec.score_threshold = fraction("score_threshold");
    spec.iou_threshold = fraction("iou_threshold");
    spec.max_candidates = whole("max_candidates", 1000000);
    spec.max_faces = whole("max_faces", 1000000);
    spec.quantization = text("quantization");
    spec.source = text("source");
    return spec;
  }

 private:
  void need(bool ok, const std::string& what) const {
    if (!ok) throw Error(name_ + ": " + std::string(kSpecFile) + ": " + what);
  }

  const json::Value& at(const std::string& key) const { return data_.fields.at(key); }

  const std::vector<json::Value>& array(const std::string& key) const {
    need(at(key).kind == json::Kind::kArray, key + " is no list");
    return at(key).items;
  }

  std::vector<double> numbers(const std::vector<json::Value>& items, const std::string& key) const {
    std::vector<double> result;
    for (const json::Value& item : items) {
      need(item.kind == json::Kind::kNumber && std::isfinite(item.number), key + " holds something else than numbers");
      result.push_back(item.number);
    }
    return result;
  }

  int whole(const json::Value& value, const std::string& key, int most) const {
    const bool ok = value.kind == json::Kind::kNumber && value.whole && value.number > 0 && value.number <= most;
    need(ok, key + " is no whole number from 1 to " + std::to_string(most));
    return static_cast<int>(value.number);
  }

  int whole(const std::string& key, int most) const { return whole(at(key), key, most); }

  int side(const std::string& key) const {
    const int value = whole(key, 8192);
    need(value % 32 == 0, key + " is no multiple of 32");
    return value;
  }

  double fraction(const std::string& key) const {
    const json::Value& value = at(key);
    need(value.kind == json::Kind::kNumber && value.number > 0 && value.number < 1, key + " is no number in (0, 1)");
    return value.number;
  }

  std::string text(const std::string& key) const {
    need(at(key).kind == json::Kind::kString, key + " is no text");
    return at(key).text;
  }

  void read_anchors(Spec& spec) const {
    const std::vector<json::Value>& strides = array("strides");
    need(!strides.empty() && strides.size() <= 8, "strides are not 1 to 8");
    for (const json::Value& item : strides) {
      const int stride = whole(item, "a stride", 256);
      need(spec.strides.empty() || stride > spec.strides.back(), "strides do not increase");
      spec.strides.push_back(stride);
    }
    const std::vector<json::Value>& levels = array("anchor_sizes");
    need(levels.size() == spec.strides.size(), "anchor_sizes are not one list per stride");
    for (const json::Value& level : levels) {
      need(level.kind == json::Kind::kArray && !level.items.empty() && level.items.size() <= 16,
           "anchor_sizes has a level without 1 to 16 sizes");
      spec.anchor_sizes.push_back(numbers(level.items, "anchor_sizes"));
      for (const double size : spec.anchor_sizes.back()) need(size > 0 && size <= 8192, "anchor_sizes leave (0, 8192]");
    }
  }

  const json::Value& data_;
  const std::string& name_;
};

}  // namespace detail

// The spec inside a whole .tflite file; `name` is what errors call it. Throws Error.
inline Spec read_spec(std::string_view model, const std::string& name) {
  if (model.size() < 8 || model.substr(4, 4) != "TFL3") {
    throw Error(name + ": not a TFLite model (" + std::to_string(model.size()) + " bytes, no TFL3 at byte 4)");
  }
  const std::optional<std::string> text = read_entry(model, kSpecFile);
  if (!text) {
    throw Error(name + ": no readable " + std::string(kSpecFile) + " in the file (not exported by convert.py, or cut)");
  }
  json::Value document;
  try {
    document = json::Reader::parse(*text);
  } catch (const Error& error) {
    throw Error(name + ": " + std::string(kSpecFile) + " is not valid JSON (" + error.what() + ")");
  }
  return detail::SpecChecker(document, name).spec();
}

}  // namespace retinaface
