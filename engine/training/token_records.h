// Records of token ids: in vectors, or where they lie in files that are mapped into memory.
//
// A view goes over ids of 16 or 32 bits in any number of parts, so that data larger than memory are
// trained on, and data that are split in two are not copied. Ids of 16 bits are widened when they
// are read; the largest of them, 65535, is no id but stands for an ignored label.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <variant>
#include <vector>

namespace quire {

/// Records of token ids, one after the other: record r is ids[offsets[r] … offsets[r+1]).
struct TokenRecords {
  std::vector<std::int32_t> ids;
  std::vector<std::int32_t> labels;  ///< aligned with ids as in transformers; empty: labels = ids
  std::vector<std::int64_t> offsets{0};  ///< number of records + 1
  std::int64_t size() const { return static_cast<std::int64_t>(offsets.size()) - 1; }
};

/// Ids that lie in one or more places. Cheap to copy; what it views must outlive it.
class TokenStream {
 public:
  using Part = std::variant<std::span<const std::int32_t>, std::span<const std::uint16_t>>;

  TokenStream() = default;
  explicit TokenStream(const std::vector<Part>& parts);

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
  std::shared_ptr<const std::vector<Placed>> parts_;
  std::int64_t size_ = 0;
};

/// TokenRecords as training reads them.
struct TokenView {
  TokenView() = default;
  /// Of vectors, which must outlive it.
  TokenView(const TokenRecords& records);

  TokenStream ids, labels;
  std::span<const std::int64_t> offsets;
  std::shared_ptr<const void> owner;  ///< of all that is viewed, where it is shared
  std::int64_t size() const {
    return offsets.empty() ? 0 : static_cast<std::int64_t>(offsets.size()) - 1;
  }
};

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
