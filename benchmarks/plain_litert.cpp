// What of a cold start is LiteRT's: reads a model, compiles it, sets its input's shape and runs it once, and no more.
//
//     plain_litert M.tflite HEIGHT WIDTH
//
// Ends without freeing anything, as soon as the outputs are there.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "retinaface/litert.hpp"

namespace {

void need(int status) {
  if (status != 0) {
    std::fputs("plain_litert: a call of LiteRT failed\n", stderr);
    std::exit(1);
  }
}

std::size_t bytes(const RfLiteRtTensorType& type) {
  std::size_t count = type.element_type == 1 ? 4 : 1;
  for (int i = 0; i < 4; i++) count *= static_cast<std::size_t>(type.layout.dimensions[i]);
  return count;
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 4) return 2;
  const std::string model_bytes = retinaface::read_file(arguments[1], std::size_t{1} << 31, "model");
  constexpr int kWhole = 2, kCpu = 1, kHostMemory = 1, kErrors = 3;
  const RfLiteRtOption settings[] = {{24, {kWhole, kCpu}}, {25, {kWhole, kErrors}}};
  void *environment = nullptr, *model = nullptr, *options = nullptr, *threads = nullptr, *compiled = nullptr;
  need(LiteRtCreateEnvironment(2, settings, &environment));
  need(LiteRtCreateModelFromBuffer(environment, model_bytes.data(), model_bytes.size(), &model));
  need(LiteRtCreateOptions(&options));
  need(LiteRtSetOptionsHardwareAccelerators(options, kCpu));
  static char one[] = "num_threads = 1\n";
  need(LiteRtCreateOpaqueOptions("xnnpack", one, [](void*) {}, &threads));
  need(LiteRtAddOpaqueOptions(options, threads));
  need(LiteRtCreateCompiledModel(environment, model, options, &compiled));

  void *signature = nullptr, *tensor = nullptr, *input = nullptr;
  std::size_t outputs = 0;
  need(LiteRtGetModelSignature(model, 0, &signature));
  need(LiteRtGetNumSignatureOutputs(signature, &outputs));
  const int shape[] = {1, std::atoi(arguments[2]), std::atoi(arguments[3]), 3};
  std::vector<RfLiteRtLayout> layouts(outputs);
  need(LiteRtCompiledModelResizeInputTensorNonStrict(compiled, 0, 0, shape, 4));
  need(LiteRtGetCompiledModelOutputTensorLayouts(compiled, 0, outputs, layouts.data(), true));
  RfLiteRtTensorType type{};
  need(LiteRtGetSignatureInputTensorByIndex(signature, 0, &tensor));
  need(LiteRtGetRankedTensorType(tensor, &type));
  std::copy(shape, shape + 4, type.layout.dimensions);
  need(LiteRtCreateManagedTensorBuffer(environment, kHostMemory, &type, bytes(type), &input));
  std::vector<void*> buffers(outputs);
  for (std::size_t i = 0; i < outputs; i++) {
    need(LiteRtGetSignatureOutputTensorByIndex(signature, i, &tensor));
    need(LiteRtGetRankedTensorType(tensor, &type));
    type.layout = layouts[i];
    need(LiteRtCreateManagedTensorBuffer(environment, kHostMemory, &type, bytes(type), &buffers[i]));
  }
  need(LiteRtRunCompiledModel(compiled, 0, 1, &input, outputs, buffers.data()));
  std::puts("done");
  std::fflush(stdout);
  std::_Exit(0);
}
