// Records of token ids: in vectors, in files that are mapped into memory, or spilled (byte_spill.h).
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

/// Records of token ids, one after the other: record r is ids[offsets[r] … offsets[r+1]).
struct TokenRecords {
  std::vector<std::int32_t> ids;
  std::vector<std::int32_t> labels;  ///< aligned with ids as in transformers; empty: labels = ids
  std::vector<std::int64_t> offsets{0};  ///< number of records + 1
  std::int64_t size() const { return static_cast<std::int64_t>(offsets.size()) - 1; }
};

/// Where records begin, and where the last one ends: in a vector, mapped, or spilled as 64 bits each.
/// Cheap to copy; what it views must outlive it.
class RecordOffsets {
 public:
  RecordOffsets() = default;
  RecordOffsets(std::span<const std::int64_t> offsets) : offsets_(offsets) {}
  RecordOffsets(const std::vector<std::int64_t>& offsets) : offsets_(offsets) {}
  explicit RecordOffsets(const ByteSpill& offsets) : spilled_(&offsets) {}

  bool empty() const { return size() == 0; }
  std::int64_t size() const;  ///< number of records + 1
  std::int64_t operator[](std::int64_t i) const;
  std::int64_t back() const { return (*this)[size() - 1]; }
  /// Calls take(offset) for each, in order.
  template <class Take>
  void for_each(const Take& take) const;

 private:
  void copy(std::int64_t begin, std::span<std::int64_t> out) const;

  std::span<const std::int64_t> offsets_;
  const ByteSpill* spilled_ = nullptr;
};

/// Ids first … first + count - 1 of those that are spilled, 2 or 4 bytes each.
struct SpilledIds {
  const ByteSpill* ids;
  std::int64_t first, count;
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
  std::int64_t size() const { return std::max<std::int64_t>(offsets.size() - 1, 0); }
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
