// Products with weights, by the library; gradients of biases, slopes, and activations that it has
// no epilogue for, are kernels after it. GELU in float32 always is: how exact the library's is
// there is written nowhere, and an approximate tanh would be beyond the bound of eight roundings.
//
// The library multiplies matrices of one type. A weight of another one (16-bit weights under float
// activations) is converted into scratch first: 6 bytes moved an element, where decoding at batch 1
// reads 2. Models whose activations have the weights' type do not pay it.
#include <algorithm>
#include <type_traits>
#include <vector>

#include "kernels/check.h"
#include "kernels/cuda/bias_gradient.h"
#include "kernels/cuda/convert.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/gemm_library.h"
#include "kernels/cuda/matvec.h"
#include "kernels/cuda/vec.cuh"

namespace quire::cuda {
namespace {

constexpr std::int64_t kAddedBytes = std::int64_t{16} << 20;  // of 50 MB of L2 cache

Gemm::Operand operand_of(const ConstView& matrix, bool transposed) {
  return {.data = matrix.bytes(),
          .dtype = matrix.dtype(),
          .stride = matrix.shape()[matrix.shape().rank() - 1],
          .transposed = transposed};
}

/// A weight, read as [K, N], from where its elements are in the type that the library multiplies.
Gemm::Operand operand_of(const Weight& weight, const ConstView& elements) {
  return operand_of(elements, weight.layout == WeightLayout::out_in);
}

/// What of the parameters is not in the type of the activations, in that type, in scratch.
class Converted {
 public:
  explicit Converted(DType dtype) : dtype_(dtype) {}
  std::int64_t bytes_for(const ConstView& view) const {
    if (!view || view.dtype() == dtype_) return 0;
    return (view.count() * static_cast<std::int64_t>(size_of(dtype_)) + 255) / 256 * 256;
  }
  ConstView operator()(const ConstView& view, std::byte* scratch, cudaStream_t stream) const {
    if (!view || view.dtype() == dtype_) return view;
    const View copy(scratch, dtype_, view.shape());
    convert(copy, view, stream);
    return copy;
  }

