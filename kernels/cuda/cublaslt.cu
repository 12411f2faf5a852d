// GemmLibrary by cuBLASLt: bias and GELU in the epilogue, and for every shape the fastest of the
// algorithms it proposes, timed the first time the shape comes and kept.
//
// cuBLASLt counts in columns. A row-major [M, N] is a column-major [N, M], so out = a·b is asked
// for as outᵀ = bᵀ·aᵀ: our b is its A, our a its B, and our N its rows, along which it adds the
// bias.
#include <cublasLt.h>

#include <algorithm>
#include <array>
#include <limits>
#include <map>
#include <string>
#include <tuple>

#include "kernels/cuda/gemm_library.h"

namespace quire::cuda {
namespace {

constexpr std::size_t kWorkspace = std::size_t{32} << 20;  // what Hopper's kernels are said to want
constexpr int kProposals = 8;
constexpr int kTimedRuns = 5;

void require(cublasStatus_t status, const char* call, const std::string& what) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw Error(status == CUBLAS_STATUS_ALLOC_FAILED ? Fault::no_space : Fault::device,
              what + ": " + call + " failed: " + cublasLtGetStatusString(status));
}

cudaDataType_t type_of(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return CUDA_R_32F;
    case DType::f16:
      return CUDA_R_16F;
    case DType::bf16:
      return CUDA_R_16BF;
    case DType::i32:
      break;
  }
  throw_dtype(DType::f32, dtype);
}

std::string text_of(const Gemm& g) {
  return "matmul [" + std::to_string(g.M) + ", " + std::to_string(g.K) + "] x [" +
         std::to_string(g.K) + ", " + std::to_string(g.N) + "] of " + name_of(g.a.dtype);
}

/// What cuBLASLt calls descriptors, released at the end of the scope.
template <class Handle, cublasStatus_t (*kDestroy)(Handle)>
class Owned {
 public:
  Owned() = default;
  Owned(const Owned&) = delete;
  Owned& operator=(const Owned&) = delete;
  ~Owned() {
    if (handle_ != nullptr) kDestroy(handle_);
  }
  Handle* receive() { return &handle_; }
  operator Handle() const { return handle_; }

 private:
  Handle handle_ = nullptr;
};
using Operation = Owned<cublasLtMatmulDesc_t, cublasLtMatmulDescDestroy>;
using Layout = Owned<cublasLtMatrixLayout_t, cublasLtMatrixLayoutDestroy>;
using Preference = Owned<cublasLtMatmulPreference_t, cublasLtMatmulPreferenceDestroy>;

int alignment_of(const void* data) {
  const auto address = reinterpret_cast<std::uintptr_t>(data);
  return static_cast<int>(std::min<std::uintptr_t>(address & (~address + 1), 256));
}

/// All that the choice of an algorithm may depend on.
using Key = std::tuple<std::int64_t, std::int64_t, std::int64_t, DType, std::int64_t, bool,
                       std::int64_t, bool, DType, bool, bool, bool, bool, std::array<int, 5>>;
Key key_of(const Gemm& g) {
  return {g.M,
          g.N,
          g.K,
          g.a.dtype,
          g.a.stride,
          g.a.transposed,
          g.b.stride,
          g.b.transposed,
          g.out_dtype,
          g.accumulate,
          g.bias != nullptr,
          g.gelu_new,
          g.pre_activation != nullptr,
          {alignment_of(g.a.data), alignment_of(g.b.data), alignment_of(g.out),
           alignment_of(g.bias), alignment_of(g.pre_activation)}};
}

class CublasLt final : public GemmLibrary {
 public:
  CublasLt() {
    require(cublasLtCreate(&handle_), "cublasLtCreate", "opening cuBLASLt");
    QUIRE_CUDA(cudaMalloc(&workspace_, kWorkspace), "cuBLASLt's workspace");
  }
  ~CublasLt() override {
    cudaFree(workspace_);
    cublasLtDestroy(handle_);
  }

  void run(const Gemm& gemm, cudaStream_t stream) override;

 private:
  cublasLtMatmulAlgo_t fastest(const Gemm& gemm, const Operation& operation, const Layout& a,
                               const Layout& b, const Layout& out, cudaStream_t stream);

  cublasLtHandle_t handle_ = nullptr;
  void* workspace_ = nullptr;
  std::map<Key, cublasLtMatmulAlgo_t> algorithms_;
};

template <class Value>
void set(const Operation& operation, cublasLtMatmulDescAttributes_t attribute, const Value& value) {
  require(cublasLtMatmulDescSetAttribute(operation, attribute, &value, sizeof value),
          "cublasLtMatmulDescSetAttribute", "matmul");
}

/// The stored rows of `operand` are columns to cuBLASLt.
void describe(Layout& layout, const Gemm::Operand& operand, std::int64_t rows,
              std::int64_t columns) {
  if (operand.transposed) std::swap(rows, columns);
  require(cublasLtMatrixLayoutCreate(layout.receive(), type_of(operand.dtype),
                                     static_cast<std::uint64_t>(columns),
                                     static_cast<std::uint64_t>(rows), operand.stride),
          "cublasLtMatrixLayoutCreate", "matmul");
}

