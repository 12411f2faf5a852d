#include "kernels/cpu/many_rows.h"

#include <algorithm>
#include <limits>

namespace quire::cpu {
namespace {

constexpr std::int64_t round_up(std::int64_t value, std::int64_t step) {
  return (value + step - 1) / step * step;
}

// The part of the sum over k in [first, first + count). Parts in order leave the bits of the whole,
// as each goes on from where C stands.
Product part_of_sum(const Product& p, std::int64_t first, std::int64_t count) {
  Product part = p;
  part.k = count;
  part.a.data = static_cast<const std::byte*>(p.a.data) +
                first * p.a.column_stride * static_cast<std::int64_t>(size_of(p.a.dtype));
  part.b.data = static_cast<const std::byte*>(p.b.data) +
                first * p.b.row_stride * static_cast<std::int64_t>(size_of(p.b.dtype));
  if (first > 0) part.output = Product::Output::accumulate;
  if (first + count < p.k) part.bias = nullptr;
  return part;
}

// Rows [row, row + rows) of what is packed, which are those from first_row on of c, by columns
// [first_column, first_column + columns).
struct Tile {
  std::int64_t first_row, row, rows, first_column, columns;
};

/// Asks for `rows` rows of `bytes` bytes, `stride` bytes apart, from the second-level cache on.
void prefetch_rows(const void* first, std::int64_t stride, std::int64_t rows, std::int64_t bytes) {
  constexpr std::int64_t kLine = 64;
  for (std::int64_t i = 0; i < rows; ++i) {
    const auto* row = static_cast<const std::byte*>(first) + i * stride;
    for (std::int64_t at = 0; at < bytes; at += kLine) __builtin_prefetch(row + at, 0, 2);
    __builtin_prefetch(row + bytes - 1, 0, 2);  // it may begin within a line
  }
}

/// Elements [first_k, first_k + depth) × [first_column, first_column + columns) of b.
struct Slab {
  std::int64_t first_k = 0, depth = 0, first_column = 0, columns = 0;
};

/// What will be read, in equal parts. Its rows, or columns, lie far apart: the processor's own
/// prefetcher does not follow them.
class AheadInParts {
 public:
  AheadInParts(const Operand& b, const Slab& slab, std::int64_t parts) : parts_(parts) {
    const bool by_rows = b.column_stride == 1;
    const auto size = static_cast<std::int64_t>(size_of(b.dtype));
    std::int64_t runs = by_rows ? slab.depth : slab.columns;
    next_ = {.first = static_cast<const std::byte*>(b.data) +
                      (slab.first_k * b.row_stride + slab.first_column * b.column_stride) * size,
             .bytes = (by_rows ? slab.columns : slab.depth) * size,
             .stride = (by_rows ? b.row_stride : b.column_stride) * size};
    if (b.panel_stride != 0) {  // whole panels, one behind the other
      const std::int64_t first = slab.first_column / kPanelColumns;
      const std::int64_t end =
          (slab.first_column + slab.columns + kPanelColumns - 1) / kPanelColumns;
      next_.first = static_cast<const std::byte*>(b.data) +
                    (first * b.panel_stride + slab.first_k * b.row_stride) * size;
      next_.bytes = next_.stride;
      runs *= slab.columns > 0 ? end - first : 0;
      panel_runs_ = runs_left_ = slab.depth;
      to_next_panel_ = b.panel_stride * size - slab.depth * next_.stride;
    }
    least_ = runs / parts;
    more_ = runs % parts;
  }

  /// To be called once for each part. Without divisions, as it is called for every tile.
  Ahead next() {
    missing_ += more_;
    owed_ += least_ + (missing_ >= parts_ ? 1 : 0);
    if (missing_ >= parts_) missing_ -= parts_;
    next_.rows = std::min(owed_, runs_left_);  // what a panel lacks, the next part has more
    const Ahead part = next_;
    next_.first += part.rows * next_.stride;
    owed_ -= part.rows;
    runs_left_ -= part.rows;
    if (runs_left_ == 0) {
      runs_left_ = panel_runs_;
      next_.first += to_next_panel_;
    }
    return part;
  }

