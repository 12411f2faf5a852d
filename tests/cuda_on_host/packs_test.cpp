// Rows fetched and stored in packs: every length and place of a row's tail,
// nothing read or written beyond it.
#include "kernels/cuda/packs.cuh"

#include <cmath>
#include <vector>

#include "tests/support/catch.h"

namespace quire::test {
namespace {

using cuda::Load;
using cuda::Store;

constexpr int kCount = 8, kThreads = 32;

/// out [C] = 2·row [C], row being 1, 2, …, C; seen [32, 8] is what the threads have,
/// those beyond the row's end included.
template <class T, bool kWhole, Load kLoad, Store kStore>
__global__ void double_row(T* out, float* seen, const T* row, int C) {
  const int i = static_cast<int>(threadIdx.x) * kCount;
  auto packs = cuda::fetch<kWhole, kCount, kLoad>(row, i, C);
  cuda::hold_packed(packs);
  float values[kCount], at_once[kCount];
  cuda::widen<kWhole>(packs, i, C, values, -1.0f);
  cuda::load_row<kWhole>(row, i, C, at_once, -1.0f);
  for (int j = 0; j < kCount; ++j) {
    const float fetched = cuda::widen(packs.element[j]);  // an element of the row, whatever i is
    const bool of_row = fetched >= 1.0f && fetched <= static_cast<float>(C);
    seen[i + j] = of_row && values[j] == at_once[j] ? values[j] : NAN;
    values[j] *= 2.0f;
  }
  cuda::store_row<kWhole, kStore>(out, i, C, values);
}

struct Stream {
  Stream() { QUIRE_CUDA(cudaStreamCreateWithFlags(&handle, cudaStreamNonBlocking), "a test"); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  ~Stream() { cudaStreamDestroy(handle); }
  cudaStream_t handle = nullptr;
};

/// Device memory that ends behind its last element.
template <class T>
struct DeviceMemory {
  explicit DeviceMemory(int count) : bytes(static_cast<std::size_t>(count) * sizeof(T)) {
    QUIRE_CUDA(cudaMalloc(&data, bytes), "a test");
  }
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;
  ~DeviceMemory() { cudaFree(data); }
  T* of() const { return static_cast<T*>(data); }

  std::size_t bytes;
  void* data = nullptr;
};

template <class T, bool kWhole, Load kLoad = Load::plain, Store kStore = Store::plain>
void check_row(int C) {
  INFO("C = " << C << ", whole " << kWhole);
  const Stream stream;
  const DeviceMemory<T> row(C), out(C);
  const DeviceMemory<float> seen(kThreads * kCount);
  std::vector<T> values(static_cast<std::size_t>(C));
  for (int i = 0; i < C; ++i) values[i] = cuda::narrow<T>(static_cast<float>(i + 1));
  cudaMemcpyAsync(row.data, values.data(), row.bytes, cudaMemcpyHostToDevice, stream.handle);
  QUIRE_LAUNCH((double_row<T, kWhole, kLoad, kStore>), 1, kThreads, 0, stream.handle, out.of(),
               seen.of(), row.of(), C);
  std::vector<float> widened(kThreads * kCount);
  cudaMemcpyAsync(values.data(), out.data, out.bytes, cudaMemcpyDeviceToHost, stream.handle);
  cudaMemcpyAsync(widened.data(), seen.data, seen.bytes, cudaMemcpyDeviceToHost, stream.handle);
  QUIRE_CUDA(cudaStreamSynchronize(stream.handle), "a test");
  for (int i = 0; i < kThreads * kCount; ++i) {
    INFO("element " << i);
    CHECK(widened[i] == (i < C ? static_cast<float>(i + 1) : -1.0f));
    if (i < C) CHECK(cuda::widen(values[i]) == static_cast<float>(2 * (i + 1)));
  }
}

template <class T>
void check_type() {
  for (int C = 1; C <= 120; ++C) check_row<T, false>(C);
  for (int C = 8; C <= 120; C += 8) {
    check_row<T, true>(C);
    check_row<T, true, Load::once, Store::once>(C);
    check_row<T, true, Load::streamed>(C);
  }
}

TEST_CASE("rows in packs are read and written to their ends and no further") {
  check_type<float>();
  check_type<Half>();
  check_type<BFloat16>();
}

}  // namespace
}  // namespace quire::test
