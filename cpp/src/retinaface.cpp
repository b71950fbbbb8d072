// The C interface: calls the C++ one and turns what it throws into a line of text.
#include "retinaface/retinaface.h"

#include <algorithm>
#include <cstring>
#include <exception>
#include <string>

#include "retinaface/litert.hpp"

struct retinaface_detector {
  retinaface::FaceDetector detector;
};

namespace {

constexpr std::size_t kMaxModelBytes = std::size_t{1} << 31;

template <class Result, class Use>
Result guarded(Result failed, char* error, std::size_t error_size, Use&& use) noexcept {
  const auto tell = [&](const char* text) {
    if (error == nullptr || error_size == 0) return;
    const std::size_t length = std::min(std::strlen(text), error_size - 1);
    std::memcpy(error, text, length);
    error[length] = '\0';
  };
  try {
    return use();
  } catch (const std::exception& caught) {
    tell(caught.what());
  } catch (...) {
    tell("unknown error");
  }
  return failed;
}

retinaface::Order order_of(retinaface_order order) {
  switch (order) {
    case RETINAFACE_BGR: return retinaface::Order::kBgr;
    case RETINAFACE_RGB: return retinaface::Order::kRgb;
    case RETINAFACE_BGRA: return retinaface::Order::kBgra;
    case RETINAFACE_RGBA: return retinaface::Order::kRgba;
    case RETINAFACE_GRAY: return retinaface::Order::kGray;
  }
  throw retinaface::Error("unknown channel order");
}

}  // namespace

extern "C" {

retinaface_detector* retinaface_open(const char* model_path, int num_threads, char* error, size_t error_size) {
  return guarded<retinaface_detector*>(nullptr, error, error_size, [&] {
    if (model_path == nullptr || num_threads < 1) throw retinaface::Error("expected a path and at least 1 thread");
    return new retinaface_detector{retinaface::FaceDetector(
        retinaface::read_file(model_path, kMaxModelBytes, "model"), model_path, num_threads)};
  });
}

int retinaface_detect(retinaface_detector* detector, const uint8_t* pixels, int width, int height, ptrdiff_t stride,
                      retinaface_order order, double score_threshold, retinaface_face* faces, int capacity, char* error,
                      size_t error_size) {
  return guarded(-1, error, error_size, [&] {
    if (detector == nullptr) throw retinaface::Error("expected a detector");
    if (faces == nullptr && capacity > 0) throw retinaface::Error("expected room for faces");
    const retinaface::Picture picture = {pixels, width, height, stride, order_of(order)};
    const auto found = detector->detector.detect(picture, score_threshold);
    for (std::size_t i = 0; i < found.size() && static_cast<long long>(i) < capacity; i++) {
      std::copy(found[i].box.begin(), found[i].box.end(), faces[i].box);
      std::copy(found[i].landmarks.begin(), found[i].landmarks.end(), faces[i].landmarks);
      faces[i].score = found[i].score;
    }
    return static_cast<int>(found.size());
  });
}

int retinaface_invoke(retinaface_detector* detector, char* error, size_t error_size) {
  return guarded(-1, error, error_size, [&] {
    if (detector == nullptr) throw retinaface::Error("expected a detector");
    detector->detector.invoke();
    return 0;
  });
}

void retinaface_close(retinaface_detector* detector) { delete detector; }
}
