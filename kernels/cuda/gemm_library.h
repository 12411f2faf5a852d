// Products of matrices from a library: cuBLASLt on a GPU (cublaslt.cu), plain loops where the
// kernels run on the CPU (tests/cuda_on_host/gemm_library.cpp).
//
// A library has many algorithms for a product, and each sums in an order of its own. So that a run
// can be repeated bit for bit, which one it is depends on nothing but the product: it is the first
// that the library proposes and that leaves no sum to several blocks, asked for once with M rounded
// up to a power of two. Only --autotune goes by the clock, and what it finds stands in a table
// (algorithm_table.h) that later runs read.
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "kernels/cuda/algorithm_table.h"
#include "kernels/cuda/error.h"
#include "kernels/ops.h"

namespace quire::cuda {

inline constexpr std::size_t kGemmAlignment = 16;  // bytes

/// What the library may do in the same pass, beside adding a bias.
enum class Epilogue : std::uint8_t {
  none,
  gelu_new,  ///< out = gelu_new(product + bias), what it is taken of into pre_activation
};

/// out = scale·a·b (+ out) (+ bias), and an epilogue. Sums run in float. All that is pointed to is
/// aligned to kGemmAlignment.
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
  bool accumulate = false;     ///< onto f32 (onto 16 bits Hopper's kernels round the product
                               ///< first), without bias and epilogues
  const void* bias = nullptr;  // [N] of out's type, or null
  Epilogue epilogue = Epilogue::none;
  void* pre_activation = nullptr;  // [M, N] of out's type, N a multiple of 8; or null
};

/// "matmul [M, K] x [K, N] of bfloat16".
std::string text_of(const Gemm& gemm);

/// All that the choice of an algorithm depends on.
struct GemmKey {
  std::int64_t M = 0, N = 0, K = 0;
  DType dtype = DType::f32, out_dtype = DType::f32;
  bool a_transposed = false, b_transposed = false;
  bool accumulates = false, biased = false, keeps_pre_activation = false;
  Epilogue epilogue = Epilogue::none;

  auto operator<=>(const GemmKey&) const = default;
  /// "1024x768x3072 bf16 -> f32 a:t b:n added", M as in `representative`.
  std::string text() const;
};
GemmKey key_of(const Gemm& gemm);
/// The product whose algorithm serves `gemm` too: with M rounded up to a power of two where its
/// rows are tokens (a as it is stored; the rows of a transposed one are a weight's).
Gemm representative(Gemm gemm);

/// What a library has to offer.
class GemmAlgorithms {
 public:
  virtual ~GemmAlgorithms() = default;
  /// "cuBLASLt 130100": algorithms of another one mean nothing to it.
  virtual std::string name() const = 0;
  /// Whether all of them sum in one order, whatever M is.
  virtual bool rows_alone() const = 0;

  struct Proposal {
    Algorithm algorithm{};
    bool sums_in_parts = false;  ///< by several blocks, which may meet in any order
    float waves = 1.0f;          ///< of blocks on all processors: with 0.1, most stand idle
  };
  /// Those that it expects to be fastest, the best first; none where it has none. Throws
  /// Error(device) where it says that the question makes no sense. Memory is not looked at.
  virtual std::vector<Proposal> propose(const Gemm& gemm) = 0;
  /// Whether an algorithm, proposed for another M or read from a table, can do this product.
  virtual bool can_run(const Gemm& gemm, const Algorithm& algorithm) = 0;
  /// Milliseconds of the product into memory of its own, what is added to included; negative where
  /// that cannot be told (in a recording, or without that memory). Overwrites gemm.pre_activation.
  virtual float time(const Gemm& gemm, const Algorithm& algorithm, cudaStream_t stream) = 0;
  /// Queues it. False, with nothing queued, where it turns out not to be supported.
  virtual bool multiply(const Gemm& gemm, const Algorithm& algorithm, cudaStream_t stream) = 0;
};

/// Why there is no library here, as the end of a sentence; empty where there is.
std::string why_no_gemm_library();
std::unique_ptr<GemmAlgorithms> open_gemm_algorithms();

class GemmLibrary {
 public:
  /// A table that does not fit, or that cannot be written, is told to options.warn.
  GemmLibrary(std::unique_ptr<GemmAlgorithms> algorithms, const CardKey& card,
              const TuningOptions& options);

  /// Queues the product and its epilogue. False where the library has no algorithm with this
  /// epilogue, which is remembered: nothing is queued then, and the caller has kernels for it.
  /// Throws Error(device) with the shapes.
  bool run(const Gemm& gemm, cudaStream_t stream);

  bool rows_alone() const { return algorithms_->rows_alone(); }
  std::string tuned() const { return table_.fingerprint(); }
  /// See Device::epilogues().
  std::string epilogues() const;

 private:
  struct Choice {
    bool found = false;
    Algorithm algorithm{};
  };
  Choice choose(const Gemm& gemm, cudaStream_t stream);
  /// Those that leave no sum to several blocks and can do it, best first.
  std::vector<Algorithm> candidates(const Gemm& gemm);
  Algorithm fastest(const Gemm& gemm, const std::vector<Algorithm>& algorithms,
                    cudaStream_t stream);

  std::unique_ptr<GemmAlgorithms> algorithms_;
  AlgorithmTable table_;
  const bool autotune_;
  std::map<GemmKey, Choice> choices_;
  struct Asked {
    int granted = 0, refused = 0;
  };
  std::map<std::pair<Epilogue, DType>, Asked> epilogues_;
};

}  // namespace quire::cuda
