// Runs a model file with LiteRT's C API (2.3: libLiteRt.so of the Python package ai-edge-litert), on the CPU.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "retinaface/retinaface.hpp"

// The part of LiteRT's C API that is used here; the package has no headers. Every call returns 0 or an error status.
extern "C" {
typedef struct {
  std::uint32_t rank_and_flags;  // the rank in the low 7 bits
  std::int32_t dimensions[8];
  std::uint32_t strides[8];
} RfLiteRtLayout;
typedef struct {
  std::int32_t element_type;
  RfLiteRtLayout layout;
} RfLiteRtTensorType;
typedef struct {
  float scale;
  std::int64_t zero_point;
} RfLiteRtQuantization;
typedef struct {
  std::int32_t tag;
  struct {
    std::int32_t type;
    std::int64_t value;  // of a union of 8 bytes
  } any;
} RfLiteRtOption;
int LiteRtCreateEnvironment(int count, const RfLiteRtOption* options, void** environment);
int LiteRtCreateModelFromBuffer(void* environment, const void* bytes, std::size_t size, void** model);
int LiteRtGetNumModelSignatures(void* model, std::size_t* count);
int LiteRtGetModelSignature(void* model, std::size_t index, void** signature);
int LiteRtGetNumSignatureInputs(void* signature, std::size_t* count);
int LiteRtGetSignatureInputName(void* signature, std::size_t index, const char** name);
int LiteRtGetSignatureInputTensorByIndex(void* signature, std::size_t index, void** tensor);
int LiteRtGetNumSignatureOutputs(void* signature, std::size_t* count);
int LiteRtGetSignatureOutputName(void* signature, std::size_t index, const char** name);
int LiteRtGetSignatureOutputTensorByIndex(void* signature, std::size_t index, void** tensor);
int LiteRtGetRankedTensorType(void* tensor, RfLiteRtTensorType* type);
int LiteRtGetQuantizationTypeId(void* tensor, std::int32_t* id);
int LiteRtGetPerTensorQuantization(void* tensor, RfLiteRtQuantization* quantization);
int LiteRtCreateOptions(void** options);
int LiteRtSetOptionsHardwareAccelerators(void* options, int accelerators);
int LiteRtCreateOpaqueOptions(const char* kind, void* payload, void (*destroy)(void*), void** opaque);
int LiteRtAddOpaqueOptions(void* options, void* opaque);
int LiteRtCreateCompiledModel(void* environment, void* model, void* options, void** compiled);
int LiteRtCompiledModelResizeInputTensorNonStrict(void* compiled, std::size_t signature, std::size_t input,
                                                  const int* dimensions, std::size_t rank);
int LiteRtGetCompiledModelOutputTensorLayouts(void* compiled, std::size_t signature, std::size_t count,
                                              RfLiteRtLayout* layouts, bool update_allocation);
int LiteRtCreateManagedTensorBuffer(void* environment, int kind, const RfLiteRtTensorType* type, std::size_t size,
                                    void** buffer);
int LiteRtLockTensorBuffer(void* buffer, void** address, int mode);
int LiteRtUnlockTensorBuffer(void* buffer);
int LiteRtRunCompiledModel(void* compiled, std::size_t signature, std::size_t inputs, void** input_buffers,
                           std::size_t outputs, void** output_buffers);
void LiteRtDestroyTensorBuffer(void* buffer);
void LiteRtDestroyCompiledModel(void* compiled);
void LiteRtDestroyOptions(void* options);
void LiteRtDestroyModel(void* model);
void LiteRtDestroyEnvironment(void* environment);
}

namespace retinaface {

// A whole file of at most `most` bytes; `what` is what errors call it. Throws Error.
inline std::string read_file(const std::string& path, std::size_t most, const std::string& what) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw Error(path + ": cannot read the " + what);
  std::string bytes;
  // Room for all at once: a string that grows touches three times the memory. Pipes have no size, and files may grow.
  std::error_code unknown;
  const std::uintmax_t size = std::filesystem::file_size(path, unknown);
  if (!unknown) bytes.reserve(static_cast<std::size_t>(std::min<std::uintmax_t>(size, most)));
  std::array<char, 1 << 16> chunk;
  while (file.read(chunk.data(), chunk.size()) || file.gcount() > 0) {
    bytes.append(chunk.data(), static_cast<std::size_t>(file.gcount()));
    if (bytes.size() > most) throw Error(path + ": larger than " + std::to_string(most) + " bytes, expected a " + what);
  }
  if (file.bad() || bytes.empty()) throw Error(path + ": empty or not readable, expected a " + what);
  return bytes;
}

