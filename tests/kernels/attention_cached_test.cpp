// Cached decode against the full forward pass: equal to the bit in float32. In 16 bits a few new
// positions may take another path than a prompt, and are held to the formula.
#include <algorithm>
#include <cmath>

#include "tests/support/attention_bounds.h"
#include "tests/support/attention_inputs.h"
#include "tests/support/cases.h"
#include "tests/support/catch.h"
#include "tests/support/compare.h"

using namespace quire;
using namespace quire::test;

namespace {

/// Keys and values of rows whose slots lie in `blocks`, on one device.
struct Cache {
  Cache(const TestDevice& on, std::vector<std::int32_t> of_rows, std::int64_t H, std::int64_t N,
        std::int64_t D, DType type = DType::f32)
      : device(on),
        blocks(std::move(of_rows)),
        dtype(type),
        stage(on.device, "cache " + on.name),
        keys(stage.output({H, N, D}, type)),
        values(stage.output({H, N, D}, type)) {}
  /// Of B rows of S slots: one after the other, or all blocks backwards with gaps between them.
  Cache(const TestDevice& on, std::int64_t B, std::int64_t H, std::int64_t S, std::int64_t D,
        bool backwards, DType type = DType::f32)
      : Cache(on, backwards ? backward_blocks(B, S) : blocks_in_order(B, S), H,
              backwards ? std::ssize(blocks_in_order(B, S)) * kApart : B * S, D, type) {}

  static constexpr std::int32_t kApart = kCacheBlock + 3;
  static std::vector<std::int32_t> backward_blocks(std::int64_t B, std::int64_t S) {
    std::vector<std::int32_t> blocks(blocks_in_order(B, S).size());
    for (auto n = std::ssize(blocks); n-- > 0;) {
      blocks[static_cast<std::size_t>(std::ssize(blocks) - 1 - n)] =
          static_cast<std::int32_t>(n) * kApart;
    }
    return blocks;
  }

  const TestDevice& device;
  std::vector<std::int32_t> blocks;  // [B, M]
  DType dtype;
  Stage stage;
  Guarded& keys;  // slots not written yet are not numbers
  Guarded& values;
};

/// T new positions of every row; qkv is [B, T, 3C].
std::vector<float> run(Cache& cache, const std::vector<float>& qkv, std::int64_t T, std::int64_t H,
                       std::int64_t D, const std::vector<std::int32_t>& past, double scale,
                       std::int64_t shift = 0) {
  const auto B = static_cast<std::int64_t>(past.size());
  Stage stage(cache.device.device, join("attention_cached", cache.device.name, B, T, H, D), shift);
  Guarded& out = stage.output({B, T, H * D}, cache.dtype);
  AttentionCached op{.out = out,
                     .k_cache = cache.keys,
                     .v_cache = cache.values,
                     .qkv = stage.input(qkv, {B, T, 3 * H * D}, cache.dtype),
                     .past = stage.input(past, {B}),
                     .blocks = stage.input(cache.blocks, {B, std::ssize(cache.blocks) / B}),
                     .heads = static_cast<int>(H),
                     .scale = static_cast<float>(scale)};
  cache.device.device.attention_cached(op);
  return out.floats();
}

std::vector<TestDevice> all_devices() {
  std::vector<TestDevice> devices = devices_under_test();
  for (const TestDevice& device : cpu_with_threads()) devices.push_back(device);
  return devices;
}

/// Positions [first, first + count) of each row of [B, T, width].
template <class Number>
std::vector<Number> columns(const std::vector<Number>& values, std::int64_t B, std::int64_t T,
                            std::int64_t width, std::int64_t first, std::int64_t count) {
  std::vector<Number> part;
  for (std::int64_t b = 0; b < B; ++b) {
    const auto begin = values.begin() + (b * T + first) * width;
    part.insert(part.end(), begin, begin + count * width);
  }
  return part;
}

}  // namespace

