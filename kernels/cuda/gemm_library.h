// Products of matrices from a library: cuBLASLt on a GPU (cublaslt.cu), plain loops where the
// kernels run on the CPU (tests/cuda_on_host/gemm_library.cpp).
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "kernels/cuda/error.h"
#include "kernels/ops.h"

namespace quire::cuda {

/// What the library may do in the same pass, beside adding a bias.
enum class Epilogue : std::uint8_t {
  none,
  gelu_new,           ///< out = gelu_new(product + bias), what it is taken of into pre_activation
  gelu_new_backward,  ///< out = product·gelu_new'(pre_activation_read)
  sums_of_a,          ///< sums[m] = sum_k(a[m, k])
  sums_of_b,          ///< sums[n] = sum_k(b[k, n])
};

/// out = scale·a·b (+ out) (+ bias), and an epilogue. Sums run in float.
struct Gemm {
  /// A row-major matrix, or the transpose of a stored one.
  struct Operand {
    const void* data = nullptr;
    DType dtype = DType::f32;
    std::int64_t stride = 0;  ///< elements from one stored row to the next
    bool transposed = false;
  };
  std::int64_t M = 0, N = 0, K = 0;
  Operand a;            // [M, K]
  Operand b;            // [K, N], of a's type
  void* out = nullptr;  // [M, N], row-major; a's type, or f32
  DType out_dtype = DType::f32;
  float scale = 1.0f;          ///< without epilogues
  bool accumulate = false;     ///< without bias and gelu_new
  const void* bias = nullptr;  // [N] of out's type, or null; not beside gelu_new_backward and sums
  Epilogue epilogue = Epilogue::none;
  // Pre-activations are [M, N] of out's type, aligned to 16 bytes, N a multiple of 8.
  void* pre_activation = nullptr;             // or null
  const void* pre_activation_read = nullptr;  // of gelu_new_backward
  float* sums = nullptr;                      // [M] or [N], overwritten; out is float
};

class GemmLibrary {
 public:
  virtual ~GemmLibrary() = default;
  /// Queues the product and its epilogue. False where the library has no algorithm with this
  /// epilogue, which it remembers: nothing is queued then, and the caller has kernels for it.
  /// Throws Error(device) with the shapes.
  virtual bool run(const Gemm& gemm, cudaStream_t stream) = 0;
};

/// Why there is no library here, as the end of a sentence; empty where there is.
std::string why_no_gemm_library();
std::unique_ptr<GemmLibrary> open_gemm_library();

}  // namespace quire::cuda
