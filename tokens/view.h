// Records of token ids: in vectors, in files that are mapped into memory,
// or spilled (byte_spill.h).
//
// A view goes over ids of 16 or 32 bits in any number of parts, so that data larger than memory are
// trained on, and data that are split in two are not copied. Ids of 16 bits are widened when they
// are read; the largest of them, 65535, is no id but stands for an ignored label.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "base/byte_spill.h"
#include "base/ignored_target.h"

namespace quire {

/// Vocabularies of so many ids at most have ids of 16 bits: 65535 is free
/// to stand for an ignored label.
inline constexpr int kNarrowVocabulary = 65'535;
inline constexpr std::uint16_t kIgnored16 = 0xFFFF;
template <class T>
void widen(std::span<const std::uint16_t> ids, std::span<T> out) {
  std::transform(ids.begin(), ids.end(), out.begin(),
                 [](T id) { return id == kIgnored16 ? kIgnoredTarget : id; });
}

/// Records of token ids, one after the other: record r is ids[offsets[r] … offsets[r+1]).
/// Ids beyond the last offset are of a record that goes on in what comes next.
struct TokenRecords {
  std::vector<std::int32_t> ids;
  std::vector<std::int32_t> labels;  ///< aligned with ids as in transformers; empty: labels = ids
  std::vector<std::int64_t> offsets{0};  ///< number of records + 1
  std::int64_t size() const { return static_cast<std::int64_t>(offsets.size()) - 1; }
};

/// Numbers in order that lie in one or more places. Cheap to copy; what it views must outlive it.
template <class T>
class NumberStream {
 public:
  /// A place: how many it has, and what reads those from `first` on.
  struct Part {
    using Read = std::function<void(std::int64_t first, std::span<T> out)>;
    Part(std::int64_t its_size, Read its_read) : size(its_size), read(std::move(its_read)) {}
    Part(std::span<const T> numbers);
    /// Ids and labels of 16 bits.
    Part(std::span<const std::uint16_t> ids);

    std::int64_t size;
    Read read;
  };

  NumberStream() = default;
  explicit NumberStream(const std::vector<Part>& parts);

  std::int64_t size() const { return size_; }
  /// Numbers begin … begin + out.size() - 1.
  void copy(std::int64_t begin, std::span<T> out) const;
  /// Calls take(numbers, place of the first) for stretches of the stream, in order.
  template <class Take>
  void for_each(const Take& take) const {
    constexpr std::int64_t kStretch = 1 << 14;
    std::vector<T> stretch;
    for (std::int64_t at = 0; at < size_; at += kStretch) {
      stretch.resize(std::min(kStretch, size_ - at));
      copy(at, stretch);
      take(std::span<const T>(stretch), at);
    }
  }

 private:
  struct Placed {
    std::int64_t begin;  // in the stream
    Part part;
  };
  std::shared_ptr<const std::vector<Placed>> parts_;
  std::int64_t size_ = 0;
};

class TokenStream : public NumberStream<std::int32_t> {
 public:
  using NumberStream::NumberStream;
  /// What a selection takes of a stream: a run of ids from `source` on, which stand at `begin` in
  /// the selection and reach up to where the next run begins.
  struct Run {
    std::int64_t begin, source;
  };
  /// `size` of its ids, run by run.
  TokenStream selection(std::shared_ptr<const std::vector<Run>> runs, std::int64_t size) const;
};

/// Where records begin, and where the last one ends.
class RecordOffsets : public NumberStream<std::int64_t> {
 public:
  RecordOffsets() = default;
  RecordOffsets(const std::vector<std::int64_t>& offsets)
      : RecordOffsets(std::vector<std::span<const std::int64_t>>{offsets}) {}
  /// Those of data that follow each other, from 0 in each.
  explicit RecordOffsets(const std::vector<std::span<const std::int64_t>>& parts);
  explicit RecordOffsets(const ByteSpill& offsets);

  bool empty() const { return size() == 0; }
  std::int64_t records() const { return std::max<std::int64_t>(size() - 1, 0); }
  std::int64_t operator[](std::int64_t i) const;
  std::int64_t back() const { return (*this)[size() - 1]; }
  /// Calls take(offset) for each, in order.
  template <class Take>
  void for_each(const Take& take) const {
    NumberStream::for_each([&](std::span<const std::int64_t> stretch, std::int64_t) {
      for (const std::int64_t offset : stretch) take(offset);
    });
  }
  /// Calls take(begin, end) for each record, in order.
  template <class Take>
  void for_each_record(const Take& take) const {
    std::int64_t begin = -1;
    for_each([&](std::int64_t end) {
      if (begin >= 0) take(begin, end);
      begin = end;
    });
  }
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

}  // namespace quire
