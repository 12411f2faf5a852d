// Elements of any float type as they lie in memory, 16 bytes at a time, and as floats.
//
// What memory bounds wants several loads of a thread on their way before it looks at any of them:
// to move 3.35 TB/s at, say, 600 ns of latency an H100 needs 2 MB under way, 15 KB on each SM,
// 16 bytes of each of 1000 threads. So loads come in two steps. fetch issues them, without
// a branch and from addresses that are always inside the row; widen makes floats of what came,
// and replaces what lay beyond the row's end. A kernel fetches all that it can hold, then widens:
//
//   const Packs<T, 8> x = fetch<kWhole, 8>(row, i, C), d_out = fetch<kWhole, 8>(other, i, C);
//   widen<kWhole>(x, i, C, values);
//   widen<kWhole>(d_out, i, C, gradients);
//
// Rows<true> are aligned to 16 bytes and hold a whole number of the caller's steps,
// so each 16 bytes are one access; Rows<false>, which any view may be, go element by element.
// The launcher asks whole_rows() (vec.cuh) and picks the kernel. Nobody else sees a row's tail.
#pragma once

#include <bit>
#include <type_traits>

#include "kernels/cuda/platform.cuh"
#include "kernels/tensor.h"

namespace quire::cuda {

template <class T>
inline constexpr int kStep = 16 / static_cast<int>(sizeof(T));

__device__ __forceinline__ float widen(float value) {
  return value;
}
__device__ __forceinline__ float widen(BFloat16 value) {
#ifdef QUIRE_CUDA_ON_HOST
  return to_float(value);
#else
  return __uint_as_float(static_cast<unsigned>(value.bits) << 16);
#endif
}
__device__ __forceinline__ float widen(Half value) {
#ifdef QUIRE_CUDA_ON_HOST
  return to_float(value);
#else
  return __half2float(__ushort_as_half(value.bits));
#endif
}

/// To nearest, ties to even.
template <class T>
__device__ T narrow(float value);
template <>
__device__ __forceinline__ float narrow<float>(float value) {
  return value;
}
template <>
__device__ __forceinline__ BFloat16 narrow<BFloat16>(float value) {
#ifdef QUIRE_CUDA_ON_HOST
  return to_bfloat16(value);
#else
  return {__bfloat16_as_ushort(__float2bfloat16_rn(value))};
#endif
}
template <>
__device__ __forceinline__ Half narrow<Half>(float value) {
#ifdef QUIRE_CUDA_ON_HOST
  return to_half(value);
#else
  return {__half_as_ushort(__float2half_rn(value))};
#endif
}

/// Elements of one access.
template <class T, int kCount>
inline constexpr int kAtOnce = kCount < kStep<T> ? kCount : kStep<T>;

/// kCount elements as they lie in memory: fetched, and not looked at yet.
template <class T, int kCount>
struct alignas(kAtOnce<T, kCount> * sizeof(T)) Packs {
  static_assert(kCount % kAtOnce<T, kCount> == 0);
  T element[kCount];
};
/// 16 bytes of them.
template <class T>
using Pack = Packs<T, kStep<T>>;

/// What the caches are told of a load. Other loads than plain ones are for global memory, and not
/// for what this launch has written.
enum class Load {
  plain,
  once,      ///< nobody reads it again soon: the first to be evicted
  streamed,  ///< the same, and nothing writes it during the launch: past L1. For rows of which the
             ///< lanes' 16 bytes lie beside each other; else sectors are fetched twice.
};
enum class Store {
  plain,
  once,  ///< nobody reads it soon
};

/// A pointer to global memory that was itself read from memory: else its accesses are generic ones.
template <class T>
__device__ __forceinline__ T* in_global(T* pointer) {
#ifndef QUIRE_CUDA_ON_HOST
  __builtin_assume(__isGlobal(pointer));
#endif
  return pointer;
}

/// One access; 8 bytes where there are fewer than 16.
template <Load kLoad, int kCount, class T>
__device__ __forceinline__ Packs<T, kCount> load_pack(const T* at) {
  static_assert(kLoad == Load::plain || kCount == kStep<T>);
#ifndef QUIRE_CUDA_ON_HOST
  if constexpr (kLoad == Load::once) {
    return std::bit_cast<Pack<T>>(__ldcs(reinterpret_cast<const uint4*>(at)));
  }
  if constexpr (kLoad == Load::streamed) {
    uint4 words;
    asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(words.x), "=r"(words.y), "=r"(words.z), "=r"(words.w)
                 : "l"(at));
    return std::bit_cast<Pack<T>>(words);
  }
#endif
  return *reinterpret_cast<const Packs<T, kCount>*>(at);
}
template <Store kStore, int kCount, class T>
__device__ __forceinline__ void store_pack(T* at, const Packs<T, kCount>& pack) {
#ifndef QUIRE_CUDA_ON_HOST
  if constexpr (kStore == Store::once) {
    using Words = std::conditional_t<sizeof(pack) == 16, uint4, uint2>;
    __stcs(reinterpret_cast<Words*>(at), std::bit_cast<Words>(pack));
    return;
  }
#endif
  *reinterpret_cast<Packs<T, kCount>*>(at) = pack;
}