TEST_CASE("attention_cached with nothing cached is attention_forward") {
  for (const TestDevice& device : all_devices()) {
    std::int64_t shift = 0;
    for (const auto [B, T, H, D] : cases::kAttention) {
      for (const bool backwards : {false, true}) {
        const AttentionInput in = attention_input(B, T, H, D, Mask::none, 0.0f);
        Cache cache(device, B, H, T + 3, D, backwards);
        const std::vector<float> got =
            run(cache, in.qkv, T, H, D, std::vector<std::int32_t>(B, 0), in.scale, shift ^= 1);
        compare_bits(join("attention_cached", device.name, "B", B, "T", T, "H", H, "D", D), got,
                     run_attention(device, in).out);
      }
    }
  }
}

TEST_CASE("attention_cached keeps keys and values as they came, and leaves other slots alone") {
  constexpr std::int64_t B = 2, T = 3, H = 2, D = 5, S = 9, C = H * D, N = 30;
  const std::vector<std::int32_t> blocks = {19, 2};
  for (const TestDevice& device : all_devices()) {
    const AttentionInput in = attention_input(B, T, H, D, Mask::none, 0.0f);
    Cache cache(device, blocks, H, N, D);
    // Of the first row, slots 3 to 5 are as if a prompt had filled them.
    run(cache, in.qkv, T, H, D, {0, 0}, in.scale);
    run(cache, in.qkv, T, H, D, {6, 3}, in.scale);
    const std::vector<float> keys = cache.keys.floats(), values = cache.values.floats();
    const auto written = [](const std::vector<float>& cached) {
      return std::ranges::count_if(cached, [](float x) { return !std::isnan(x); });
    };
    CHECK(written(keys) == B * 2 * T * C);
    CHECK(written(values) == B * 2 * T * C);
    for (std::int64_t b = 0; b < B; ++b) {
      for (std::int64_t h = 0; h < H; ++h) {
        for (std::int64_t s = 0; s < S; ++s) {
          const std::int64_t past = b == 0 ? 6 : 3;
          const std::int64_t t = s < T ? s : s - past;
          const std::int64_t slot = (h * N + blocks[b] + s) * D;
          for (std::int64_t d = 0; d < D; ++d) {
            if (t < 0 || t >= T) {
              CHECK(keys[slot + d] != keys[slot + d]);  // still not a number
              continue;
            }
            CHECK(keys[slot + d] == in.qkv[(b * T + t) * 3 * C + C + h * D + d]);
            CHECK(values[slot + d] == in.qkv[(b * T + t) * 3 * C + 2 * C + h * D + d]);
          }
        }
      }
    }
  }
}

TEST_CASE("decoding token by token, or in chunks, gives the bits of the full forward pass") {
  for (const TestDevice& device : all_devices()) {
    for (const auto [B, T, H, D] : {cases::Attention{1, 2, 1, 1},
                                    {2, 17, 3, 16},
                                    {2, 33, 2, 20},
                                    {3, 70, 2, 64},
                                    {1, 20, 1, 128}}) {
      for (const bool backwards : {false, true}) {
        const AttentionInput in = attention_input(B, T, H, D, Mask::none, 0.0f);
        const std::vector<float> want = run_attention(device, in).out;
        for (const std::int64_t chunk : {1, 5, 16}) {
          Cache cache(device, B, H, T, D, backwards);
          for (std::int64_t past = 0; past < T; past += chunk) {
            const std::int64_t count = std::min(chunk, T - past);
            const std::vector<std::int32_t> cached(B, static_cast<std::int32_t>(past));
            compare_bits(join("decode", device.name, B, T, H, D, "chunk", chunk, "past", past),
                         run(cache, columns(in.qkv, B, T, 3 * H * D, past, count), count, H, D,
                             cached, in.scale, past % 2),
                         columns(want, B, T, H * D, past, count));
          }
        }
      }
    }
  }
}