 private:
  DType dtype_;
};

}  // namespace

bool CudaDevice::multiply(Gemm gemm) {
  struct Result {
    void* to;
    const std::byte* from;
    std::size_t bytes;
  };
  std::vector<Result> results;  // that lie in scratch until the product is done
  std::byte* space = nullptr;
  std::size_t total = 0;
  const auto align = [&](auto& data, std::int64_t count, DType dtype, bool is_read) {
    if (reinterpret_cast<std::uintptr_t>(data) % kGemmAlignment == 0) return;
    const std::size_t bytes = static_cast<std::size_t>(count) * size_of(dtype);
    if (space != nullptr) {
      std::byte* const copied = space + total;
      if (is_read) copy(copied, data, bytes);
      if constexpr (std::is_same_v<decltype(data), void*&>) {
        results.push_back({data, copied, bytes});
      }
      data = copied;
    }
    total += (bytes + 255) / 256 * 256;
  };
  const auto align_all = [&] {
    total = 0;
    align(gemm.a.data, gemm.M * gemm.K, gemm.a.dtype, true);
    align(gemm.b.data, gemm.K * gemm.N, gemm.b.dtype, true);
    align(gemm.bias, gemm.N, gemm.out_dtype, true);
    align(gemm.pre_activation, gemm.M * gemm.N, gemm.out_dtype, false);
    align(gemm.out, gemm.M * gemm.N, gemm.out_dtype, gemm.accumulate);
  };
  align_all();  // counts
  if (total == 0) return gemm_->run(gemm, stream_);
  grow(aligned_, total);
  space = static_cast<std::byte*>(aligned_.data.get());
  align_all();  // copies
  if (!gemm_->run(gemm, stream_)) return false;
  for (const Result& result : results) copy(result.to, result.from, result.bytes);
  return true;
}

void CudaDevice::do_matmul_forward(const MatmulForward& p) {
  if (takes_matvec(p)) return launch_matvec(p, chain());
  const std::int64_t K = p.weight.in(), N = p.weight.out();
  const Converted converted(p.x.dtype()), of_out(p.out.dtype());
  const std::int64_t of_weight = converted.bytes_for(p.weight.view());
  auto* const space = scratch<std::byte>(of_weight + of_out.bytes_for(p.bias));
  const ConstView weight = converted(p.weight.view(), space, stream_);
  const ConstView bias = of_out(p.bias, space + of_weight, stream_);

  const View pre = p.pre_activation ? p.pre_activation : p.out;
  const Gemm product{.M = p.x.count() / K,
                     .N = N,
                     .K = K,
                     .a = operand_of(p.x, false),
                     .b = operand_of(p.weight, weight),
                     .out = pre.bytes(),
                     .out_dtype = p.out.dtype(),
                     .bias = bias.bytes()};
  if (p.activation == Activation::gelu_new && p.x.dtype() != DType::f32 &&
      p.out.dtype() == p.x.dtype() && N % 8 == 0) {
    Gemm fused = product;
    fused.out = p.out.bytes();
    fused.epilogue = Epilogue::gelu_new;
    fused.pre_activation = p.pre_activation.bytes();
    if (multiply(fused)) return;
  }
  multiply(product);
  if (p.activation != Activation::none || p.pre_activation) {
    activation_forward({.out = p.out, .x = pre, .activation = p.activation});
  }
}

bool CudaDevice::prefers_out_in(std::int64_t rows) const {
  return rows <= kMatvecRows;
}

void CudaDevice::layernorm_matmul(const LayernormMatmul& p) {
  if (!takes_layernorm_matvec(p)) return Device::layernorm_matmul(p);
  check_for(*this, p.layernorm);
  check_for(*this, p.matmul);
  launch_matvec(p.matmul, chain(), &p.layernorm);
}

void CudaDevice::do_matmul_backward_input(const MatmulBackwardInput& p) {
  const std::int64_t K = p.weight.in(), N = p.weight.out();
  const Converted converted(p.d_out.dtype());
  auto* const space = scratch<std::byte>(converted.bytes_for(p.weight.view()));
  const Gemm product{
      .M = p.d_x.count() / K,
      .N = K,
      .K = N,
      .a = operand_of(p.d_out, false),
      .b = operand_of(p.weight.transposed(), converted(p.weight.view(), space, stream_)),
      .out = p.d_x.bytes(),
      .out_dtype = p.d_x.dtype()};
  multiply(product);
  if (p.activation == Activation::none) return;
  activation_backward(
      {.d_x = p.d_x, .d_out = p.d_x, .x = p.pre_activation, .activation = p.activation});
}

void CudaDevice::do_matmul_backward_weight(const MatmulBackwardWeight& p) {
  const auto& [d_weight, layout] = p.d_weight.weight;
  const bool in_out = layout == WeightLayout::in_out;
  const std::int64_t M = p.x.shape()[0], K = p.x.shape()[1], N = p.d_out.shape()[1];
  // d_weight [K, N] = xᵀ·d_out, or its transpose [N, K] = d_outᵀ·x.
  const Gemm product{.M = in_out ? K : N,
                     .N = in_out ? N : K,
                     .K = M,
                     .a = operand_of(in_out ? p.x : p.d_out, true),
                     .b = operand_of(in_out ? p.d_out : p.x, false),
                     .out = d_weight.bytes(),
                     .out_dtype = d_weight.dtype(),
                     .accumulate = true};
  multiply(product);
  if (!p.d_bias.view) return;
  const unsigned parts = persistent_blocks((M + kBiasRows - 1) / kBiasRows, 1);
  auto* partial = scratch<float>(std::int64_t{parts} * N);
  sum_columns(partial, parts, p.d_out, N, stream_);
  add_to_bias(p.d_bias.view.data<float>(), partial, parts, N, stream_);
}

void CudaDevice::do_matmul_add(const MatmulAdd& p) {
  const std::int64_t K = p.weight.in(), N = p.weight.out();
  const View& out = p.out.view;
  const std::int64_t M = p.x.count() / K;
  const bool in_float = out.dtype() == DType::f32;
  // Onto 16 bits the library may round the product first: it is made in float, as many rows at once
  // as stay in the L2 cache, and added by a kernel.
  const std::int64_t of_row = N * std::int64_t{sizeof(float)};
  const std::int64_t rows = in_float ? M : std::clamp<std::int64_t>(kAddedBytes / of_row, 1, M);
  const Converted converted(p.x.dtype());
  const std::int64_t of_weight = converted.bytes_for(p.weight.view());
  auto* const space = scratch<std::byte>(of_weight + (in_float ? 0 : rows * of_row));
  Gemm product{.M = M,
               .N = N,
               .K = K,
               .a = operand_of(p.x, false),
               .b = operand_of(p.weight, converted(p.weight.view(), space, stream_)),
               .out = in_float ? out.bytes() : space + of_weight,
               .out_dtype = DType::f32,
               .scale = p.scale,
               .accumulate = in_float};
  for (std::int64_t m = 0; m < M; m += rows) {
    product.M = std::min(rows, M - m);
    product.a.data = static_cast<const std::byte*>(p.x.bytes()) + m * K * size_of(p.x.dtype());
    multiply(product);
    if (in_float) continue;
    add(out.reshaped({M, N}).rows(m, product.M), ConstView(product.out, DType::f32, {product.M, N}),
        stream_);
  }
}

}  // namespace quire::cuda
