// GemmAlgorithms of cuBLASLt: bias and GELU in the epilogue. What else it has does not serve:
// it sums gradients of biases (BGRADA, BGRADB) in a kernel of its own at 2.9 TB/s,
// or in one of Ampere's that took 523 µs for a product of 150 (768 x 768 of 65,536 rows, H200), and
// its slope of GELU (DGELU) was off by more than the roundings allow, in float16 and in bfloat16.
// Which epilogue it has for which shape, type and card is written nowhere: it is asked, and says
// CUBLAS_STATUS_NOT_SUPPORTED or nothing. CUBLAS_STATUS_INVALID_VALUE is another thing: a call that
// makes no sense, which is a fault.
//
// cuBLASLt counts in columns. A row-major [M, N] is a column-major [N, M], so out = a·b is asked
// for as outᵀ = bᵀ·aᵀ: our b is its A, our a its B, and our N its rows,
// along which it adds the bias.
//
// The library is half a gigabyte that only a GPU needs, so it is loaded when the first device is
// asked for: a program that has these kernels starts without it.
#include <cublasLt.h>
#include <dlfcn.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <string>

#include "kernels/cuda/gemm_library.h"

namespace quire::cuda {
namespace {

constexpr std::size_t kWorkspace = std::size_t{32} << 20;  // what Hopper's kernels are said to want
constexpr int kProposals = 8;
constexpr int kTimedRuns = 5;

#define QUIRE_TEXT(name) #name
#define QUIRE_TEXT_OF_VALUE(name) QUIRE_TEXT(name)
constexpr const char* kFile = "libcublasLt.so." QUIRE_TEXT_OF_VALUE(CUBLAS_VER_MAJOR);

/// The functions of the library that are called here, under their own names. It is looked for where
/// the program's own libraries are: LD_LIBRARY_PATH, the program's RUNPATH (its folder and the
/// toolkit's, see QuireCuda.cmake), and the system's folders.
class Library {
 private:
  void* const handle_ = dlopen(kFile, RTLD_NOW | RTLD_LOCAL);
  std::string why_unusable_ = handle_ == nullptr ? std::string("cuBLASLt: ") + dlerror() : "";

  template <class Function>
  Function find(const char* name) {
    if (handle_ == nullptr) return nullptr;
    void* const function = dlsym(handle_, name);
    if (function == nullptr && why_unusable_.empty()) {
      why_unusable_ = std::string(kFile) + " has no " + name;
    }
    return reinterpret_cast<Function>(function);
  }