 private:
  static constexpr std::int64_t kNoPanels = std::numeric_limits<std::int64_t>::max();
  Ahead next_;
  std::int64_t parts_, least_ = 0, more_ = 0, missing_ = 0, owed_ = 0;
  std::int64_t panel_runs_ = kNoPanels, runs_left_ = kNoPanels, to_next_panel_ = 0;
};

// Rows [first, first + count) of a as rows `at` and on of `packed`, which has `packed_rows` of them:
// block by block along k, panel by panel, while the next block is on its way.
void pack_rows(const Product& p, const PackedFormat& format, std::int64_t first, std::int64_t count,
               std::uint32_t* packed, std::int64_t packed_rows, std::int64_t at) {
  const Operand turned{p.a.data, p.a.dtype, p.a.column_stride, p.a.row_stride};  // [k, m]
  const std::int64_t together = 4 * format.panel_rows;  // lanes, of two lines where they are floats
  for (std::int64_t k = 0; k < p.k; k += format.block_depth) {
    const std::int64_t depth = std::min(format.block_depth, p.k - k);
    const std::int64_t words = format.words(depth);
    std::uint32_t* block = packed + k / format.word_depth * packed_rows + at * words;
    const Slab next{.first_k = k + depth,
                    .depth = std::min(format.block_depth, p.k - k - depth),
                    .first_column = first,
                    .columns = count};
    AheadInParts parts(turned, next, (count + together - 1) / together);
    for (std::int64_t i = 0; i < count; i += together) {
      Ahead ahead = parts.next();
      ahead.ask(ahead.lines());
      format.pack_rows(p.a, first + i, std::min(together, count - i), k, depth, p.a_scale,
                       block + i * words);
    }
  }
}

/// Multiplies all rows of the tile by a slab of b, panel by panel, each packed while the first of
/// them are multiplied by it. What comes next is on its way meanwhile: C of the next rows, and the
/// next slab. With the last part of k a tile of C is whole, and completed while it is in cache.
void multiply_slab(const Product& p, const PackedFormat& format, const Epilogue& epilogue,
                   const Tile& t, const Slab& now, const Slab& next,
                   const std::uint32_t* packed_rows, std::uint32_t* panel, float* sums) {
  const std::int64_t words = format.words(now.depth);
  const bool first = now.first_k == 0, last = now.first_k + now.depth == p.k;
  const bool add = p.output == Product::Output::accumulate;
  const std::int64_t down = (t.rows + format.panel_rows - 1) / format.panel_rows;
  const std::int64_t across = (now.columns + format.panel_columns - 1) / format.panel_columns;
  AheadInParts ahead(p.b, next, down * across);
  for (std::int64_t j = 0; j < now.columns; j += format.panel_columns) {
    const std::int64_t column = now.first_column + j;
    const std::int64_t columns = std::min(format.panel_columns, now.columns - j);
    PanelOfB b{p.b, column, now.first_k, panel, t.rows > format.panel_rows};
    const void* packed_b = format.packed_already != nullptr ? format.packed_already(b) : nullptr;
    for (std::int64_t i = 0; i < t.rows; i += format.panel_rows) {
      const std::int64_t rows = std::min(format.panel_rows, t.rows - i);
      const std::int64_t below = std::min(format.panel_rows, t.rows - i - rows);
      float* c = p.c + (t.first_row + i) * p.c_stride + column;
      constexpr std::int64_t kFloat = sizeof(float);
      if (last || (first && add)) {
        prefetch_rows(c + rows * p.c_stride, p.c_stride * kFloat, below, columns * kFloat);
        if (last && epilogue.gradient_at != nullptr) {
          const float* x = epilogue.gradient_at + (t.first_row + i + rows) * p.c_stride + column;
          prefetch_rows(x, p.c_stride * kFloat, below, columns * kFloat);
        }
      }
      TileOfC tile = {.c = c, .stride = p.c_stride, .rows = rows, .columns = columns};
      if (!last) {
        tile.c = sums;
        tile.stride = format.panel_columns;
      } else if (p.bias != nullptr) {
        tile.bias = p.bias + column;
      }
      if (!first) {
        tile.sums = sums;
        tile.sums_stride = format.panel_columns;
      } else if (add) {
        tile.sums = c;
        tile.sums_stride = p.c_stride;
      }
      sums += format.panel_rows * format.panel_columns;
      const std::uint32_t* a = packed_rows + i * words;
      if (packed_b != nullptr) {
        format.multiply(a, packed_b, now.depth, tile, ahead.next());
      } else {
        format.pack_and_multiply(a, b, now.depth, tile, ahead.next());
        packed_b = panel;
        if (t.first_row == 0 && p.column_sums != nullptr) {
          const float* rows_of_b =
              static_cast<const float*>(p.b.data) + now.first_k * p.b.row_stride;
          add_column_sums(rows_of_b + column, now.depth, p.b.row_stride, columns,
                          p.column_sums + column);
        }
      }
      if (last) finish(p, epilogue, t.first_row + i, rows, column, columns);
    }
  }
}

constexpr std::int64_t kAtOnce = 3;  // panels side by side

/// Slab number `n` of a tile: some columns for all of k, then the next. Their sums stay in the
/// second-level cache meanwhile (144 columns of 512 rows are 295 KB, their A of one block of k 262 KB):
/// in C itself, with rows of 12 KiB, they would share 288 of a Zen 4's 2048 sets. One that is behind
/// the last is empty.
Slab slab_of(const Product& p, const PackedFormat& format, const Tile& t, std::int64_t n) {
  const std::int64_t blocks = (p.k + format.block_depth - 1) / format.block_depth;
  const std::int64_t panels = (t.columns + format.panel_columns - 1) / format.panel_columns;
  const std::int64_t slabs = (panels + kAtOnce - 1) / kAtOnce;
  const std::int64_t k = n % blocks * format.block_depth, slab = n / blocks;
  if (slab >= slabs) return {};
  const std::int64_t column = panels * slab / slabs * format.panel_columns;
  const std::int64_t end = panels * (slab + 1) / slabs * format.panel_columns;
  return {.first_k = k,
          .depth = std::min(format.block_depth, p.k - k),
          .first_column = t.first_column + column,
          .columns = std::min(end, t.columns) - column};
}

/// Leaves the first slab of the tile `after` on its way, too.
void multiply_slabs(const Product& p, const PackedFormat& format, const Epilogue& epilogue,
                    const Tile& t, const Tile& after, const std::uint32_t* packed,
                    std::int64_t packed_rows, std::uint32_t* panel, float* sums) {
  Slab now = slab_of(p, format, t, 0), next;
  for (std::int64_t n = 0; now.columns > 0; ++n, now = next) {
    next = slab_of(p, format, t, n + 1);
    const bool last = next.columns == 0;
    const std::uint32_t* rows_of_block =
        packed + now.first_k / format.word_depth * packed_rows + t.row * format.words(now.depth);
    multiply_slab(p, format, epilogue, t, now, last ? slab_of(p, format, after, 0) : next,
                  rows_of_block, panel, sums);
  }
}

/// Holds what a format's products want of the thread, for as long as it lives.
class Entered {
 public:
  explicit Entered(const PackedFormat& format) : leave_(format.leave) {
    if (format.enter != nullptr) format.enter();
  }
  Entered(const Entered&) = delete;
  Entered& operator=(const Entered&) = delete;
  ~Entered() {
    if (leave_ != nullptr) leave_();
  }

