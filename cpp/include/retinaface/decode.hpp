// From the output tensors to faces: integer threshold, decode of the survivors, non-maximum suppression, meshes.
//
// The arithmetic is float32 in the order written here; only `exp` runs in double and is rounded. Compile with
// -ffp-contract=off (the CMake target says so): a fused multiply-add rounds once where the contract rounds twice.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "retinaface/letterbox.hpp"
#include "retinaface/mesh.hpp"
#include "retinaface/spec.hpp"

namespace retinaface {

struct Face {
  std::array<float, 4> box{};         // x1 y1 x2 y2, picture pixels, clipped to the picture
  float score = 0;                    // probability
  std::array<float, 10> landmarks{};  // x y of left eye, right eye, nose, left and right mouth corner; not clipped
  int anchor = 0;                     // index of the anchor it comes from
  std::vector<float> mesh{};          // x y z of 468 vertices, picture pixels, not clipped; empty without a mesh
  Pose pose{};                        // 0 without a mesh
};

// One output tensor [1, rows, columns, anchors · values]: int8 with value = (q − zero point) · scale, or float32.
struct Tensor {
  const std::int8_t* quantized = nullptr;
  const float* floats = nullptr;  // where `quantized` is null
  float scale = 0;
  int zero_point = 0;

  float at(std::size_t index) const {
    if (quantized == nullptr) return floats[index];
    return (static_cast<float>(quantized[index]) - static_cast<float>(zero_point)) * scale;
  }
};

struct Level {
  Tensor score, box, landmark;
  Tensor mesh{};  // of a model that has one
};

constexpr int kValuesOfScore = 1, kValuesOfBox = 4, kValuesOfLandmark = 10;

inline int feature_size(int input, int stride) { return (input + stride - 1) / stride; }

// log(p / (1 − p)) as float32, ∓infinity at 0 and 1.
inline float logit(double probability) {
  if (!(probability >= 0 && probability <= 1)) throw Error("a threshold is not in 0-1");
  return static_cast<float>(std::log(probability / (1 - probability)));
}

// The smallest q of int8 whose value is at least `wanted`; 128 if there is none.
inline int min_quantized(float wanted, float scale, int zero_point) {
  for (int q = -128; q < 128; q++) {
    if ((static_cast<float>(q) - static_cast<float>(zero_point)) * scale >= wanted) return q;
  }
  return 128;
}

namespace detail {

struct Candidate {
  float logit;
  int anchor;           // over all levels
  std::size_t level;
  std::size_t index;    // within the level
  std::array<float, 4> box;
  std::array<float, 10> landmarks;
  std::array<float, 4> decoded;  // the box in input pixels
};

// By logit, highest first; equal ones by anchor.
inline bool stronger(const Candidate& a, const Candidate& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.anchor < b.anchor;
}

inline std::vector<Candidate> above(const Spec& spec, Shape input, const std::vector<Level>& levels, double threshold) {
  const float wanted = logit(threshold);
  std::vector<Candidate> found;
  std::size_t first = 0;
  const auto add = [&](std::size_t level, std::size_t index) {
    found.push_back({levels[level].score.at(index), static_cast<int>(first + index), level, index, {}, {}, {}});
  };
  for (std::size_t level = 0; level < levels.size(); level++) {
    const int stride = spec.strides[level];
    const std::size_t cells = static_cast<std::size_t>(feature_size(input.height, stride)) *
                              static_cast<std::size_t>(feature_size(input.width, stride));
    const std::size_t anchors = cells * spec.anchor_sizes[level].size();
    const Tensor& score = levels[level].score;
    if (score.quantized != nullptr) {
      const int least = min_quantized(wanted, score.scale, score.zero_point);
      for (std::size_t i = 0; i < anchors; i++) {
        if (score.quantized[i] >= least) add(level, i);
      }
    } else {
      for (std::size_t i = 0; i < anchors; i++) {
        if (score.floats[i] >= wanted) add(level, i);
      }
    }
    first += anchors;
  }
  const std::size_t most = static_cast<std::size_t>(spec.max_candidates);
  if (found.size() > most) {
    std::nth_element(found.begin(), found.begin() + static_cast<std::ptrdiff_t>(most), found.end(), stronger);
    found.resize(most);
  }
  return found;
}

// Fills in box and landmarks in picture pixels, unclipped; false where one is not finite.
inline bool decode(const Spec& spec, Shape input, const Level& level, float scale, Candidate& candidate) {
  static const float kMaxLogSize = static_cast<float>(std::log(1000.0 / 16));  // beyond it a box means nothing
  const std::vector<double>& sizes = spec.anchor_sizes[candidate.level];
  const int stride = spec.strides[candidate.level];
  const std::size_t cell = candidate.index / sizes.size();
  const std::size_t columns = static_cast<std::size_t>(feature_size(input.width, stride));
  const float size = static_cast<float>(sizes[candidate.index % sizes.size()]);
  const std::array<float, 2> centre = {static_cast<float>((static_cast<double>(cell % columns) + 0.5) * stride),
                                       static_cast<float>((static_cast<double>(cell / columns) + 0.5) * stride)};
  const float v0 = static_cast<float>(spec.variance_centre), v1 = static_cast<float>(spec.variance_size);
  bool finite = true;
  for (std::size_t axis = 0; axis < 2; axis++) {
    const std::size_t at = candidate.index * kValuesOfBox + axis;
    const float middle = centre[axis] + level.box.at(at) * v0 * size;
    const float raw = level.box.at(at + 2) * v1;
    const float exponent = raw > kMaxLogSize ? kMaxLogSize : raw;  // NaN stays NaN
    const float half = size * static_cast<float>(std::exp(static_cast<double>(exponent))) * 0.5f;
    for (const std::size_t side : {axis, axis + 2}) {
      const float value = side < 2 ? middle - half : middle + half;
      finite = finite && std::isfinite(value);
      candidate.decoded[side] = value;
      candidate.box[side] = value / scale;
    }
  }
  for (std::size_t i = 0; i < 10; i++) {
    const float value = centre[i % 2] + level.landmark.at(candidate.index * kValuesOfLandmark + i) * v0 * size;
    candidate.landmarks[i] = value / scale;
    finite = finite && std::isfinite(value) && std::isfinite(candidate.landmarks[i]);
  }
  return finite;
}

inline void add_mesh(const MeshBasis& basis, const Tensor& tensor, float scale, const Candidate& candidate,
                     Face& face) {
  std::vector<float> coefficients(basis.coefficients());
  for (std::size_t k = 0; k < coefficients.size(); k++) {
    coefficients[k] = usable(tensor.at(candidate.index * coefficients.size() + k));
  }
  const std::vector<double> units = basis.in_box_units(coefficients);
  face.mesh = placed(units, candidate.decoded, scale);
  face.pose = basis.pose(units);
}

inline float area(const std::array<float, 4>& box) { return (box[2] - box[0]) * (box[3] - box[1]); }

// Whether the IoU on continuous coordinates exceeds the threshold; 0/0 does not.
inline bool overlaps(const std::array<float, 4>& a, const std::array<float, 4>& b, float threshold) {
  const float width = std::max(std::min(a[2], b[2]) - std::max(a[0], b[0]), 0.0f);
  const float height = std::max(std::min(a[3], b[3]) - std::max(a[1], b[1]), 0.0f);
  const float inter = width * height;
  return inter / (area(a) + area(b) - inter) > threshold;
}

}  // namespace detail

// The faces of one picture, by score descending.
//
// `levels` are the outputs of each stride of the spec, for an input of `input` pixels; `scale` is letterbox_size's;
// thresholds are in 0-1; `basis` is that of a model with a mesh. Throws Error where a threshold is not.
inline std::vector<Face> decode_faces(const Spec& spec, Shape input, const std::vector<Level>& levels, int image_height,
                                      int image_width, double scale, double score_threshold, double iou_threshold,
                                      const MeshBasis* basis = nullptr) {
  if (!(iou_threshold >= 0 && iou_threshold <= 1)) throw Error("a threshold is not in 0-1");
  const float overlap = static_cast<float>(iou_threshold);
  std::vector<detail::Candidate> found = detail::above(spec, input, levels, score_threshold);
  std::sort(found.begin(), found.end(), detail::stronger);
  const std::array<float, 4> limits = {static_cast<float>(image_width), static_cast<float>(image_height),
                                       static_cast<float>(image_width), static_cast<float>(image_height)};
  std::vector<Face> faces;
  for (detail::Candidate& candidate : found) {
    if (!detail::decode(spec, input, levels[candidate.level], static_cast<float>(scale), candidate)) continue;
    for (std::size_t i = 0; i < 4; i++) candidate.box[i] = std::min(std::max(candidate.box[i], 0.0f), limits[i]);
    const bool dropped = std::any_of(faces.begin(), faces.end(), [&](const Face& kept) {
      return detail::overlaps(kept.box, candidate.box, overlap);
    });
    if (dropped) continue;
    const double probability = 1 / (1 + std::exp(-static_cast<double>(candidate.logit)));
    faces.push_back({candidate.box, static_cast<float>(probability), candidate.landmarks, candidate.anchor});
    const Tensor& mesh = levels[candidate.level].mesh;
    if (basis) detail::add_mesh(*basis, mesh, static_cast<float>(scale), candidate, faces.back());
    if (faces.size() == static_cast<std::size_t>(spec.max_faces)) break;
  }
  return faces;
}

}  // namespace retinaface
