// Dense faces: 468 vertices from the coefficients of one anchor, and the head's pose from the vertices.
//
// A model with a mesh has three outputs more, mesh_8, mesh_16 and mesh_32 [1, H/s, W/s, anchors · K], and a second
// member in its archive, mesh.f16: little-endian float16, 1 + K shapes of 468 vertices x y z, the mean face first.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "retinaface/json.hpp"
#include "retinaface/zip_tail.hpp"

namespace retinaface {

constexpr std::size_t kVertices = 468;
constexpr std::string_view kMeshFile = "mesh.f16";

// The head's turn from the mean face to a mesh in degrees: roll · pitch · yaw, yaw first.
struct Pose {
  float yaw = 0;    // positive: the nose points to the right of the picture
  float pitch = 0;  // positive: up
  float roll = 0;   // positive: clockwise
};

namespace detail {

constexpr std::size_t kMeshValues = 3 * kVertices;
using Row = std::array<double, 4>;

inline float half(std::uint32_t bits) {
  const int exponent = static_cast<int>(bits >> 10 & 31), fraction = static_cast<int>(bits & 1023);
  float size = std::ldexp(static_cast<float>(fraction + 1024), exponent - 25);
  if (exponent == 0) size = std::ldexp(static_cast<float>(fraction), -24);
  if (exponent == 31) size = std::numeric_limits<float>::infinity() * (fraction ? 0.0f : 1.0f);  // or no number
  return bits & 0x8000 ? -size : size;
}

// Jacobi's method: turns rows and columns p and q so that the number that both share is 0.
inline void turn(std::array<Row, 4>& matrix, std::array<Row, 4>& vectors, std::size_t p, std::size_t q) {
  const double ratio = (matrix[q][q] - matrix[p][p]) / (2 * matrix[p][q]);
  const double tangent = (ratio < 0 ? -1 : 1) / (std::abs(ratio) + std::hypot(ratio, 1.0));
  const double cosine = 1 / std::hypot(tangent, 1.0), sine = tangent * cosine;
  const auto mix = [&](double& a, double& b) {
    const double old = a;
    a = cosine * old - sine * b;
    b = sine * old + cosine * b;
  };
  for (Row& row : matrix) mix(row[p], row[q]);
  for (Row& row : vectors) mix(row[p], row[q]);
  for (std::size_t i = 0; i < 4; i++) mix(matrix[p][i], matrix[q][i]);
}

// Of a symmetric matrix, of length 1; of a matrix of zeros the first axis.
inline Row strongest_eigenvector(std::array<Row, 4> matrix) {
  double largest = 0;
  for (const Row& row : matrix) {
    for (const double value : row) largest = std::max(largest, std::abs(value));
  }
  const double least = largest * std::numeric_limits<double>::epsilon() / 2;
  std::array<Row, 4> vectors{};  // in columns
  for (std::size_t i = 0; i < 4; i++) vectors[i][i] = 1;
  for (int sweep = 0; sweep < 30; sweep++) {  // about five are needed
    for (std::size_t p = 0; p < 4; p++) {
      for (std::size_t q = p + 1; q < 4; q++) {
        if (std::abs(matrix[p][q]) > least) turn(matrix, vectors, p, q);
      }
    }
  }
  std::size_t best = 0;
  for (std::size_t i = 1; i < 4; i++) {
    if (matrix[i][i] > matrix[best][best]) best = i;
  }
  return {vectors[0][best], vectors[1][best], vectors[2][best], vectors[3][best]};
}

}  // namespace detail

// The mean face and the shapes that coefficients weigh, in units of √(w·h) of a box, relative to its centre.
class MeshBasis {
 public:
  // The contents of mesh.f16; `name` is what errors call the model. Throws Error: another size than that of a whole
  // number of shapes, two at least, or a number that is not finite.
  MeshBasis(std::string_view bytes, const std::string& name) {
    constexpr std::size_t kShapeBytes = 2 * detail::kMeshValues, kMostShapes = 65;
    const std::size_t rows = bytes.size() / kShapeBytes;
    if (bytes.size() % kShapeBytes != 0 || rows < 2 || rows > kMostShapes) {
      throw Error(name + ": " + std::string(kMeshFile) + " has " + std::to_string(bytes.size()) +
                  " bytes, expected 2808 for each of 2 to 65 shapes of 468 vertices");
    }
    numbers_.reserve(rows * detail::kMeshValues);
    for (std::size_t at = 0; at < bytes.size(); at += 2) numbers_.push_back(detail::half(detail::u16(bytes, at)));
    if (!std::all_of(numbers_.begin(), numbers_.end(), [](float value) { return std::isfinite(value); })) {
      throw Error(name + ": " + std::string(kMeshFile) + " holds numbers that are not finite");
    }
    std::array<double, 3> middle{};
    for (std::size_t i = 0; i < detail::kMeshValues; i++) middle[i % 3] += double{numbers_[i]} / kVertices;
    for (std::size_t i = 0; i < detail::kMeshValues; i++) centred_.push_back(double{numbers_[i]} - middle[i % 3]);
  }

