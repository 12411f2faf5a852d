// Weights in blocks: packing, rows that are read back, and products.
#include "kernels/quantised.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "tests/support/catch.h"
#include "tests/support/compare.h"
#include "tests/support/data.h"

using namespace quire;
using namespace quire::test;
using quire::test::error_of;

namespace {

constexpr WeightFormat kBlockFormats[] = {WeightFormat::q8_0, WeightFormat::q4_0};

std::size_t block_bytes(WeightFormat format) {
  return static_cast<std::size_t>(entry_of(format).block_bytes);
}

/// Any bytes: every code, and scales that may be no number.
std::vector<std::byte> any_blocks(WeightFormat format, std::int64_t N, std::int64_t K) {
  const std::size_t count = static_cast<std::size_t>(N * K / 32) * block_bytes(format);
  const std::vector<std::int32_t> values = integers(static_cast<std::int64_t>(count), 5, 256);
  std::vector<std::byte> bytes(count);
  for (std::size_t i = 0; i < count; ++i) bytes[i] = static_cast<std::byte>(values[i]);
  return bytes;
}

constexpr std::int64_t kRowCounts[] = {1, 15, 16, 17, 50, 83};
constexpr std::int64_t kDepths[] = {32, 64, 96, 768};

}  // namespace

TEST_CASE("blocks are packed and unpacked without a bit changed, all at once or panel by panel") {
  for (const WeightFormat format : kBlockFormats) {
    for (const std::int64_t N : kRowCounts) {
      for (const std::int64_t K : kDepths) {
        INFO(name_of(format) << " " << N << " " << K);
        const std::vector<std::byte> blocks = any_blocks(format, N, K);
        const std::size_t row_bytes = static_cast<std::size_t>(K / 32) * block_bytes(format);
        const std::size_t size = packed_bytes(format, N, K);
        CHECK(size == static_cast<std::size_t>((N + 15) / 16 * 16) * row_bytes);
        std::vector<std::byte> whole(size, std::byte{0xff}), pieces = whole;
        pack_rows(format, {.N = N, .K = K, .first = 0, .count = N}, blocks.data(), whole.data());
        for (std::int64_t row = 0; row < N; row += 32) {
          const std::byte* from = blocks.data() + static_cast<std::size_t>(row) * row_bytes;
          pack_rows(format, {N, K, row, std::min<std::int64_t>(32, N - row)}, from, pieces.data());
        }
        CHECK(whole == pieces);
        std::vector<std::byte> back(blocks.size());
        unpack_rows(format, {N, K, 0, N}, whole.data(), back.data());
        CHECK(back == blocks);
        const std::int64_t last = (N - 1) / 16 * 16;
        std::vector<std::byte> part(static_cast<std::size_t>(N - last) * row_bytes);
        unpack_rows(format, {N, K, last, N - last}, whole.data(), part.data());
        CHECK(std::equal(part.begin(), part.end(), blocks.end() - part.size()));
      }
    }
  }
}

TEST_CASE("the words of a panel's rows lie side by side, and rows that fill it up are zero") {
  for (const WeightFormat format : kBlockFormats) {
    constexpr std::int64_t kN = 18, kK = 64;
    const std::vector<std::byte> blocks = any_blocks(format, kN, kK);
    std::vector<std::byte> packed(packed_bytes(format, kN, kK), std::byte{0xff});
    pack_rows(format, {kN, kK, 0, kN}, blocks.data(), packed.data());
    const std::size_t block = block_bytes(format), words = block / 2;
    for (std::size_t row = 0; row < 32; ++row) {
      for (std::size_t b = 0; b < 2; ++b) {
        for (std::size_t byte = 0; byte < block; ++byte) {
          const std::size_t at =
              (((row / 16 * 2 + b) * words + byte / 2) * 16 + row % 16) * 2 + byte % 2;
          const std::byte want = row < kN ? blocks[(row * 2 + b) * block + byte] : std::byte{0};
          REQUIRE(packed[at] == want);
        }
      }
    }
  }
}

TEST_CASE("rows that are no panels, and depths that are no blocks, are not packed") {
  std::byte memory[2048];
  const auto pack = [&](const PackedRows& rows) {
    return error_of([&] { pack_rows(WeightFormat::q8_0, rows, memory, memory); });
  };
  CHECK(error_of([] { packed_bytes(WeightFormat::q4_0, 16, 48); }) ==
        "weight in q4_0: K is 48, wants a multiple of 32");
  CHECK(pack({.N = 40, .K = 32, .first = 8, .count = 16}) ==
        "weight in q8_0: rows 8 to 24 of 40 are no whole panels of 16");
  CHECK(pack({.N = 40, .K = 32, .first = 16, .count = 8}) ==
        "weight in q8_0: rows 16 to 24 of 40 are no whole panels of 16");
  CHECK(pack({.N = 40, .K = 32, .first = 32, .count = 16}) ==
        "weight in q8_0: rows 32 to 48 of 40 are no whole panels of 16");
  CHECK(error_of([&] {
          pack_rows(WeightFormat::float16, {16, 32, 0, 16}, memory, memory);
        }) == "float16 has no blocks");
}

TEST_CASE("a row that is read is scale times code, exactly, for every code") {
  for (const WeightFormat format : kBlockFormats) {
    constexpr std::int64_t kN = 19, kK = 96;
    std::vector<std::byte> blocks = any_blocks(format, kN, kK);
    const std::size_t block = block_bytes(format);
    std::vector<float> scales;
    for (std::size_t b = 0; b < blocks.size() / block; ++b) {
      const Half scale = to_half((b % 2 == 0 ? 0.37f : -0.0021f) * static_cast<float>(b + 1));
      scales.push_back(to_float(scale));
      std::memcpy(blocks.data() + b * block, &scale, sizeof scale);
      for (std::size_t i = 2; i < block; ++i) {  // all 256 bytes in turn
        blocks[b * block + i] = static_cast<std::byte>(b * (block - 2) + i);
      }
    }
    std::vector<std::byte> packed(packed_bytes(format, kN, kK));
    pack_rows(format, {kN, kK, 0, kN}, blocks.data(), packed.data());
    const Weight weight(packed.data(), format, WeightLayout::out_in, {kN, kK});
    for (std::int64_t row = 0; row < kN; ++row) {
      std::vector<float> got(kK), want;
      read_row(weight, row, got.data());
      for (std::size_t k = 0; k < kK; ++k) {
        const std::size_t b = static_cast<std::size_t>(row) * 3 + k / 32;
        const std::byte* codes = blocks.data() + b * block + 2;
        int code = 0;
        if (format == WeightFormat::q8_0) {
          code = static_cast<std::int8_t>(codes[k % 32]);
        } else {
          const int both = std::to_integer<int>(codes[k % 16]);
          code = (k % 32 < 16 ? both % 16 : both / 16) - 8;
        }
        want.push_back(scales[b] * static_cast<float>(code));
      }
      compare_bits(join("row", name_of(format), row), got, want);
    }
  }
}