TEST_CASE("rows of different lengths decode side by side as each would alone") {
  constexpr std::int64_t H = 2, D = 24, C = H * D, S = 64;
  const std::vector<std::int32_t> lengths = {40, 1, 17};
  const auto B = static_cast<std::int64_t>(lengths.size());
  for (const TestDevice& device : all_devices()) {
    const AttentionInput prompt = attention_input(B, 40, H, D, Mask::none, 0.0f);
    const std::vector<float> next = normal(B * 3 * C, 66);
    Cache together(device, B, H, S, D, false);
    // Every row is given 40 positions; those past its length are written over by what follows.
    run(together, prompt.qkv, 40, H, D, {0, 0, 0}, prompt.scale);
    const std::vector<float> got = run(together, next, 1, H, D, lengths, prompt.scale);
    for (std::int64_t b = 0; b < B; ++b) {
      Cache alone(device, 1, H, 41, D, false);
      const std::int64_t length = lengths[b];
      run(alone, slice(prompt.qkv, b * 40 * 3 * C, length * 3 * C), length, H, D, {0},
          prompt.scale);
      compare_bits(join("row", b, device.name), slice(got, b * C, C),
                   run(alone, slice(next, b * 3 * C, 3 * C), 1, H, D, {lengths[b]}, prompt.scale));
    }
  }
}

TEST_CASE("a cached prompt has the bits of attention_forward in 16 bits, and decoding its values") {
  for (const TestDevice& device : devices_under_test()) {
    for (const DType dtype : device.types) {
      if (dtype == DType::f32) continue;
      std::int64_t shift = 0;
      for (const auto [B, T, H, D] : {cases::Attention{2, 19, 2, 8},
                                      {2, 81, 1, 64},
                                      {1, 140, 1, 64},
                                      {1, 30, 2, 80},
                                      {1, 75, 1, 128},
                                      {1, 14, 1, 136},
                                      {2, 15, 2, 5}}) {
        for (const bool backwards : {false, true}) {
          const AttentionInput in = attention_input(B, T, H, D, Mask::none, 0.0f, dtype);
          const std::string what = join("attention_cached", device.name, quire::name_of(dtype), "B",
                                        B, "T", T, "H", H, "D", D, "shift", shift);
          const reference::Attention want = reference::attention(in.shape(), widened(in.qkv));
          const Doubles bounds = bounds_of(in, want).out;
          const AttentionResult full = run_attention(device, in, shift);
          // A prompt in two parts, then three positions at once, then one by one.
          const std::int64_t begin = T - 5;
          Cache cache(device, B, H, T + 2, D, backwards, dtype);
          std::int64_t past = 0;
          for (const std::int64_t end : {begin / 2, begin, begin + 3, begin + 4, T}) {
            const std::int64_t count = end - past;
            const std::vector<std::int32_t> cached(B, static_cast<std::int32_t>(past));
            const std::vector<float> got = run(cache, columns(in.qkv, B, T, 3 * H * D, past, count),
                                               count, H, D, cached, in.scale, shift);
            const auto of_these = [&, B = B, T = T, H = H, D = D](const auto& values) {
              return columns(values, B, T, H * D, past, count);
            };
            compare(join(what, "past", past), got, of_these(want.out), of_these(bounds));
            if (count > 8) compare_bits(join(what, "prompt", past), got, of_these(full.out));
            past = end;
          }
          shift ^= 1;
        }
      }
    }
  }
}

