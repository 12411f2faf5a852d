// Vectors of float of whatever width the target has: loads and stores that own their tails, sums,
// and the exponential. Included once for each target, after hwy/foreach_target.h.
//
// Lanes beyond a row's end are zero on load and left alone on store, so that kernels have no
// remainder loops: for_vectors(n, body) calls body(i, count) with full vectors and then, at most
// once, with a short one.
#include <cstdint>
#include <cstring>
#include <limits>

#include "kernels/tensor.h"

// Not #pragma once: the header is wanted again for each target.
#if defined(QUIRE_CPU_SIMD_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef QUIRE_CPU_SIMD_INL
#undef QUIRE_CPU_SIMD_INL
#else
#define QUIRE_CPU_SIMD_INL
#endif

#include "hwy/highway.h"

// For lambdas inside kernels: compiled for the target, and inlined whatever the compiler thinks.
#undef QUIRE_INLINE_LAMBDA
#define QUIRE_INLINE_LAMBDA HWY_ATTR __attribute__((always_inline))

HWY_BEFORE_NAMESPACE();
namespace quire::cpu::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using F32 = hn::ScalableTag<float>;
using Vec = hn::Vec<F32>;
inline constexpr std::int64_t kLanes = HWY_LANES(float);

constexpr std::int64_t round_up_to_lanes(std::int64_t n) {
  return (n + kLanes - 1) / kLanes * kLanes;
}

HWY_INLINE Vec set(float value) {
  return hn::Set(F32(), value);
}
HWY_INLINE Vec zero() {
  return hn::Zero(F32());
}

// ---------------------------------------------------------------- memory

/// The first `count` of a vector's floats; zero behind them.
HWY_INLINE Vec load(const float* from, std::int64_t count = kLanes) {
  if (HWY_LIKELY(count >= kLanes)) return hn::LoadU(F32(), from);
#if HWY_MEM_OPS_MIGHT_FAULT
  HWY_ALIGN float lanes[kLanes] = {};
  std::memcpy(lanes, from, static_cast<std::size_t>(count) * sizeof(float));
  return hn::Load(F32(), lanes);
#else
  return hn::MaskedLoad(hn::FirstN(F32(), static_cast<std::size_t>(count)), F32(), from);
#endif
}

template <class Bits>
HWY_INLINE hn::VFromD<hn::Rebind<Bits, F32>> load_half_width(const Bits* from, std::int64_t count) {
  const hn::Rebind<Bits, F32> d;
  if (HWY_LIKELY(count >= kLanes)) return hn::LoadU(d, from);
  HWY_ALIGN Bits lanes[kLanes] = {};
  std::memcpy(lanes, from, static_cast<std::size_t>(count) * sizeof(Bits));
  return hn::Load(d, lanes);
}

HWY_INLINE Vec load(const BFloat16* from, std::int64_t count = kLanes) {
  const auto bits = load_half_width(reinterpret_cast<const std::uint16_t*>(from), count);
  const hn::Rebind<std::uint32_t, F32> d;
  return hn::BitCast(F32(), hn::ShiftLeft<16>(hn::PromoteTo(d, bits)));
}

HWY_INLINE Vec load(const Half* from, std::int64_t count = kLanes) {
  static_assert(sizeof(Half) == sizeof(hwy::float16_t));
  return hn::PromoteTo(F32(),
                       load_half_width(reinterpret_cast<const hwy::float16_t*>(from), count));
}

