// Runs a CUDA kernel on the CPU: a fiber for each thread of a block, one block after the other.
//
// A fiber runs until it waits: at __syncthreads, in a warp-wide operation, or at its end. Which of
// those that can go on goes on first is drawn from a seed, so that code which needs an order that
// CUDA does not promise fails sooner or later, and fails again with the same seed. What a real GPU
// leaves undefined is a Fault here, with kernel, block, threads and lines:
//  - threads of a block that wait at different barriers, lanes of a warp in different operations;
//  - threads that wait for what cannot come (a lane that never arrives);
//  - writes beyond an array in shared memory, found by red zones when the block ends;
//  - threads of an overlapped launch that end without having waited for the kernels before it.
// Shared memory starts as 0xff bytes (NaN), so that a read of what was not written shows in the
// result. Built with AddressSanitizer, accesses out of bounds are reported where they happen; with
// ThreadSanitizer every CUDA thread is a fiber of TSan's, synchronised by barriers alone, and a
// missing barrier is reported as a race. This file's .cpp is built without either.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <stdexcept>
#include <string>

namespace quire::cuda_on_host {

/// dim3 and uint3.
struct Index3 {
  unsigned x = 1, y = 1, z = 1;
  constexpr Index3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
  constexpr unsigned count() const { return x * y * z; }
};

/// A place in a kernel's source.
struct Site {
  const char* file;
  int line;
};
#define QUIRE_SITE (::quire::cuda_on_host::Site{__FILE__, __LINE__})

/// What a GPU would not have told.
struct Fault : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// What the code of one CUDA thread asks about itself.
struct ThreadView {
  Index3 thread_index, block_index, block_extents, grid_extents;
  unsigned lane = 0;  ///< in its warp
};
extern const ThreadView* current_thread;  ///< null outside kernels

/// A launch that may begin before the kernel before it has ended.
struct Overlap {
  bool allowed = false;
  std::function<void()> previous =
      nullptr;  ///< runs when all threads wait, one of them for it; or empty
};

/// Calls `body` once for every thread of every block. Throws Fault. Not from several threads at
/// once; from `overlap.previous`, which may not do so again.
void run_kernel(const char* name, Index3 grid, Index3 block, std::size_t shared_bytes,
                const std::function<void()>& body, Overlap overlap = {});

/// Another order of threads from now on.
void set_schedule_seed(std::uint64_t seed);

// ---- for the code of kernels, by way of platform.h

void sync_threads(Site site);
void wait_for_previous();

/// The launch's dynamic shared memory.
std::byte* dynamic_shared();
/// An array that the whole block shares; `tag` names the declaration.
void* static_shared(const void* tag, std::size_t bytes);

/// A copy into shared memory that has been started. A card reads and writes at any time until it is
/// waited for: here it reads at the start and writes at the wait, so that neither what is not there
/// yet nor what nobody waited for passes.
struct AsyncCopy {
  void* to;
  std::size_t bytes;
  std::array<std::byte, 16> value;
};
void keep_async(const AsyncCopy& copy);
/// Of at most 16 bytes; from null: of zeros. In code that sanitizers watch.
inline void start_async(void* to, const void* from, std::size_t bytes) {
  AsyncCopy copy{.to = to, .bytes = bytes, .value = {}};
  if (from != nullptr) std::memcpy(copy.value.data(), from, bytes);
  keep_async(copy);
}
void commit_async();
/// The calling thread's copies of all groups but the last `keep` that were committed; `count` of
/// them, valid until its next call. finish_async() makes them, in code that sanitizers watch.
const AsyncCopy* take_async(int keep, std::size_t& count);
inline void finish_async(int keep) {
  std::size_t count = 0;
  const AsyncCopy* copies = take_async(keep, count);
  for (std::size_t i = 0; i < count; ++i) {
    std::memcpy(copies[i].to, copies[i].value.data(), copies[i].bytes);
  }
}

/// Waits until all lanes of `mask` that have not ended are here, calls `combine` once with each
/// lane's operand (null where there is none), and goes on.
using Combine = void (*)(void* const operands[32]);
/// A Combine that only makes what was written before it visible to the lanes after it. No other one
/// does: a shuffle orders no memory.
inline constexpr Combine kSynchronizes = nullptr;
void warp_wide(const char* what, unsigned mask, Site site, void* operand, Combine combine);

}  // namespace quire::cuda_on_host
