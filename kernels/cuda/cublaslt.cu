// GemmLibrary by cuBLASLt: bias, GELU, GELU's slope and gradients of biases in the epilogue, and
// for every shape the fastest of the algorithms it proposes, timed the first time the shape comes
// and kept. Which epilogue it has for which shape, type and card is written nowhere: it is asked.
//
// cuBLASLt counts in columns. A row-major [M, N] is a column-major [N, M], so out = a·b is asked
// for as outᵀ = bᵀ·aᵀ: our b is its A, our a its B, and our N its rows, along which it adds the
// bias. Sums of our b are therefore BGRADA's, by its rows; those of our a BGRADB's.
//
// The library is half a gigabyte that only a GPU needs, so it is loaded when the first device is
// asked for: a program that has these kernels starts without it.
#include <cublasLt.h>
#include <dlfcn.h>

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
  QUIRE_FUNCTION(cublasLtMatmul);
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

std::string text_of(const Gemm& g) {
  return "matmul [" + std::to_string(g.M) + ", " + std::to_string(g.K) + "] x [" +
         std::to_string(g.K) + ", " + std::to_string(g.N) + "] of " + name_of(g.a.dtype);
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

int alignment_of(const void* data) {
  const auto address = reinterpret_cast<std::uintptr_t>(data);
  return static_cast<int>(std::min<std::uintptr_t>(address & (~address + 1), 256));
}

/// All that the choice of an algorithm may depend on.
using Key = std::tuple<std::int64_t, std::int64_t, std::int64_t, DType, std::int64_t, bool,
                       std::int64_t, bool, DType, bool, bool, Epilogue, bool, std::array<int, 7>>;
Key key_of(const Gemm& g) {
  return {
      g.M,
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
      g.epilogue,
      g.pre_activation != nullptr,
      {alignment_of(g.a.data), alignment_of(g.b.data), alignment_of(g.out), alignment_of(g.bias),
       alignment_of(g.pre_activation), alignment_of(g.pre_activation_read), alignment_of(g.sums)}};
}

struct Algorithm {  // nvcc 13.0 breaks down over a std::optional of this type
  bool found = false;
  cublasLtMatmulAlgo_t algo{};
};

/// How it says that it has nothing for a combination of shapes, types and epilogue.
bool refused(cublasStatus_t status) {
  return status == CUBLAS_STATUS_NOT_SUPPORTED || status == CUBLAS_STATUS_INVALID_VALUE;
}

class CublasLt final : public GemmLibrary {
 public:
  CublasLt() {
    QUIRE_CUBLASLT(cublasLtCreate, "opening cuBLASLt", &handle_);
    QUIRE_CUDA(cudaMalloc(&workspace_, kWorkspace), "cuBLASLt's workspace");
  }
  ~CublasLt() override {
    cudaFree(workspace_);
    library().cublasLtDestroy(handle_);
  }

  bool run(const Gemm& gemm, cudaStream_t stream) override;

 private:
  /// Not found where cuBLASLt has none.
  Algorithm fastest(const Gemm& gemm, const Operation& operation, const Layout& a, const Layout& b,
                    const Layout& out, cudaStream_t stream);

  cublasLtHandle_t handle_ = nullptr;
  void* workspace_ = nullptr;
  std::map<Key, Algorithm> algorithms_;
};

template <class Value>
void set(const Operation& operation, cublasLtMatmulDescAttributes_t attribute, const Value& value) {
  QUIRE_CUBLASLT(cublasLtMatmulDescSetAttribute, "matmul", operation, attribute, &value,
                 sizeof value);
}

void set_epilogue(const Operation& operation, const Gemm& g) {
  const auto set_kind = [&](cublasLtEpilogue_t kind) {
    set(operation, CUBLASLT_MATMUL_DESC_EPILOGUE, kind);
  };
  const auto set_bias = [&](const void* bias, DType dtype) {
    set(operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
    set(operation, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, type_of(dtype));
  };
  const auto set_pre_activation = [&](const void* pre) {
    set(operation, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, pre);
    set(operation, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, g.N);
    set(operation, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_DATA_TYPE, type_of(g.out_dtype));
  };
  const bool biased = g.bias != nullptr, kept = g.pre_activation != nullptr;
  if (biased) set_bias(g.bias, g.out_dtype);
  switch (g.epilogue) {
    case Epilogue::none:
      return set_kind(biased ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT);
    case Epilogue::gelu_new:
      if (!kept) return set_kind(biased ? CUBLASLT_EPILOGUE_GELU_BIAS : CUBLASLT_EPILOGUE_GELU);
      set_pre_activation(g.pre_activation);
      return set_kind(biased ? CUBLASLT_EPILOGUE_GELU_AUX_BIAS : CUBLASLT_EPILOGUE_GELU_AUX);
    case Epilogue::gelu_new_backward:
      set_pre_activation(g.pre_activation_read);
      return set_kind(CUBLASLT_EPILOGUE_DGELU);
    case Epilogue::sums_of_a:
    case Epilogue::sums_of_b:
      set_bias(g.sums, DType::f32);
      return set_kind(g.epilogue == Epilogue::sums_of_a ? CUBLASLT_EPILOGUE_BGRADB
                                                        : CUBLASLT_EPILOGUE_BGRADA);
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

bool CublasLt::run(const Gemm& g, cudaStream_t stream) {
  Operation operation;
  QUIRE_CUBLASLT(cublasLtMatmulDescCreate, text_of(g), operation.receive(), CUBLAS_COMPUTE_32F,
                 CUDA_R_32F);
  set(operation, CUBLASLT_MATMUL_DESC_TRANSA, g.b.transposed ? CUBLAS_OP_T : CUBLAS_OP_N);
  set(operation, CUBLASLT_MATMUL_DESC_TRANSB, g.a.transposed ? CUBLAS_OP_T : CUBLAS_OP_N);
  set_epilogue(operation, g);
  Layout a, b, out;
  describe(a, g.b, g.K, g.N);
  describe(b, g.a, g.M, g.K);
  describe(out, {.data = g.out, .dtype = g.out_dtype, .stride = g.N}, g.M, g.N);

  const Key key = key_of(g);
  auto known = algorithms_.find(key);
  if (known == algorithms_.end()) {
    known = algorithms_.emplace(key, fastest(g, operation, a, b, out, stream)).first;
  }
  Algorithm& algorithm = known->second;
  const bool may_refuse = g.epilogue != Epilogue::none;
  if (!algorithm.found) {
    if (may_refuse) return false;
    throw Error(Fault::device, text_of(g) + ": cuBLASLt has no algorithm for it");
  }
  const float beta = g.accumulate ? 1.0f : 0.0f;
  const cublasStatus_t status =
      library().cublasLtMatmul(handle_, operation, &g.scale, g.b.data, a, g.a.data, b, &beta, g.out,
                               out, g.out, out, &algorithm.algo, workspace_, kWorkspace, stream);
  if (may_refuse && refused(status)) {
    algorithm.found = false;
    return false;
  }
  require(status, "cublasLtMatmul", text_of(g));
  return true;
}

Algorithm CublasLt::fastest(const Gemm& g, const Operation& operation, const Layout& a,
                            const Layout& b, const Layout& out, cudaStream_t stream) {
  Preference preference;
  QUIRE_CUBLASLT(cublasLtMatmulPreferenceCreate, text_of(g), preference.receive());
  const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
    QUIRE_CUBLASLT(cublasLtMatmulPreferenceSetAttribute, text_of(g), preference, attribute, &value,
                   sizeof value);
  };
  prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, kWorkspace);
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, std::uint32_t(alignment_of(g.b.data)));
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, std::uint32_t(alignment_of(g.a.data)));
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, std::uint32_t(alignment_of(g.out)));
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, std::uint32_t(alignment_of(g.out)));
  std::array<cublasLtMatmulHeuristicResult_t, kProposals> proposals{};
  int count = 0;
  const cublasStatus_t status = library().cublasLtMatmulAlgoGetHeuristic(
      handle_, operation, a, b, out, out, preference, kProposals, proposals.data(), &count);
  if (g.epilogue != Epilogue::none && refused(status)) return {};
  require(status, "cublasLtMatmulAlgoGetHeuristic", text_of(g));
  if (count == 0) return {};
  cudaStreamCaptureStatus capturing = cudaStreamCaptureStatusNone;
  QUIRE_CUDA(cudaStreamIsCapturing(stream, &capturing), "matmul");
  if (count == 1 || capturing != cudaStreamCaptureStatusNone) return {true, proposals[0].algo};

  // Timed into memory of its own: what is added to must be added to once.
  const std::size_t bytes = static_cast<std::size_t>(g.M * g.N) * size_of(g.out_dtype);
  void* trial = nullptr;
  if (cudaMalloc(&trial, bytes) != cudaSuccess) {
    cudaGetLastError();
    return {true, proposals[0].algo};
  }
  cudaEvent_t start = nullptr, stop = nullptr;
  cudaEventCreate(&start);
  cudaEventCreate(&stop);
  const float one = 1.0f, zero = 0.0f;
  cublasLtMatmulAlgo_t best = proposals[0].algo;
  float best_ms = std::numeric_limits<float>::infinity();
  for (int i = 0; i < count; ++i) {
    float fastest_ms = std::numeric_limits<float>::infinity();
    for (int run = 0; run <= kTimedRuns; ++run) {
      cudaEventRecord(start, stream);
      const cublasStatus_t done = library().cublasLtMatmul(
          handle_, operation, &one, g.b.data, a, g.a.data, b, &zero, trial, out, trial, out,
          &proposals[i].algo, workspace_, kWorkspace, stream);
      cudaEventRecord(stop, stream);
      cudaEventSynchronize(stop);
      float ms = std::numeric_limits<float>::infinity();
      if (done == CUBLAS_STATUS_SUCCESS) cudaEventElapsedTime(&ms, start, stop);
      if (run > 0) fastest_ms = std::min(fastest_ms, ms);  // the first one warms up
    }
    if (fastest_ms < best_ms) {
      best_ms = fastest_ms;
      best = proposals[i].algo;
    }
  }
  cudaEventDestroy(start);
  cudaEventDestroy(stop);
  cudaFree(trial);
  QUIRE_CUDA(cudaGetLastError(), "timing cuBLASLt's algorithms");
  return {true, best};
}

}  // namespace

std::string why_no_gemm_library() {
  return library().why_unusable();
}

std::unique_ptr<GemmLibrary> open_gemm_library() {
  return std::make_unique<CublasLt>();
}

}  // namespace quire::cuda
