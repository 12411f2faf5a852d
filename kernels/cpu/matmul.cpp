// The products of a linear layer, each as one Product over strided operands:
//
//   forward           out[M,N]      = x[M,K]    · w[K,N] + bias
//   backward, input   d_x[M,K]      = d_out[M,N]· wᵀ[N,K]
//   backward, weight  d_w[K,N]     += xᵀ[K,M]   · d_out[M,N]
//   adapter           out[M,N]     += scale·x[M,K] · w[K,N]
//
// 2·M·N·K flops over M·K + K·N + M·N elements: below about 8 rows the weight's bytes decide, above,
// the flops do. Few rows stream the weight where it lies, from end to end, at the speed of memory.
// Of a weight that lies as [N, K], 5 to 64 rows are laid into the lanes of vectors where that is faster
// (lanes.h), in bfloat16 only where the weight is stored so and no tiles of AMX multiply. Otherwise rows
// of A are packed, a group of rows at a time, and tiles of rows × columns are the tasks. Each reads B
// where it lies, in slabs that are on their way to level-2 cache while the one before is multiplied; a
// panel is packed while the first rows are multiplied by it, for the others. Until a sum over k is whole
// it stays in scratch memory, tile after tile: C is written once.
//
// All sum over k in the same parts (kSumDepth in gemm.h, kBf16SumDepth in gemm_bf16.h, kAmxSumDepth
// in gemm_amx.h), so an element's bits depend neither on M nor on how the work is split over threads.
// A weight in blocks of integers goes a way of its own, matmul_blocks.cpp, for few rows and many.
#include <algorithm>

#include "kernels/cpu/device.h"
#include "kernels/cpu/epilogue.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/gemm_blocks.h"
#include "kernels/cpu/lanes.h"
#include "kernels/cpu/stream.h"

namespace quire::cpu {
namespace {

constexpr std::int64_t round_up(std::int64_t value, std::int64_t step) {
  return (value + step - 1) / step * step;
}

void few_rows(const Product& p, const StreamedFormat& format, const Epilogue& epilogue,
              ThreadPool& pool) {
  const bool by_rows = p.b.column_stride == 1;
  const std::int64_t parts =
      std::max<std::int64_t>((p.k + format.sum_depth - 1) / format.sum_depth, 1);
  const std::int64_t words = round_up(p.m * format.words(p.k), 16);  // sums begin on a line
  const std::int64_t part_sums = p.m * round_up(p.n, format.sum_columns);
  float* x = pool.shared_scratch<float>(words + (by_rows ? parts * part_sums : 0));
  float* sums = x + words;
  format.prepare(p, x);
  // Four tasks a thread even out the threads' speeds.
  const std::int64_t tasks = 4 * pool.threads();
  const auto width = [&](std::int64_t wanted, std::int64_t least) {
    return std::max(round_up((p.n + wanted - 1) / wanted, 64), least);
  };
  if (!by_rows) {
    const std::int64_t part = width(tasks, 64);
    pool.run((p.n + part - 1) / part, [&](std::int64_t task) {
      const std::int64_t first = task * part;
      const std::int64_t count = std::min(part, p.n - first);
      format.columns(p, x, first, count);
      finish(p, epilogue, 0, p.m, first, count);
    });
    return;
  }
  // Whole rows of b, unless there are too many threads for that.
  const std::int64_t across = std::max<std::int64_t>(1, 2 * pool.threads() / parts);
  const std::int64_t columns = across == 1 ? p.n : width(across, 256);
  const std::int64_t ranges = (p.n + columns - 1) / columns;
  pool.run(parts * ranges, [&](std::int64_t task) {
    const std::int64_t part = task / ranges;
    const std::int64_t k = part * format.sum_depth;
    const std::int64_t first = task % ranges * columns;
    format.rows(p, x, k, std::min(format.sum_depth, p.k - k), first, std::min(columns, p.n - first),
                sums + part * part_sums);
  });
  const std::int64_t share = width(pool.threads(), 128);
  pool.run((p.n + share - 1) / share, [&](std::int64_t task) {
    const std::int64_t first = task * share;
    const std::int64_t count = std::min(share, p.n - first);
    format.add_parts(p, sums, parts, first, count);
    finish(p, epilogue, 0, p.m, first, count);
  });
}

void rows_in_lanes(const Product& p, const LanesFormat& format, const Epilogue& epilogue,
                   ThreadPool& pool) {
  constexpr std::int64_t kColumns = 48;  // a multiple of what a format multiplies at once
  const std::int64_t wanted = 4 * pool.threads();
  const std::int64_t width = round_up((p.n + wanted - 1) / wanted, kColumns);
  const auto turned = [&] { return pool.scratch<std::uint32_t>(format.words(p)); };
  pool.run((p.n + width - 1) / width, [&] { format.turn(p, turned()); },
           [&](std::int64_t task) {
             const std::int64_t first = task * width, count = std::min(width, p.n - first);
             format.columns(p, turned(), first, count);
             finish(p, epilogue, 0, p.m, first, count);
           });
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
    const std::int64_t runs = by_rows ? slab.depth : slab.columns;
    next_ = {.first = static_cast<const std::byte*>(b.data) +
                      (slab.first_k * b.row_stride + slab.first_column * b.column_stride) * size,
             .bytes = (by_rows ? slab.columns : slab.depth) * size,
             .stride = (by_rows ? b.row_stride : b.column_stride) * size};
    least_ = runs / parts;
    more_ = runs % parts;
  }

