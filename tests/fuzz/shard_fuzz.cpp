#include "base/error.h"
#include "corpus/token_shards.h"
#include "tests/fuzz/memory_file.h"
#include "tests/fuzz/targets.h"

int fuzz_shard(const std::uint8_t* data, std::size_t size) {
  const quire::test::MemoryFile memory(data, size);
  try {
    const quire::TokenShard shard(memory.path());
    QUIRE_FUZZ_REQUIRE(shard.records() >= 0 && shard.offsets().front() == 0);
    std::int64_t before = 0;
    for (const std::int64_t offset : shard.offsets()) {
      QUIRE_FUZZ_REQUIRE(offset >= before && offset <= shard.tokens());
      before = offset;
    }
    // Read all of it: outside the mapping this would fault.
    const auto read = [&](const quire::ShardIds& ids) {
      std::visit(
          [&](auto values) {
            QUIRE_FUZZ_REQUIRE(std::ssize(values) == shard.tokens());
            std::uint64_t sum = 0;
            for (const auto value : values) sum += static_cast<std::uint16_t>(value);
            QUIRE_FUZZ_REQUIRE(sum <= 65'535 * values.size());
          },
          ids);
    };
    read(shard.ids());
    if (shard.labels()) read(*shard.labels());
  } catch (const quire::Error& error) {
    QUIRE_FUZZ_REQUIRE(error.fault() == quire::Fault::bad_data);
  }
  return 0;
}

#ifdef QUIRE_LIBFUZZER
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  return fuzz_shard(data, size);
}
#endif
