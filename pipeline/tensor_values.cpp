#include "pipeline/tensor_values.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <memory>

#include "base/parallel.h"

namespace quire {
namespace {

constexpr std::int64_t kPiece = 1 << 20;  // elements: 4 MB a thread

struct Piece {
  std::size_t tensor;  ///< its place in the list
  std::int64_t first, count;
};

/// The memory of a piece, and of the whole tensor behind the last one where it lies across.
void let_go(const FileTensor& tensor, const Piece& piece) {
  const auto byte = [&](const std::byte* at) {
    return static_cast<std::size_t>(at - tensor.file->bytes().data());
  };
  if (tensor.transposed) {
    if (piece.first + piece.count < tensor.count()) return;
    const std::byte* begin = tensor.bytes.data();
    return tensor.file->let_go(byte(begin), byte(begin + tensor.bytes.size()));
  }
  tensor.file->let_go(byte(tensor.at(piece.first)), byte(tensor.at(piece.first + piece.count)));
}

/// Calls work(i, piece) for the pieces of all tensors, of which `lists` has one or several of one
/// shape each; i counts them.
template <class Work>
void for_each_piece(const std::vector<Piece>& pieces,
                    std::span<const std::vector<const FileTensor*>> lists,
                    const ReadingOptions& options, const Work& work) {
  std::size_t all = 0;
  for (const auto& tensors : lists) {
    for (const FileTensor* tensor : tensors) all += tensor->bytes.size();
  }
  std::atomic<std::size_t> done{0};
  parallel_for(options.threads, pieces.size(), [&](std::size_t i) {
    const Piece& piece = pieces[i];
    work(i, piece);
    for (const FileTensor* tensor : lists[piece.tensor]) {
      let_go(*tensor, piece);
      const double share = static_cast<double>(piece.count) / static_cast<double>(tensor->count());
      done += static_cast<std::size_t>(share * static_cast<double>(tensor->bytes.size()));
    }
    if (options.on_read) options.on_read(std::min(done.load(), all), all);
  });
}

std::vector<Piece> pieces_of(std::span<const std::vector<const FileTensor*>> lists) {
  std::vector<Piece> pieces;
  for (std::size_t i = 0; i < lists.size(); ++i) {
    if (lists[i].empty()) continue;
    std::int64_t size = kPiece;
    for (const FileTensor* tensor : lists[i]) {  // whole rows of one are whole rows of all
      if (const std::int64_t own = tensor->whole_rows(kPiece); own != kPiece) size = own;
    }
    const std::int64_t count = lists[i].front()->count();
    for (std::int64_t first = 0; first < count; first += size) {
      pieces.push_back({i, first, std::min(size, count - first)});
    }
  }
  return pieces;
}

/// Takes in those of further elements. Until all are there, `deviation` is the sum of squares.
void merge(const TensorStatistics& part, TensorStatistics& to) {
  to.nans += part.nans;
  to.infinities += part.infinities;
  if (!to.first_bad) to.first_bad = part.first_bad;
  if (part.finite == 0) return;
  // Chan, Golub and LeVeque (1983): sums of squares of two parts.
  const auto m = static_cast<double>(to.finite), n = static_cast<double>(part.finite);
  const double apart = part.mean - to.mean;
  to.deviation += part.deviation + apart * apart * m * n / (m + n);
  to.mean += apart * n / (m + n);
  to.least = to.finite == 0 ? part.least : std::min(to.least, part.least);
  to.most = to.finite == 0 ? part.most : std::max(to.most, part.most);
  to.finite += part.finite;
}

/// Of values without NaN and infinity, few enough for the first cache.
TensorStatistics of_finite(std::span<const float> values) {
  TensorStatistics block;
  block.finite = std::ssize(values);
  if (values.empty()) return block;
  block.least = block.most = values[0];
  double sum = 0;
  for (const float value : values) {
    block.least = std::min(block.least, value);
    block.most = std::max(block.most, value);
    sum += value;
  }
  block.mean = sum / static_cast<double>(values.size());
  for (const float value : values) {
    block.deviation += (value - block.mean) * (value - block.mean);
  }
  return block;
}

/// Of elements from `first` on.
TensorStatistics of_values(std::span<const float> values, std::int64_t first) {
  const auto finite = [](float value) { return std::isfinite(value); };
  if (std::all_of(values.begin(), values.end(), finite)) return of_finite(values);
  std::vector<float> rest;
  std::copy_if(values.begin(), values.end(), std::back_inserter(rest), finite);
  TensorStatistics block = of_finite(rest);
  block.nans = std::count_if(values.begin(), values.end(), [](float v) { return std::isnan(v); });
  block.infinities = std::ssize(values) - block.finite - block.nans;
  const auto bad = std::find_if_not(values.begin(), values.end(), finite);
  block.first_bad = {first + (bad - values.begin()), *bad};
  return block;
}

/// Takes in the elements from `first` on of a pair.
void compare(std::span<const float> a, std::span<const float> b, std::int64_t first,
             TensorDifference& to) {
  for (std::size_t i = 0; i < a.size(); ++i) {
    const float x = a[i], y = b[i];
    if (std::isfinite(x)) to.scale = std::max(to.scale, static_cast<double>(std::abs(x)));
    if (x == y || (std::isnan(x) && std::isnan(y))) continue;
    ++to.differing;
    double apart = std::abs(static_cast<double>(x) - static_cast<double>(y));
    if (std::isnan(apart)) apart = std::numeric_limits<double>::infinity();
    if (apart <= to.largest) continue;
    to.largest = apart;
    to.index = first + static_cast<std::int64_t>(i);
    to.a = x;
    to.b = y;
  }
}

void merge(const TensorDifference& part, TensorDifference& to) {
  to.differing += part.differing;
  to.scale = std::max(to.scale, part.scale);
  if (part.largest <= to.largest) return;
  to.largest = part.largest;
  to.index = part.index;
  to.a = part.a;
  to.b = part.b;
}

}  // namespace

bool has_values(const FileTensor& tensor) {
  return tensor.is_quantised() || (tensor.has_dtype() && tensor.type->dtype != DType::i32);
}

void read_values(const FileTensor& tensor, std::int64_t first, std::span<float> to) {
  tensor.read(first, to);
  if (tensor.type->dtype != DType::f16) return;
  // Of f16 they come out as 2^16 and above, which no finite one reaches.
  constexpr float kInfinite = 65536.0f;
  for (float& value : to) {
    if (std::abs(value) < kInfinite) continue;
    value = std::abs(value) == kInfinite
                ? std::copysign(std::numeric_limits<float>::infinity(), value)
                : std::numeric_limits<float>::quiet_NaN();
  }
}

std::vector<std::optional<TensorStatistics>> statistics_of(std::span<const FileTensor> tensors,
                                                           const ReadingOptions& options) {
  std::vector<std::vector<const FileTensor*>> lists(tensors.size());
  std::vector<std::optional<TensorStatistics>> statistics(tensors.size());
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    if (!has_values(tensors[i])) continue;
    lists[i] = {&tensors[i]};
    statistics[i].emplace();
  }
  const std::vector<Piece> pieces = pieces_of(lists);
  std::vector<TensorStatistics> parts(pieces.size());
  for_each_piece(pieces, lists, options, [&](std::size_t i, const Piece& piece) {
    std::vector<float> values(static_cast<std::size_t>(piece.count));
    read_values(tensors[piece.tensor], piece.first, values);
    constexpr std::int64_t kBlock = 4096;  // 16 KB: read from memory once
    for (std::int64_t at = 0; at < piece.count; at += kBlock) {
      const std::int64_t count = std::min(kBlock, piece.count - at);
      merge(of_values(std::span(values).subspan(static_cast<std::size_t>(at),
                                                static_cast<std::size_t>(count)),
                      piece.first + at),
            parts[i]);
    }
  });
  for (std::size_t i = 0; i < pieces.size(); ++i) merge(parts[i], *statistics[pieces[i].tensor]);
  for (std::optional<TensorStatistics>& of : statistics) {
    if (of && of->finite > 0)
      of->deviation = std::sqrt(of->deviation / static_cast<double>(of->finite));
  }
  return statistics;
}

std::vector<TensorDifference> differences_of(
    std::span<const std::pair<const FileTensor*, const FileTensor*>> pairs,
    const ReadingOptions& options) {
  std::vector<std::vector<const FileTensor*>> lists;
  lists.reserve(pairs.size());
  for (const auto& [a, b] : pairs) lists.push_back({a, b});
  const std::vector<Piece> pieces = pieces_of(lists);
  std::vector<TensorDifference> parts(pieces.size()), differences(pairs.size());
  for_each_piece(pieces, lists, options, [&](std::size_t i, const Piece& piece) {
    std::vector<float> a(static_cast<std::size_t>(piece.count)), b(a.size());
    read_values(*lists[piece.tensor][0], piece.first, a);
    read_values(*lists[piece.tensor][1], piece.first, b);
    compare(a, b, piece.first, parts[i]);
  });
  for (std::size_t i = 0; i < pieces.size(); ++i) merge(parts[i], differences[pieces[i].tensor]);
  return differences;
}

}  // namespace quire
