// Products with weights in blocks of integers, and the embedding that reads the same table.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/quantised.h"
#include "tests/support/activation_bounds.h"
#include "tests/support/catch.h"
#include "tests/support/products.h"

using namespace quire;
using namespace quire::test;
using quire::test::error_of;

namespace {

constexpr WeightFormat kBlocks[] = {WeightFormat::q8_0, WeightFormat::q4_0};
constexpr std::int64_t kElements = 32;

/// [N, K] in blocks, packed, and the numbers in it.
struct BlockWeight {
  WeightFormat format;
  std::int64_t N, K;
  std::vector<std::int32_t> packed;
  std::vector<float> scales;  // [N, K/32]
  std::vector<int> codes;     // [N, K]
  Doubles values;             // [N, K]

  Weight put(Stage& stage) const {
    const auto words = static_cast<std::int64_t>(packed.size());
    return {stage.input(packed, {words}).view().bytes(), format, WeightLayout::out_in, {N, K}};
  }
};

/// From bytes that hold every code: the first block has the most negative ones alone.
BlockWeight block_weight(WeightFormat format, std::int64_t N, std::int64_t K, std::uint64_t seed) {
  const auto block = static_cast<std::size_t>(entry_of(format).block_bytes);
  const std::int64_t count = N * K / kElements;
  const std::vector<std::int32_t> bytes =
      integers(count * static_cast<std::int64_t>(block), seed, 256);
  const std::vector<float> scales = normal(count, seed + 1, 0.0, 0.01);
  std::vector<std::byte> blocks;
  BlockWeight w{.format = format, .N = N, .K = K};
  for (const std::int32_t byte : bytes) blocks.push_back(static_cast<std::byte>(byte));
  for (std::size_t b = 0; b < scales.size(); ++b) {
    std::byte* at = blocks.data() + b * block;
    const Half scale = to_half(scales[b]);
    std::memcpy(at, &scale, sizeof scale);
    if (b == 0)
      std::fill_n(at + 2, block - 2,
                  static_cast<std::byte>(format == WeightFormat::q8_0 ? 128 : 0));
    w.scales.push_back(to_float(scale));
    for (std::size_t k = 0; k < 32; ++k) {
      const std::byte code = at[2 + (format == WeightFormat::q8_0 ? k : k % 16)];
      const int both = std::to_integer<int>(code);
      w.codes.push_back(format == WeightFormat::q8_0 ? static_cast<std::int8_t>(code)
                                                     : (k < 16 ? both % 16 : both / 16) - 8);
      w.values.push_back(static_cast<double>(w.scales.back()) * w.codes.back());
    }
  }
  w.packed.resize(packed_bytes(format, N, K) / sizeof(std::int32_t));
  pack_rows(format, {N, K, 0, N}, blocks.data(), reinterpret_cast<std::byte*>(w.packed.data()));
  return w;
}

struct BlockCase {
  std::int64_t M;
  Activation activation = Activation::none;
  bool bias = false;
  std::int64_t shift = 0;
};

Forward run(const TestDevice& device, const BlockWeight& w, const BlockCase& c,
            const std::vector<float>& x) {
  Stage stage(device.device, join("matmul", device.name, name_of(w.format), c.M, w.K, w.N),
              c.shift);
  Guarded& out = stage.output({c.M, w.N});
  Guarded& pre = stage.output({c.M, w.N});
  MatmulForward op{.out = out,
                   .pre_activation = pre,
                   .x = stage.input(x, {c.M, w.K}),
                   .weight = w.put(stage),
                   .activation = c.activation};
  if (c.bias) op.bias = stage.input(normal(w.N, 23), {w.N});
  device.device.matmul_forward(op);
  return {out.floats(), pre.floats()};
}

std::vector<TestDevice> devices_with_blocks() {
  std::vector<TestDevice> devices;
  for (const TestDevice& device : devices_under_test()) {
    if (device.device.why_no_format(WeightFormat::q8_0).empty()) devices.push_back(device);
  }
  return devices;
}

float largest(const float* x) {
  float most = 0.0f;
  for (std::int64_t k = 0; k < kElements; ++k) most = std::max(most, std::abs(x[k]));
  return most;
}

/// What x·weightᵀ may be off by, and x·weightᵀ. An element of x is rounded to the nearest multiple of
/// its block's max|x|/32767; there are two roundings of its quotient, one of each scale, of their
/// product and of the block's sum, and one for each block that is added.
struct Expected {
  Doubles value, bound;
};
Expected expected(const BlockWeight& w, std::int64_t M, const std::vector<float>& x,
                  const std::vector<float>& bias) {
  Expected e;
  for (std::int64_t m = 0; m < M; ++m) {
    for (std::int64_t n = 0; n < w.N; ++n) {
      double value = 0.0, size = 0.0, rounding = 0.0;
      for (std::int64_t k = 0; k < w.K; ++k) {
        const double of_x = x[m * w.K + k], of_w = w.values[n * w.K + k];
        const double step = largest(&x[m * w.K + k / kElements * kElements]) / 65534.0;
        value += of_x * of_w;
        size += (std::abs(of_x) + step) * std::abs(of_w);
        rounding += step * std::abs(of_w);
      }
      const double b = bias.empty() ? 0.0 : bias[n];
      e.value.push_back(value + b);
      e.bound.push_back(rounding +
                        static_cast<double>(w.K / kElements + 8) * kEps * (size + std::abs(b)));
    }
  }
  return e;
}

}  // namespace

