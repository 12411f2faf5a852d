// The twin of kernels/cuda/cublaslt.cu: the same products, with the same epilogues, as plain loops.
//
// It has three algorithms: one that sums from the first k to the last, which it proposes second and
// says is the slower; one that sums even and odd k apart; and, proposed first,
// one whose sums are of several blocks, which nobody may use.
#include "tests/cuda_on_host/gemm_library.h"

#include <cmath>
#include <vector>

#include "kernels/cuda/gemm_library.h"
#include "tests/cuda_on_host/block.h"

namespace quire::cuda {
namespace {

float read(const void* data, DType dtype, std::int64_t i) {
  switch (dtype) {
    case DType::f32:
      return static_cast<const float*>(data)[i];
    case DType::f16:
      return to_float(static_cast<const Half*>(data)[i]);
    case DType::bf16:
      return to_float(static_cast<const BFloat16*>(data)[i]);
    case DType::i32:
      break;
  }
  throw_dtype(DType::f32, dtype);
}

void write(void* data, DType dtype, std::int64_t i, float value) {
  switch (dtype) {
    case DType::f32:
      static_cast<float*>(data)[i] = value;
      return;
    case DType::f16:
      static_cast<Half*>(data)[i] = to_half(value);
      return;
    case DType::bf16:
      static_cast<BFloat16*>(data)[i] = to_bfloat16(value);
      return;
    case DType::i32:
      break;
  }
  throw_dtype(DType::f32, dtype);
}

/// Row-major [rows, columns] in float.
std::vector<float> unpacked(const Gemm::Operand& operand, std::int64_t rows, std::int64_t columns) {
  std::vector<float> values(static_cast<std::size_t>(rows * columns));
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < columns; ++c) {
      values[r * columns + c] =
          read(operand.data, operand.dtype,
               operand.transposed ? c * operand.stride + r : r * operand.stride + c);
    }
  }
  return values;
}

float gelu_new(float x) {
  return 0.5f * x * (1.0f + std::tanh(0.7978845608028654f * (x + 0.044715f * x * x * x)));
}

enum : std::uint64_t { kInOrder = 1, kEvenAndOdd = 2, kInParts = 3 };

void multiply(const Gemm& g, std::uint64_t algorithm) {
  const std::vector<float> a = unpacked(g.a, g.M, g.K), b = unpacked(g.b, g.K, g.N);
  std::vector<float> row(static_cast<std::size_t>(g.N)), odd(row.size());
  for (std::int64_t m = 0; m < g.M; ++m) {
    row.assign(row.size(), 0.0f);
    odd.assign(row.size(), 0.0f);
    for (std::int64_t k = 0; k < g.K; ++k) {
      const float factor = a[m * g.K + k];
      const float* of_k = b.data() + k * g.N;
      float* sums = (algorithm == kEvenAndOdd && k % 2 == 1 ? odd : row).data();
      for (std::int64_t n = 0; n < g.N; ++n) sums[n] += factor * of_k[n];
    }
    for (std::int64_t n = 0; n < g.N; ++n) row[n] += odd[n];
    for (std::int64_t n = 0; n < g.N; ++n) {
      const std::int64_t at = m * g.N + n;
      float value = g.scale * row[n];
      if (g.accumulate) value += read(g.out, g.out_dtype, at);
      if (g.bias != nullptr) value += read(g.bias, g.out_dtype, n);
      if (g.pre_activation != nullptr) write(g.pre_activation, g.out_dtype, at, value);
      if (g.epilogue == Epilogue::gelu_new) value = gelu_new(value);
      write(g.out, g.out_dtype, at, value);
    }
  }
}

bool aligned(const Gemm& g) {
  for (const void* data : {g.a.data, g.b.data, static_cast<const void*>(g.out), g.bias,
                           static_cast<const void*>(g.pre_activation)}) {
    if (reinterpret_cast<std::uintptr_t>(data) % kGemmAlignment != 0) return false;
  }
  return true;
}

/// What no call may ask of cuBLASLt: a mistake of the caller, whatever epilogues there are.
bool is_valid(const Gemm& g) {
  if (g.a.dtype != g.b.dtype || (g.out_dtype != g.a.dtype && g.out_dtype != DType::f32)) {
    return false;
  }
  if (g.epilogue != Epilogue::none && g.scale != 1.0f) return false;
  if (g.epilogue != Epilogue::gelu_new && g.pre_activation != nullptr) return false;
  if (g.accumulate && (g.bias != nullptr || g.epilogue != Epilogue::none)) return false;
  if (g.accumulate && g.out_dtype != DType::f32) return false;  // Hopper's kernels round twice
  return g.pre_activation == nullptr || g.N % 8 == 0;
}

int without_epilogues = 0;

class PlainGemmAlgorithms final : public GemmAlgorithms {
 public:
  std::string name() const override {
    return "plain loops " + std::to_string(cuda_on_host::machine().gemm_library_version);
  }
  bool rows_alone() const override { return true; }

  std::vector<Proposal> propose(const Gemm& g) override {
    require_valid(g);
    if (refuses_ && g.epilogue != Epilogue::none) return {};
    return {{{kInParts}, true}, {{kInOrder}}, {{kEvenAndOdd}}};
  }
  bool can_run(const Gemm& g, const Algorithm& algorithm) override {
    require_valid(g);
    return algorithm == Algorithm{kInOrder} || algorithm == Algorithm{kEvenAndOdd};
  }
  float time(const Gemm&, const Algorithm& algorithm, cudaStream_t) override {
    ++cuda_on_host::machine().products_timed;
    return algorithm == Algorithm{kInOrder} ? 2.0f : 1.0f;
  }
  bool multiply(const Gemm& g, const Algorithm& algorithm, cudaStream_t stream) override {
    require_valid(g);
    if (!aligned(g)) throw Error(Fault::device, text_of(g) + ": an operand is not aligned");
    if (!can_run(g, algorithm)) throw Error(Fault::device, text_of(g) + ": no such algorithm");
    cuda_on_host::enqueue(stream, [g, number = algorithm[0]] { cuda::multiply(g, number); });
    return true;
  }

 private:
  static void require_valid(const Gemm& g) {
    if (!is_valid(g)) throw Error(Fault::device, text_of(g) + ": makes no sense to cuBLASLt");
  }

  const bool refuses_ = without_epilogues > 0;
};

}  // namespace

std::string why_no_gemm_library() {
  return cuda_on_host::machine().why_no_gemm_library;
}

std::unique_ptr<GemmAlgorithms> open_gemm_algorithms() {
  return std::make_unique<PlainGemmAlgorithms>();
}

}  // namespace quire::cuda

namespace quire::cuda_on_host {

WithoutEpilogues::WithoutEpilogues() {
  ++cuda::without_epilogues;
}
WithoutEpilogues::~WithoutEpilogues() {
  --cuda::without_epilogues;
}

}  // namespace quire::cuda_on_host
