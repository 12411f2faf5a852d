#include <vector>

#include "base/error.h"
#include "tests/fuzz/memory_file.h"
#include "tests/fuzz/targets.h"
#include "tokenizer/tokenizer.h"

int fuzz_tokenizer_json(const std::uint8_t* data, std::size_t size) {
  static quire::test::MemoryFolder folder("tokenizer.json");
  try {
    const quire::Tokenizer tokenizer = quire::Tokenizer::load(folder.with(data, size));
    for (const quire::SpecialTokens mode :
         {quire::SpecialTokens::parse, quire::SpecialTokens::plain}) {
      const std::vector<quire::TokenId> ids =
          tokenizer.encode("<|endoftext|> aaab's  \xE6\x97\xA5\n12\xFF <a> ", mode);
      for (const quire::TokenId id : ids) {
        QUIRE_FUZZ_REQUIRE(id >= 0 && id < tokenizer.vocab_size());
        tokenizer.token_bytes(id);
      }
      QUIRE_FUZZ_REQUIRE(tokenizer.decode(ids, true).size() <= tokenizer.decode(ids).size());
    }
  } catch (const quire::Error& error) {
    QUIRE_FUZZ_REQUIRE(error.fault() == quire::Fault::bad_data);
  }
  return 0;
}

#ifdef QUIRE_LIBFUZZER
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  return fuzz_tokenizer_json(data, size);
}
#endif
