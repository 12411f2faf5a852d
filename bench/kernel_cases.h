// The table of what `quire bench kernels` times: every op at the shapes a GPT-2 gives it, with the
// bytes and flops that follow from the shapes.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "bench/operands.h"
#include "engine/model/config.h"
#include "kernels/device.h"

namespace quire {

/// A case over the tensors of one set. Calls in turn: 0, 1, 2, … for cold, 0 always for warm.
struct KernelCall {
  std::function<void(std::int64_t turn)> run;
  std::function<void()> prepare = {};  // before the first call, where there is something to do
};

struct KernelCase {
  std::string name;  // "matmul_forward/qkv": the op of ops.h, then which of its shapes
  double bytes = 0;  // that must be moved: each input once, each output once, nothing else
  double flops = 0;
  std::function<KernelCall(Device& device, Operands& operands)> make;
  /// The case itself turns over parts of its tensors that exceed the caches.
  bool rotates = false;
  /// Over all parameters of the model, in one set.
  bool whole_model = false;
};

struct KernelShapes {
  Gpt2Config config;
  int batch = 4;                 // B
  int length = 256;              // T
  std::int64_t head_rows = 256;  // R, of B·T: the rows whose logits exist at once
  int vocab_multiple = 1;        // of W, the columns of training's logits
  DType dtype = DType::f32;      // of activations, weights, tables and caches
  Multiply multiply = Multiply::as_stored;
  bool blocks = false;  // beside floats, products with weights in q8_0 and q4_0
};

/// All sets together are at least this large in cold mode: beyond any cache.
inline constexpr std::size_t kColdBytes = std::size_t{1} << 28;
/// Of a tiny model more sets would be needed; making them would take longer than timing them.
inline constexpr std::int64_t kMostSets = 4096;

/// Where products round their operands, these alone: all else is as it is without.
std::vector<KernelCase> kernel_cases(const KernelShapes& shapes);

}  // namespace quire
