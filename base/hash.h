// Checksums and fingerprints: XXH3, which `xxhsum -H3` computes too.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

struct XXH3_state_s;  // of xxhash

namespace quire {

std::uint64_t hash64(std::string_view bytes);
/// "0123456789abcdef"
std::string hash_text(std::uint64_t hash);

/// 128 bits tell texts apart without keeping them: among a billion, two are taken for the same with
/// a probability of 10^-21.
struct Hash128 {
  std::uint64_t low, high;
  bool operator==(const Hash128&) const = default;
};
Hash128 hash128(std::string_view bytes);

/// For unordered containers: the hash is one already.
struct HashOfHash {
  std::size_t operator()(const Hash128& hash) const { return hash.low; }
};

/// Of bytes that come in parts.
class HashStream {
 public:
  HashStream();
  HashStream(const HashStream&) = delete;
  HashStream& operator=(const HashStream&) = delete;
  void add(std::string_view bytes);
  std::uint64_t hash64() const;
  Hash128 hash128() const;
  void clear();  ///< as if nothing had been added

 private:
  std::shared_ptr<XXH3_state_s> state_;
};

}  // namespace quire
