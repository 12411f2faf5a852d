// What the files with products in bfloat16 share: vectors of AVX-512 BF16, loaded under masks.
//
// Highway has no such target in Debian 12, and compiled for it as a whole a file would carry inline
// functions of the standard library that no other processor can run: hence attributes.
#pragma once

#include <immintrin.h>

#include <algorithm>
#include <cstdint>

#include "kernels/tensor.h"

#define QUIRE_BF16 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")))
#define QUIRE_BF16_INLINE QUIRE_BF16 __attribute__((always_inline)) inline

namespace quire::cpu::bf16 {

constexpr std::int64_t kLanes = 16;
constexpr std::int64_t kLine = 32;  // elements of a cache line

/// The first `count` lanes of 16: all of them from 16 on, none up to 0.
QUIRE_BF16_INLINE __mmask16 first_lanes(std::int64_t count) {
  return static_cast<__mmask16>((1u << std::clamp<std::int64_t>(count, 0, kLanes)) - 1);
}

QUIRE_BF16_INLINE __m512 load(const float* from, __mmask16 lanes) {
  return _mm512_maskz_loadu_ps(lanes, from);
}
QUIRE_BF16_INLINE __m512 load(const Half* from, __mmask16 lanes) {
  return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(lanes, from));
}

/// Rounded to nearest, ties to even: low's 16, then high's.
QUIRE_BF16_INLINE __m512i rounded(__m512 low, __m512 high) {
  return reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(high, low));
}

/// From 16 numbers of one k and 16 of the next: one of either in turn, which are words.
QUIRE_BF16_INLINE __m512i in_turn(__m512i both) {
  const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24,
                                         8, 23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  return _mm512_permutexvar_epi16(order, both);
}
QUIRE_BF16_INLINE __m512i in_turn(__m256i even, __m256i odd) {
  return in_turn(_mm512_inserti64x4(_mm512_castsi256_si512(even), odd, 1));
}

/// Words as pairs of neighbours of k, and one word for all lanes.
QUIRE_BF16_INLINE __m512bh pairs(__m512i words) {
  return reinterpret_cast<__m512bh>(words);
}
QUIRE_BF16_INLINE __m512bh broadcast(const std::uint32_t* word) {
  return pairs(_mm512_set1_epi32(static_cast<std::int32_t>(*word)));
}

/// Elements of a line of b, as far as there are.
using Elements = __mmask32;
QUIRE_BF16_INLINE Elements first_elements(std::int64_t count) {
  return count >= kLine ? ~Elements{0} : (Elements{1} << count) - 1;
}

/// Of a line of b and the next row's, interleaved, 32 sums: into the order of their columns.
QUIRE_BF16_INLINE void put_in_order(__m512& low, __m512& high) {
  const __m512i first = _mm512_set_epi32(23, 22, 21, 20, 7, 6, 5, 4, 19, 18, 17, 16, 3, 2, 1, 0);
  const __m512i second =
      _mm512_set_epi32(31, 30, 29, 28, 15, 14, 13, 12, 27, 26, 25, 24, 11, 10, 9, 8);
  const __m512 from_low = low;
  low = _mm512_permutex2var_ps(from_low, first, high);
  high = _mm512_permutex2var_ps(from_low, second, high);
}

/// Transposes 16 vectors of 16 words.
QUIRE_BF16_INLINE void transpose(__m512i (&r)[16]) {
  __m512i t[16];
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) {
    r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
    r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
    r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
    r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
  // r[4·i + j] holds in its block b the words 4·b + j of rows 4·i to 4·i + 3.
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    t[j] = _mm512_shuffle_i32x4(r[j], r[4 + j], 0x88);
    t[4 + j] = _mm512_shuffle_i32x4(r[j], r[4 + j], 0xdd);
    t[8 + j] = _mm512_shuffle_i32x4(r[8 + j], r[12 + j], 0x88);
    t[12 + j] = _mm512_shuffle_i32x4(r[8 + j], r[12 + j], 0xdd);
  }
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    r[j] = _mm512_shuffle_i32x4(t[j], t[8 + j], 0x88);
    r[8 + j] = _mm512_shuffle_i32x4(t[j], t[8 + j], 0xdd);
    r[4 + j] = _mm512_shuffle_i32x4(t[4 + j], t[12 + j], 0x88);
    r[12 + j] = _mm512_shuffle_i32x4(t[4 + j], t[12 + j], 0xdd);
  }
}

}  // namespace quire::cpu::bf16