void CublasLt::run(const Gemm& g, cudaStream_t stream) {
  Operation operation;
  require(cublasLtMatmulDescCreate(operation.receive(), CUBLAS_COMPUTE_32F, CUDA_R_32F),
          "cublasLtMatmulDescCreate", text_of(g));
  set(operation, CUBLASLT_MATMUL_DESC_TRANSA, g.b.transposed ? CUBLAS_OP_T : CUBLAS_OP_N);
  set(operation, CUBLASLT_MATMUL_DESC_TRANSB, g.a.transposed ? CUBLAS_OP_T : CUBLAS_OP_N);
  const bool aux = g.gelu_new && g.pre_activation != nullptr;
  const cublasLtEpilogue_t epilogue =
      g.gelu_new ? (g.bias != nullptr
                        ? (aux ? CUBLASLT_EPILOGUE_GELU_AUX_BIAS : CUBLASLT_EPILOGUE_GELU_BIAS)
                        : (aux ? CUBLASLT_EPILOGUE_GELU_AUX : CUBLASLT_EPILOGUE_GELU))
                 : (g.bias != nullptr ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT);
  set(operation, CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue);
  if (g.bias != nullptr) {
    set(operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, g.bias);
    set(operation, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, type_of(g.out_dtype));
  }
  if (aux) {
    set(operation, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, g.pre_activation);
    set(operation, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, g.N);
    set(operation, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_DATA_TYPE, type_of(g.out_dtype));
  }
  Layout a, b, out;
  describe(a, g.b, g.K, g.N);
  describe(b, g.a, g.M, g.K);
  describe(out, {.data = g.out, .dtype = g.out_dtype, .stride = g.N}, g.M, g.N);

  const Key key = key_of(g);
  auto known = algorithms_.find(key);
  if (known == algorithms_.end()) {
    known = algorithms_.emplace(key, fastest(g, operation, a, b, out, stream)).first;
  }
  const float one = 1.0f, beta = g.accumulate ? 1.0f : 0.0f;
  require(cublasLtMatmul(handle_, operation, &one, g.b.data, a, g.a.data, b, &beta, g.out, out,
                         g.out, out, &known->second, workspace_, kWorkspace, stream),
          "cublasLtMatmul", text_of(g));
}

cublasLtMatmulAlgo_t CublasLt::fastest(const Gemm& g, const Operation& operation, const Layout& a,
                                       const Layout& b, const Layout& out, cudaStream_t stream) {
  Preference preference;
  require(cublasLtMatmulPreferenceCreate(preference.receive()), "cublasLtMatmulPreferenceCreate",
          text_of(g));
  const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
    require(cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof value),
            "cublasLtMatmulPreferenceSetAttribute", text_of(g));
  };
  prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, kWorkspace);
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, std::uint32_t(alignment_of(g.b.data)));
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, std::uint32_t(alignment_of(g.a.data)));
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, std::uint32_t(alignment_of(g.out)));
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, std::uint32_t(alignment_of(g.out)));
  std::array<cublasLtMatmulHeuristicResult_t, kProposals> proposals{};
  int count = 0;
  require(cublasLtMatmulAlgoGetHeuristic(handle_, operation, a, b, out, out, preference, kProposals,
                                         proposals.data(), &count),
          "cublasLtMatmulAlgoGetHeuristic", text_of(g));
  if (count == 0) {
    throw Error(Fault::device, text_of(g) + ": cuBLASLt has no algorithm for it");
  }
  cudaStreamCaptureStatus capturing = cudaStreamCaptureStatusNone;
  QUIRE_CUDA(cudaStreamIsCapturing(stream, &capturing), "matmul");
  if (count == 1 || capturing != cudaStreamCaptureStatusNone) return proposals[0].algo;

  // Timed into memory of its own: what is added to must be added to once.
  const std::size_t bytes = static_cast<std::size_t>(g.M * g.N) * size_of(g.out_dtype);
  void* trial = nullptr;
  if (cudaMalloc(&trial, bytes) != cudaSuccess) {
    cudaGetLastError();
    return proposals[0].algo;
  }
  cudaEvent_t start = nullptr, stop = nullptr;
  cudaEventCreate(&start);
  cudaEventCreate(&stop);
  const float one = 1.0f, zero = 0.0f;
  int best = 0;
  float best_ms = std::numeric_limits<float>::infinity();
  for (int i = 0; i < count; ++i) {
    float fastest_ms = std::numeric_limits<float>::infinity();
    for (int run = 0; run <= kTimedRuns; ++run) {
      cudaEventRecord(start, stream);
      const cublasStatus_t status =
          cublasLtMatmul(handle_, operation, &one, g.b.data, a, g.a.data, b, &zero, trial, out,
                         trial, out, &proposals[i].algo, workspace_, kWorkspace, stream);
      cudaEventRecord(stop, stream);
      cudaEventSynchronize(stop);
      float ms = std::numeric_limits<float>::infinity();
      if (status == CUBLAS_STATUS_SUCCESS) cudaEventElapsedTime(&ms, start, stop);
      if (run > 0) fastest_ms = std::min(fastest_ms, ms);  // the first one warms up
    }
    if (fastest_ms < best_ms) {
      best_ms = fastest_ms;
      best = i;
    }
  }
  cudaEventDestroy(start);
  cudaEventDestroy(stop);
  cudaFree(trial);
  QUIRE_CUDA(cudaGetLastError(), "timing cuBLASLt's algorithms");
  return proposals[best].algo;
}

}  // namespace

std::unique_ptr<GemmLibrary> open_gemm_library() {
  return std::make_unique<CublasLt>();
}

}  // namespace quire::cuda