/// A whole vector of any width, from any of the float types; and one element.
template <class D>
HWY_INLINE hn::Vec<D> load_as(D d, const float* from) {
  return hn::LoadU(d, from);
}
template <class D>
HWY_INLINE hn::Vec<D> load_as(D d, const BFloat16* from) {
  const hn::Rebind<hwy::bfloat16_t, D> narrow;
  return hn::PromoteTo(d, hn::LoadU(narrow, reinterpret_cast<const hwy::bfloat16_t*>(from)));
}
template <class D>
HWY_INLINE hn::Vec<D> load_as(D d, const Half* from) {
  const hn::Rebind<hwy::float16_t, D> narrow;
  return hn::PromoteTo(d, hn::LoadU(narrow, reinterpret_cast<const hwy::float16_t*>(from)));
}
#if HWY_TARGET != HWY_SCALAR
/// Transposes 4 by 4: in each block of four lanes, number j of vector i becomes number i of vector j.
template <class D, class V>
HWY_INLINE void transpose_blocks(D d, V& a, V& b, V& c, V& e) {
  const hn::Repartition<double, D> d2;
  const auto ab_low = hn::BitCast(d2, hn::InterleaveLower(d, a, b));
  const auto ab_high = hn::BitCast(d2, hn::InterleaveUpper(d, a, b));
  const auto ce_low = hn::BitCast(d2, hn::InterleaveLower(d, c, e));
  const auto ce_high = hn::BitCast(d2, hn::InterleaveUpper(d, c, e));
  a = hn::BitCast(d, hn::InterleaveLower(d2, ab_low, ce_low));
  b = hn::BitCast(d, hn::InterleaveUpper(d2, ab_low, ce_low));
  c = hn::BitCast(d, hn::InterleaveLower(d2, ab_high, ce_high));
  e = hn::BitCast(d, hn::InterleaveUpper(d2, ab_high, ce_high));
}

/// Transposes as many rows of as many floats as D has lanes, four or eight: calls put(i, number i of each of
/// row(0), row(1), …).
template <class D, class Row, class Put>
HWY_INLINE void transpose_square(D d, const Row& row, const Put& put) {
  auto a0 = row(0), a1 = row(1), a2 = row(2), a3 = row(3);
  transpose_blocks(d, a0, a1, a2, a3);
  if constexpr (hn::MaxLanes(D()) == 8) {
    auto b0 = row(4), b1 = row(5), b2 = row(6), b3 = row(7);
    transpose_blocks(d, b0, b1, b2, b3);
    // Block i of a0 has number 4·i of rows 0 to 3, that of b0 has it of rows 4 to 7.
    put(0, hn::ConcatLowerLower(d, b0, a0));
    put(1, hn::ConcatLowerLower(d, b1, a1));
    put(2, hn::ConcatLowerLower(d, b2, a2));
    put(3, hn::ConcatLowerLower(d, b3, a3));
    put(4, hn::ConcatUpperUpper(d, b0, a0));
    put(5, hn::ConcatUpperUpper(d, b1, a1));
    put(6, hn::ConcatUpperUpper(d, b2, a2));
    put(7, hn::ConcatUpperUpper(d, b3, a3));
  } else {
    put(0, a0);
    put(1, a1);
    put(2, a2);
    put(3, a3);
  }
}
#endif

HWY_INLINE void store(Vec v, float* to, std::int64_t count = kLanes) {
  if (HWY_LIKELY(count >= kLanes)) {
    hn::StoreU(v, F32(), to);
    return;
  }
#if HWY_MEM_OPS_MIGHT_FAULT
  HWY_ALIGN float lanes[kLanes];
  hn::Store(v, F32(), lanes);
  std::memcpy(to, lanes, static_cast<std::size_t>(count) * sizeof(float));
#else
  hn::BlendedStore(v, hn::FirstN(F32(), static_cast<std::size_t>(count)), F32(), to);
#endif
}

template <class Body>
HWY_INLINE void for_vectors(std::int64_t n, const Body& body) {
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) body(i, kLanes);
  if (i < n) body(i, n - i);
}

// ---------------------------------------------------------------- reductions

/// v in the first `count` lanes, `other` in the rest.
HWY_INLINE Vec first_lanes(Vec v, std::int64_t count, Vec other) {
  if (HWY_LIKELY(count >= kLanes)) return v;
  return hn::IfThenElse(hn::FirstN(F32(), static_cast<std::size_t>(count)), v, other);
}