 public:
  const std::string& why_unusable() const { return why_unusable_; }

#define QUIRE_FUNCTION(name) decltype(&::name) name = find<decltype(&::name)>(#name)
  QUIRE_FUNCTION(cublasLtCreate);
  QUIRE_FUNCTION(cublasLtDestroy);
  QUIRE_FUNCTION(cublasLtGetStatusString);
  QUIRE_FUNCTION(cublasLtGetVersion);
  QUIRE_FUNCTION(cublasLtMatmul);
  QUIRE_FUNCTION(cublasLtMatmulAlgoCheck);
  QUIRE_FUNCTION(cublasLtMatmulAlgoConfigGetAttribute);
  QUIRE_FUNCTION(cublasLtMatmulAlgoGetHeuristic);
  QUIRE_FUNCTION(cublasLtMatmulDescCreate);
  QUIRE_FUNCTION(cublasLtMatmulDescDestroy);
  QUIRE_FUNCTION(cublasLtMatmulDescSetAttribute);
  QUIRE_FUNCTION(cublasLtMatmulPreferenceCreate);
  QUIRE_FUNCTION(cublasLtMatmulPreferenceDestroy);
  QUIRE_FUNCTION(cublasLtMatmulPreferenceSetAttribute);
  QUIRE_FUNCTION(cublasLtMatrixLayoutCreate);
  QUIRE_FUNCTION(cublasLtMatrixLayoutDestroy);
#undef QUIRE_FUNCTION
};

/// Loaded by the first call, and never again unloaded.
const Library& library() {
  static const Library loaded;
  return loaded;
}

void require(cublasStatus_t status, const char* call, const std::string& what) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw Error(status == CUBLAS_STATUS_ALLOC_FAILED ? Fault::no_space : Fault::device,
              what + ": " + call + " failed: " + library().cublasLtGetStatusString(status));
}
/// QUIRE_CUBLASLT(cublasLtCreate, "opening cuBLASLt", &handle)
#define QUIRE_CUBLASLT(function, what, ...) \
  require(library().function(__VA_ARGS__), #function, what)

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

/// What cuBLASLt calls descriptors, released at the end of the scope.
template <class Handle, cublasStatus_t (*Library::*kDestroy)(Handle)>
class Owned {
 public:
  Owned() = default;
  Owned(const Owned&) = delete;
  Owned& operator=(const Owned&) = delete;
  ~Owned() {
    if (handle_ != nullptr) (library().*kDestroy)(handle_);
  }
  Handle* receive() { return &handle_; }
  operator Handle() const { return handle_; }

 private:
  Handle handle_ = nullptr;
};
using Operation = Owned<cublasLtMatmulDesc_t, &Library::cublasLtMatmulDescDestroy>;
using Layout = Owned<cublasLtMatrixLayout_t, &Library::cublasLtMatrixLayoutDestroy>;
using Preference = Owned<cublasLtMatmulPreference_t, &Library::cublasLtMatmulPreferenceDestroy>;

template <class Value>
void set(const Operation& operation, cublasLtMatmulDescAttributes_t attribute, const Value& value) {
  QUIRE_CUBLASLT(cublasLtMatmulDescSetAttribute, "matmul", operation, attribute, &value,
                 sizeof value);
}

void set_epilogue(const Operation& operation, const Gemm& g) {
  const auto set_kind = [&](cublasLtEpilogue_t kind) {
    set(operation, CUBLASLT_MATMUL_DESC_EPILOGUE, kind);
  };
  const bool biased = g.bias != nullptr, kept = g.pre_activation != nullptr;
  if (biased) {
    set(operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, g.bias);
    set(operation, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, type_of(g.out_dtype));
  }
  switch (g.epilogue) {
    case Epilogue::none:
      return set_kind(biased ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT);
    case Epilogue::gelu_new:
      if (!kept) return set_kind(biased ? CUBLASLT_EPILOGUE_GELU_BIAS : CUBLASLT_EPILOGUE_GELU);
      set(operation, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, g.pre_activation);
      set(operation, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, g.N);
      set(operation, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_DATA_TYPE, type_of(g.out_dtype));
      return set_kind(biased ? CUBLASLT_EPILOGUE_GELU_AUX_BIAS : CUBLASLT_EPILOGUE_GELU_AUX);
  }
}

/// The stored rows of `operand` are columns to cuBLASLt.
void describe(Layout& layout, const Gemm::Operand& operand, std::int64_t rows,
              std::int64_t columns) {
  if (operand.transposed) std::swap(rows, columns);
  QUIRE_CUBLASLT(cublasLtMatrixLayoutCreate, "matmul", layout.receive(), type_of(operand.dtype),
                 static_cast<std::uint64_t>(columns), static_cast<std::uint64_t>(rows),
                 operand.stride);
}

/// A product as cuBLASLt is told of it.
struct Described {
  Operation operation;
  Layout a, b, out;  // its A and B: our b and a

  explicit Described(const Gemm& g) {
    QUIRE_CUBLASLT(cublasLtMatmulDescCreate, text_of(g), operation.receive(), CUBLAS_COMPUTE_32F,
                   CUDA_R_32F);
    set(operation, CUBLASLT_MATMUL_DESC_TRANSA, g.b.transposed ? CUBLAS_OP_T : CUBLAS_OP_N);
    set(operation, CUBLASLT_MATMUL_DESC_TRANSB, g.a.transposed ? CUBLAS_OP_T : CUBLAS_OP_N);
    set_epilogue(operation, g);
    describe(a, g.b, g.K, g.N);
    describe(b, g.a, g.M, g.K);
    describe(out, {.data = g.out, .dtype = g.out_dtype, .stride = g.N}, g.M, g.N);
  }
};

bool sums_in_parts(const cublasLtMatmulAlgo_t& algo) {
  std::uint32_t scheme = 0;
  std::size_t written = 0;
  return library().cublasLtMatmulAlgoConfigGetAttribute(
             &algo, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, &scheme, sizeof scheme, &written) !=
             CUBLAS_STATUS_SUCCESS ||
         scheme != CUBLASLT_REDUCTION_SCHEME_NONE;
}

Algorithm written_down(const cublasLtMatmulAlgo_t& algo) {
  Algorithm words;
  static_assert(sizeof words == sizeof algo);
  std::memcpy(words.data(), &algo, sizeof algo);
  return words;
}
cublasLtMatmulAlgo_t restored(const Algorithm& words) {
  cublasLtMatmulAlgo_t algo;
  std::memcpy(&algo, words.data(), sizeof algo);
  return algo;
}

class CublasLt final : public GemmAlgorithms {
 public:
  CublasLt() {
    QUIRE_CUBLASLT(cublasLtCreate, "opening cuBLASLt", &handle_);
    QUIRE_CUDA(cudaMalloc(&workspace_, kWorkspace), "cuBLASLt's workspace");
  }
  ~CublasLt() override {
    cudaFree(workspace_);
    library().cublasLtDestroy(handle_);
  }

  std::string name() const override {
    return "cuBLASLt " + std::to_string(library().cublasLtGetVersion());
  }
  /// An algorithm sums each element alike wherever it lies, but which one is chosen depends on M.
  bool rows_alone() const override { return false; }
  std::vector<Proposal> propose(const Gemm& gemm) override;
  bool can_run(const Gemm& gemm, const Algorithm& algorithm) override;
  float time(const Gemm& gemm, const Algorithm& algorithm, cudaStream_t stream) override;
  bool multiply(const Gemm& gemm, const Algorithm& algorithm, cudaStream_t stream) override {
    const cublasStatus_t status = start(gemm, algorithm, gemm.out, stream);
    if (status == CUBLAS_STATUS_NOT_SUPPORTED) return false;
    require(status, "cublasLtMatmul", text_of(gemm));
    return true;
  }

 private:
  cublasStatus_t start(const Gemm& g, const Algorithm& algorithm, void* out, cudaStream_t stream) {
    const Described d(g);
    const cublasLtMatmulAlgo_t algo = restored(algorithm);
    const float beta = g.accumulate ? 1.0f : 0.0f;
    return library().cublasLtMatmul(handle_, d.operation, &g.scale, g.b.data, d.a, g.a.data, d.b,
                                    &beta, out, d.out, out, d.out, &algo, workspace_, kWorkspace,
                                    stream);
  }

  cublasLtHandle_t handle_ = nullptr;
  void* workspace_ = nullptr;
};

std::vector<GemmAlgorithms::Proposal> CublasLt::propose(const Gemm& g) {
  const Described d(g);
  Preference preference;
  QUIRE_CUBLASLT(cublasLtMatmulPreferenceCreate, text_of(g), preference.receive());
  const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
    QUIRE_CUBLASLT(cublasLtMatmulPreferenceSetAttribute, text_of(g), preference, attribute, &value,
                   sizeof value);
  };
  prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, kWorkspace);
  prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, std::uint32_t(CUBLASLT_REDUCTION_SCHEME_NONE));
  for (const auto operand :
       {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES}) {
    prefer(operand, std::uint32_t(kGemmAlignment));
  }
  std::array<cublasLtMatmulHeuristicResult_t, kProposals> results{};
  int count = 0;
  const cublasStatus_t status = library().cublasLtMatmulAlgoGetHeuristic(
      handle_, d.operation, d.a, d.b, d.out, d.out, preference, kProposals, results.data(), &count);
  if (status == CUBLAS_STATUS_NOT_SUPPORTED) return {};
  require(status, "cublasLtMatmulAlgoGetHeuristic", text_of(g));
  std::vector<Proposal> proposals;
  for (int i = 0; i < count; ++i) {
    if (results[i].state != CUBLAS_STATUS_SUCCESS) continue;
    proposals.push_back(
        {written_down(results[i].algo), sums_in_parts(results[i].algo), results[i].wavesCount});
  }
  return proposals;
}