namespace detail {

using Handle = std::unique_ptr<void, void (*)(void*)>;

inline void litert(int status, const char* call) {
  if (status != 0) throw Error(std::string("LiteRt") + call + " failed with status " + std::to_string(status));
}

template <class Make>
Handle created(const char* call, void (*destroy)(void*), Make&& make) {
  void* handle = nullptr;
  litert(make(&handle), call);
  if (handle == nullptr) throw Error(std::string("LiteRt") + call + " gave no handle");
  return Handle(handle, destroy);
}

inline void not_owned(void*) {}

// A tensor of the signature at the model's own shape.
struct TensorInfo {
  RfLiteRtTensorType type{};
  float scale = 0;
  int zero_point = 0;

  bool quantized() const { return type.element_type == kInt8; }
  int rank() const { return static_cast<int>(type.layout.rank_and_flags & 0x7f); }

  static constexpr std::int32_t kInt8 = 9, kFloat32 = 1;
};

// int8 with a scale, or float32.
inline TensorInfo tensor_info(void* tensor, const std::string& name) {
  TensorInfo info;
  litert(LiteRtGetRankedTensorType(tensor, &info.type), "GetRankedTensorType");
  if (info.type.element_type == TensorInfo::kFloat32) return info;
  std::int32_t kind = 0;
  RfLiteRtQuantization quantization{};
  if (info.quantized() && LiteRtGetQuantizationTypeId(tensor, &kind) == 0 && kind == 1) {
    litert(LiteRtGetPerTensorQuantization(tensor, &quantization), "GetPerTensorQuantization");
  }
  info.scale = quantization.scale;
  info.zero_point = static_cast<int>(std::clamp<std::int64_t>(quantization.zero_point, -32768, 32767));
  if (!(info.scale > 0) || !std::isfinite(info.scale)) {
    throw Error("tensor " + name + " is neither float32 nor int8 with a scale");
  }
  return info;
}

}  // namespace detail

// A model file and what its tensors are; checked against its metadata.
class Model {
 public:
  // `bytes` of a .tflite file, `name` is what errors call it. Throws Error.
  Model(std::string bytes, const std::string& name, int num_threads)
      : bytes_(std::move(bytes)),
        spec_(read_spec(bytes_, name)),
        basis_(read_basis(bytes_, name)),
        name_(name),
        num_threads_(num_threads) {
    try {
      open();
    } catch (const Error& error) {
      throw Error(name_ + ": LiteRT cannot use this model (" + error.what() + ")");
    }
  }

  const Spec& spec() const { return spec_; }
  bool has_mesh() const { return basis_.has_value(); }
  const std::string& name() const { return name_; }
  Shape own_shape() const { return {spec_.input_height, spec_.input_width}; }

 private:
  friend class Network;
  static constexpr int kCpu = 1;

  void open() {
    using detail::created;
    // Errors only on stderr, and no search for libraries of other accelerators.
    static constexpr int kWhole = 2, kAccelerators = 24, kLeastSeverity = 25, kErrors = 3;
    const RfLiteRtOption settings[] = {{kAccelerators, {kWhole, kCpu}}, {kLeastSeverity, {kWhole, kErrors}}};
    environment_ = created("CreateEnvironment", LiteRtDestroyEnvironment,
                           [&](void** out) { return LiteRtCreateEnvironment(2, settings, out); });
    model_ = created("CreateModelFromBuffer", LiteRtDestroyModel, [this](void** out) {
      return LiteRtCreateModelFromBuffer(environment_.get(), bytes_.data(), bytes_.size(), out);
    });
    std::size_t signatures = 0, inputs = 0;
    detail::litert(LiteRtGetNumModelSignatures(model_.get(), &signatures), "GetNumModelSignatures");
    if (signatures != 1) throw Error(std::to_string(signatures) + " signatures, expected 1");
    const detail::Handle signature = created("GetModelSignature", detail::not_owned, [this](void** out) {
      return LiteRtGetModelSignature(model_.get(), 0, out);
    });
    const char* name = nullptr;
    detail::litert(LiteRtGetNumSignatureInputs(signature.get(), &inputs), "GetNumSignatureInputs");
    if (inputs != 1) throw Error(std::to_string(inputs) + " inputs, expected 1");
    detail::litert(LiteRtGetSignatureInputName(signature.get(), 0, &name), "GetSignatureInputName");
    if (name == nullptr || std::string(name) != "image") throw Error("its input is not called \"image\"");
    input_ = info("image", [&](void** out) { return LiteRtGetSignatureInputTensorByIndex(signature.get(), 0, out); });
    expect("image", input_, {1, spec_.input_height, spec_.input_width, 3});
    std::size_t outputs = 0;
    detail::litert(LiteRtGetNumSignatureOutputs(signature.get(), &outputs), "GetNumSignatureOutputs");
    if (outputs > 1000) throw Error("more than 1000 outputs");
    for (std::size_t i = 0; i < outputs; i++) {
      detail::litert(LiteRtGetSignatureOutputName(signature.get(), i, &name), "GetSignatureOutputName");
      const std::string key = name == nullptr ? "" : name;
      outputs_.push_back(info(key, [&](void** out) {
        return LiteRtGetSignatureOutputTensorByIndex(signature.get(), i, out);
      }));
      places_[key] = i;
    }
    check_outputs(own_shape(), nullptr);
    options_ = created("CreateOptions", LiteRtDestroyOptions, LiteRtCreateOptions);
    detail::litert(LiteRtSetOptionsHardwareAccelerators(options_.get(), kCpu), "SetOptionsHardwareAccelerators");
    set_threads();
  }

