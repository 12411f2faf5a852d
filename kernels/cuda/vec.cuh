// Elements of any float type as floats, 16 bytes at a time.
//
// A kernel walks a row in steps of kStep<T> elements and never sees its tail: load_row and
// store_row own it. Rows<true> are aligned to 16 bytes and hold a whole number of steps, so each
// step is one access of 16 bytes; Rows<false>, which any view may be, go element by element. The
// launcher asks whole_rows() and picks the kernel.
#pragma once

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

/// 16 bytes as they lie in memory.
template <class T>
struct alignas(16) Pack {
  T element[kStep<T>];
};

/// Elements [i, i + kCount) of a row of C; those beyond its end are `beyond`.
template <bool kWhole, int kCount, class T>
__device__ __forceinline__ void load_row(const T* row, int i, int C, float (&out)[kCount],
                                         float beyond = 0.0f) {
  if constexpr (kWhole) {
    static_assert(kCount % kStep<T> == 0);
    if (i >= C) {
#pragma unroll
      for (int j = 0; j < kCount; ++j) out[j] = beyond;
      return;
    }
#pragma unroll
    for (int j = 0; j < kCount; j += kStep<T>) {
      const Pack<T> pack = *reinterpret_cast<const Pack<T>*>(row + i + j);
#pragma unroll
      for (int k = 0; k < kStep<T>; ++k) out[j + k] = widen(pack.element[k]);
    }
  } else {
#pragma unroll
    for (int j = 0; j < kCount; ++j) out[j] = i + j < C ? widen(row[i + j]) : beyond;
  }
}

/// Writes elements [i, i + kCount) of a row of C, those that there are.
template <bool kWhole, int kCount, class T>
__device__ __forceinline__ void store_row(T* row, int i, int C, const float (&values)[kCount]) {
  if constexpr (kWhole) {
    static_assert(kCount % kStep<T> == 0);
    if (i >= C) return;
#pragma unroll
    for (int j = 0; j < kCount; j += kStep<T>) {
      Pack<T> pack;
#pragma unroll
      for (int k = 0; k < kStep<T>; ++k) pack.element[k] = narrow<T>(values[j + k]);
      *reinterpret_cast<Pack<T>*>(row + i + j) = pack;
    }
  } else {
#pragma unroll
    for (int j = 0; j < kCount; ++j) {
      if (i + j < C) row[i + j] = narrow<T>(values[j]);
    }
  }
}

/// Whether rows of C elements of all these views may be accessed in steps of `step` elements, each
/// of them whole and aligned. Views that are not given do not count.
template <class... Views>
bool whole_rows(std::int64_t C, int step, const Views&... views) {
  const auto aligned = [](const ConstView& view) {
    return reinterpret_cast<std::uintptr_t>(view.bytes()) % 16 == 0;
  };
  return C % step == 0 && (aligned(views) && ...);
}

/// Calls `work` with a value of the type the views hold: dispatch(p.x.dtype(), [&](auto zero) {
/// using T = decltype(zero); … }).
template <class Work>
void dispatch(DType dtype, const Work& work) {
  switch (dtype) {
    case DType::f32:
      return work(float{});
    case DType::f16:
      return work(Half{});
    case DType::bf16:
      return work(BFloat16{});
    case DType::i32:
      break;
  }
  throw_dtype(DType::f32, dtype);
}

/// The same for a condition that picks a kernel: choose(condition, [&](auto yes) { kernel<yes>… }).
template <class Work>
void choose(bool condition, const Work& work) {
  if (condition) {
    work(std::true_type{});
  } else {
    work(std::false_type{});
  }
}

}  // namespace quire::cuda
