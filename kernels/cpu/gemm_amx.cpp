#include "kernels/cpu/gemm_amx.h"

#include "kernels/cpu/tile_arithmetic.h"

#if defined(__x86_64__) && defined(__linux__) && !defined(HWY_COMPILE_ONLY_SCALAR)

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <bit>
#include <vector>

#include "kernels/cpu/amx-inl.h"

namespace quire::cpu {
namespace {

/// The processor's tiles. Its instructions themselves: GCC 12's intrinsics take no number of a tile
/// but a literal, and do not say that a load reads memory, so what was packed before could be stored
/// behind it.
struct ProcessorTiles {
  static void configure() {
    static constexpr amx::TileConfiguration kConfiguration;
    load_configuration(kConfiguration);
  }
  QUIRE_AMX static void load_configuration(const amx::TileConfiguration& configuration) {
    asm volatile("ldtilecfg %0" : : "m"(configuration));
  }
  QUIRE_AMX static void release() { asm volatile("tilerelease" : : : "memory"); }
  template <int kTo>
  QUIRE_AMX static void zero() {
    asm volatile("tilezero %%tmm%c0" : : "i"(kTo));
  }
  template <int kTo>
  QUIRE_AMX static void load(const void* from, std::int64_t stride) {
    asm volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(from), "r"(stride), "i"(kTo) : "memory");
  }
  template <int kFrom>
  QUIRE_AMX static void store(float* to, std::int64_t stride) {
    asm volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(to), "r"(stride), "i"(kFrom) : "memory");
  }
  template <int kSum, int kA, int kB>
  QUIRE_AMX static void add_product() {
    asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kSum), "i"(kA), "i"(kB));
  }
};

/// Bits of EDX in leaf 7 of CPUID, and of XCR0 (Intel's manual, volume 1, chapter 18).
constexpr unsigned kAmxBf16 = 1u << 22, kAmxTile = 1u << 24;
constexpr std::uint64_t kTileStates = 3u << 17;

std::uint64_t enabled_states() {
  std::uint32_t low = 0, high = 0;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return std::uint64_t{high} << 32 | low;
}

/// Linux gives tiles to a process that asks: its threads' signal frames grow by 8 KB with them.
bool permitted() {
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM
  return ::syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

std::string find_out_why_no_amx() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0 || (d & kAmxBf16) == 0 || (d & kAmxTile) == 0) {
    return "this processor has none (Intel's Xeons have it from Sapphire Rapids on)";
  }
  if (std::string reason = why_no_bf16(); !reason.empty()) return reason;
  if ((enabled_states() & kTileStates) != kTileStates) {
    return "this system does not keep its registers (Linux does from 5.16 on)";
  }
  if (!permitted()) return "Linux does not permit it to this process";
  if (!agrees_with_loops(amx_format())) {
    return "a small product by this processor's tiles has other bits than Intel's manual says";
  }
  return "";
}

/// Operands of a product, [kM, kK] and [kK, kN], with edges in every direction.
constexpr std::int64_t kM = 37, kN = 41, kK = 2 * amx::kStepDepth + 7;

/// Numbers of both signs over twelve powers of two, so that every order of summation rounds
/// differently, with a subnormal one here and there. Every fifth lane of a and of b is small, so that
/// products of both are about the smallest number; a lane is number i·lanes/count or i % lanes.
std::vector<std::uint16_t> numbers(std::int64_t count, std::int64_t lanes, bool run,
                                   std::uint32_t seed) {
  std::vector<std::uint16_t> bits;
  for (std::int64_t i = 0; i < count; ++i) {
    seed = seed * 1664525u + 1013904223u;
    const std::int64_t lane = run ? i * lanes / count : i % lanes;
    const std::uint32_t least = lane % 5 == 4 ? 58 : 121;
    const std::uint32_t exponent = (seed >> 12) % 61 == 0 ? 0 : least + (seed >> 20) % 12;
    bits.push_back(
        static_cast<std::uint16_t>((seed >> 31) << 15 | exponent << 7 | (seed >> 8 & 0x7f)));
  }
  return bits;
}

}  // namespace

std::string why_no_amx() {
  static const std::string reason = find_out_why_no_amx();
  return reason;
}

PackedFormat amx_format() {
  return amx::format_by<ProcessorTiles>();
}

