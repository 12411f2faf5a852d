// The values of tensors in files: what they are like, and how far those of two files lie apart. They
// are read in pieces, on several threads, and the memory of what was read is let go of: files may be
// larger than memory. Results do not depend on the number of threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "engine/formats/source.h"

namespace quire {

/// How the reading of many values is done and watched.
struct ReadingOptions {
  int threads = 0;  ///< 0: all that are available
  /// Bytes read so far, and all; called by several threads.
  std::function<void(std::size_t done, std::size_t all)> on_read = {};
};

/// Whether its values can be read: a weight's, quantised or not.
bool has_values(const FileTensor& tensor);

/// FileTensor::read(), with NaN and infinity as what they are.
void read_values(const FileTensor& tensor, std::int64_t first, std::span<float> to);

struct TensorStatistics {
  std::int64_t nans = 0, infinities = 0;
  std::optional<FileTensor::Bad> first_bad;  ///< NaN or infinity, in the order of the shape
  std::int64_t finite = 0;                   ///< elements that all below is of; 0: it says nothing
  float least = 0, most = 0;
  double mean = 0, deviation = 0;  ///< sqrt(Σ(x - mean)²/n)
};

/// Of each of the tensors; nullopt: has_values() says no.
std::vector<std::optional<TensorStatistics>> statistics_of(std::span<const FileTensor> tensors,
                                                           const ReadingOptions& options = {});

struct TensorDifference {
  std::int64_t differing = 0;  ///< elements; NaN beside NaN is equal
  double largest = 0;          ///< |a - b|; infinity where one of both is NaN or infinite
  std::int64_t index = 0;      ///< where, in the order of the shape: the first such
  float a = 0, b = 0;          ///< there
  double scale = 0;            ///< the largest |a| that is finite
  /// `largest` as a share of `scale`.
  double relative() const { return largest == 0 ? 0 : largest / scale; }
};

/// Of each pair, which has_values() and one shape.
std::vector<TensorDifference> differences_of(
    std::span<const std::pair<const FileTensor*, const FileTensor*>> pairs,
    const ReadingOptions& options = {});

}  // namespace quire
