// Products of matrices from a library: cuBLASLt on a GPU (cublaslt.cu), plain loops where the
// kernels run on the CPU (tests/cuda_on_host/gemm_library.cpp).
#pragma once

#include <cstdint>
#include <memory>

#include "kernels/cuda/error.h"
#include "kernels/ops.h"

namespace quire::cuda {

/// out = a·b (+ out) (+ bias), through gelu_new where asked for. Sums run in float.
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
  bool accumulate = false;         ///< without bias and gelu_new
  const void* bias = nullptr;      // [N] of out's type, or null
  bool gelu_new = false;           ///< the epilogue cuBLASLt has; other activations are kernels
  void* pre_activation = nullptr;  // [M, N] of out's type, aligned to 16 bytes, N a multiple of 8;
                                   // or null: what gelu_new was taken of
};

class GemmLibrary {
 public:
  virtual ~GemmLibrary() = default;
  /// Queues the product. Throws Error(device) with the shapes.
  virtual void run(const Gemm& gemm, cudaStream_t stream) = 0;
};

std::unique_ptr<GemmLibrary> open_gemm_library();

}  // namespace quire::cuda
