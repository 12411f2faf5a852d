// Weights in blocks, back as what GGUF would have stored and as floats.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "kernels/quantised.h"

namespace quire::test {

/// The blocks of all rows of a packed weight, row after row.
inline std::string unpacked(const Weight& weight) {
  const std::int64_t N = weight.shape[0], K = weight.shape[1];
  const WeightFormatEntry& entry = entry_of(weight.format);
  std::string blocks(static_cast<std::size_t>(N * K / entry.block_elements * entry.block_bytes),
                     '\xee');
  unpack_rows(weight.format, {.N = N, .K = K, .first = 0, .count = N},
              static_cast<const std::byte*>(weight.data),
              reinterpret_cast<std::byte*>(blocks.data()));
  return blocks;
}

/// [N, K]
inline std::vector<float> values_of(const Weight& weight) {
  const std::int64_t N = weight.shape[0], K = weight.shape[1];
  std::vector<float> values(static_cast<std::size_t>(N * K));
  for (std::int64_t n = 0; n < N; ++n) read_row(weight, n, values.data() + n * K);
  return values;
}

/// [K, N] of [N, K].
inline std::vector<float> turned(const std::vector<float>& from, std::int64_t columns) {
  const auto K = static_cast<std::size_t>(columns), N = from.size() / K;
  std::vector<float> to(from.size());
  for (std::size_t n = 0; n < N; ++n) {
    for (std::size_t k = 0; k < K; ++k) to[k * N + n] = from[n * K + k];
  }
  return to;
}

}  // namespace quire::test