/// The kCount elements at an aligned address, all of which there are.
template <int kCount, Load kLoad = Load::plain, class T>
__device__ __forceinline__ Packs<T, kCount> fetch_at(const T* at) {
  constexpr int kPack = kAtOnce<T, kCount>;
  Packs<T, kCount> packs;
#pragma unroll
  for (int j = 0; j < kCount; j += kPack) {
    const auto pack = load_pack<kLoad, kPack>(at + j);
#pragma unroll
    for (int k = 0; k < kPack; ++k) packs.element[j + k] = pack.element[k];
  }
  return packs;
}

/// Elements [i, i + kCount) of a row of C > 0; for those beyond its end, the row's last ones. Whole
/// rows: C is a multiple of kCount, and so is i. In an op in place, what lies beyond
/// is what another thread may be writing: let a barrier (or a shuffle) stand between the two.
template <bool kWhole, int kCount, Load kLoad = Load::plain, class T>
__device__ __forceinline__ Packs<T, kCount> fetch(const T* row, int i, int C) {
  if constexpr (kWhole) {
    return fetch_at<kCount, kLoad>(row + min(i, C - kCount));
  } else {
    Packs<T, kCount> packs;
#pragma unroll
    for (int j = 0; j < kCount; ++j) packs.element[j] = row[min(i + j, C - 1)];
    return packs;
  }
}

template <class T, int kCount>
__device__ __forceinline__ void widen(const Packs<T, kCount>& packs, float (&out)[kCount]) {
#pragma unroll
  for (int j = 0; j < kCount; ++j) out[j] = widen(packs.element[j]);
}

/// What fetch(row, i, C) gave; elements beyond the row's end are `beyond`.
template <bool kWhole, class T, int kCount>
__device__ __forceinline__ void widen(const Packs<T, kCount>& packs, int i, int C,
                                      float (&out)[kCount], float beyond = 0.0f) {
#pragma unroll
  for (int j = 0; j < kCount; ++j) {
    const bool inside = (kWhole ? i : i + j) < C;
    out[j] = inside ? widen(packs.element[j]) : beyond;
  }
}

/// Makes the compiler forget what it has computed from these packs. It would rather keep a float an
/// element in registers than widen a second time, which is one instruction for two of them held.
template <class T, int kCount>
__device__ __forceinline__ void hold_packed([[maybe_unused]] Packs<T, kCount>& packs) {
#ifndef QUIRE_CUDA_ON_HOST
  constexpr int kWords = kCount * static_cast<int>(sizeof(T)) / 4;
  struct alignas(Packs<T, kCount>) Words {
    unsigned word[kWords];
  };
  auto words = std::bit_cast<Words>(packs);
#pragma unroll
  for (int j = 0; j < kWords; ++j) asm volatile("" : "+r"(words.word[j]));
  packs = std::bit_cast<Packs<T, kCount>>(words);
#endif
}

/// Both at once, where one load is all that there is to wait for.
template <bool kWhole, int kCount, class T>
__device__ __forceinline__ void load_row(const T* row, int i, int C, float (&out)[kCount],
                                         float beyond = 0.0f) {
  widen<kWhole>(fetch<kWhole, kCount>(row, i, C), i, C, out, beyond);
}

/// Writes elements [i, i + kCount) of a whole row of C, those that there are.
template <Store kStore = Store::plain, class T, int kCount>
__device__ __forceinline__ void store_packs(T* row, int i, int C, const Packs<T, kCount>& packs) {
  constexpr int kPack = kAtOnce<T, kCount>;
  if (i >= C) return;
#pragma unroll
  for (int j = 0; j < kCount; j += kPack) {
    Packs<T, kPack> pack;
#pragma unroll
    for (int k = 0; k < kPack; ++k) pack.element[k] = packs.element[j + k];
    store_pack<kStore>(row + i + j, pack);
  }
}

/// The same of any row, narrowed.
template <bool kWhole, Store kStore = Store::plain, int kCount, class T>
__device__ __forceinline__ void store_row(T* row, int i, int C, const float (&values)[kCount]) {
  if constexpr (kWhole) {
    Packs<T, kCount> packs;
#pragma unroll
    for (int j = 0; j < kCount; ++j) packs.element[j] = narrow<T>(values[j]);
    store_packs<kStore>(row, i, C, packs);
  } else {
#pragma unroll
    for (int j = 0; j < kCount; ++j) {
      if (i + j < C) row[i + j] = narrow<T>(values[j]);
    }
  }
}

}  // namespace quire::cuda