bool agrees_with_loops(const PackedFormat& format) {
  const std::vector<std::uint16_t> a = numbers(kM * kK, kM, true, 1),
                                   b = numbers(kK * kN, kN, false, 2);
  std::vector<float> wide_a(a.size());
  for (std::size_t i = 0; i < a.size(); ++i) wide_a[i] = tile::widened(a[i]);
  std::vector<std::uint32_t> rows(static_cast<std::size_t>((kM + amx::kPanel - 1) / amx::kPanel *
                                                           amx::kPanel * format.words(kK)));
  std::vector<std::uint32_t> panel(static_cast<std::size_t>(amx::kPanel * format.words(kK)));
  format.pack_rows({wide_a.data(), DType::f32, kK, 1}, 0, kM, 0, kK, 1.0f, rows.data());
  const Operand operand{b.data(), DType::bf16, kN, 1};
  std::vector<float> c(static_cast<std::size_t>(kM * kN));
  format.enter();
  for (std::int64_t j = 0; j < kN; j += amx::kPanel) {
    for (std::int64_t i = 0; i < kM; i += amx::kPanel) {
      const TileOfC tile = {.c = c.data() + i * kN + j,
                            .stride = kN,
                            .rows = std::min(amx::kPanel, kM - i),
                            .columns = std::min(amx::kPanel, kN - j)};
      format.pack_and_multiply(rows.data() + i * format.words(kK),
                               {operand, j, 0, panel.data(), true}, kK, tile, {});
    }
  }
  format.leave();
  // The loops: operands filled up with zeros to whole steps.
  const std::int64_t depth = amx::steps_of(kK) * amx::kStepDepth;
  std::vector<std::uint16_t> row(static_cast<std::size_t>(depth)),
      column(static_cast<std::size_t>(depth));
  for (std::int64_t i = 0; i < kM; ++i) {
    std::copy_n(a.begin() + i * kK, kK, row.begin());
    for (std::int64_t j = 0; j < kN; ++j) {
      for (std::int64_t k = 0; k < kK; ++k) {
        column[static_cast<std::size_t>(k)] = b[static_cast<std::size_t>(k * kN + j)];
      }
      float want = 0.0f;
      for (std::int64_t k = 0; k < depth; k += amx::kStepDepth) {
        want = tile::with_step(want, row.data() + k, column.data() + k, 1);
      }
      const float got = c[static_cast<std::size_t>(i * kN + j)];
      if (std::bit_cast<std::uint32_t>(got) != std::bit_cast<std::uint32_t>(want)) return false;
    }
  }
  return true;
}

// Four chains: latency 52, a product every 16 cycles on a Sapphire Rapids (Intel's manual of
// optimisation).
QUIRE_AMX double amx_rounds(std::int64_t rounds, float* result) {
  alignas(64) std::uint32_t words[amx::kTile * amx::kTile];
  std::fill(std::begin(words), std::end(words), 0x3c003c00u);  // twice 2^-7
  alignas(64) float sums[amx::kTile * amx::kTile];
  ProcessorTiles::configure();
  ProcessorTiles::zero<0>();
  ProcessorTiles::zero<1>();
  ProcessorTiles::zero<2>();
  ProcessorTiles::zero<3>();
  ProcessorTiles::load<4>(words, amx::kTile * amx::kBytes);
  ProcessorTiles::load<5>(words, amx::kTile * amx::kBytes);
  ProcessorTiles::load<6>(words, amx::kTile * amx::kBytes);
  ProcessorTiles::load<7>(words, amx::kTile * amx::kBytes);
  for (std::int64_t round = 0; round < rounds; ++round) {
    ProcessorTiles::add_product<0, 4, 6>();
    ProcessorTiles::add_product<1, 4, 7>();
    ProcessorTiles::add_product<2, 5, 6>();
    ProcessorTiles::add_product<3, 5, 7>();
  }
  ProcessorTiles::store<0>(sums, amx::kTile * amx::kBytes);
  ProcessorTiles::release();
  *result = sums[0];
  constexpr double kFlops = 4 * 2.0 * amx::kTile * amx::kTile * amx::kStepDepth;  // of a round
  return kFlops * static_cast<double>(rounds);
}

}  // namespace quire::cpu

#else

#include "base/error.h"

namespace quire::cpu {

std::string why_no_amx() {
  return "this build has it for no processor (it needs x86-64, Linux and vectors)";
}

PackedFormat amx_format() {
  throw Error(Fault::internal, "a product by AMX where the processor has none");
}

bool agrees_with_loops(const PackedFormat&) {
  throw Error(Fault::internal, "a trial of AMX where the processor has none");
}

double amx_rounds(std::int64_t, float*) {
  throw Error(Fault::internal, "a measurement of AMX where the processor has none");
}

}  // namespace quire::cpu

#endif