bool CublasLt::can_run(const Gemm& g, const Algorithm& algorithm) {
  const Described d(g);
  const cublasLtMatmulAlgo_t algo = restored(algorithm);
  cublasLtMatmulHeuristicResult_t result{};
  return library().cublasLtMatmulAlgoCheck(handle_, d.operation, d.a, d.b, d.out, d.out, &algo,
                                           &result) == CUBLAS_STATUS_SUCCESS &&
         result.workspaceSize <= kWorkspace;
}

float CublasLt::time(const Gemm& g, const Algorithm& algorithm, cudaStream_t stream) {
  cudaStreamCaptureStatus capturing = cudaStreamCaptureStatusNone;
  QUIRE_CUDA(cudaStreamIsCapturing(stream, &capturing), "matmul");
  if (capturing != cudaStreamCaptureStatusNone) return -1.0f;
  const std::size_t bytes = static_cast<std::size_t>(g.M * g.N) * size_of(g.out_dtype);
  void* trial = nullptr;  // what is added to must be added to once
  if (cudaMalloc(&trial, bytes) != cudaSuccess) {
    cudaGetLastError();
    return -1.0f;
  }
  cudaMemsetAsync(trial, 0, bytes, stream);
  cudaEvent_t begin = nullptr, end = nullptr;
  cudaEventCreate(&begin);
  cudaEventCreate(&end);
  float fastest = std::numeric_limits<float>::infinity();
  for (int run = 0; run <= kTimedRuns; ++run) {
    cudaEventRecord(begin, stream);
    const cublasStatus_t done = start(g, algorithm, trial, stream);
    cudaEventRecord(end, stream);
    cudaEventSynchronize(end);
    float milliseconds = std::numeric_limits<float>::infinity();
    if (done == CUBLAS_STATUS_SUCCESS) cudaEventElapsedTime(&milliseconds, begin, end);
    if (run > 0) fastest = std::min(fastest, milliseconds);  // the first one warms up
  }
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  cudaFree(trial);
  QUIRE_CUDA(cudaGetLastError(), "timing cuBLASLt's algorithms");
  return fastest;
}

}  // namespace

std::string why_no_gemm_library() {
  return library().why_unusable();
}

std::unique_ptr<GemmAlgorithms> open_gemm_algorithms() {
  return std::make_unique<CublasLt>();
}

}  // namespace quire::cuda
