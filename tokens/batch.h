// What a model takes.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

#include "base/ignored_target.h"

namespace quire {

/// Token ids in host memory, [B, T] row-major.
struct TokenBatch {
  int batch = 0;                          // B
  int length = 0;                         // T, at most n_positions
  std::span<const std::int32_t> ids;      // [B, T]
  std::span<const std::int32_t> targets;  // [B, T]: what comes after each id (already shifted), or
                                          // kIgnoredTarget; may be empty where no loss is asked for
  std::span<const std::int32_t> positions;  // [B, T]; empty: 0 … T-1 in every row
  std::span<const std::int32_t> first_key;  // [B, T] as in AttentionForward; empty: no masking
  /// Rows that lie before these in the micro-batch of all processes: dropout draws for each row
  /// what it draws for it where one process has them all.
  std::int64_t first_row = 0;
};

/// Number of targets that are not ignored.
inline std::int64_t count_targets(std::span<const std::int32_t> targets) {
  return std::ssize(targets) - std::count(targets.begin(), targets.end(), kIgnoredTarget);
}

}  // namespace quire
