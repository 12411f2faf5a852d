#include "tests/fuzz/tokenizer_fuzz.cpp"

#include "tests/tokenizer/helpers.h"

using namespace quire::test;

TEST_CASE("thousands of random inputs neither crash nor change text") {
  Random random(8);
  std::string input;
  for (int round = 0; round < 4000; ++round) {
    input.assign(1, static_cast<char>(4 + below(random, 4)));
    for (std::size_t parts = below(random, 20); parts > 0; --parts) {
      input += below(random, 2) ? awkward_text(random, 3) : random_bytes(random, below(random, 20));
    }
    fuzz_tokenizer(reinterpret_cast<const std::uint8_t*>(input.data()), input.size());
  }
}

TEST_CASE("damaged tokenizer files are read or refused, whatever the damage") {
  const ScratchFolder folder;
  fuzzed_tokenizer().save(folder.path());
  Random random(9);
  const char* names[] = {"vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json"};
  for (int round = 0; round < 2000; ++round) {
    const std::size_t kind = below(random, 4);
    std::string content = read_file(folder / names[kind]);
    for (std::size_t edits = 1 + below(random, 3); edits > 0; --edits) {
      const std::size_t at = below(random, content.size());
      switch (below(random, 4)) {
        case 0:
          content[at] = static_cast<char>(below(random, 256));
          break;
        case 1:
          content.erase(at, 1 + below(random, 30));
          break;
        case 2:
          content.insert(at, content.substr(below(random, content.size()), below(random, 30)));
          break;
        default:
          content.insert(at, 1, "{}[]\",: 0\n"[below(random, 10)]);
      }
      if (content.empty()) content.assign(1, ' ');
    }
    content.insert(0, 1, static_cast<char>(kind));
    fuzz_tokenizer(reinterpret_cast<const std::uint8_t*>(content.data()), content.size());
  }
}
