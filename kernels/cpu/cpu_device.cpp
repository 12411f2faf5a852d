// Opening the device: which vector instructions to use, how many threads. And its memory.
#include "kernels/cpu/cpu_device.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "hwy/highway.h"
#include "kernels/cpu/device.h"
#include "kernels/cpu/gemm_amx.h"
#include "kernels/cpu/gemm_bf16.h"

namespace quire::cpu {
namespace {

/// What QUIRE_SIMD calls a target, and what people do. From the best to the plainest.
struct NamedLevel {
  std::int64_t target;
  const char* name;
  const char* title;
};

constexpr std::string_view kAmx = "amx";  // the best: all targets, and tiles besides

constexpr NamedLevel kLevels[] = {
    {HWY_AVX3, "avx512", "AVX-512"},
    {HWY_AVX2, "avx2", "AVX2"},
    {HWY_SSE4, "sse4", "SSE4"},
    {HWY_NEON, "neon", "NEON"},
    {HWY_EMU128 | HWY_SCALAR, "scalar", "no vectors"},
};

/// Targets are bits, the best is the lowest.
const NamedLevel& best_level(std::int64_t supported) {
  const std::int64_t targets = supported & HWY_TARGETS;
  const std::int64_t best = targets & -targets;
  for (const NamedLevel& level : kLevels) {
    if ((level.target & best) != 0) return level;
  }
  return std::end(kLevels)[-1];
}

std::string levels_here() {
  std::string names;
  if (cpu::why_no_amx().empty()) names = kAmx;
  for (const NamedLevel& level : kLevels) {
    if ((level.target & hwy::SupportedTargets() & HWY_TARGETS) == 0) continue;
    names += (names.empty() ? "" : ", ") + std::string(level.name);
  }
  return names;
}

}  // namespace

/// Lets Highway choose among the targets up to the level that QUIRE_SIMD names. This holds for the
/// whole process, as Highway's choice does.
CpuDevice::Level CpuDevice::choose_level() {
  const char* wanted = std::getenv("QUIRE_SIMD");
  if (wanted == nullptr) wanted = "";
  const bool unset = *wanted == '\0';
  // A level below does not even try them. Nobody has measured them yet, and few rows in their order take
  // up to half as long again on a Zen 4: so they are not the default.
  std::string why_not_tiles = unset || wanted == kAmx
                                  ? cpu::why_no_amx()
                                  : std::string("QUIRE_SIMD=") + wanted + " leaves it out";
  if (unset && why_not_tiles.empty()) {
    why_not_tiles = "QUIRE_SIMD=amx asks for it, until its speed is known";
  }
  std::int64_t disabled = 0;
  if (!unset && !why_not_tiles.empty()) {
    const auto level =
        std::find_if(std::begin(kLevels), std::end(kLevels),
                     [&](const NamedLevel& l) { return std::string_view(l.name) == wanted; });
    if (level == std::end(kLevels) ||
        (level->target & hwy::SupportedTargets() & HWY_TARGETS) == 0) {
      throw Error(Fault::usage,
                  std::string("QUIRE_SIMD names no level of this processor: '") + wanted + "'",
                  {"levels here: " + levels_here()}, "QUIRE_SIMD unset, for the best there is");
    }
    for (const NamedLevel* better = std::begin(kLevels); better < level; ++better) {
      disabled |= better->target;
    }
  }
  const std::int64_t supported = hwy::SupportedTargets() & ~disabled;
  hwy::GetChosenTarget().Update(supported);
  Level chosen = {.title = best_level(supported).title,
                  .why_not_in_bf16 = why_no_bf16(),
                  .why_no_amx = why_not_tiles};
  if (chosen.why_not_in_bf16.empty() && (disabled & HWY_AVX3) != 0) {
    chosen.why_not_in_bf16 = std::string("QUIRE_SIMD=") + wanted + " leaves AVX-512 BF16 out";
  }
  if (chosen.why_no_amx.empty()) {
    chosen.title += " with AMX";
    chosen.bf16 = {amx_format(), amx_streams()};
  } else if (chosen.why_not_in_bf16.empty()) {
    chosen.bf16 = {bf16_format(), bf16_streams(), bf16_lanes()};
  }
  return chosen;
}

CpuDevice::CpuDevice(int threads) : pool_(threads), level_(choose_level()) {}

CpuDevice::CpuDevice(int threads, const Bf16Formats& bf16) : CpuDevice(threads) {
  level_.bf16 = bf16;
}

std::string CpuDevice::description() const {
  const int threads = pool_.threads();
  return "CPU, " + level_.title + ", " + std::to_string(threads) +
         (threads == 1 ? " thread" : " threads");
}

// Large blocks are split: one thread does not fill both memory channels.
constexpr std::int64_t kCopyChunk = 1 << 20;

void CpuDevice::copy(void* to, const void* from, std::size_t bytes) {
  if (bytes == 0 || to == from) return;
  auto* target = static_cast<std::byte*>(to);
  const auto* source = static_cast<const std::byte*>(from);
  const auto size = static_cast<std::int64_t>(bytes);
  const bool overlap = target < source + bytes && source < target + bytes;
  if (overlap || size <= kCopyChunk) {
    std::memmove(to, from, bytes);
    return;
  }
  pool_.run_pieces(size, kCopyChunk, [&](std::int64_t first, std::int64_t count) {
    std::memcpy(target + first, source + first, static_cast<std::size_t>(count));
  });
}

void CpuDevice::fill_zero(void* data, std::size_t bytes) {
  auto* target = static_cast<std::byte*>(data);
  const auto size = static_cast<std::int64_t>(bytes);
  pool_.run_pieces(size, kCopyChunk, [&](std::int64_t first, std::int64_t count) {
    std::memset(target + first, 0, static_cast<std::size_t>(count));
  });
}

}  // namespace quire::cpu

namespace quire {

std::unique_ptr<Device> open_cpu_device(int threads) {
  return std::make_unique<cpu::CpuDevice>(threads);
}

}  // namespace quire
