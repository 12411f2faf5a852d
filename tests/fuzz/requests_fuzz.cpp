#include <utility>
#include <vector>

#include "base/error.h"
#include "pipeline/requests.h"
#include "tests/fuzz/memory_file.h"
#include "tests/fuzz/targets.h"
#include "tokenizer/byte_alphabet.h"

namespace {

// Its ids are the bytes, in GPT-2's order.
const quire::RequestReader& reader() {
  static const quire::RequestReader kReader = [] {
    quire::Tokenizer::Vocabulary vocabulary;
    for (const std::uint8_t byte : quire::bytes_in_alphabet_order()) {
      const char character = static_cast<char>(byte);
      vocabulary.tokens.push_back(quire::printable({&character, 1}));
    }
    quire::Gpt2Config model;
    model.vocab_size = 200;  // some bytes are beyond it
    model.n_positions = 64;
    return quire::RequestReader(model, quire::Tokenizer::from_vocabulary(vocabulary), {},
                                [](const std::string&) {});
  }();
  return kReader;
}

}  // namespace

int fuzz_requests(const std::uint8_t* data, std::size_t size) {
  const quire::RequestReader& requests = reader();
  const quire::test::MemoryFile memory(data, size);
  quire::ReadingReport report;
  try {
    bool any = false;
    for (const quire::GenerateRequest& request :
         requests.from_jsonl(memory.path(), "", {}, report)) {
      if (request.error) {
        QUIRE_FUZZ_REQUIRE(request.prompt_ids.empty());
        continue;
      }
      any = true;
      request.options.generation.check();
      QUIRE_FUZZ_REQUIRE(!request.prompt_ids.empty() && request.prompt_ids.size() <= 64);
      for (const std::int32_t id : request.prompt_ids) QUIRE_FUZZ_REQUIRE(id >= 0 && id < 200);
      QUIRE_FUZZ_REQUIRE(request.options.num_return_sequences >= 1);
    }
    QUIRE_FUZZ_REQUIRE(any);  // else the first error is thrown
  } catch (const quire::Error& error) {
    QUIRE_FUZZ_REQUIRE(error.fault() == quire::Fault::bad_data ||
                       error.fault() == quire::Fault::usage);
  }
  return 0;
}

#ifdef QUIRE_LIBFUZZER
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  return fuzz_requests(data, size);
}
#endif