 private:
  void (*leave_)();
};

// Of a task. To pack a panel of B takes about 4 % of using it for 256 rows.
constexpr std::int64_t kTaskRows = 512;

// Rows [top, top + rows) of p: packs them, then runs tiles of rows × columns.
void row_group(const Product& p, const PackedFormat& format, const Epilogue& epilogue,
               std::int64_t top, std::int64_t rows, ThreadPool& pool) {
  const std::int64_t packed_rows = round_up(rows, format.panel_rows);
  const std::int64_t packed_words = packed_rows * format.words(p.k);
  const std::int64_t panel_words = format.words(format.block_depth) * format.panel_columns;
  const std::int64_t sum_words =
      round_up(std::min(rows, kTaskRows), format.panel_rows) * kAtOnce * format.panel_columns;
  const std::int64_t row_tasks = (rows + kTaskRows - 1) / kTaskRows;
  const std::int64_t wanted = std::max<std::int64_t>(1, 4 * pool.threads() / row_tasks);
  const std::int64_t width =
      std::min<std::int64_t>(round_up((p.n + wanted - 1) / wanted, format.panel_columns), 960);
  const std::int64_t tasks = row_tasks * ((p.n + width - 1) / width);
  const auto tile_of = [&](std::int64_t task) {
    const std::int64_t row = task % row_tasks * kTaskRows;
    const std::int64_t column = task / row_tasks * width;
    return Tile{.first_row = top + row,
                .row = row,
                .rows = std::min(kTaskRows, rows - row),
                .first_column = column,
                .columns = std::min(width, p.n - column)};
  };
  const auto multiply_tile = [&](std::int64_t task, const std::uint32_t* packed,
                                 std::uint32_t* panel, std::uint32_t* sums) {
    // The thread's next task, as a rule; its columns may be those of this one.
    const Tile tile = tile_of(task), after = tile_of(task + 1);
    multiply_slabs(p, format, epilogue, tile, after, packed, packed_rows, panel,
                   reinterpret_cast<float*>(sums));
  };
  // Each thread packs few rows for itself: what another one has packed would come out of its cache,
  // after all had waited for it (8 to 64 rows on two threads: 2 to 10 % of a product).
  constexpr std::int64_t kOwnRows = 64;
  if (rows <= kOwnRows) {
    const auto own = [&] {
      return pool.scratch_arrays<std::uint32_t>(packed_words, panel_words, sum_words);
    };
    pool.run(
        tasks, [&] { pack_rows(p, format, top, rows, own()[0], packed_rows, 0); },
        [&](std::int64_t task) {
          const auto [packed, panel, sums] = own();
          const Entered entered(format);
          multiply_tile(task, packed, panel, sums);
        });
    return;
  }
  auto* packed = pool.shared_scratch<std::uint32_t>(packed_words);
  constexpr std::int64_t kPackRows = 64;
  pool.run_pieces(rows, kPackRows, [&](std::int64_t at, std::int64_t count) {
    pack_rows(p, format, top + at, count, packed, packed_rows, at);
  });
  pool.run(tasks, [&](std::int64_t task) {
    const auto [panel, sums] = pool.scratch_arrays<std::uint32_t>(panel_words, sum_words);
    const Entered entered(format);
    multiply_tile(task, packed, panel, sums);
  });
}

}  // namespace

void many_rows(const Product& p, const PackedFormat& format, const Epilogue& epilogue,
               ThreadPool& pool) {
  // 8 MB of packed rows at a time stay in level-3 cache: as deep as 256 rows
  // allow, then as many rows.
  constexpr std::int64_t kPackedWords = 2 << 20;
  constexpr std::int64_t kDeepest = kPackedWords / 256;
  const std::int64_t depth_at_once =  // whole parts of the sum
      kDeepest * format.word_depth / format.block_depth * format.block_depth;
  const std::int64_t rows_at_once =
      round_up(std::max<std::int64_t>(
                   kPackedWords / std::clamp<std::int64_t>(format.words(p.k), 1, kDeepest), 256),
               kTaskRows);
  for (std::int64_t top = 0; top < p.m; top += rows_at_once) {
    const std::int64_t rows = std::min(rows_at_once, p.m - top);
    for (std::int64_t k = 0; k < p.k; k += depth_at_once) {
      const std::int64_t depth = std::min(depth_at_once, p.k - k);
      const bool last = k + depth == p.k;
      row_group(part_of_sum(p, k, depth), format, last ? epilogue : Epilogue{}, top, rows, pool);
    }
  }
}

}  // namespace quire::cpu