  template <class Get>
  detail::TensorInfo info(const std::string& name, Get&& get) const {
    return detail::tensor_info(detail::created("GetSignatureTensor", detail::not_owned, get).get(), name);
  }

  // The number of threads is a line of TOML for the CPU accelerator, which LiteRT knows as "xnnpack".
  void set_threads() {
    const std::string line = "num_threads = " + std::to_string(num_threads_) + "\n";
    char* payload = static_cast<char*>(std::malloc(line.size() + 1));
    if (payload == nullptr) throw Error("no memory");
    std::memcpy(payload, line.c_str(), line.size() + 1);
    void* opaque = nullptr;
    if (LiteRtCreateOpaqueOptions("xnnpack", payload, std::free, &opaque) != 0) {
      std::free(payload);
      throw Error("LiteRtCreateOpaqueOptions failed");
    }
    detail::litert(LiteRtAddOpaqueOptions(options_.get(), opaque), "AddOpaqueOptions");
  }

  static void expect(const std::string& name, const detail::TensorInfo& info, const std::array<int, 4>& shape) {
    expect(name, info.type.layout, shape);
  }

  static void expect(const std::string& name, const RfLiteRtLayout& layout, const std::array<int, 4>& shape) {
    const bool same = (layout.rank_and_flags & 0x7f) == 4 && std::equal(shape.begin(), shape.end(), layout.dimensions);
    if (!same) throw Error("tensor " + name + " has another shape than its metadata needs");
  }

  // That the outputs are there and of the shape that metadata and basis need, in `layouts` (null: the model's own).
  void check_outputs(Shape shape, const RfLiteRtLayout* layouts) const {
    for (std::size_t level = 0; level < spec_.strides.size(); level++) {
      const int stride = spec_.strides[level], anchors = static_cast<int>(spec_.anchor_sizes[level].size());
      const int rows = feature_size(shape.height, stride), columns = feature_size(shape.width, stride);
      std::vector<std::pair<const char*, int>> kinds = {
          {"score", kValuesOfScore}, {"box", kValuesOfBox}, {"landmark", kValuesOfLandmark}};
      if (basis_) kinds.emplace_back("mesh", static_cast<int>(basis_->coefficients()));
      for (const auto& [kind, values] : kinds) {
        const std::string name = std::string(kind) + "_" + std::to_string(stride);
        const auto place = places_.find(name);
        if (place == places_.end()) throw Error("no output " + name);
        const RfLiteRtLayout& layout = layouts ? layouts[place->second] : outputs_[place->second].type.layout;
        expect(name, layout, {1, rows, columns, anchors * values});
      }
    }
  }

  std::string bytes_;  // LiteRT reads the model from here as long as it lives
  Spec spec_;
  std::optional<MeshBasis> basis_;
  std::string name_;
  int num_threads_;
  detail::Handle environment_{nullptr, detail::not_owned}, model_{nullptr, detail::not_owned};
  detail::Handle options_{nullptr, detail::not_owned};
  detail::TensorInfo input_;
  std::vector<detail::TensorInfo> outputs_;
  std::map<std::string, std::size_t> places_;
};