TEST_CASE("matmul_forward agrees with its formula for weights in blocks") {
  int turn = 0;
  for (const WeightFormat format : kBlocks) {
    for (const std::int64_t N : {1, 15, 16, 17, 35, 83}) {
      for (const std::int64_t K : {32, 64, 96, 768}) {
        const BlockWeight w = block_weight(format, N, K, 7);
        for (const std::int64_t M : {1, 2, 3, 4, 5, 6, 7, 8, 9, 33}) {
          if (K == 768 && M > 9) continue;
          std::vector<float> x = normal(M * K, 1);
          x[static_cast<std::size_t>(M * K / 2)] = 1000.0f;  // an outlier
          for (const TestDevice& device : devices_with_blocks()) {
            ++turn;
            const BlockCase c{.M = M,
                              .activation = kActivations[turn % 6],
                              .bias = turn % 5 != 0,
                              .shift = turn % 2};
            const Forward got = run(device, w, c, x);
            const Expected want = expected(w, M, x, c.bias ? normal(N, 23) : std::vector<float>());
            Doubles out, bound;
            for (std::size_t i = 0; i < want.value.size(); ++i) {
              out.push_back(reference::activate(c.activation, want.value[i]));
              bound.push_back(kSteepest * want.bound[i] +
                              activation_bound(c.activation, want.value[i]));
            }
            const std::string what = join(device.name, name_of(format), "M", M, "K", K, "N", N);
            compare(what + " pre", got.pre, want.value, want.bound);
            compare(what + " out", got.out, out, bound);
          }
        }
      }
    }
  }
}

TEST_CASE("a block's sum is exact, and blocks are added in order by one multiply-add each") {
  for (const WeightFormat format : kBlocks) {
    for (const auto& [M, K, N] : {std::array<std::int64_t, 3>{1, 32, 1},
                                  {1, 768, 33},
                                  {3, 96, 50},
                                  {4, 64, 16},
                                  {8, 256, 17},
                                  {9, 160, 20},
                                  {35, 320, 31}}) {
      const BlockWeight w = block_weight(format, N, K, 3);
      // Multiples of a power of two, of which each block's largest is 32767: nothing is rounded. A
      // block of nothing but that times the most negative codes is the largest sum there is.
      std::vector<std::int32_t> codes = integers(M * K, 4, 65535);
      std::vector<float> x;
      for (std::size_t i = 0; i < codes.size(); ++i) {
        codes[i] -= 32767;
        if (i % 32 == 7) codes[i] = i % 64 < 32 ? 32767 : -32767;
        if (i < 32) codes[i] = 32767;
        x.push_back(std::ldexp(static_cast<float>(codes[i]), i / 32 % 2 == 0 ? -14 : -3));
      }
      std::vector<float> fused, separate;
      for (std::int64_t m = 0; m < M; ++m) {
        for (std::int64_t n = 0; n < N; ++n) {
          float f = 0.0f, s = 0.0f;
          for (std::int64_t k = 0; k < K; k += kElements) {
            std::int64_t sum = 0;
            for (std::int64_t i = k; i < k + kElements; ++i) {
              sum += std::int64_t{codes[m * K + i]} * w.codes[n * K + i];
            }
            const float scale = w.scales[(n * K + k) / kElements] *
                                std::ldexp(1.0f, (m * K + k) / kElements % 2 == 0 ? -14 : -3);
            f = std::fma(static_cast<float>(sum), scale, f);
            const volatile float product = static_cast<float>(sum) * scale;
            s = s + product;
          }
          fused.push_back(f);
          separate.push_back(s);
        }
      }
      for (const TestDevice& device : cpu_with_threads()) {
        const std::vector<float> got = run(device, w, {.M = M}, x).out;
        compare_bits(join(device.name, name_of(format), "M", M, "K", K, "N", N), got,
                     got == separate ? separate : fused);
      }
    }
  }
}

