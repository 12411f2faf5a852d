#include "base/hash.h"

#include "tests/support/catch.h"

using namespace quire;

TEST_CASE("bytes that come in parts have the hashes of the whole, wherever they are divided") {
  std::string bytes(1000, '\0');
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i * i + 7 * i);
  HashStream stream;
  for (const std::size_t size : {0u, 1u, 16u, 17u, 240u, 241u, 257u, 1000u}) {
    const std::string_view whole = std::string_view(bytes).substr(0, size);
    for (std::size_t first = 0; first <= size; first += size / 7 + 1) {
      CAPTURE(size, first);
      stream.clear();
      stream.add(whole.substr(0, first));
      stream.add(whole.substr(first));
      CHECK(stream.hash64() == hash64(whole));
      CHECK(stream.hash128() == hash128(whole));
    }
  }
}

TEST_CASE("the hash is XXH3, as xxhsum -H3 writes it") {
  CHECK(hash_text(hash64("")) == "2d06800538d394c2");
  CHECK(hash_text(hash64("a")) == "e6c632b61e964e1f");
}