  // K, of an anchor.
  std::size_t coefficients() const { return numbers_.size() / detail::kMeshValues - 1; }

  // x y z of each vertex, in box units, of K coefficients.
  std::vector<double> in_box_units(const std::vector<float>& coefficients) const {
    std::vector<double> sum(numbers_.begin(), numbers_.begin() + detail::kMeshValues);
    for (std::size_t k = 0; k < coefficients.size(); k++) {
      const float* shape = numbers_.data() + (k + 1) * detail::kMeshValues;
      for (std::size_t i = 0; i < sum.size(); i++) sum[i] += double{coefficients[k]} * double{shape[i]};
    }
    return sum;
  }

  // The rotation that, with a scale and a shift, brings the mean face nearest to a mesh, x y z of each vertex in any
  // unit: the quaternion that is the eigenvector of the largest eigenvalue (Horn 1987).
  Pose pose(const std::vector<double>& mesh) const {
    // What x y z of the mean, in rows, have in common with x y z of the mesh. Its shift adds nothing: the mean is
    // centred.
    std::array<std::array<double, 3>, 3> s{};
    for (std::size_t i = 0; i < detail::kMeshValues; i += 3) {
      for (std::size_t row = 0; row < 3; row++) {
        for (std::size_t column = 0; column < 3; column++) s[row][column] += centred_[i + row] * mesh[i + column];
      }
    }
    const auto [w, x, y, z] = detail::strongest_eigenvector(
        {{{s[0][0] + s[1][1] + s[2][2], s[1][2] - s[2][1], s[2][0] - s[0][2], s[0][1] - s[1][0]},
          {s[1][2] - s[2][1], s[0][0] - s[1][1] - s[2][2], s[0][1] + s[1][0], s[2][0] + s[0][2]},
          {s[2][0] - s[0][2], s[0][1] + s[1][0], s[1][1] - s[0][0] - s[2][2], s[1][2] + s[2][1]},
          {s[0][1] - s[1][0], s[2][0] + s[0][2], s[1][2] + s[2][1], s[2][2] - s[0][0] - s[1][1]}}});
    const double up = std::clamp(2 * (y * z + w * x), -1.0, 1.0);
    return {degrees(std::atan2(2 * (x * z - w * y), w * w - x * x - y * y + z * z)), -degrees(std::asin(up)),
            degrees(std::atan2(2 * (w * z - x * y), w * w - x * x + y * y - z * z))};
  }

 private:
  static float degrees(double radians) { return static_cast<float>(radians * (180 / 3.14159265358979323846)); }

  std::vector<float> numbers_;    // 1 + K shapes of 468 vertices
  std::vector<double> centred_;  // the mean face, its middle at 0
};

// The basis of a whole .tflite file; none where it has none. Throws Error where it is there, but damaged.
inline std::optional<MeshBasis> read_basis(std::string_view model, const std::string& name) {
  if (!has_entry(model, kMeshFile)) return std::nullopt;
  const std::optional<std::string> bytes = read_entry(model, kMeshFile);
  if (!bytes) throw Error(name + ": no readable " + std::string(kMeshFile) + " in the file, though it is listed");
  return MeshBasis(*bytes, name);
}

namespace detail {

// box centre + √(w·h) · (mean + Σ coefficient · shape), in picture pixels, all of it finite; `units` as in_box_units
// gives them, the box as decoded, in input pixels.
inline std::vector<float> placed(const std::vector<double>& units, const std::array<float, 4>& box, float scale) {
  const float side = std::sqrt((box[2] - box[0]) * (box[3] - box[1]));
  const std::array<float, 3> centre = {(box[0] + box[2]) * 0.5f, (box[1] + box[3]) * 0.5f, 0};
  constexpr float kMost = std::numeric_limits<float>::max();
  std::vector<float> mesh(units.size());
  for (std::size_t i = 0; i < mesh.size(); i++) {
    const float value = (static_cast<float>(units[i]) * side + centre[i % 3]) / scale;
    mesh[i] = std::isnan(value) ? 0.0f : std::clamp(value, -kMost, kMost);
  }
  return mesh;
}

// Numbers beyond ±1,000 are cut to that; those that are none become 0.
inline float usable(float coefficient) {
  return std::isnan(coefficient) ? 0.0f : std::clamp(coefficient, -1e3f, 1e3f);
}

}  // namespace detail
}  // namespace retinaface
