// Every kernel once, at shapes of several tiles and blocks, for ThreadSanitizer: whether what they
// compute is right is asked in tests/kernels, at many more shapes than fit in its time.
#include <cmath>
#include <cstring>
#include <memory>
#include <vector>

#include "kernels/cuda/cuda_device.h"
#include "tests/cuda_on_host/gemm_library.h"
#include "tests/support/attention_inputs.h"
#include "tests/support/catch.h"
#include "tests/support/data.h"

namespace quire::test {
namespace {

/// Tensors on the CUDA device, kept until the end of the test.
class Bench {
 public:
  Bench() : device_(open_cuda_device(0, {.on_trial = true})) {}

  Device& device() { return *device_; }
  View zeros(Shape shape, DType dtype = DType::f32) {
    buffers_.emplace_back(*device_, static_cast<std::size_t>(shape.count()) * size_of(dtype));
    device_->fill_zero(buffers_.back().data(), buffers_.back().size());
    return {buffers_.back().data(), dtype, shape};
  }
  View random(Shape shape, DType dtype = DType::f32) {
    const std::vector<float> values = normal(shape.count(), ++seed_);
    std::vector<std::byte> bytes(values.size() * size_of(dtype));
    for (std::size_t i = 0; i < values.size(); ++i) {
      const BFloat16 narrow = to_bfloat16(values[i]);
      if (dtype == DType::bf16) std::memcpy(&bytes[i * 2], &narrow, 2);
      if (dtype == DType::f32) std::memcpy(&bytes[i * 4], &values[i], 4);
    }
    return copied(bytes.data(), bytes.size(), shape, dtype);
  }
  View integers(const std::vector<std::int32_t>& values, Shape shape) {
    return copied(values.data(), values.size() * 4, shape, DType::i32);
  }
  View integers(Shape shape, std::int64_t limit) {
    return integers(test::integers(shape.count(), ++seed_, limit), shape);
  }
  /// Waits for the kernels: what they did wrong comes out here.
  void finish(const View& result) {
    std::vector<std::byte> bytes(result.size_bytes());
    device_->copy_to_host(bytes.data(), result.bytes(), bytes.size());
    for (std::int64_t i = 0; i < result.count(); ++i) {
      float value = 0.0f;
      if (result.dtype() == DType::bf16) {
        BFloat16 narrow;
        std::memcpy(&narrow, &bytes[static_cast<std::size_t>(i) * 2], 2);
        value = to_float(narrow);
      } else if (result.dtype() == DType::f32) {
        std::memcpy(&value, &bytes[static_cast<std::size_t>(i) * 4], 4);
      }
      REQUIRE_FALSE(std::isnan(value));
    }
  }

 private:
  View copied(const void* data, std::size_t size, Shape shape, DType dtype) {
    const View view = zeros(shape, dtype);
    device_->copy_to_device(view.bytes(), data, size);
    return view;
  }