// The network ready to run at one input shape; resizing is LiteRT's.
class Network {
 public:
  explicit Network(const Model& model) : model_(model) {
    compiled_ = detail::created("CreateCompiledModel", LiteRtDestroyCompiledModel, [&](void** out) {
      return LiteRtCreateCompiledModel(model.environment_.get(), model.model_.get(), model.options_.get(), out);
    });
  }

  Shape shape() const { return shape_; }

  // Throws Error where the file runs at its own shape only; the object is then of no more use.
  void resize(Shape shape) {
    const std::array<int, 4> dimensions = {1, shape.height, shape.width, 3};
    std::vector<RfLiteRtLayout> layouts(model_.outputs_.size());
    if (!(shape == model_.own_shape() && shape_.height == 0)) {
      detail::litert(LiteRtCompiledModelResizeInputTensorNonStrict(compiled_.get(), 0, 0, dimensions.data(), 4),
                     "CompiledModelResizeInputTensor");
    }
    detail::litert(
        LiteRtGetCompiledModelOutputTensorLayouts(compiled_.get(), 0, layouts.size(), layouts.data(), true),
        "GetCompiledModelOutputTensorLayouts");
    model_.check_outputs(shape, layouts.data());
    shape_ = shape;
    outputs_.clear();
    buffers_.clear();
    RfLiteRtTensorType type = model_.input_.type;
    std::copy(dimensions.begin(), dimensions.end(), type.layout.dimensions);
    input_ = buffer(type);
    for (std::size_t i = 0; i < layouts.size(); i++) {
      type = model_.outputs_[i].type;
      type.layout = layouts[i];
      outputs_.push_back(buffer(type));
      buffers_.push_back(outputs_.back().get());
    }
    const detail::TensorInfo& input = model_.input_;
    InputTable table = input.quantized() ? InputTable(model_.spec_.mean, input.scale, input.zero_point)
                                         : InputTable(model_.spec_.mean);
    writer_ = std::make_unique<InputWriter>(model_.spec_, shape, std::move(table));
  }

  LetterboxSize write(const Picture& picture) {
    const Lock lock(input_.get(), kWrite);
    if (model_.input_.quantized()) return writer_->write(picture, static_cast<std::int8_t*>(lock.address()));
    return writer_->write(picture, static_cast<float*>(lock.address()));
  }

  void invoke() {
    void* input = input_.get();
    detail::litert(LiteRtRunCompiledModel(compiled_.get(), 0, 1, &input, buffers_.size(), buffers_.data()),
                   "RunCompiledModel");
  }

  std::vector<Face> faces(const Picture& picture, double scale, double score_threshold, double iou_threshold) const {
    std::list<Lock> locks;
    std::vector<Level> levels;
    for (const int stride : model_.spec_.strides) {
      const auto tensor = [&](const char* kind) {
        const std::size_t place = model_.places_.at(std::string(kind) + "_" + std::to_string(stride));
        const detail::TensorInfo& info = model_.outputs_[place];
        const void* values = locks.emplace_back(outputs_[place].get(), kRead).address();
        if (!info.quantized()) return Tensor{nullptr, static_cast<const float*>(values), 0, 0};
        return Tensor{static_cast<const std::int8_t*>(values), nullptr, info.scale, info.zero_point};
      };
      const bool dense = model_.basis_.has_value();
      levels.push_back({tensor("score"), tensor("box"), tensor("landmark"), dense ? tensor("mesh") : Tensor{}});
    }
    return decode_faces(model_.spec_, shape_, levels, picture.height, picture.width, scale, score_threshold,
                        iou_threshold, model_.basis_ ? &*model_.basis_ : nullptr);
  }

 private:
  static constexpr int kHostMemory = 1, kRead = 0, kWrite = 1;

  class Lock {
   public:
    Lock(void* buffer, int mode) : buffer_(buffer) {
      detail::litert(LiteRtLockTensorBuffer(buffer, &address_, mode), "LockTensorBuffer");
    }
    ~Lock() { LiteRtUnlockTensorBuffer(buffer_); }
    Lock(const Lock&) = delete;
    Lock& operator=(const Lock&) = delete;
    void* address() const { return address_; }

   private:
    void* buffer_;
    void* address_ = nullptr;
  };

