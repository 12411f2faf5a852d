#include <cstring>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/hash.h"
#include "tests/fuzz/memory_file.h"
#include "tests/fuzz/targets.h"
#include "tokens/shards.h"

namespace {

void check_shard(const void* data, std::size_t size) {
  const quire::test::MemoryFile memory(data, size);
  try {
    const quire::TokenShard shard(memory.path());
    QUIRE_FUZZ_REQUIRE(!shard.offsets().empty() && shard.offsets().front() == 0);
    std::int64_t before = 0;
    for (const std::int64_t offset : shard.offsets()) {
      QUIRE_FUZZ_REQUIRE(offset >= before && offset <= shard.offsets().back());
      before = offset;
    }
    // Read all of it: outside the mapping this would fault.
    const auto read = [&](const quire::TokenShard::Ids& ids) {
      const auto read_all = [&](auto values) {
        QUIRE_FUZZ_REQUIRE(std::ssize(values) == shard.offsets().back());
        std::uint64_t sum = 0;
        for (const auto value : values) sum += static_cast<std::uint16_t>(value);
        QUIRE_FUZZ_REQUIRE(sum <= 65'535 * values.size());
      };
      if (const auto* narrow = std::get_if<std::span<const std::uint16_t>>(&ids)) {
        read_all(*narrow);
      } else {
        read_all(std::get<std::span<const std::int32_t>>(ids));
      }
    };
    read(shard.ids());
    if (shard.labels()) read(*shard.labels());
  } catch (const quire::Error& error) {
    QUIRE_FUZZ_REQUIRE(error.fault() == quire::Fault::bad_data);
  }
}

}  // namespace

int fuzz_shard(const std::uint8_t* data, std::size_t size) {
  check_shard(data, size);
  // Once more with the right checksums, which no mutation finds: of what is behind the header of 64
  // bytes at 48, of the header's first 56 bytes at 56.
  if (size < 64) return 0;
  std::string file(reinterpret_cast<const char*>(data), size);
  for (const std::size_t at : {48, 56}) {
    const std::string_view all(file);
    const std::uint64_t hash = quire::hash64(at == 48 ? all.substr(64) : all.substr(0, 56));
    std::memcpy(file.data() + at, &hash, sizeof hash);
  }
  check_shard(file.data(), file.size());
  return 0;
}

#ifdef QUIRE_LIBFUZZER
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  return fuzz_shard(data, size);
}
#endif
