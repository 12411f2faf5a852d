// Records of token ids: in vectors, in files that are mapped into memory,
// or spilled (byte_spill.h).
//
// A view goes over ids of 16 or 32 bits in any number of parts, so that data larger than memory are
// trained on, and data that are split in two are not copied. Ids of 16 bits are widened when they
// are read; the largest of them, 65535, is no id but stands for an ignored label.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <span>
#include <variant>
#include <vector>

#include "base/byte_spill.h"
#include "base/ignored_target.h"

namespace quire {

/// Vocabularies of so many ids at most have ids of 16 bits: 65535 is free
/// to stand for an ignored label.
inline constexpr int kNarrowVocabulary = 65'535;
inline constexpr std::uint16_t kIgnored16 = 0xFFFF;

/// Records of token ids, one after the other: record r is ids[offsets[r] … offsets[r+1]).
/// Ids beyond the last offset are of a record that goes on in what comes next.
struct TokenRecords {
  std::vector<std::int32_t> ids;
  std::vector<std::int32_t> labels;  ///< aligned with ids as in transformers; empty: labels = ids
  std::vector<std::int64_t> offsets{0};  ///< number of records + 1
  std::int64_t size() const { return static_cast<std::int64_t>(offsets.size()) - 1; }
};

/// Where records begin, and where the last one ends: in vectors, mapped, or spilled as 64 bits
/// each. Cheap to copy; what it views must outlive it.
class RecordOffsets {
 public:
  RecordOffsets() = default;
  RecordOffsets(const std::vector<std::int64_t>& offsets)
      : RecordOffsets(std::vector<std::span<const std::int64_t>>{offsets}) {}
  /// Those of data that follow each other, from 0 in each.
  explicit RecordOffsets(const std::vector<std::span<const std::int64_t>>& parts);
  explicit RecordOffsets(const ByteSpill& offsets);

  bool empty() const { return size_ == 0; }
  std::int64_t size() const { return size_; }  ///< number of records + 1, or 0
  std::int64_t records() const { return std::max<std::int64_t>(size_ - 1, 0); }
  std::int64_t operator[](std::int64_t i) const;
  std::int64_t back() const { return (*this)[size() - 1]; }
  /// Calls take(offset) for each, in order.
  template <class Take>
  void for_each(const Take& take) const;
  /// Calls take(begin, end) for each record, in order.
  template <class Take>
  void for_each_record(const Take& take) const;

 private:
  struct Part {
    std::int64_t first;  // number of its first offset
    std::int64_t ids;    // of the parts before
    std::span<const std::int64_t> offsets;
  };
  void copy(std::int64_t begin, std::span<std::int64_t> out) const;

  std::shared_ptr<const std::vector<Part>> parts_;
  const ByteSpill* spilled_ = nullptr;
  std::int64_t size_ = 0;
};

/// The first `count` of ids that are spilled, 2 or 4 bytes each.
struct SpilledIds {
  const ByteSpill* ids;
  std::int64_t count;
  int bytes_per_id;
};

/// Ids that lie in one or more places. Cheap to copy; what it views must outlive it.
class TokenStream {
 public:
  using Part =
      std::variant<std::span<const std::int32_t>, std::span<const std::uint16_t>, SpilledIds>;
  /// What a selection takes of a stream: a run of ids from `source` on, which stand at `begin` in
  /// the selection and reach up to where the next run begins.
  struct Run {
    std::int64_t begin, source;
  };

  TokenStream() = default;
  explicit TokenStream(const std::vector<Part>& parts);
  /// `size` of its ids, run by run. It must not be a selection itself.
  TokenStream selection(std::shared_ptr<const std::vector<Run>> runs, std::int64_t size) const;

  std::int64_t size() const { return size_; }
  /// Ids begin … begin + out.size() - 1.
  void copy(std::int64_t begin, std::span<std::int32_t> out) const;
  /// Calls take(ids, place of the first) for stretches of the stream, in order.
  template <class Take>
  void for_each(const Take& take) const;

 private:
  struct Placed {
    std::int64_t begin;  // in the stream
    Part part;
  };
  void copy_parts(std::int64_t begin, std::span<std::int32_t> out) const;

  std::shared_ptr<const std::vector<Placed>> parts_;
  std::shared_ptr<const std::vector<Run>> runs_;  // none: all of the parts
  std::int64_t size_ = 0;
};

/// TokenRecords as training reads them.
struct TokenView {
  TokenView() = default;
  /// Of vectors, which must outlive it.
  TokenView(const TokenRecords& records);

  TokenStream ids, labels;
  RecordOffsets offsets;
  std::shared_ptr<const void> owner;  ///< of all that is viewed, where it is shared
  std::int64_t size() const { return offsets.records(); }
};

template <class Take>
void RecordOffsets::for_each(const Take& take) const {
  constexpr std::int64_t kStretch = 1 << 13;
  std::vector<std::int64_t> stretch;
  for (std::int64_t at = 0; at < size(); at += kStretch) {
    stretch.resize(static_cast<std::size_t>(std::min(kStretch, size() - at)));
    copy(at, stretch);
    for (const std::int64_t offset : stretch) take(offset);
  }
}

template <class Take>
void RecordOffsets::for_each_record(const Take& take) const {
  std::int64_t begin = -1;
  for_each([&](std::int64_t end) {
    if (begin >= 0) take(begin, end);
    begin = end;
  });
}

template <class Take>
void TokenStream::for_each(const Take& take) const {
  constexpr std::int64_t kStretch = 1 << 14;
  std::vector<std::int32_t> stretch;
  for (std::int64_t at = 0; at < size_; at += kStretch) {
    stretch.resize(static_cast<std::size_t>(at + kStretch < size_ ? kStretch : size_ - at));
    copy(at, stretch);
    take(std::span<const std::int32_t>(stretch), at);
  }
}

}  // namespace quire