  // A buffer of exactly the tensor's bytes; sides and type were checked, but not those of outputs that nobody reads.
  detail::Handle buffer(const RfLiteRtTensorType& type) const {
    std::uint64_t bytes = type.element_type == detail::TensorInfo::kInt8 ? 1 : 4;
    for (std::uint32_t i = 0; i < (type.layout.rank_and_flags & 0x7f); i++) {
      const std::int32_t side = type.layout.dimensions[i & 7];
      if (i > 7 || side < 1 || bytes > (std::uint64_t{1} << 31) / static_cast<std::uint32_t>(side)) {
        throw Error("an output has an impossible shape");
      }
      bytes *= static_cast<std::uint32_t>(side);
    }
    return detail::created("CreateManagedTensorBuffer", LiteRtDestroyTensorBuffer, [&](void** out) {
      return LiteRtCreateManagedTensorBuffer(model_.environment_.get(), kHostMemory, &type,
                                             static_cast<std::size_t>(bytes), out);
    });
  }

  const Model& model_;
  Shape shape_{};
  detail::Handle compiled_{nullptr, detail::not_owned}, input_{nullptr, detail::not_owned};
  std::vector<detail::Handle> outputs_;
  std::vector<void*> buffers_;
  std::unique_ptr<InputWriter> writer_;
};

// Finds faces with one model file. Not to be shared between threads without a lock: make one for each.
class FaceDetector {
 public:
  // `bytes` of a .tflite file, `name` is what errors call it. Throws Error.
  FaceDetector(std::string bytes, const std::string& name, int num_threads)
      : model_(std::move(bytes), name, num_threads) {
    // The first picture gives this network its shape: allocating memory for the own one as well would cost time.
    named([this] { networks_.push_front(std::make_unique<Network>(model_)); });
  }

  FaceDetector(const FaceDetector&) = delete;
  FaceDetector& operator=(const FaceDetector&) = delete;

  const Spec& spec() const { return model_.spec(); }
  // Whether faces get a mesh and a pose.
  bool has_mesh() const { return model_.has_mesh(); }

  // The input's shape for a picture: the smallest of the model's that holds it at the model's own scale.
  Shape input_shape(int image_height, int image_width) const {
    return fixed_ ? model_.own_shape() : auto_shape(image_height, image_width, model_.own_shape());
  }

  // Faces by score descending, in picture pixels; a negative threshold means the model's own. Throws Error.
  std::vector<Face> detect(const Picture& picture, double score_threshold = -1, double iou_threshold = -1) {
    check(picture);
    return named([&] {
      Network& network = prepare_for(picture);
      const LetterboxSize size = network.write(picture);
      network.invoke();
      return network.faces(picture, size.scale, score_threshold < 0 ? spec().score_threshold : score_threshold,
                           iou_threshold < 0 ? spec().iou_threshold : iou_threshold);
    });
  }

  // Runs the network alone, on the input of the last call; for measuring.
  void invoke() {
    named([this] { prepare(networks_.empty() || unused_ ? model_.own_shape() : networks_.front()->shape()).invoke(); });
  }

 private:
  template <class Use>
  auto named(Use&& use) -> decltype(use()) {
    try {
      return use();
    } catch (const Error& error) {
      throw Error(model_.name() + ": " + error.what());
    }
  }

  Network& prepare_for(const Picture& picture) {
    const Shape wanted = input_shape(picture.height, picture.width);
    try {
      return prepare(wanted);
    } catch (const Error&) {
      if (wanted == model_.own_shape()) throw;
      fixed_ = true;
      return prepare(model_.own_shape());
    }
  }

  Network& prepare(Shape shape) {
    const auto found = std::find_if(networks_.begin(), networks_.end(),
                                    [&](const std::unique_ptr<Network>& network) { return network->shape() == shape; });
    if (found != networks_.end()) {
      networks_.splice(networks_.begin(), networks_, found);
    } else {
      std::unique_ptr<Network> taken;
      if (unused_ && !networks_.empty()) {
        taken = std::move(networks_.back());
        networks_.pop_back();
      } else {
        taken = std::make_unique<Network>(model_);
      }
      taken->resize(shape);
      networks_.push_front(std::move(taken));
    }
    unused_ = false;
    return *networks_.front();
  }

  Model model_;
  std::list<std::unique_ptr<Network>> networks_;  // one for each shape used, the latest first: auto_shape has five
  bool fixed_ = false, unused_ = true;
};

}  // namespace retinaface
