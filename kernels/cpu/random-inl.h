// The numbers of random.h, a vector of Philox blocks at a time.
#include "base/random.h"

#if defined(QUIRE_CPU_RANDOM_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef QUIRE_CPU_RANDOM_INL
#undef QUIRE_CPU_RANDOM_INL
#else
#define QUIRE_CPU_RANDOM_INL
#endif

#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace quire::cpu::HWY_NAMESPACE {

/// Floats that random_row() needs beyond the row itself: it begins and ends with whole vectors of
/// blocks of four.
inline constexpr std::int64_t kRandomSlack = 4 + 4 * kLanes;

/// Numbers [first, first + count) of the stream. `room` holds count + kRandomSlack numbers, and the
/// result lies in it.
inline const std::uint32_t* random_row(RandomKey key, std::uint64_t first, std::int64_t count,
                                       std::uint32_t* room) {
  const std::uint64_t skipped = first % 4;
  std::uint64_t block = first / 4;
  const std::uint64_t end = (first + static_cast<std::uint64_t>(count) + 3) / 4;
  std::uint32_t* to = room;
#if HWY_TARGET == HWY_SCALAR
  for (; block < end; ++block, to += 4) {
    const std::array<std::uint32_t, 4> numbers = random_block(key, block);
    std::memcpy(to, numbers.data(), sizeof numbers);
  }
#else
  // A block a 64-bit lane. The words of the state sit in the low halves; what the rounds leave in
  // the high halves is never looked at, as MulEven multiplies low halves only.
  const hn::ScalableTag<std::uint64_t> d;
  const hn::Repartition<std::uint32_t, decltype(d)> d32;
  const auto multiply = [&](auto a, std::uint64_t b) QUIRE_INLINE_LAMBDA {
    return hn::MulEven(hn::BitCast(d32, a), hn::BitCast(d32, hn::Set(d, b)));
  };
  const std::uint64_t step = hn::Lanes(d);
  for (; block < end; block += step, to += 4 * step) {
    const auto counter = hn::Add(hn::Set(d, key.first_block + block), hn::Iota(d, 0));
    auto c0 = counter;
    auto c1 = hn::ShiftRight<32>(counter);
    auto c2 = hn::Set(d, key.stream & 0xffffffffu);
    auto c3 = hn::Set(d, key.stream >> 32);
    auto k0 = static_cast<std::uint32_t>(key.seed);
    auto k1 = static_cast<std::uint32_t>(key.seed >> 32);
    for (int round = 0; round < 10; ++round) {
      const auto p0 = multiply(c0, 0xD2511F53u);
      const auto p1 = multiply(c2, 0xCD9E8D57u);
      c0 = hn::Xor(hn::Xor(hn::ShiftRight<32>(p1), c1), hn::Set(d, std::uint64_t{k0}));
      c1 = p1;
      c2 = hn::Xor(hn::Xor(hn::ShiftRight<32>(p0), c3), hn::Set(d, std::uint64_t{k1}));
      c3 = p0;
      k0 += 0x9E3779B9u;
      k1 += 0xBB67AE85u;
    }
    const auto low = hn::Set(d, std::uint64_t{0xffffffffu});
    const auto c01 = hn::Or(hn::And(c0, low), hn::ShiftLeft<32>(c1));
    const auto c23 = hn::Or(hn::And(c2, low), hn::ShiftLeft<32>(c3));
    hn::StoreInterleaved2(c01, c23, d, reinterpret_cast<std::uint64_t*>(to));
  }
#endif
  return room + skipped;
}

/// What dropout multiplies by: `scale` where the number is at least the threshold, else 0.
HWY_INLINE Vec keep_factor(const std::uint32_t* numbers, std::uint32_t threshold, Vec scale,
                           std::int64_t count = kLanes) {
  const hn::RebindToUnsigned<F32> d;
  const Vec bits = load(reinterpret_cast<const float*>(numbers), count);
  const auto drop = hn::Lt(hn::BitCast(d, bits), hn::Set(d, threshold));
  return hn::IfThenZeroElse(hn::RebindMask(F32(), drop), scale);
}

}  // namespace quire::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per target
