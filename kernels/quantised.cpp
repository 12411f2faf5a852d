#include "kernels/quantised.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <string>

#include "base/error.h"

namespace quire {
namespace {

constexpr std::int64_t kRows = 16;      // of a panel
constexpr std::int64_t kElements = 32;  // of a block

static_assert(entry_of(WeightFormat::q8_0).panel_rows == kRows);
static_assert(entry_of(WeightFormat::q4_0).panel_rows == kRows);
static_assert(entry_of(WeightFormat::q8_0).block_elements == kElements);
static_assert(entry_of(WeightFormat::q4_0).block_elements == kElements);

constexpr std::int64_t kWordBytes = 2;

/// A block's words: the two neighbours in each keep their order whatever the byte order.
template <std::int64_t kWords>
using Words = std::array<std::uint16_t, kWords>;

/// Calls work.operator()<words of a block>().
template <class Work>
void for_words(WeightFormat format, const Work& work) {
  if (format == WeightFormat::q8_0) return work.template operator()<17>();
  if (format == WeightFormat::q4_0) return work.template operator()<9>();
  throw Error(Fault::internal, std::string(name_of(format)) + " has no blocks");
}

void check_rows(WeightFormat format, const PackedRows& rows) {
  const auto fail = [&](const std::string& what) {
    throw Error(Fault::internal, std::string("weight in ") + name_of(format) + ": " + what);
  };
  if (rows.K < 1 || rows.K % kElements != 0) {
    fail("K is " + std::to_string(rows.K) + ", wants a multiple of 32");
  }
  const std::int64_t end = rows.first + rows.count;
  if (rows.first < 0 || rows.first % kRows != 0 || rows.count < 0 || end > rows.N ||
      (end % kRows != 0 && end != rows.N)) {
    fail("rows " + std::to_string(rows.first) + " to " + std::to_string(end) + " of " +
         std::to_string(rows.N) + " are no whole panels of 16");
  }
}

/// The first `rows` of a panel from a panel's rows, and zeros behind them.
template <std::int64_t kWords>
void pack_panel(const std::byte* from, std::int64_t blocks, std::int64_t rows, std::byte* to) {
  constexpr std::size_t kBytes = kWords * kWordBytes;
  const std::int64_t row_bytes = blocks * static_cast<std::int64_t>(kBytes);
  for (std::int64_t block = 0; block < blocks; ++block) {
    std::array<Words<kRows>, kWords> packed{};
    for (std::int64_t row = 0; row < rows; ++row) {
      Words<kWords> words;
      std::memcpy(words.data(), from + row * row_bytes, kBytes);
      for (std::size_t w = 0; w < kWords; ++w) packed[w][static_cast<std::size_t>(row)] = words[w];
    }
    std::memcpy(to, packed.data(), sizeof packed);
    from += kBytes;
    to += sizeof packed;
  }
}

template <std::int64_t kWords>
void unpack_panel(const std::byte* from, std::int64_t blocks, std::int64_t rows, std::byte* to) {
  constexpr std::size_t kBytes = kWords * kWordBytes;
  const std::int64_t row_bytes = blocks * static_cast<std::int64_t>(kBytes);
  for (std::int64_t block = 0; block < blocks; ++block) {
    std::array<Words<kRows>, kWords> packed;
    std::memcpy(packed.data(), from, sizeof packed);
    for (std::int64_t row = 0; row < rows; ++row) {
      Words<kWords> words;
      for (std::size_t w = 0; w < kWords; ++w) words[w] = packed[w][static_cast<std::size_t>(row)];
      std::memcpy(to + row * row_bytes, words.data(), kBytes);
    }
    from += sizeof packed;
    to += kBytes;
  }
}

/// Codes of two bytes of a word, in the order in which they lie.
std::array<std::uint8_t, 2> bytes_of(std::uint16_t word) {
  return std::bit_cast<std::array<std::uint8_t, 2>>(word);
}

}  // namespace

std::size_t packed_bytes(WeightFormat format, std::int64_t N, std::int64_t K) {
  check_rows(format, {.N = N, .K = K, .first = 0, .count = N});
  return Weight(nullptr, format, WeightLayout::out_in, {N, K}).size_bytes();
}

void pack_rows(WeightFormat format, const PackedRows& rows, const std::byte* blocks,
               std::byte* packed) {
  check_rows(format, rows);
  for_words(format, [&]<std::int64_t words>() {
    const std::int64_t in_row = rows.K / kElements, bytes = in_row * words * kWordBytes;
    for (std::int64_t row = 0; row < rows.count; row += kRows) {
      pack_panel<words>(blocks + row * bytes, in_row, std::min(kRows, rows.count - row),
                        packed + (rows.first + row) * bytes);
    }
  });
}

void unpack_rows(WeightFormat format, const PackedRows& rows, const std::byte* packed,
                 std::byte* blocks) {
  check_rows(format, rows);
  for_words(format, [&]<std::int64_t words>() {
    const std::int64_t in_row = rows.K / kElements, bytes = in_row * words * kWordBytes;
    for (std::int64_t row = 0; row < rows.count; row += kRows) {
      unpack_panel<words>(packed + (rows.first + row) * bytes, in_row,
                          std::min(kRows, rows.count - row), blocks + row * bytes);
    }
  });
}

void read_row(const Weight& weight, std::int64_t row, float* to) {
  for_words(weight.format, [&]<std::int64_t words>() {
    constexpr std::int64_t kBlockBytes = words * kWordBytes * kRows;
    const std::int64_t blocks = weight.shape[1] / kElements;
    const std::byte* from = static_cast<const std::byte*>(weight.data) +
                            row / kRows * blocks * kBlockBytes + row % kRows * kWordBytes;
    for (std::int64_t block = 0; block < blocks; ++block, from += kBlockBytes, to += kElements) {
      const auto word = [&](std::int64_t at) {
        std::uint16_t bits;
        std::memcpy(&bits, from + at * kRows * kWordBytes, sizeof bits);
        return bits;
      };
      const float scale = to_float(Half{word(0)});
      for (std::int64_t pair = 1; pair < words; ++pair) {
        const auto [first, second] = bytes_of(word(pair));
        float* at = to + 2 * (pair - 1);
        if constexpr (words == 17) {
          at[0] = scale * static_cast<float>(static_cast<std::int8_t>(first));
          at[1] = scale * static_cast<float>(static_cast<std::int8_t>(second));
        } else {
          at[0] = scale * static_cast<float>((first & 15) - 8);
          at[1] = scale * static_cast<float>((second & 15) - 8);
          at[16] = scale * static_cast<float>((first >> 4) - 8);
          at[17] = scale * static_cast<float>((second >> 4) - 8);
        }
      }
    }
  });
}

}  // namespace quire
