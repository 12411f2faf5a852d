// Dropout: the mask is computed where it is used and never stored.
#include <algorithm>

#include "kernels/cpu/device.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/dropout.cpp"
#include "hwy/foreach_target.h"
#include "kernels/cpu/random-inl.h"

HWY_BEFORE_NAMESPACE();
namespace quire::cpu::HWY_NAMESPACE {
namespace {

void dropout(const Dropout& p, ThreadPool& pool) {
  constexpr std::int64_t kChunk = 16384;
  constexpr std::int64_t kPiece = 512;  // numbers drawn at a time: 2 KiB stay in the nearest cache
  const float* x = p.x.data<float>();
  float* out = p.out.data<float>();
  const std::uint32_t threshold = dropout_threshold(p.p);
  const Vec scale = set(1.0f / (1.0f - p.p));
  pool.run_pieces(p.x.count(), kChunk, [&](std::int64_t begin, std::int64_t size) HWY_ATTR {
    HWY_ALIGN std::uint32_t room[kPiece + kRandomSlack];
    const std::int64_t end = begin + size;
    for (std::int64_t first = begin; first < end; first += kPiece) {
      const std::int64_t length = std::min(kPiece, end - first);
      const std::uint32_t* numbers =
          random_row(p.key, static_cast<std::uint64_t>(first), length, room);
      for_vectors(length, [&](std::int64_t i, std::int64_t count) QUIRE_INLINE_LAMBDA {
        const Vec factor = keep_factor(numbers + i, threshold, scale, count);
        store(hn::Mul(load(x + first + i, count), factor), out + first + i, count);
      });
    }
  });
}

}  // namespace
}  // namespace quire::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace quire::cpu {

QUIRE_CPU_OP(dropout, Dropout)

}  // namespace quire::cpu
#endif  // HWY_ONCE