TEST_CASE("a row beside a weight in blocks does not depend on other rows or on threads") {
  for (const WeightFormat format : kBlocks) {
    for (const auto& [K, N] :
         {std::pair<std::int64_t, std::int64_t>{32, 5}, {96, 64}, {768, 130}, {3072, 33}}) {
      constexpr std::int64_t kRows = 33;
      const BlockWeight w = block_weight(format, N, K, 9);
      const std::vector<float> x = normal(kRows * K, 11);
      BlockCase c{.M = kRows, .activation = Activation::gelu_new, .bias = true};
      const Forward want = run(cpu_with_threads().front(), w, c, x);
      for (const TestDevice& device : cpu_with_threads()) {
        compare_bits(join(device.name, name_of(format), K, N), run(device, w, c, x).out, want.out);
      }
      for (std::int64_t M = 1; M <= 20; ++M) {
        const std::int64_t first = (M * 7) % (kRows - M + 1);
        c.M = M;
        const TestDevice& device = cpu_with_threads()[static_cast<std::size_t>(M) % 3];
        compare_bits(join(device.name, name_of(format), "M", M, K, N),
                     run(device, w, c, slice(x, first * K, M * K)).pre,
                     slice(want.pre, first * N, M * N));
      }
    }
  }
}

// What is packed at once is 8 MB of codes, and a task has 2^18 of them.
TEST_CASE("a row beside a weight in blocks does not depend on how many rows are rounded at once") {
  constexpr std::int64_t kRows = 1500, kK = 3072, kN = 18;
  const BlockWeight w = block_weight(WeightFormat::q8_0, kN, kK, 9);
  const std::vector<float> x = normal(kRows * kK, 11);
  const std::vector<float> all = run(cpu_with_threads()[1], w, {.M = kRows}, x).out;
  for (std::int64_t m = 0; m < kRows; m += 107) {
    compare_bits(join("row", m), slice(all, m * kN, kN),
                 run(cpu_with_threads()[0], w, {.M = 1}, slice(x, m * kK, kK)).out);
  }
}

TEST_CASE("beside a weight in blocks, what is no number makes its row NaN, and dust counts as 0") {
  constexpr std::int64_t kK = 64, kN = 17;
  for (const WeightFormat format : kBlocks) {
    const BlockWeight w = block_weight(format, kN, kK, 5);
    for (const TestDevice& device : cpu_with_threads()) {
      for (const float value :
           {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
            -std::numeric_limits<float>::infinity()}) {
        for (const std::int64_t at : {0, 5, 31, 32, 63}) {
          std::vector<float> x = normal(2 * kK, 1);
          x[static_cast<std::size_t>(at)] = value;
          const std::vector<float> out = run(device, w, {.M = 2}, x).out;
          INFO(device.name << " " << name_of(format) << " " << value << " at " << at);
          for (std::int64_t i = 0; i < 2 * kN; ++i) CHECK(std::isnan(out[i]) == (i < kN));
        }
      }
      std::vector<float> dust(kK, 0x1p-101f), zeros(kK, 0.0f);
      dust[3] = -0x1p-149f;
      compare_bits(device.name + " dust", run(device, w, {.M = 1, .bias = true}, dust).out,
                   run(device, w, {.M = 1, .bias = true}, zeros).out);
    }
  }
}

