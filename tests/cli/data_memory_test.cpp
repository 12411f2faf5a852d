// How much memory quire data prepare takes: none of it grows with the text.
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <string>
#include <vector>

#include "tests/support/catch.h"
#include "tests/support/scratch.h"
#include "tokenizer/tokenizer.h"

using namespace quire;
using quire::test::ScratchFolder;

namespace {

constexpr std::size_t kMiB = 1 << 20;

/// Made-up lines of some 60 bytes.
std::string made_up(std::size_t bytes) {
  static constexpr const char* kWords[] = {"fox",   "hen",  "lazy",  "brown",
                                           "jumps", "over", "sleeps"};
  std::string text;
  text.reserve(bytes + 100);
  for (std::uint32_t state = 1; text.size() < bytes;) {
    for (int word = 0; word < 12; ++word) {
      state = state * 1664525 + 1013904223;
      text += kWords[(state >> 24) % 7];
      text += word == 11 ? '\n' : ' ';
    }
  }
  return text;
}

/// The most memory, in bytes, that the program had resident.
std::size_t peak_of(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), QUIRE_PROGRAM);
  std::vector<char*> pointers;
  for (std::string& argument : arguments) pointers.push_back(argument.data());
  pointers.push_back(nullptr);
  const pid_t process = ::vfork();  // a copy of this process would count as the program's memory
  if (process == 0) {
    ::execv(pointers[0], pointers.data());
    ::_exit(127);
  }
  REQUIRE(process > 0);
  int status = 0;
  rusage usage{};
  REQUIRE(::wait4(process, &status, 0, &usage) == process);
  REQUIRE(WIFEXITED(status));
  REQUIRE(WEXITSTATUS(status) == 0);
  return static_cast<std::size_t>(usage.ru_maxrss) * 1024;  // Linux counts KiB
}

}  // namespace

TEST_CASE("preparing text takes memory for a batch of it, however much there is") {
  const ScratchFolder folder;
  const std::filesystem::path small = folder.write("small.txt", made_up(kMiB / 16));
  const std::string tokenizer = folder / "tokenizer";
  train_bpe({&small, 1}, {.vocab_size = 300}).save(tokenizer);
  const auto prepare = [&](const std::string& text, std::vector<std::string> more) {
    std::vector<std::string> arguments = {"data",    "prepare",   text,         "--tokenizer",
                                          tokenizer, "-o",        folder / "o", "--overwrite",
                                          "--quiet", "--threads", "2"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return peak_of(arguments);
  };
  const std::size_t program = prepare(small, {});
  // 32 MiB of text are a batch. 8 MiB of it are tokenized at once: to 4 bytes a token, one token a
  // byte at most, in pieces that double as they grow, as a whole, and in 16 bits. Eight buffers of
  // 4 MiB: a block as it is written and with "\n", the document twice as it grows, a part of it,
  // and offsets, ids and a block of them on their way into a shard.
  const std::size_t bound = program + (32 + 8 * (2 * 4 + 4 + 2) + 8 * 4) * kMiB;
  std::string text = made_up(64 * kMiB);
  const std::string whole = folder.write("whole.txt", text);
  CHECK(prepare(whole, {}) < bound);
  CHECK(prepare(whole, {"--line-by-line", "--clean", "long-lines"}) < bound);
  for (std::size_t at = 0; (at = text.find('\n', at)) != std::string::npos; at += 50)
    text[at] = '\r';
  CHECK(prepare(folder.write("mixed.txt", text), {"--clean", "nfc,control"}) < bound);
}