HWY_INLINE float sum_lanes(Vec v) {
  return hn::GetLane(hn::SumOfLanes(F32(), v));
}
HWY_INLINE float max_lanes(Vec v) {
  return hn::GetLane(hn::MaxOfLanes(F32(), v));
}

/// sum of term(i, count) over a row, the unused lanes of the last term left out. Four partial sums
/// hide the latency of the additions (4 cycles).
template <class Term>
HWY_INLINE float sum_terms(std::int64_t n, const Term& term) {
  Vec s0 = zero(), s1 = zero(), s2 = zero(), s3 = zero();
  std::int64_t i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
    s0 = hn::Add(s0, term(i, kLanes));
    s1 = hn::Add(s1, term(i + kLanes, kLanes));
    s2 = hn::Add(s2, term(i + 2 * kLanes, kLanes));
    s3 = hn::Add(s3, term(i + 3 * kLanes, kLanes));
  }
  for (; i + kLanes <= n; i += kLanes) s0 = hn::Add(s0, term(i, kLanes));
  if (i < n) s1 = hn::Add(s1, first_lanes(term(i, n - i), n - i, zero()));
  return sum_lanes(hn::Add(hn::Add(s0, s1), hn::Add(s2, s3)));
}

/// The largest of n floats; -infinity when n is 0.
HWY_INLINE float max_of(const float* x, std::int64_t n) {
  const Vec lowest = set(-std::numeric_limits<float>::infinity());
  Vec m0 = lowest, m1 = lowest, m2 = lowest, m3 = lowest;
  std::int64_t i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
    m0 = hn::Max(m0, load(x + i));
    m1 = hn::Max(m1, load(x + i + kLanes));
    m2 = hn::Max(m2, load(x + i + 2 * kLanes));
    m3 = hn::Max(m3, load(x + i + 3 * kLanes));
  }
  for (; i + kLanes <= n; i += kLanes) m0 = hn::Max(m0, load(x + i));
  if (i < n) m1 = hn::Max(m1, first_lanes(load(x + i, n - i), n - i, lowest));
  return max_lanes(hn::Max(hn::Max(m0, m1), hn::Max(m2, m3)));
}

// ---------------------------------------------------------------- exp

/// e^x for x <= 88.37 (NaN stays NaN): below -87.3365, where the result would be denormal, exactly
/// 0. x = n·ln2 + r with |r| <= ln2/2, e^r by a polynomial of degree 6 (minimax, error 2^-28), 2^n
/// by adding n to the exponent. At most 1 ulp off with fused multiply-adds, 2 without.
HWY_INLINE Vec exp_bounded(Vec x) {
  const hn::RebindToSigned<F32> di;
  // Adding 1.5·2^23 rounds to an integer and leaves it in the low bits, all other bits of which are
  // shifted out below.
  const Vec magic = set(12582912.0f);
  const Vec shifted = hn::MulAdd(x, set(1.44269504f), magic);
  const Vec n = hn::Sub(shifted, magic);
  // ln2 in two parts, the first short enough for n·hi to be exact.
  Vec r = hn::NegMulAdd(n, set(0.693145751953125f), x);
  r = hn::NegMulAdd(n, set(1.42860677e-6f), r);
  Vec p = set(0x1.6a23c0p-10f);
  p = hn::MulAdd(p, r, set(0x1.123a22p-7f));
  p = hn::MulAdd(p, r, set(0x1.5558f4p-5f));
  p = hn::MulAdd(p, r, set(0x1.555492p-3f));
  p = hn::MulAdd(p, r, set(0x1.fffffcp-2f));
  p = hn::MulAdd(p, hn::Mul(r, r), r);
  p = hn::Add(p, set(1.0f));
  const auto scaled = hn::Add(hn::BitCast(di, p), hn::ShiftLeft<23>(hn::BitCast(di, shifted)));
  return hn::IfThenElse(hn::Lt(x, set(-87.3365f)), zero(), hn::BitCast(F32(), scaled));
}

}  // namespace quire::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per target
