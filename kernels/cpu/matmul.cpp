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
// (lanes.h), in bfloat16 only where the weight is stored so and no tiles of AMX multiply. For more,
// operands are packed (many_rows.h). A weight that was laid out in panels is read fastest by few rows
// and many (panels.h).
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
#include "kernels/cpu/many_rows.h"
#include "kernels/cpu/panels.h"
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
  if (p.b.panel_stride != 0) {
    const FormatByPanels format = how == Multiply::in_bf16
                                      ? FormatByPanels{bf16.many_rows, bf16.few_rows.prepare}
                                      : floats_by_panels();
    return p.m <= kFewRows ? few_rows_by_panels(p, format, epilogue, pool)
                           : many_rows(p, format.packed, epilogue, pool);
  }
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
  if (in_panels(weight.layout)) {
    return {weight.data, weight.dtype(), kPanelColumns, 1, weight.panel_elements()};
  }
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
