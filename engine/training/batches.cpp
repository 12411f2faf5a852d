#include "engine/training/batches.h"

#include <algorithm>
#include <map>
#include <numeric>

#include "base/error.h"
#include "base/text.h"
#include "engine/training/ranks.h"
#include "kernels/random.h"

namespace quire {
namespace {

constexpr std::uint64_t kShuffleStream =
    0x73687566666C65;  // "shuffle", apart from dropout's streams

/// Number `index` of the stream, uniform in [0, n): the high half of a 32×64-bit product of a
/// 64-bit draw, biased by less than n/2^64.
std::int64_t draw_below(RandomKey key, std::uint64_t index, std::int64_t n) {
  const std::uint64_t high = random_bits(key, 2 * index);
  const std::uint64_t low = random_bits(key, 2 * index + 1);
  const auto product = static_cast<unsigned __int128>(high << 32 | low) *
                       static_cast<unsigned __int128>(static_cast<std::uint64_t>(n));
  return static_cast<std::int64_t>(static_cast<std::uint64_t>(product >> 64));
}

}  // namespace

const char* name_of(Packing packing) {
  switch (packing) {
    case Packing::stream:
      return "stream";
    case Packing::none:
      return "none";
    case Packing::records:
      return "records";
  }
  return "";
}

const char* name_of(Overflow overflow) {
  switch (overflow) {
    case Overflow::truncate:
      return "truncate";
    case Overflow::split:
      return "split";
    case Overflow::error:
      return "error";
  }
  return "";
}

Rows::Rows(const TokenView& records, Packing packing, int block_size, Overflow overflow)
    : ids_(records.ids), labels_(records.labels), packing_(packing) {
  if (packing == Packing::stream) {
    const std::int64_t last = ids_.size() - 1;  // it is a target only
    for (std::int64_t begin = 0; begin < last; begin += block_size) {
      add_piece(begin, std::min<std::int64_t>(block_size, last - begin));
    }
    put_each_in_a_row();
    return;
  }
  for (std::int64_t r = 0; r < records.size(); ++r) {
    const std::int64_t begin = records.offsets[static_cast<std::size_t>(r)];
    const std::int64_t end = records.offsets[static_cast<std::size_t>(r) + 1];
    add_record(begin, end, block_size, overflow);
  }
  if (cut_records_ > 0 && overflow == Overflow::error) {
    throw Error(Fault::bad_data,
                counted(cut_records_, "record") + (cut_records_ == 1 ? " is" : " are") +
                    " longer than a row of " + counted(block_size, "token"),
                {"together they have " + counted(cut_tokens_, "token")},
                "--overflow split or truncate, a larger --block-size, or --packing stream");
  }
  if (packing == Packing::records) {
    pack(block_size);
  } else {
    put_each_in_a_row();
  }
}

void Rows::add_record(std::int64_t begin, std::int64_t end, int block_size, Overflow overflow) {
  const std::int64_t length = end - begin;
  if (length <= block_size) {
    add_piece(begin, length - 1);
    return;
  }
  ++cut_records_;
  cut_tokens_ += length;
  if (overflow == Overflow::split) {
    for (; begin < end - 1; begin += block_size) {
      add_piece(begin, std::min<std::int64_t>(block_size, end - 1 - begin));
    }
  } else {
    unused_ += add_piece(begin, block_size - 1) ? length - (block_size - 1) : length;
  }
}

bool Rows::add_piece(std::int64_t begin, std::int64_t length) {
  std::int64_t valid = std::max<std::int64_t>(length, 0);
  if (valid > 0 && labels_.size() > 0) {
    std::vector<std::int32_t> targets(static_cast<std::size_t>(length));
    labels_.copy(begin + 1, targets);
    valid = count_targets(targets);
  }
  if (valid == 0) {
    ++left_out_;
    return false;
  }
  pieces_.push_back({begin, static_cast<std::int32_t>(length)});
  targets_ += valid;
  return true;
}

void Rows::put_each_in_a_row() {
  for (std::size_t p = 0; p < pieces_.size(); ++p) {
    rows_.push_back({static_cast<std::int64_t>(p), 1, pieces_[p].length});
    longest_ = std::max(longest_, static_cast<int>(pieces_[p].length));
  }
}

void Rows::pack(int block_size) {
  std::vector<Piece> longest_first = pieces_;
  std::stable_sort(longest_first.begin(), longest_first.end(),
                   [](const Piece& a, const Piece& b) { return a.length > b.length; });
  std::vector<std::vector<Piece>> bins;
  std::multimap<int, std::size_t> open;  // room that is left -> bin
  for (const Piece& piece : longest_first) {
    auto fit = open.lower_bound(piece.length);
    if (fit == open.end()) {
      fit = open.emplace(block_size, bins.size());
      bins.emplace_back();
    }
    const auto [room, bin] = *fit;
    open.erase(fit);
    open.emplace(room - piece.length, bin);
    bins[bin].push_back(piece);
  }
  pieces_.clear();
  for (const std::vector<Piece>& bin : bins) {
    Row row{std::ssize(pieces_), static_cast<std::int32_t>(bin.size()), 0};
    for (const Piece& piece : bin) row.length += piece.length;
    pieces_.insert(pieces_.end(), bin.begin(), bin.end());
    rows_.push_back(row);
    longest_ = std::max(longest_, static_cast<int>(row.length));
  }
}

Batch Rows::gather(std::span<const std::int64_t> which) const {
  return gather(which, 0, 1);
}

Batch Rows::gather(std::span<const std::int64_t> all, int rank, int ranks) const {
  Batch batch;
  for (const std::int64_t r : all) {
    batch.length =
        std::max(batch.length, static_cast<int>(rows_[static_cast<std::size_t>(r)].length));
  }
  const Share share = share_of(static_cast<std::int64_t>(all.size()), rank, ranks);
  const auto which = all.subspan(static_cast<std::size_t>(share.begin),
                                 static_cast<std::size_t>(share.end - share.begin));
  batch.first_row = share.begin;
  batch.rows = static_cast<int>(which.size());
  const auto T = static_cast<std::size_t>(batch.length);
  batch.ids.assign(which.size() * T, 0);
  batch.targets.assign(which.size() * T, kIgnoredTarget);
  const bool packed = packing_ == Packing::records;
  if (packed) {
    batch.positions.assign(which.size() * T, 0);
    batch.first_key.assign(which.size() * T, 0);
  }
  for (std::size_t b = 0; b < which.size(); ++b) {
    const Row& row = rows_[static_cast<std::size_t>(which[b])];
    std::size_t t = 0;
    for (std::int32_t p = 0; p < row.pieces; ++p) {
      const Piece& piece = pieces_[static_cast<std::size_t>(row.first_piece + p)];
      const auto at = static_cast<std::ptrdiff_t>(b * T + t);
      const auto n = static_cast<std::size_t>(piece.length);
      ids_.copy(piece.begin, std::span(batch.ids).subspan(b * T + t, n));
      (labels_.size() > 0 ? labels_ : ids_)
          .copy(piece.begin + 1, std::span(batch.targets).subspan(b * T + t, n));
      if (packed) {
        std::iota(batch.positions.begin() + at, batch.positions.begin() + at + piece.length, 0);
        std::fill_n(batch.first_key.begin() + at, piece.length, static_cast<std::int32_t>(t));
      }
      t += static_cast<std::size_t>(piece.length);
    }
    if (packed) {  // padding sees itself alone
      std::iota(batch.first_key.begin() + static_cast<std::ptrdiff_t>(b * T + t),
                batch.first_key.begin() + static_cast<std::ptrdiff_t>((b + 1) * T),
                static_cast<std::int32_t>(t));
    }
    batch.tokens += row.length;
  }
  batch.valid_targets = count_targets(batch.targets);
  return batch;
}

std::vector<std::int64_t> shuffled_order(std::int64_t count, std::uint64_t seed,
                                         std::int64_t epoch) {
  std::vector<std::int64_t> order(static_cast<std::size_t>(count));
  std::iota(order.begin(), order.end(), 0);
  const RandomKey key{seed, mix(kShuffleStream, static_cast<std::uint64_t>(epoch))};
  for (std::int64_t i = count - 1; i > 0; --i) {
    const std::int64_t j = draw_below(key, static_cast<std::uint64_t>(i), i + 1);
    std::swap(order[static_cast<std::size_t>(i)], order[static_cast<std::size_t>(j)]);
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
  while (static_cast<int>(window.size()) < count && !at_epoch_end()) {
    const std::int64_t size = std::min<std::int64_t>(batch_size_, rows_->size() - position_.offset);
    window.push_back(rows_->gather(
        {order_.data() + position_.offset, static_cast<std::size_t>(size)}, rank_, ranks_));
    position_.offset += size;
  }
  return window;
}

double Batches::epoch() const {
  return static_cast<double>(position_.epoch) +
         static_cast<double>(position_.offset) / static_cast<double>(rows_->size());
}

}  // namespace quire
