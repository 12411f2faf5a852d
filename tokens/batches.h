// Batches: from records of token ids to shuffled micro-batches.
//
// A row of a batch is a run of n ids and the n labels that come one later, both cut from the same
// array: ids [begin, begin + n), targets labels[begin + 1, begin + n + 1).
//  - Packing::stream takes all records as one stream and cuts a row every block_size ids; the last,
//    shorter row is kept, so every token but the first is a target exactly once an epoch.
//  - Packing::none takes each record as a row. What becomes of a record longer than block_size says
//    Overflow: it is cut to that many ids, as a tokenizer with truncation does, so that the last of
//    these is a target only; or it goes on in further rows, as a stream does; or it is refused.
//  - Packing::records cuts records in the same way and puts several into a row: best fit, the
//    longest first. Positions begin anew with each record, and attention does not cross from one
//    into the next, so a record's losses are those it has in a row of its own, bit for bit.
// Records and rows without a single valid target teach nothing and are left out.
//
// Rows of different lengths meet in one batch by padding on the right. Padding is known by its
// position, its targets are kIgnoredTarget whatever id stands there; causal attention does not look
// to the right, so no mask is needed.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "tokens/batch.h"
#include "tokens/view.h"

namespace quire {

enum class Packing {
  stream,   ///< one stream cut into blocks; documents already end with the end-of-text token
  none,     ///< one record a row, truncated to block_size, padded on the right by position
  records,  ///< as many whole records a row as fit, none of which sees another
};
const char* name_of(Packing packing);  ///< "stream", "none", "records"

/// What becomes of a record that has more than block_size ids, where each record has a row.
enum class Overflow {
  truncate,  ///< what is behind them is not used
  split,     ///< it goes on in further rows of block_size ids, none of which sees another
  error,     ///< Rows throws
};
const char* name_of(Overflow overflow);  ///< "truncate", "split", "error"

/// A micro-batch in host memory.
struct Batch {
  int rows = 0;                       // B; 0 where other ranks take all that is left of an epoch
  int length = 0;                     // T, of the longest row
  std::vector<std::int32_t> ids;      // [B, T]
  std::vector<std::int32_t> targets;  // [B, T]
  /// Of packed records, else empty: [B, T] the place in the record, and where in the row it began.
  std::vector<std::int32_t> positions, first_key;
  std::int64_t tokens = 0;  ///< ids that are not padding
  std::int64_t valid_targets = 0;
  std::int64_t first_row = 0;  ///< rows that ranks before this one take of the micro-batch

  TokenBatch view() const {
    return {.batch = rows,
            .length = length,
            .ids = ids,
            .targets = targets,
            .positions = positions,
            .first_key = first_key,
            .first_row = first_row};
  }
};

/// The table of rows over records, whose vectors must outlive it: 8 bytes a row, or 12 a record where
/// they are packed, since there may be a row for each line of a text that memory does not hold.
class Rows {
 public:
  /// Throws Error(bad_data) for longer records with Overflow::error, and for more than 2^40 ids,
  /// rows of 2^24, or 2^32 of them.
  Rows(const TokenView& records, Packing packing, int block_size,
       Overflow overflow = Overflow::truncate);

  const TokenView& records() const { return records_; }
  Packing packing() const { return packing_; }
  int block_size() const { return block_size_; }
  Overflow overflow() const { return overflow_; }
  std::int64_t size() const { return is_packed() ? std::ssize(first_) : std::ssize(pieces_); }
  std::int64_t targets() const { return targets_; }          ///< valid targets of all rows
  std::int64_t left_out() const { return left_out_; }        ///< rows without a target
  std::int64_t cut_records() const { return cut_records_; }  ///< that are longer than a row
  std::int64_t cut_tokens() const { return cut_tokens_; }    ///< ids of these
  std::int64_t unused_tokens() const { return unused_; }     ///< of these, that no row holds
  int longest() const { return longest_; }

  /// Of the rows numbered `which` a rank's share, padded to the longest of them all.
  Batch gather(std::span<const std::int64_t> which, int rank = 0, int ranks = 1) const;

 private:
  static constexpr int kBeginBits = 40, kLengthBits = 24;
  static constexpr std::uint32_t kNone = 0xFFFFFFFF;
  /// Ids from `begin` on, and the labels one later.
  struct Piece {
    std::uint64_t begin : kBeginBits;
    std::uint64_t length : kLengthBits;
  };
  bool is_packed() const { return packing_ == Packing::records; }
  void check_sizes() const;
  void reserve();
  void add_stream();
  void add_record(std::int64_t begin, std::int64_t end);
  /// False: it has no target, and is left out.
  bool add_piece(std::int64_t begin, std::int64_t length);
  std::int64_t count_labels(std::int64_t begin, std::int64_t length);
  void pack();
  std::uint32_t first_piece(std::int64_t row) const;
  std::uint32_t next_piece(std::uint32_t piece) const { return is_packed() ? next_[piece] : kNone; }
  int length_of(std::int64_t row) const;

  TokenView records_;  // without labels every id is a target
  Packing packing_;
  int block_size_;
  Overflow overflow_;
  std::vector<Piece> pieces_;  // of records: the longest first; else one a row
  // Of records: a row's first piece, and the one after each piece in its row.
  std::vector<std::uint32_t> first_, next_;
  std::vector<std::int32_t> labels_near_;  // those from label_begin_ on, to count them in order
  std::int64_t label_begin_ = 0;
  std::int64_t targets_ = 0;
  std::int64_t left_out_ = 0;
  std::int64_t cut_records_ = 0, cut_tokens_ = 0, unused_ = 0;
  int longest_ = 0;
};

/// Where in the data a training run stands: all there is to know to go on from there at once.
struct DataPosition {
  std::uint64_t seed = 0;
  std::int64_t epoch = 0;   ///< complete passes
  std::int64_t offset = 0;  ///< rows taken in this epoch
  bool operator==(const DataPosition&) const = default;
};

/// The order of `count` rows in an epoch: a Fisher-Yates shuffle whose draws are a function of
/// seed, epoch and place alone.
std::vector<std::uint32_t> shuffled_order(std::int64_t count, std::uint64_t seed,
                                          std::int64_t epoch);

/// Goes through rows in shuffled order, epoch after epoch, from any position. Of several ranks each
/// takes its share of every micro-batch, which has batch_size rows in all.
class Batches {
 public:
  Batches(const Rows& rows, int batch_size, DataPosition start, int rank = 0, int ranks = 1);

  /// Up to `count` micro-batches of up to batch_size rows: fewer at the end
  /// of an epoch, never none.
  std::vector<Batch> next_window(int count);

  const DataPosition& position() const { return position_; }
  bool at_epoch_end() const { return position_.offset == rows_->size(); }
  double epoch() const;  ///< with the part of the current one

 private:
  const Rows* rows_;
  int batch_size_, rank_, ranks_;
  DataPosition position_;
  std::vector<std::uint32_t> order_;
  std::int64_t order_epoch_ = -1;
};

}  // namespace quire
