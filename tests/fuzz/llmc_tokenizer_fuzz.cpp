#include <string>
#include <vector>

#include "base/error.h"
#include "tests/fuzz/memory_file.h"
#include "tests/fuzz/targets.h"
#include "tokenizer/tokenizer.h"

int fuzz_llmc_tokenizer(const std::uint8_t* data, std::size_t size) {
  static quire::test::MemoryFolder folder("tokenizer.bin");
  try {
    const quire::Tokenizer tokenizer = quire::Tokenizer::load(folder.with(data, size));
    std::size_t bytes = 1024;
    for (quire::TokenId id = 0; id < tokenizer.vocab_size(); ++id) {
      bytes += 1 + tokenizer.token_bytes(id).size();
    }
    QUIRE_FUZZ_REQUIRE(bytes == size);
    const std::string text = "<|endoftext|> aaab's  \xE6\x97\xA5\n12 <a> ";
    for (const quire::SpecialTokens mode :
         {quire::SpecialTokens::parse, quire::SpecialTokens::plain}) {
      const std::vector<quire::TokenId> ids = tokenizer.encode(text, mode);
      QUIRE_FUZZ_REQUIRE(tokenizer.decode(ids) == text);
    }
  } catch (const quire::Error& error) {
    QUIRE_FUZZ_REQUIRE(error.fault() == quire::Fault::bad_data);
  }
  return 0;
}

#ifdef QUIRE_LIBFUZZER
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  return fuzz_llmc_tokenizer(data, size);
}
#endif