TEST_CASE("a long cache decodes, whatever the rows' lengths and places") {
  constexpr std::int64_t H = 1, D = 64, C = H * D, S = 200;
  const std::vector<std::int32_t> past = {199, 0, 63, 64, 130};
  const auto B = static_cast<std::int64_t>(past.size());
  for (const TestDevice& device : devices_under_test()) {
    for (const DType dtype : device.types) {
      // A new position in each row's slot past, after a prompt that has filled all slots.
      AttentionInput in = attention_input(B, S, H, D, Mask::none, 0.0f, dtype);
      Cache cache(device, B, H, S, D, true, dtype);
      run(cache, in.qkv, S, H, D, std::vector<std::int32_t>(B, 0), in.scale);
      const std::vector<float> next = rounded_to(dtype, normal(B * 3 * C, 67));
      for (std::int64_t b = 0; b < B; ++b) {
        std::copy(next.begin() + b * 3 * C, next.begin() + (b + 1) * 3 * C,
                  in.qkv.begin() + (b * S + past[b]) * 3 * C);
      }
      const std::vector<float> got = run(cache, next, 1, H, D, past, in.scale);
      const reference::Attention want = reference::attention(in.shape(), widened(in.qkv));
      const Doubles bounds = bounds_of(in, want).out;
      for (std::int64_t b = 0; b < B; ++b) {
        const std::int64_t at = (b * S + past[b]) * C;
        compare(join("long cache", device.name, quire::name_of(dtype), "row", b),
                slice(got, b * C, C), slice(want.out, at, C), slice(bounds, at, C));
      }
    }
  }
}

TEST_CASE("rows that share their first block decode as rows with blocks of their own") {
  constexpr std::int64_t B = 2, H = 2, D = 64, C = H * D, N = 3 * kCacheBlock;
  for (const TestDevice& device : devices_under_test()) {
    for (const DType dtype : device.types) {
      const AttentionInput prompt = attention_input(1, kCacheBlock, H, D, Mask::none, 0.0f, dtype);
      const auto fill = [&](Cache& cache, std::vector<std::int32_t> blocks) {
        std::swap(cache.blocks, blocks);
        run(cache, prompt.qkv, kCacheBlock, H, D, {0}, prompt.scale);
        std::swap(cache.blocks, blocks);
      };
      Cache shared(device, {64, 128, 64, 0}, H, N, D, dtype);
      Cache own(device, B, H, 2 * kCacheBlock, D, false, dtype);
      fill(shared, {64});
      fill(own, {own.blocks[0]});
      fill(own, {own.blocks[2]});
      for (std::int32_t past = kCacheBlock; past < kCacheBlock + 11;
           past += past % 2 == 0 ? 1 : 9) {
        const std::int64_t T = past % 2 == 0 ? 1 : 9;  // decoding, and as a prompt
        const std::vector<float> next = rounded_to(dtype, normal(B * T * 3 * C, 68));
        compare_bits(join("shared", device.name, quire::name_of(dtype), "past", past),
                     run(shared, next, T, H, D, {past, past}, prompt.scale),
                     run(own, next, T, H, D, {past, past}, prompt.scale));
      }
      const auto first = [&](const Guarded& cached, std::int64_t block) {
        return slice(cached.floats(), block * D, kCacheBlock * D);
      };
      compare_bits("keys of the first head", first(shared.keys, 64), first(own.keys, 0));
      compare_bits("its values", first(shared.values, 64), first(own.values, 0));
    }
  }
}

TEST_CASE("attention_cached refuses what does not fit its slots") {
  for (const TestDevice& device : devices_under_test()) {
    const AttentionInput in = attention_input(1, 65, 1, 4, Mask::none, 0.0f);
    const auto refused = [&](std::vector<std::int32_t> blocks, std::int64_t T, std::int32_t past) {
      Cache cache(device, std::move(blocks), 1, 70, 4);
      return error_of([&] { run(cache, slice(in.qkv, 0, T * 3 * 4), T, 1, 4, {past}, in.scale); });
    };
    CHECK(refused({0}, 65, 0) == "attention_cached: T is 65, a row's blocks have 64 slots");
    if (!device.device.shares_host_memory()) continue;  // check_values() is for those that do
    CHECK(refused({0}, 3, 62) == "attention_cached: past[0] is 62, wants 0 to 61");
    CHECK(refused({68, -1}, 3, 0) == "attention_cached: blocks[0] is 68, wants 0 to 67");
    CHECK(refused({0, 68}, 3, 64) == "attention_cached: blocks[1] is 68, wants 0 to 67");
    CHECK(refused({7, 64}, 3, 64) == "attention_cached: blocks[0] is 7, wants 0 to 6");
  }
}