  /// To be called once for each part. Without divisions, as it is called for every tile.
  Ahead next() {
    missing_ += more_;
    next_.rows = least_ + (missing_ >= parts_ ? 1 : 0);
    if (missing_ >= parts_) missing_ -= parts_;
    const Ahead part = next_;
    next_.first += next_.rows * next_.stride;
    return part;
  }

 private:
  Ahead next_;
  std::int64_t parts_, least_ = 0, more_ = 0, missing_ = 0;
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
      if (i > 0) {
        format.multiply(a, panel, now.depth, tile, ahead.next());
      } else {
        format.pack_and_multiply(a, {p.b, column, now.first_k, panel, below > 0}, now.depth, tile,
                                 ahead.next());
        if (t.first_row == 0 && p.column_sums != nullptr) {
          const float* b = static_cast<const float*>(p.b.data) + now.first_k * p.b.row_stride;
          add_column_sums(b + column, now.depth, p.b.row_stride, columns, p.column_sums + column);
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

/// Whether b is read from end to end, with sums in cache, or in slabs, with sums in registers. Where
/// its rows are contiguous, eight rows load and store too many sums (Zen 4, two threads, the weights of
/// GPT-2 124M's blocks: in float 13.9 ms against 13.1 in slabs, in float16 8.9 against 8.3, in bfloat16
/// 7.2 against 6.5; seven in float 11.5 against 12.6). Where its columns are, sums are in registers
/// either way, and slabs are transposed besides.
bool streamed(const Product& p) {
  return p.m <= (p.b.column_stride == 1 ? kFewRows - 1 : kFewRows);
}

void multiply(const Product& p, Multiply how, const Epilogue& epilogue, const Bf16Formats& bf16,
              ThreadPool& pool) {
  if (p.m == 0 || p.n == 0) return;
  const auto in_lanes = [&](const LanesFormat& format) {
    return p.b.column_stride != 1 && format.suits != nullptr && format.suits(p);
  };
  if (how == Multiply::in_bf16) {
    // What is stored in float is rounded anew for each product: packed, it is read once.
    const bool as_it_lies = p.b.dtype == DType::bf16 && p.a.column_stride == 1;
    if (as_it_lies && in_lanes(bf16.rows_in_lanes)) {
      return rows_in_lanes(p, bf16.rows_in_lanes, epilogue, pool);
    }
    return as_it_lies && streamed(p) ? few_rows(p, bf16.few_rows, epilogue, pool)
                                     : many_rows(p, bf16.many_rows, epilogue, pool);
  }
  const LanesFormat lanes = float_lanes();
  if (in_lanes(lanes)) return rows_in_lanes(p, lanes, epilogue, pool);
  streamed(p) ? few_rows(p, float_streams(), epilogue, pool)
              : many_rows(p, float_format(), epilogue, pool);
}

Operand operand(const ConstView& view, bool transposed) {
  const std::int64_t stride = view.shape()[view.shape().rank() - 1];
  return transposed ? Operand{view.bytes(), view.dtype(), 1, stride}
                    : Operand{view.bytes(), view.dtype(), stride, 1};
}

/// Read as [K, N].
Operand operand(const Weight& weight) {
  return operand(weight.view(), weight.layout == WeightLayout::out_in);
}

std::int64_t rows_of(const ConstView& view) {
  return view.count() / std::max<std::int64_t>(1, view.shape()[view.shape().rank() - 1]);
}

}  // namespace

void CpuDevice::do_matmul_forward(const MatmulForward& args) {
  const View pre = args.pre_activation ? args.pre_activation : args.out;
  Product product{.m = rows_of(args.x),
                  .n = args.weight.out(),
                  .k = args.weight.in(),
                  .a = operand(args.x, /*transposed=*/false),
                  .c = pre.data<float>(),
                  .c_stride = args.weight.out(),
                  .bias = args.bias ? args.bias.data<float>() : nullptr};
  const Epilogue epilogue{.activation = args.activation, .out = args.out.data<float>()};
  if (in_blocks(args.weight.format)) {
    return multiply_with_blocks(product, args.weight, epilogue, pool_);
  }
  product.b = operand(args.weight);
  multiply(product, args.multiply, epilogue, level_.bf16, pool_);
}

void CpuDevice::do_matmul_backward_input(const MatmulBackwardInput& args) {
  const Product product{.m = rows_of(args.d_out),
                        .n = args.weight.in(),
                        .k = args.weight.out(),
                        .a = operand(args.d_out, /*transposed=*/false),
                        .b = operand(args.weight.transposed()),
                        .c = args.d_x.data<float>(),
                        .c_stride = args.weight.in()};
  Epilogue epilogue;
  if (args.activation != Activation::none) {
    epilogue = {.activation = args.activation,
                .out = args.d_x.data<float>(),
                .gradient_at = args.pre_activation.data<float>()};
  }
  multiply(product, args.multiply, epilogue, level_.bf16, pool_);
}

void CpuDevice::do_matmul_backward_weight(const MatmulBackwardWeight& args) {
  // d_w[K,N] += xᵀ·d_out, or d_w[N,K] += d_outᵀ·x.
  const auto& [d_weight, layout] = args.d_weight.weight;
  const bool in_out = layout == WeightLayout::in_out;
  Product product{.m = d_weight.shape()[0],
                  .n = d_weight.shape()[1],
                  .k = rows_of(args.x),
                  .a = operand(in_out ? args.x : args.d_out, /*transposed=*/true),
                  .b = operand(in_out ? args.d_out : args.x, /*transposed=*/false),
                  .c = d_weight.data<float>(),
                  .c_stride = d_weight.shape()[1],
                  .output = Product::Output::accumulate};
  // Many rows bring d_out to the cache, where its columns are summed.
  const bool with_product = in_out && args.d_bias.view && !streamed(product);
  if (with_product) product.column_sums = args.d_bias.view.data<float>();
  multiply(product, args.multiply, {}, level_.bf16, pool_);
  if (!args.d_bias.view || with_product) return;
  const std::int64_t n = args.d_bias.view.count();
  const float* d_out = args.d_out.data<float>();
  float* d_bias = args.d_bias.view.data<float>();
  constexpr std::int64_t kColumns = 256;
  pool_.run((n + kColumns - 1) / kColumns, [&](std::int64_t task) {
    const std::int64_t first = task * kColumns;
    add_column_sums(d_out + first, product.k, n, std::min(kColumns, n - first), d_bias + first);
  });
}

void CpuDevice::do_matmul_add(const MatmulAdd& args) {
  const Product product{.m = rows_of(args.x),
                        .n = args.weight.out(),
                        .k = args.weight.in(),
                        .a = operand(args.x, /*transposed=*/false),
                        .b = operand(args.weight),
                        .c = args.out.view.data<float>(),
                        .c_stride = args.weight.out(),
                        .a_scale = args.scale,
                        .output = Product::Output::accumulate};
  multiply(product, args.multiply, {}, level_.bf16, pool_);
}

}  // namespace quire::cpu
