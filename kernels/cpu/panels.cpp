#include "kernels/cpu/panels.h"

#include <algorithm>
#include <utility>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/panels.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "kernels/cpu/device.h"
#include "kernels/cpu/gemm_bf16.h"
#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace quire::cpu {
namespace HWY_NAMESPACE {
namespace {

#if HWY_TARGET != HWY_SCALAR
using Words = hn::CappedTag<float, 8>;  // of 32 bits
constexpr int64_t kSide = hn::MaxLanes(Words());

/// k of [0, depth) that whole squares hold, of kSide lanes of a panel; a word holds one k or two.
template <class Bits>
int64_t TransposeLanes(const Bits* source, int64_t stride, int64_t depth, Bits* panel) {
  constexpr int64_t kPerWord = sizeof(float) / sizeof(Bits);
  const Words d;
  int64_t k = 0;
  for (; k + kSide * kPerWord <= depth; k += kSide * kPerWord) {
    Bits* to = panel + k * kPanelColumns;
    const auto run = [&](int64_t lane) QUIRE_INLINE_LAMBDA {
      return hn::LoadU(d, reinterpret_cast<const float*>(source + lane * stride + k));
    };
    transpose_square(d, run, [&](int64_t i, hn::Vec<Words> word) QUIRE_INLINE_LAMBDA {
      const hn::RebindToUnsigned<Words> d32;
      const auto bits = hn::BitCast(d32, word);
      if constexpr (kPerWord == 1) {
        hn::StoreU(bits, d32, to + i * kPanelColumns);
      } else {
        const hn::Rebind<std::uint16_t, decltype(d32)> d16;
        Bits* row = to + 2 * i * kPanelColumns;
        const auto low = hn::And(bits, hn::Set(d32, 0xFFFFu));
        hn::StoreU(hn::TruncateTo(d16, low), d16, row);
        hn::StoreU(hn::TruncateTo(d16, hn::ShiftRight<16>(bits)), d16, row + kPanelColumns);
      }
    });
  }
  return k;
}
#endif

/// Columns [first, first + count) of a weight, of at most a panel, whose runs of k are `stride` apart.
template <class Bits>
void PanelOfColumns(const Bits* source, int64_t stride, int64_t count, int64_t depth, Bits* panel) {
  int64_t lane = 0;
#if HWY_TARGET != HWY_SCALAR
  for (; lane + kSide <= count; lane += kSide) {
    const Bits* runs = source + lane * stride;
    int64_t k = TransposeLanes(runs, stride, depth, panel + lane);
    for (; k < depth; ++k) {
      for (int64_t i = 0; i < kSide; ++i) {
        panel[k * kPanelColumns + lane + i] = runs[i * stride + k];
      }
    }
  }
#endif
  for (; lane < kPanelColumns; ++lane) {
    for (int64_t k = 0; k < depth; ++k) {
      panel[k * kPanelColumns + lane] = lane < count ? source[lane * stride + k] : Bits{0};
    }
  }
}

/// The same of rows.
template <class Bits>
void PanelOfRows(const Bits* source, int64_t stride, int64_t count, int64_t depth, Bits* panel) {
  for (int64_t k = 0; k < depth; ++k, source += stride, panel += kPanelColumns) {
    std::copy_n(source, count, panel);
    std::fill_n(panel + count, kPanelColumns - count, Bits{0});
  }
}

template <class Bits>
void LayOutPanel(const Operand& from, int64_t first, int64_t count, int64_t depth, void* to) {
  const Bits* source = static_cast<const Bits*>(from.data) + first * from.column_stride;
  if (from.column_stride == 1) {
    PanelOfRows(source, from.row_stride, count, depth, static_cast<Bits*>(to));
  } else {
    PanelOfColumns(source, from.column_stride, count, depth, static_cast<Bits*>(to));
  }
}

void LayOut(const Operand& from, int64_t first, int64_t count, int64_t depth, void* panel) {
  if (size_of(from.dtype) == 4) {
    LayOutPanel<std::uint32_t>(from, first, count, depth, panel);
  } else {
    LayOutPanel<std::uint16_t>(from, first, count, depth, panel);
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace quire::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace quire::cpu {

HWY_EXPORT(LayOut);

namespace {

/// Memory is asked for so many bytes before it is read. Without it, weights out of memory, eight rows in
/// float are multiplied at 0.78 of the rate at which memory is read, one in float16 at 0.85; with 1 KiB
/// at 0.94 and 0.96, with 4 at 1.0 and 1.0 (Zen 5, two threads).
constexpr std::int64_t kAhead = 4096;

void prepare(const Product& p, void* words) {
  float* x = static_cast<float*>(words);
  for (std::int64_t i = 0; i < p.m; ++i) {
    const float* row = static_cast<const float*>(p.a.data) + i * p.a.row_stride;
    for (std::int64_t k = 0; k < p.k; ++k) {
      x[k * p.m + i] = p.a_scale * row[k * p.a.column_stride];
    }
  }
}

}  // namespace

FormatByPanels floats_by_panels() {
  return {float_format(), prepare};
}

namespace {

/// One part of the sum for the columns of a panel from `first` on, of which there are `columns`: all rows.
/// Until the last part `sums` has them, [m, kPanelColumns].
void add_part(const Product& p, const PackedFormat& format, const std::uint32_t* x,
              std::int64_t first, std::int64_t columns, std::int64_t k, float* sums) {
  const std::int64_t depth = std::min(format.block_depth, p.k - k);
  const bool last = k + depth == p.k;
  const auto size = static_cast<std::int64_t>(size_of(p.b.dtype));
  const std::int64_t at = first / kPanelColumns * p.b.panel_stride + k * kPanelColumns;
  Ahead ahead = {.first = static_cast<const std::byte*>(p.b.data) + at * size + kAhead,
                 .rows = 1,
                 .bytes = depth * kPanelColumns * size};
  for (std::int64_t j = 0; j < columns; j += format.panel_columns) {
    const PanelOfB b{p.b, first + j, k, nullptr, /*keep=*/false};
    const void* packed = format.packed_already(b);
    for (std::int64_t row = 0; row < p.m; row += format.panel_rows) {
      float* c = p.c + row * p.c_stride + first + j;
      TileOfC tile = {.c = sums + row * kPanelColumns + j,
                      .stride = kPanelColumns,
                      .rows = std::min(format.panel_rows, p.m - row),
                      .columns = std::min(format.panel_columns, columns - j),
                      .step_of_a = p.m};
      if (k > 0) {
        tile.sums = tile.c;
        tile.sums_stride = tile.stride;
      } else if (p.output == Product::Output::accumulate) {
        tile.sums = c;
        tile.sums_stride = p.c_stride;
      }
      if (last) {
        tile.c = c;
        tile.stride = p.c_stride;
        if (p.bias != nullptr) tile.bias = p.bias + first + j;
      }
      const std::uint32_t* a = x + k / format.word_depth * p.m + row;
      if (packed != nullptr) {
        format.multiply(a, packed, depth, tile, std::exchange(ahead, {}));
      } else {
        format.pack_and_multiply(a, b, depth, tile, std::exchange(ahead, {}));
      }
    }
  }
}

}  // namespace

void few_rows_by_panels(const Product& p, const FormatByPanels& by_panels, const Epilogue& epilogue,
                        ThreadPool& pool) {
  const PackedFormat& format = by_panels.packed;
  auto* x = pool.shared_scratch<std::uint32_t>(p.m * format.words(p.k));
  by_panels.prepare(p, x);
  // Small tasks, as all wait for the last: a thread's own follow each other in memory, too.
  constexpr std::int64_t kTaskBytes = 64 << 10;
  const std::int64_t panel_bytes = p.b.panel_stride * static_cast<std::int64_t>(size_of(p.b.dtype));
  const std::int64_t width = std::max<std::int64_t>(kTaskBytes / panel_bytes, 1) * kPanelColumns;
  pool.run_pieces(p.n, width, [&](std::int64_t first, std::int64_t count) {
    float* sums = pool.scratch<float>(p.m * kPanelColumns);
    for (std::int64_t j = first; j < first + count; j += kPanelColumns) {
      const std::int64_t columns = std::min(kPanelColumns, first + count - j);
      for (std::int64_t k = 0; k < p.k; k += format.block_depth) {
        add_part(p, format, x, j, columns, k, sums);
      }
      finish(p, epilogue, 0, p.m, j, columns);
    }
  });
}

std::optional<WeightLayout> CpuDevice::layout_to_decode(DType elements, Multiply how) const {
  if (how == Multiply::as_stored) return WeightLayout::panels;
  if (elements != DType::bf16 || !level_.why_not_in_bf16.empty() || level_.why_no_amx.empty()) {
    return std::nullopt;
  }
  return WeightLayout::pair_panels;
}

void CpuDevice::lay_out(const Weight& from, WeightLayout layout, std::int64_t first,
                        std::int64_t count, void* to) {
  const bool out_in = from.layout == WeightLayout::out_in;
  const std::int64_t stride = from.shape[1];
  const Operand b{from.view().bytes(), from.dtype(), out_in ? 1 : stride, out_in ? stride : 1};
  const Weight laid_out(to, from.format, layout, {from.in(), from.out()});
  const std::int64_t K = from.in(), N = from.out();
  const auto bytes = laid_out.panel_elements() * static_cast<std::int64_t>(size_of(b.dtype));
  pool_.run(count, [&](std::int64_t task) {
    const std::int64_t column = (first + task) * kPanelColumns;
    const std::int64_t columns = std::min(kPanelColumns, N - column);
    std::byte* panel = static_cast<std::byte*>(to) + (first + task) * bytes;
    if (layout == WeightLayout::pair_panels) {
      const Operand lanes{b.data, b.dtype, b.column_stride, b.row_stride};
      pack_pairs(lanes, column, columns, 0, K, 1.0f, kPanelColumns, panel);
    } else {
      HWY_DYNAMIC_DISPATCH(LayOut)(b, column, columns, K, panel);
    }
  });
}

}  // namespace quire::cpu
#endif
