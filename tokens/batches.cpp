#include "tokens/batches.h"

#include <algorithm>
#include <array>
#include <map>
#include <numeric>

#include "base/error.h"
#include "base/random.h"
#include "base/share.h"
#include "base/text.h"

namespace quire {
namespace {

constexpr std::uint64_t kShuffleStream =
    0x73687566666C65;  // "shuffle", apart from dropout's streams

/// Number `index` of the stream, uniform in [0, n): the high half of a 32×64-bit product of a
/// 64-bit draw, biased by less than n/2^64.
std::int64_t draw_below(RandomKey key, std::uint64_t index, std::int64_t n) {
  const unsigned __int128 high = random_bits(key, 2 * index), low = random_bits(key, 2 * index + 1);
  return static_cast<std::int64_t>((high << 32 | low) * n >> 64);
}

}  // namespace

const char* name_of(Packing packing) {
  constexpr std::array kNames = {"stream", "none", "records"};
  return kNames[static_cast<std::size_t>(packing)];
}

const char* name_of(Overflow overflow) {
  constexpr std::array kNames = {"truncate", "split", "error"};
  return kNames[static_cast<std::size_t>(overflow)];
}

Rows::Rows(const TokenView& records, Packing packing, int block_size, Overflow overflow)
    : records_(records), packing_(packing), block_size_(block_size), overflow_(overflow) {
  check_sizes();
  reserve();
  if (packing == Packing::stream) {
    add_stream();
  } else {
    records.offsets.for_each_record(
        [&](std::int64_t begin, std::int64_t end) { add_record(begin, end); });
  }
  labels_near_ = {};
  if (cut_records_ > 0 && overflow == Overflow::error) {
    throw Error(Fault::bad_data,
                counted(cut_records_, "record") + (cut_records_ == 1 ? " is" : " are") +
                    " longer than a row of " + counted(block_size, "token"),
                {"together they have " + counted(cut_tokens_, "token")},
                "`overflow` split or truncate, a larger `block_size`, or `packing` stream"_named);
  }
  if (is_packed()) {
    pack();
  } else {
    for (const Piece& piece : pieces_) longest_ = std::max<int>(longest_, piece.length);
  }
}

void Rows::check_sizes() const {
  const std::int64_t ids = records_.ids.size();
  const std::int64_t longest = std::min<std::int64_t>(block_size_, ids);
  if (ids < std::int64_t{1} << kBeginBits && longest < std::int64_t{1} << kLengthBits) return;
  throw Error(Fault::bad_data,
              "rows of " + counted(longest, "token") + " out of " + with_commas(ids) +
                  " are too many to number",
              {"a row has less than 2^24, the data less than 2^40"},
              "a smaller `block_size`"_named);
}

// A vector that grows would hold its pieces up to three times.
void Rows::reserve() {
  std::int64_t most = packing_ == Packing::stream ? 0 : records_.size();
  if (packing_ == Packing::stream || overflow_ == Overflow::split)
    most += records_.ids.size() / block_size_ + 1;
  if (most >= kNone) {
    throw Error(Fault::bad_data, with_commas(most) + " rows are too many to number",
                {"there may be less than 2^32"},
                "a larger `block_size`, or `packing` stream"_named);
  }
  pieces_.reserve(most);
}

void Rows::add_stream() {
  const std::int64_t last = records_.ids.size() - 1;  // it is a target only
  for (std::int64_t begin = 0; begin < last; begin += block_size_) {
    add_piece(begin, std::min<std::int64_t>(block_size_, last - begin));
  }
}

void Rows::add_record(std::int64_t begin, std::int64_t end) {
  const std::int64_t length = end - begin;
  if (length <= block_size_) {
    add_piece(begin, length - 1);
    return;
  }
  ++cut_records_;
  cut_tokens_ += length;
  if (overflow_ == Overflow::split) {
    for (; begin < end - 1; begin += block_size_) {
      add_piece(begin, std::min<std::int64_t>(block_size_, end - 1 - begin));
    }
  } else {
    unused_ += add_piece(begin, block_size_ - 1) ? length - (block_size_ - 1) : length;
  }
}

bool Rows::add_piece(std::int64_t begin, std::int64_t length) {
  std::int64_t valid = std::max<std::int64_t>(length, 0);
  if (valid > 0 && records_.labels.size() > 0) valid = count_labels(begin + 1, length);
  if (valid == 0) {
    ++left_out_;
    return false;
  }
  pieces_.push_back({.begin = static_cast<std::uint64_t>(begin) & ((1ull << kBeginBits) - 1),
                     .length = static_cast<std::uint64_t>(length) & ((1ull << kLengthBits) - 1)});
  targets_ += valid;
  return true;
}

// Pieces come in order: most of their labels were read with those of the piece before.
std::int64_t Rows::count_labels(std::int64_t begin, std::int64_t length) {
  constexpr std::int64_t kNear = 1 << 14;
  if (begin < label_begin_ || begin + length > label_begin_ + std::ssize(labels_near_)) {
    label_begin_ = begin;
    labels_near_.resize(std::min(std::max(kNear, length), records_.labels.size() - begin));
    records_.labels.copy(begin, labels_near_);
  }
  return count_targets(std::span(labels_near_).subspan(begin - label_begin_, length));
}

void Rows::pack() {
  std::sort(pieces_.begin(), pieces_.end(), [](const Piece& a, const Piece& b) {
    return a.length != b.length ? a.length > b.length : a.begin < b.begin;
  });
  next_.assign(pieces_.size(), kNone);
  std::vector<std::uint32_t> last;         // piece of each row
  std::multimap<int, std::uint32_t> open;  // room that is left -> row
  for (std::uint32_t p = 0; p < pieces_.size(); ++p) {
    const int length = pieces_[p].length;
    auto fit = open.lower_bound(length);
    if (fit == open.end()) {
      fit = open.emplace(block_size_, static_cast<std::uint32_t>(first_.size()));
      first_.push_back(p);
      last.push_back(p);
    } else {
      next_[last[fit->second]] = p;
      last[fit->second] = p;
    }
    const auto [room, row] = *fit;
    open.erase(fit);
    open.emplace(room - length, row);
    longest_ = std::max(longest_, block_size_ - (room - length));
  }
}

std::uint32_t Rows::first_piece(std::int64_t row) const {
  return is_packed() ? first_[row] : static_cast<std::uint32_t>(row);
}

int Rows::length_of(std::int64_t row) const {
  int length = 0;
  for (std::uint32_t p = first_piece(row); p != kNone; p = next_piece(p)) {
    length += pieces_[p].length;
  }
  return length;
}

Batch Rows::gather(std::span<const std::int64_t> all, int rank, int ranks) const {
  Batch batch;
  for (const std::int64_t r : all) batch.length = std::max(batch.length, length_of(r));
  const Share share = share_of(std::ssize(all), rank, ranks);
  const auto which = all.subspan(share.begin, share.end - share.begin);
  batch.first_row = share.begin;
  batch.rows = static_cast<int>(which.size());
  const std::size_t T = batch.length;
  batch.ids.assign(which.size() * T, 0);
  batch.targets.assign(which.size() * T, kIgnoredTarget);
  const bool packed = is_packed();
  if (packed) {
    batch.positions.assign(which.size() * T, 0);
    batch.first_key.assign(which.size() * T, 0);
  }
  for (std::size_t b = 0; b < which.size(); ++b) {
    std::size_t t = 0;
    for (std::uint32_t p = first_piece(which[b]); p != kNone; p = next_piece(p)) {
      const std::size_t at = b * T + t, n = pieces_[p].length;
      const std::int64_t begin = pieces_[p].begin;
      records_.ids.copy(begin, std::span(batch.ids).subspan(at, n));
      (records_.labels.size() > 0 ? records_.labels : records_.ids)
          .copy(begin + 1, std::span(batch.targets).subspan(at, n));
      if (packed) {
        std::iota(&batch.positions[at], &batch.positions[at] + n, 0);
        std::fill_n(&batch.first_key[at], n, static_cast<std::int32_t>(t));
      }
      t += n;
    }
    if (packed) {  // padding sees itself alone
      std::int32_t* const row = batch.first_key.data() + b * T;
      std::iota(row + t, row + T, static_cast<std::int32_t>(t));
    }
    batch.tokens += t;
  }
  batch.valid_targets = count_targets(batch.targets);
  return batch;
}

std::vector<std::uint32_t> shuffled_order(std::int64_t count, std::uint64_t seed,
                                          std::int64_t epoch) {
  std::vector<std::uint32_t> order(count);
  std::iota(order.begin(), order.end(), 0u);
  const RandomKey key{seed, mix(kShuffleStream, epoch)};
  for (std::int64_t i = count - 1; i > 0; --i) {
    std::swap(order[i], order[draw_below(key, i, i + 1)]);
  }
  return order;
}

Batches::Batches(const Rows& rows, int batch_size, DataPosition start, int rank, int ranks)
    : rows_(&rows), batch_size_(batch_size), rank_(rank), ranks_(ranks), position_(start) {}

std::vector<Batch> Batches::next_window(int count) {
  if (at_epoch_end()) {
    ++position_.epoch;
    position_.offset = 0;
  }
  if (order_epoch_ != position_.epoch) {
    order_ = shuffled_order(rows_->size(), position_.seed, position_.epoch);
    order_epoch_ = position_.epoch;
  }
  std::vector<Batch> window;
  while (std::ssize(window) < count && !at_epoch_end()) {
    const std::int64_t size = std::min<std::int64_t>(batch_size_, rows_->size() - position_.offset);
    const auto first = order_.begin() + position_.offset;
    const std::vector<std::int64_t> which(first, first + size);
    window.push_back(rows_->gather(which, rank_, ranks_));
    position_.offset += size;
  }
  return window;
}

double Batches::epoch() const {
  return static_cast<double>(position_.epoch) +
         static_cast<double>(position_.offset) / static_cast<double>(rows_->size());
}

}  // namespace quire