  std::unique_ptr<Device> device_;
  std::vector<Buffer> buffers_;
  std::uint64_t seed_ = 0;
};

constexpr DType kTypes[] = {DType::f32, DType::bf16};

TEST_CASE("races: embedding, dropout and activation") {
  for (const DType dtype : kTypes) {
    Bench b;
    const View ids = b.integers({2, 40}, 7), positions = b.integers({2, 40}, 40);
    const View out = b.zeros({2, 40, 72}, dtype);
    b.device().embedding_forward({.out = out,
                                  .ids = ids,
                                  .positions = positions,
                                  .wte = {b.random({7, 72}, dtype), WeightLayout::out_in},
                                  .wpe = b.random({40, 72}, dtype)});
    b.device().dropout({.out = out, .x = out, .p = 0.1f, .key = {1, 2}});
    b.device().activation_backward({.d_x = out, .d_out = out, .x = b.random({2, 40, 72}, dtype)});
    b.device().activation_forward({.out = out, .x = out});
    const View d_wte = b.zeros({7, 72}), d_wpe = b.zeros({40, 72});
    b.device().embedding_backward({.d_wte = Accumulate{d_wte},
                                   .d_wpe = Accumulate{d_wpe},
                                   .d_out = out,
                                   .ids = ids,
                                   .positions = positions});
    b.finish(d_wte);
    b.finish(d_wpe);
  }
}

TEST_CASE("races: layernorm") {
  for (const DType dtype : kTypes) {
    for (const std::int64_t C : {70, 264}) {
      Bench b;
      const View x = b.random({20, C}, dtype), sum = b.zeros({20, C}, dtype);
      const View out = b.zeros({20, C}, dtype), mean = b.zeros({20}), rstd = b.zeros({20});
      const View weight = b.random({C}), d_weight = b.zeros({C}), d_bias = b.zeros({C});
      b.device().residual_layernorm_forward({.sum = sum,
                                             .out = out,
                                             .mean = mean,
                                             .rstd = rstd,
                                             .x = x,
                                             .branch = x,
                                             .weight = weight,
                                             .bias = b.random({C})});
      const View d_x = b.random({20, C}, dtype);
      b.device().layernorm_backward({.d_x = Accumulate{d_x},
                                     .d_weight = Accumulate{d_weight},
                                     .d_bias = Accumulate{d_bias},
                                     .d_out = out,
                                     .x = sum,
                                     .weight = weight,
                                     .mean = mean,
                                     .rstd = rstd});
      b.finish(d_x);
      b.finish(d_weight);
    }
  }
}

TEST_CASE("races: products of few rows and gradients of biases") {
  const cuda_on_host::WithoutEpilogues refused;  // so that the kernels run
  for (const DType dtype : kTypes) {
    for (const WeightLayout layout : {WeightLayout::in_out, WeightLayout::out_in}) {
      Bench b;
      const Shape shape = layout == WeightLayout::in_out ? Shape{1064, 40} : Shape{40, 1064};
      const Weight weight(b.random(shape, dtype), layout);
      const View x = b.random({8, 1064}, dtype), sum = b.zeros({8, 1064}, dtype);
      const View ln = b.zeros({8, 1064}, dtype), out = b.zeros({8, 40}, dtype);
      b.device().layernorm_matmul({.layernorm = {.sum = sum,
                                                 .out = ln,
                                                 .x = x,
                                                 .branch = x,
                                                 .weight = b.random({1064}),
                                                 .bias = b.random({1064})},
                                   .matmul = {.out = out,
                                              .x = ln,
                                              .weight = weight,
                                              .bias = b.random({40}),
                                              .activation = Activation::gelu_new}});
      b.finish(out);
      b.finish(sum);
      const View d_bias = b.zeros({40});
      b.device().matmul_backward_weight({.d_weight = {{b.zeros(shape), layout}},
                                         .d_bias = Accumulate{d_bias},
                                         .d_out = out,
                                         .x = x});
      b.finish(d_bias);
      // The factors of another type, so that the kernel that converts runs.
      b.device().matmul_add(
          {.out = Accumulate{out},
           .x = x,
           .weight = {b.random(shape, dtype == DType::f32 ? DType::bf16 : DType::f32), layout},
           .scale = 0.5f});
      b.finish(out);
    }
  }
}

TEST_CASE("races: attention") {
  for (const DType dtype : kTypes) {
    for (const float dropout : {0.0f, 0.1f}) {
      Bench b;
      constexpr std::int64_t B = 1, T = 140, H = 1, D = 64;
      const View qkv = b.random({B, T, 3 * H * D}, dtype), out = b.zeros({B, T, H * D}, dtype);
      const View lse = b.zeros({B, H, T}), d_qkv = b.zeros({B, T, 3 * H * D}, dtype);
      b.device().attention_forward({.out = out,
                                    .lse = lse,
                                    .qkv = qkv,
                                    .heads = H,
                                    .scale = 0.125f,
                                    .dropout = dropout,
                                    .key = {3, 4}});
      b.device().attention_backward({.d_qkv = d_qkv,
                                     .d_out = b.random({B, T, H * D}, dtype),
                                     .out = out,
                                     .lse = lse,
                                     .qkv = qkv,
                                     .heads = H,
                                     .scale = 0.125f,
                                     .dropout = dropout,
                                     .key = {3, 4}});
      b.finish(d_qkv);
    }
  }
}

TEST_CASE("races: attention with a cache") {
  for (const DType dtype : kTypes) {
    for (const std::int64_t T : {1, 20}) {
      Bench b;
      constexpr std::int64_t B = 2, H = 2, D = 64, N = 236;
      // Both rows read the first block; the short ones at the end are each row's own.
      const std::vector<std::int32_t> blocks = {128, 0, 192, 128, 64, 214};
      const View out = b.zeros({B, T, H * D}, dtype);
      b.device().attention_cached({.out = out,
                                   .k_cache = b.random({H, N, D}, dtype),
                                   .v_cache = b.random({H, N, D}, dtype),
                                   .qkv = b.random({B, T, 3 * H * D}, dtype),
                                   .past = b.integers(std::vector<std::int32_t>{100, 64}, {B}),
                                   .blocks = b.integers(blocks, {B, 3}),
                                   .heads = H,
                                   .scale = 0.125f});
      b.finish(out);
    }
  }
}

TEST_CASE("races: the kernels of a decoding step, which may overlap") {
  for (const DType dtype : kTypes) {
    Bench b;
    constexpr std::int64_t B = 2, H = 1, D = 64, C = H * D, S = 70;
    const View x = b.random({B, C}, dtype), sum = b.zeros({B, C}, dtype);
    const View ln = b.random({B, C}, dtype), qkv = b.zeros({B, 3 * C}, dtype);
    const View att = b.zeros({B, C}, dtype), branch = b.zeros({B, C}, dtype);
    const View stored = b.random({C, 3 * C}, dtype), weight = b.zeros({3 * C, C}, dtype);
    const View keys = b.random({H, B * S, D}, dtype), values = b.random({H, B * S, D}, dtype);
    const View blocks = b.integers(blocks_in_order(B, S), {B, 2});
    const Weight square(b.random({C, C}, dtype), WeightLayout::in_out);
    const View past = b.integers({B}, S), bias = b.random({C});
    b.device().transpose({.out = weight, .in = stored});
    for (int round = 0; round < 2; ++round) {
      b.device().matmul_forward({.out = qkv, .x = ln, .weight = {weight, WeightLayout::out_in}});
      b.device().attention_cached({.out = att.reshaped({B, 1, C}),
                                   .k_cache = keys,
                                   .v_cache = values,
                                   .qkv = qkv.reshaped({B, 1, 3 * C}),
                                   .past = past,
                                   .blocks = blocks,
                                   .heads = H,
                                   .scale = 0.125f});
      b.device().matmul_forward({.out = branch, .x = att, .weight = square, .bias = bias});
      b.device().layernorm_matmul(
          {.layernorm =
               {.sum = sum, .out = ln, .x = x, .branch = branch, .weight = bias, .bias = bias},
           .matmul = {.out = att, .x = ln, .weight = square}});
    }
    b.finish(att);
    b.finish(sum);
  }
}

TEST_CASE("races: loss") {
  for (const DType dtype : kTypes) {
    Bench b;
    const View logits = b.random({3, 1003}, dtype), targets = b.integers({3}, 1003);
    const View losses = b.zeros({3});
    b.device().cross_entropy_forward({.losses = losses, .logits = logits, .targets = targets});
    b.device().cross_entropy_backward(
        {.losses = losses, .logits_to_grads = logits, .targets = targets, .scale = 0.5f});
    b.finish(logits);
    b.finish(losses);
  }
}

TEST_CASE("races: AdamW and the norm") {
  Bench b;
  std::vector<AdamwTensor> tensors;
  std::vector<ConstView> gradients;
  for (const std::int64_t count : {5, 3000, 640}) {
    tensors.push_back({.param = b.random({count}),
                       .grad = b.random({count}),
                       .m = b.zeros({count}),
                       .v = b.zeros({count}),
                       .weight_decay = 0.1f,
                       .copy = b.zeros({count}, DType::bf16)});
    gradients.push_back(tensors.back().grad);
  }
  CHECK(b.device().squared_norm(gradients) > 0.0);
  b.device().adamw({.tensors = tensors});
  for (const AdamwTensor& tensor : tensors) b.finish(tensor.copy);
}

TEST_CASE("races: sampling") {
  Bench b;
  const View logits = b.random({2, 1003}), tokens = b.zeros({2}, DType::i32);
  b.device().repetition_penalty(
      {.logits = logits, .history = b.integers({2, 50}, 1003), .penalty = 1.2f});
  b.device().argmax_tokens({.tokens = tokens, .logits = logits});
  b.device().warp_logits(
      {.logits = logits, .temperature = 0.8f, .top_k = 200, .top_p = 0.9f, .min_p = 0.01f});
  b.device().draw_tokens({.tokens = tokens, .logits = logits, .uniforms = b.zeros({2})});
  b.finish(logits);
}

}  // namespace
}  // namespace quire::test
