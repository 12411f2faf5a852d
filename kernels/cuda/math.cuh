// Elementary functions where CUDA's own do more than the kernels need.
#pragma once

#include <cstring>

#include "kernels/cuda/vec.cuh"

namespace quire::cuda {

inline constexpr float kLog2e = 1.4426950408889634f;
inline constexpr float kLn2 = 0.6931471805599453f;

/// 2^x to 2 ulp, one instruction of the special function unit; results below 2^-126 become 0.
__device__ __forceinline__ float fast_exp2(float x) {
#ifdef QUIRE_CUDA_ON_HOST
  const float y = exp2f(x);
  return y < 0x1p-126f ? 0.0f : y;
#else
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#endif
}

/// Two neighbours in a word: the first one in the low half.
template <class T>
__device__ __forceinline__ std::uint32_t pack_pair(float low, float high) {
#ifdef QUIRE_CUDA_ON_HOST
  return std::uint32_t{narrow<T>(low).bits} | std::uint32_t{narrow<T>(high).bits} << 16;
#else
  std::uint32_t pair;  // one instruction; the high half is named first
  if constexpr (std::is_same_v<T, Half>) {
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  } else {
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  }
  return pair;
#endif
}

/// The elements of a word: one float, or two of 16 bits.
template <class T>
inline constexpr int kOfWord = 4 / static_cast<int>(sizeof(T));
template <class T>
__device__ __forceinline__ void widen_word(std::uint32_t word, float (&elements)[kOfWord<T>]) {
  if constexpr (sizeof(T) == 4) {
    std::memcpy(elements, &word, sizeof(word));
  } else {
    elements[0] = widen(T{static_cast<std::uint16_t>(word)});
    elements[1] = widen(T{static_cast<std::uint16_t>(word >> 16)});
  }
}
template <class T>
__device__ __forceinline__ std::uint32_t narrow_word(const float (&elements)[kOfWord<T>]) {
  if constexpr (sizeof(T) == 4) {
    std::uint32_t word;
    std::memcpy(&word, elements, sizeof(word));
    return word;
  } else {
    return pack_pair<T>(elements[0], elements[1]);
  }
}

/// The larger of two words' elements, one by one, and NaN where there is one: one instruction.
template <class T>
__device__ __forceinline__ std::uint32_t largest_of_words(std::uint32_t a, std::uint32_t b) {
#ifdef QUIRE_CUDA_ON_HOST
  float of_a[kOfWord<T>], of_b[kOfWord<T>];
  widen_word<T>(a, of_a);
  widen_word<T>(b, of_b);
  for (int i = 0; i < kOfWord<T>; ++i) {
    of_a[i] = of_a[i] > of_b[i] || of_a[i] != of_a[i] ? of_a[i] : of_b[i];
  }
  return narrow_word<T>(of_a);
#else
  std::uint32_t larger;
  if constexpr (std::is_same_v<T, float>) {
    asm("max.NaN.f32 %0, %1, %2;"
        : "=f"(reinterpret_cast<float&>(larger))
        : "f"(__uint_as_float(a)), "f"(__uint_as_float(b)));
  } else if constexpr (std::is_same_v<T, Half>) {
    asm("max.NaN.f16x2 %0, %1, %2;" : "=r"(larger) : "r"(a), "r"(b));
  } else {
    asm("max.NaN.bf16x2 %0, %1, %2;" : "=r"(larger) : "r"(a), "r"(b));
  }
  return larger;
#endif
}

}  // namespace quire::cuda
