// The tasks of a product with a weight in blocks of integers, for few rows and many; what one of them
// computes is in gemm_blocks.cpp.
#include <algorithm>

#include "kernels/cpu/epilogue.h"
#include "kernels/cpu/gemm_blocks.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/stream.h"

namespace quire::cpu {

// Each task has a stretch of panels, which it reads from end to end, for rows that fit into level-2
// cache beside a panel.
void multiply_with_blocks(const Product& p, const Weight& weight, const Epilogue& epilogue,
                          ThreadPool& pool) {
  constexpr std::int64_t kPanel = 16;            // columns
  constexpr std::int64_t kCodes = 1 << 18;       // of the rows of a task: 512 KB
  constexpr std::int64_t kAtOnce = 16 * kCodes;  // 8 MB of codes stay in level-3 cache
  const auto rows_of = [&](std::int64_t codes) {
    return std::max<std::int64_t>(codes / p.k / kGroupRows, 1) * kGroupRows;
  };
  const float* x = static_cast<const float*>(p.a.data);
  const std::int64_t panels = (p.n + kPanel - 1) / kPanel;
  for (std::int64_t top = 0; top < p.m; top += rows_of(kAtOnce)) {
    const std::int64_t rows = std::min(rows_of(kAtOnce), p.m - top);
    const std::size_t bytes = RoundedRows::bytes(rows, p.k / 32);
    // Each thread rounds few rows for itself: another one would join in no sooner.
    const bool own = rows <= kFewRows;
    const auto rounded_rows = [&] {
      return RoundedRows(own ? pool.scratch(bytes) : pool.shared_scratch(bytes), weight.format,
                         rows, p.k / 32);
    };
    const auto round_rows = [&](const RoundedRows& to, std::int64_t first, std::int64_t count) {
      for (std::int64_t i = first; i < first + count; ++i) {
        round_row(x + (top + i) * p.k, to, i);
      }
    };
    const std::int64_t row_tasks = (rows + rows_of(kCodes) - 1) / rows_of(kCodes);
    // To have another thread join in costs about 4 µs, and 2^18 products of two numbers take 5.
    const bool alone = rows * p.n * p.k <= 1 << 18;
    const std::int64_t wanted =
        alone ? 1 : std::max<std::int64_t>(1, 4 * pool.threads() / row_tasks);
    const std::int64_t part = (panels + wanted - 1) / wanted;
    const std::int64_t tasks = row_tasks * ((panels + part - 1) / part);
    const auto multiply = [&](const RoundedRows& rounded, std::int64_t task) {
      const std::int64_t first_row = task % row_tasks * rows_of(kCodes);
      const std::int64_t first_panel = task / row_tasks * part;
      const BlockTile tile{.weight = &weight,
                           .x = &rounded,
                           .first_row = first_row,
                           .rows = std::min(rows_of(kCodes), rows - first_row),
                           .first_panel = first_panel,
                           .panels = std::min(part, panels - first_panel),
                           .bias = p.bias,
                           .c = p.c + top * p.n};
      multiply_blocks(tile);
      const std::int64_t column = first_panel * kPanel;
      finish(p, epilogue, top + first_row, tile.rows, column,
             std::min(tile.panels * kPanel, p.n - column));
    };
    if (own) {
      pool.run(
          tasks, [&] { round_rows(rounded_rows(), 0, rows); },
          [&](std::int64_t task) { multiply(rounded_rows(), task); });
      continue;
    }
    const RoundedRows rounded = rounded_rows();
    pool.run_pieces(rows, kFewRows, [&](std::int64_t first, std::int64_t count) {
      round_rows(rounded, first, count);
    });
    pool.run(tasks, [&](std::int64_t task) { multiply(rounded, task); });
  }
}

}  // namespace quire::cpu
