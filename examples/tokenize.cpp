// Text to token ids and back, with the installed library: tokenize TEXT FOLDER
// The vocabulary is that of FOLDER, or one of 1,000 tokens learnt from the file TEXT and saved there.
#include <quire/base/file.h>
#include <quire/quire.h>
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

int main(int argc, char** argv) {
  using namespace quire;
  if (argc != 3) return std::puts("usage: tokenize TEXT FOLDER"), 2;
  const std::filesystem::path file = argv[1], folder = argv[2];
  try {
    if (!Tokenizer::exists(folder)) train_bpe({&file, 1}, {.vocab_size = 1000}).save(folder);
    const Tokenizer tokenizer = Tokenizer::load(folder);

    const std::string text = read_file(file);
    const std::vector<TokenId> ids = tokenizer.encode(text);
    std::printf("%zu bytes are %zu tokens of a vocabulary of %d\n", text.size(), ids.size(),
                tokenizer.vocab_size());
    const std::span begin = std::span(ids).first(std::min<std::size_t>(ids.size(), 8));
    for (const TokenId id : begin) {  // a token may end within a character
      std::printf("%d \"%s\"\n", id, std::string(tokenizer.token_bytes(id)).c_str());
    }
    // Every text that is UTF-8 comes back as it was.
    std::printf("decoded: %s\n", tokenizer.decode(ids) == text ? "the same text" : "another text");
  } catch (const Error& error) {
    return std::fprintf(stderr, "%s\n", error.message().c_str()), static_cast<int>(error.fault());
  }
}
