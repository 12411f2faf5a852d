// Launches of a chain of small kernels, as decoding is: one may begin while the one before it ends.
//
// Between two kernels of a stream a GPU stands still: the last blocks run out,
// memory is flushed, the next grid starts; and the next one's first loads take a while to come.
// A kernel that is launched `overlapped` starts as soon as all blocks
// of the one before it have called let_next_begin(), and prefetches what it will read.
// What the kernels before it wrote is there after wait_for_previous(), not sooner:
// before that call a kernel writes nothing, and reads nothing but its arguments and,
// in a graph, what was there before the graph began (weights, the cache of earlier tokens).
// All of its threads make the call, so that who waits for the last kernel of a chain waits for all.
//
// ("Programmatic dependent launch", CUDA C++ Programming Guide; sm_90 and later. A launch that is
// not overlapped, and older chips, find everything there at once.)
#pragma once

#include "kernels/cuda/platform.cuh"

namespace quire::cuda {

/// How kernels of decoding are launched.
struct ChainLaunch {
  cudaStream_t stream;
  bool overlapped;  // the card is sm_90 or later, and has been seen to get this right
  int processors;   // SMs of the card
  // Part of a graph, which begins when all before it is done: what no kernel of the graph writes
  // may be read before wait_for_previous().
  bool recorded;
};

__device__ __forceinline__ void let_next_begin() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

__device__ __forceinline__ void wait_for_previous() {
#ifdef QUIRE_CUDA_ON_HOST
  cuda_on_host::wait_for_previous();
#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

/// Asks for the 16 bytes and their neighbours to be brought to the L2 cache. No more than a hint:
/// who writes there meanwhile does no harm.
__device__ __forceinline__ void prefetch(const void* at) {
#ifdef QUIRE_CUDA_ON_HOST
  static_cast<void>(at);
#else
  asm volatile("prefetch.global.L2 [%0];" ::"l"(at));
#endif
}

template <class... P, class... A>
void launch_chained(const char* name, void (*kernel)(P...), dim3 grid, dim3 block,
                    std::size_t shared_bytes, const ChainLaunch& how, const A&... arguments) {
#ifdef QUIRE_CUDA_ON_HOST
  cuda_on_host::launch_overlapped(how.overlapped, name, kernel, grid, block, shared_bytes,
                                  how.stream, arguments...);
  QUIRE_CUDA(cudaGetLastError(), name);
#else
  // An SM divides its memory into cache and shared memory anew only when it stands still,
  // so kernels that want it divided in different ways cannot overlap: all of a chain want the same.
  if (how.overlapped) {
    QUIRE_CUDA(cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout,
                                    cudaSharedmemCarveoutMaxShared),
               name);
  }
  cudaLaunchAttribute overlaps{};
  overlaps.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  overlaps.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = how.stream;
  config.attrs = &overlaps;
  config.numAttrs = how.overlapped ? 1 : 0;
  QUIRE_CUDA(cudaLaunchKernelEx(&config, kernel, arguments...), name);
#endif
}

}  // namespace quire::cuda

/// QUIRE_LAUNCH for kernels of a chain, with a ChainLaunch in place of the stream.
#define QUIRE_LAUNCH_CHAINED(kernel, grid, block, shared_bytes, how, ...) \
  ::quire::cuda::launch_chained(#kernel, kernel, grid, block, shared_bytes, how, __VA_ARGS__)
