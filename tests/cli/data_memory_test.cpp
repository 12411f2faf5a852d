// How much memory quire data and quire train take: next to none of it grows with the text.
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "tests/cli/program.h"
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
  arguments.insert(arguments.begin(), test::kProgram);
  std::vector<char*> pointers;
  for (std::string& argument : arguments) pointers.push_back(argument.data());
  pointers.push_back(nullptr);
  // What this process has now counts as the program's, and with vfork() the most that it ever had.
  const pid_t process = ::fork();
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

TEST_CASE("text that is packed, cleaned, inspected or trained on takes no memory that grows") {
  const ScratchFolder folder;
  const std::filesystem::path small = folder.write("small.txt", made_up(kMiB / 16));
  const std::string tokenizer = folder / "tokenizer";
  train_bpe({&small, 1}, {.vocab_size = 300}).save(tokenizer);
  const std::string config = folder.write(
      "config.json", R"({"model_type":"gpt2","n_embd":8,"n_head":1,"n_layer":1,"n_positions":64})");
  // Enough that what is tokenized at once, 8 MiB, and spilled, 4, are reached by the half of it.
  constexpr std::size_t kText = 64 * kMiB;
  std::string half, whole;
  std::size_t lines = 0;  // that came on top
  {
    const std::string text = made_up(kText);
    half = folder.write("half.txt", std::string_view(text).substr(0, kText / 2));
    whole = folder.write("whole.txt", text);
    lines = static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n')) / 2;
  }
  using Arguments = std::vector<std::string>;
  const auto growth = [&](const Arguments& command, const std::string& ending,
                          const Arguments& options) {
    std::vector<std::size_t> peaks;
    for (const std::string& path : {half, whole}) {
      Arguments all = command;
      all.push_back(path + ending);
      all.insert(all.end(), {"--tokenizer", tokenizer, "--threads", "2"});
      all.insert(all.end(), options.begin(), options.end());
      peaks.push_back(peak_of(all));
    }
    INFO(peaks[0] / kMiB << " MiB for half of the text, " << peaks[1] / kMiB << " for all of it");
    CHECK(peaks[1] > kMiB);
    return peaks[1] - std::min(peaks[1], peaks[0]);
  };
  // Half of what came on top holds neither that nor its ids, of 4 bytes for some 4 of text.
  constexpr std::size_t kBound = kText / 2 / 2;
  const Arguments prepare = {"data", "prepare", "-o", folder / "o", "--overwrite", "--quiet"};
  CHECK(growth(prepare, "", {"--clean", "long-lines,duplicates"}) < kBound);
  CHECK(growth(prepare, "", {"--encoding", "cp1252"}) < kBound);
  CHECK(growth({"data", "inspect", "--json"}, "", {}) < kBound);
  if (std::system(("gzip -1 -k " + half + " " + whole).c_str()) == 0) {
    CHECK(growth({"data", "inspect", "--json"}, ".gz", {}) < kBound);
  }
  const Arguments train = {"train",
                           "--device",
                           "cpu",
                           "--config",
                           config,
                           "--max-steps",
                           "1",
                           "--validation-split",
                           "0",
                           "--output-dir",
                           folder / "model",
                           "--overwrite-output-dir",
                           "--quiet",
                           "--data"};
  CHECK(growth(train, "", {}) < kBound);
  // A line is a row of 8 bytes, in an order of 4.
  CHECK(growth(train, "", {"--line-by-line", "--packing", "none"}) < kBound + lines * (8 + 4));
}
