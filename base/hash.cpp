#include "base/hash.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <new>

namespace quire {

std::uint64_t hash64(std::string_view bytes) {
  return XXH3_64bits(bytes.data(), bytes.size());
}

std::string hash_text(std::uint64_t hash) {
  return fmt::format("{:016x}", hash);
}

Hash128 hash128(std::string_view bytes) {
  const XXH128_hash_t hash = XXH3_128bits(bytes.data(), bytes.size());
  return {hash.low64, hash.high64};
}

HashStream::HashStream() : state_(XXH3_createState(), XXH3_freeState) {
  if (!state_) throw std::bad_alloc();
  clear();
}

// Both hashes have one state, and differ in what is made of it at the end.
void HashStream::add(std::string_view bytes) {
  XXH3_128bits_update(state_.get(), bytes.data(), bytes.size());
}

std::uint64_t HashStream::hash64() const {
  return XXH3_64bits_digest(state_.get());
}

Hash128 HashStream::hash128() const {
  const XXH128_hash_t hash = XXH3_128bits_digest(state_.get());
  return {hash.low64, hash.high64};
}

void HashStream::clear() {
  XXH3_128bits_reset(state_.get());
}

}  // namespace quire