TEST_CASE("embedding_forward reads rows of a table in blocks exactly") {
  for (const WeightFormat format : kBlocks) {
    for (const auto& [V, C] : {std::pair<std::int64_t, std::int64_t>{1, 32}, {35, 96}}) {
      const BlockWeight w = block_weight(format, V, C, 2);
      for (const TestDevice& device : devices_with_blocks()) {
        for (const DType wpe_type : {DType::f32, DType::f16}) {
          constexpr std::int64_t B = 2, T = 67;
          const std::vector<std::int32_t> ids = integers(B * T, 1, V);
          const std::vector<std::int32_t> positions = integers(B * T, 2, 9);
          Stage stage(device.device, join("embedding", device.name, name_of(format), V, C), V % 2);
          Guarded& wpe = stage.input(normal(9 * C, 4), {9, C}, wpe_type);
          Guarded& out = stage.output({B, T, C});
          device.device.embedding_forward({.out = out,
                                           .ids = stage.input(ids, {B, T}),
                                           .positions = stage.input(positions, {B, T}),
                                           .wte = w.put(stage),
                                           .wpe = wpe});
          const std::vector<float> places = wpe.floats();
          std::vector<float> want;
          for (std::size_t bt = 0; bt < ids.size(); ++bt) {
            for (std::int64_t c = 0; c < C; ++c) {
              want.push_back(static_cast<float>(w.values[ids[bt] * C + c]) +
                             places[positions[bt] * C + c]);
            }
          }
          compare_bits(stage.what(), out.floats(), want);
        }
      }
    }
  }
}

TEST_CASE("a device that reads no blocks says so, and no other op takes them") {
  for (const TestDevice& device : devices_under_test()) {
    const BlockWeight w = block_weight(WeightFormat::q4_0, 16, 32, 1);
    Stage stage(device.device, device.name);
    const Weight weight = w.put(stage);
    const View x = stage.output({2, 32}), out = stage.output({2, 16});
    const std::string reason = device.device.why_no_format(WeightFormat::q4_0);
    if (!reason.empty()) {
      CHECK(
          error_of([&] { device.device.matmul_forward({.out = out, .x = x, .weight = weight}); }) ==
          "matmul: " + device.device.description() + " does not read weights in q4_0: " + reason);
      CHECK(error_of([&] {
              device.device.embedding_forward(
                  {.out = stage.output({1, 1, 32}),
                   .ids = stage.input(std::vector<std::int32_t>{3}, {1, 1}),
                   .positions = stage.input(std::vector<std::int32_t>{0}, {1, 1}),
                   .wte = weight,
                   .wpe = stage.input(normal(32, 1), {1, 32})});
            }) == "embedding: " + device.device.description() +
                      " does not read weights in q4_0: " + reason);
    }
    CHECK(device.device.why_no_format(WeightFormat::bfloat16).empty());
    CHECK(error_of([&] {
            device.device.matmul_backward_input({.d_x = x, .d_out = out, .weight = weight});
          }) == "matmul_backward_input: weight is in q4_0, wants plain elements");
    CHECK(error_of([&] {
            device.device.matmul_add({.out = Accumulate(out), .x = x, .weight = weight});
          }) == "matmul_add: weight is in q4_0, wants plain elements");
    CHECK(error_of([&] {
            device.device.matmul_forward({.out = x, .x = out, .weight = weight.transposed()});
          }) == "matmul: weight in q4_0 is [K, N], wants [N, K]");
    Weight odd = weight;
    odd.shape = {16, 16};
    CHECK(error_of([&] {
            device.device.matmul_forward({.out = out, .x = stage.output({2, 16}), .weight = odd});
          }) == "matmul: rows of weight have 16 elements, q4_0 has blocks of 32");
    CHECK(error_of([&] {
            device.device.matmul_forward(
                {.out = out, .x = x, .weight = weight, .multiply = Multiply::in_bf16});
          }) == "matmul: a weight in q4_0 is multiplied as it is stored, not in bfloat16");
    CHECK(error_of([&] { weight.view(); }) == "a weight in q4_0 has blocks, and no plain elements");
  }
}
