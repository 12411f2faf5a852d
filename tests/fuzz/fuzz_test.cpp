// Seeded mutations of valid files, a few thousand rounds: what a fuzzer does, short enough for
// every run of the tests.
#include <algorithm>
#include <cstring>
#include <filesystem>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/hash.h"
#include "tests/fuzz/targets.h"
#include "tests/support/catch.h"
#include "tests/support/packed.h"

namespace {

// One to four random edits: a byte changed, a part removed, doubled or moved,
// or one of `words` put in.
std::string mutate(std::string text, const std::vector<std::string>& words, std::mt19937& random) {
  const auto below = [&](std::size_t limit) { return limit == 0 ? 0 : random() % limit; };
  for (std::size_t edits = 1 + below(4); edits > 0; --edits) {
    const std::size_t at = below(text.size() + 1);
    const std::size_t length = below(std::min<std::size_t>(text.size() - at, 40) + 1);
    switch (below(5)) {
      case 0:
        if (at < text.size()) text[at] = static_cast<char>(random());
        break;
      case 1:
        text.erase(at, length);
        break;
      case 2:
        text.insert(below(text.size() + 1), text.substr(at, length));
        break;
      case 3:
        text.insert(at, words[below(words.size())]);
        break;
      case 4:
        text.replace(at, std::min<std::size_t>(length, 4), words[below(words.size())]);
        break;
    }
  }
  return text;
}

const std::uint8_t* bytes(const std::string& text) {
  return reinterpret_cast<const std::uint8_t*>(text.data());
}

struct Target {
  const char* name;
  int (*run)(const std::uint8_t* data, std::size_t size);
  int rounds;  // for each file of its corpus
};
// Those without rounds have cases of their own below, and in tests/tokenizer.
constexpr Target kTargets[] = {{"adapter", fuzz_adapter, 300},
                               {"config", fuzz_config, 300},
                               {"csv", fuzz_csv, 0},
                               {"decompress", fuzz_decompress, 0},
                               {"gguf", fuzz_gguf, 300},
                               {"json_line", fuzz_json_line, 0},
                               {"keywords", fuzz_keywords, 0},
                               {"llmc", fuzz_llmc, 300},
                               {"llmc_tokenizer", fuzz_llmc_tokenizer, 300},
                               {"requests", fuzz_requests, 300},
                               {"safetensors", fuzz_safetensors, 0},
                               {"shard", fuzz_shard, 0},
                               {"template", fuzz_template, 1000},
                               {"tensorflow", fuzz_tensorflow, 300},
                               {"tokenizer", fuzz_tokenizer, 0},
                               {"tokenizer_json", fuzz_tokenizer_json, 300},
                               {"torch", fuzz_torch, 300}};

// The words of a libFuzzer dictionary: a line each, "…" with \\, \" and \xAB inside.
std::vector<std::string> dictionary(const std::filesystem::path& path) {
  const std::string text = quire::read_file(path);
  std::vector<std::string> words;
  for (std::size_t at = 0; at < text.size(); at = text.find('\n', at) + 1) {
    if (text[at] != '"') continue;  // a comment
    std::string& word = words.emplace_back();
    for (++at; text.at(at) != '"'; ++at) {
      if (text[at] == '\\' && text[at + 1] == 'x') {
        word += static_cast<char>(std::stoi(text.substr(at + 2, 2), nullptr, 16));
        at += 3;
      } else {
        at += text[at] == '\\';
        word += text[at];
      }
    }
  }
  return words;
}

}  // namespace

TEST_CASE("every file of a target's corpus, and mutations of it, get past no check") {
  const std::filesystem::path folder = QUIRE_FUZZ_FOLDER;
  std::mt19937 random(25);
  for (const Target& target : kTargets) {
    INFO(target.name);
    const std::vector<std::string> words =
        dictionary(folder / (std::string(target.name) + ".dict"));
    REQUIRE(!words.empty());
    std::vector<std::filesystem::path> files;
    for (const auto& entry : std::filesystem::directory_iterator(folder / "corpus" / target.name)) {
      files.push_back(entry.path());
    }
    REQUIRE(!files.empty());
    std::sort(files.begin(), files.end());
    for (const std::filesystem::path& path : files) {
      INFO(path.string());
      const std::string text = quire::read_file(path);
      CHECK(target.run(bytes(text), text.size()) == 0);
      for (int round = 0; round < target.rounds; ++round) {
        const std::string changed = mutate(text, words, random);
        CHECK(target.run(bytes(changed), changed.size()) == 0);
      }
    }
  }
}

TEST_CASE("no damaged safetensors file gets past the checks") {
  const std::string header =
      R"({"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},)"
      R"("b":{"dtype":"F16","shape":[4],"data_offsets":[24,32]},)"
      R"("c":{"dtype":"BOOL","shape":[0,9],"data_offsets":[32,32]}}     )";
  const std::vector<std::string> words = {"0",
                                          "-1",
                                          "1e9",
                                          "18446744073709551615",
                                          "9223372036854775807",
                                          "4611686018427387904",
                                          ",",
                                          "[",
                                          "]",
                                          "{",
                                          "}",
                                          "\"",
                                          "\"F64\"",
                                          "\"F4\"",
                                          "\"a\":",
                                          "null",
                                          "\\u0000",
                                          "[24,32]",
                                          "[0,24]",
                                          "[]"};
  std::mt19937 random(20);
  for (int round = 0; round < 6000; ++round) {
    const std::string changed = round % 3 == 0 ? header : mutate(header, words, random);
    const std::uint64_t size = changed.size();
    std::string file(reinterpret_cast<const char*>(&size), sizeof size);
    file += changed + std::string(32, 'x');
    if (round % 3 != 1) file = mutate(file, words, random);
    CHECK(fuzz_safetensors(bytes(file), file.size()) == 0);
  }
}

TEST_CASE("no damaged table gets past the checks, and what is read can be written and read again") {
  const std::string table =
      "\xEF\xBB\xBFname,\"the \"\"quote\"\"\",mood\r\nAnn,\"one\r\ntwo, "
      "three\",glad\r\n\r\nBob,5\" disk,\"\"\n\"C\",,x\n";
  const std::vector<std::string> words = {"\"",
                                          "\"\"",
                                          ",",
                                          "\n",
                                          "\r",
                                          "\r\n",
                                          ",,",
                                          "\",\"",
                                          "\"\n\"",
                                          std::string("\0", 1),
                                          "\xEF\xBB\xBF",
                                          "\xFF\xFE",
                                          "\t",
                                          "a,b,c\n",
                                          ";",
                                          "|",
                                          "sep=;\n",
                                          "a;b\n"};
  std::mt19937 random(21);
  for (int round = 0; round < 6000; ++round) {
    const std::string changed = mutate(table, words, random);
    CHECK(fuzz_csv(bytes(changed), changed.size()) == 0);
  }
}

TEST_CASE("any text has its keywords, in order") {
  const std::string text =
      "77Mr. A.-B. Quill wrote \"No!\" (see Fig. 3. And [4]) to me@mail.example, "
      "http://a.example/b?c#d; it\xE2\x80\x99s 12:30 &amp; don't 1,024.5 km\xC2\xB2 H\xE2\x82\x82O";
  const std::vector<std::string> words = {". ",
                                          "'",
                                          "(",
                                          ")",
                                          "[",
                                          "] ",
                                          "@",
                                          "://",
                                          "&#x",
                                          "&notit;",
                                          "; ",
                                          "-",
                                          "\r\n",
                                          " and ",
                                          " et al. ",
                                          "A. ",
                                          "\xE2\x80\x99",
                                          "\xC4\xB0",
                                          "\xCE\xA3",
                                          "\xFF",
                                          "\xE2\x82\x82",
                                          "\xC2\xB2",
                                          std::string("\0", 1),
                                          "\xE3\x80\x82 ",
                                          "\xCA\xBC",
                                          " the ",
                                          ",,"};
  std::mt19937 random(22);
  for (int round = 0; round < 4000; ++round) {
    std::string changed = text;
    for (int i = round % 5; i >= 0; --i) changed = mutate(changed, words, random);
    CHECK(fuzz_keywords(bytes(changed), changed.size()) == 0);
  }
}

TEST_CASE("no damaged token shard gets past the checks") {
  const auto number = [](std::uint64_t value, int bytes) {
    std::string text;
    for (int i = 0; i < bytes; ++i) text += static_cast<char>(value >> (8 * i));
    return text;
  };
  const std::vector<std::string> words = {number(0, 8),  number(1, 8),     number(2, 4),
                                          number(4, 4),  number(~0ull, 8), number(1ull << 62, 8),
                                          number(1, 16), number(5, 8),     number(0xFFFF, 2)};
  std::mt19937 random(23);
  for (int round = 0; round < 6000; ++round) {
    // Two records of five ids in all, with labels. The checksums are made right for what was
    // changed, so that what is behind them is reached; sometimes they are not.
    std::string arrays = number(0, 8) + number(3, 8) + number(5, 8);
    arrays += std::string(16, '\1') + std::string(16, '\2');
    std::string head = "QRTOKENS" + number(1, 4) + number(2, 4) + number(1, 4) + number(300, 4) +
                       number(2, 8) + number(5, 8) + number(77, 8);
    if (round % 3 != 1) arrays = mutate(arrays, words, random);
    if (round % 3 != 2) head = mutate(head, words, random);
    head.resize(48);
    head += number(quire::hash64(arrays), 8);
    head += number(quire::hash64(head), 8);
    std::string file = head + arrays;
    if (round % 5 == 0) file = mutate(file, words, random);
    CHECK(fuzz_shard(bytes(file), file.size()) == 0);
  }
}

TEST_CASE("no damaged archive gets past the checks") {
  const std::vector<std::string> words = {std::string(4, '\0'), "\xFF\xFF\xFF\xFF", "\x1F\x8B\x08",
                                          "\x28\xB5\x2F\xFD",   "\x50\x2A\x4D\x18", "text"};
  std::mt19937 random(24);
  for (int round = 0; round < 4000; ++round) {
    const std::string archive = round % 2 == 0 ? quire::test::kGzipTable : quire::test::kZstdTable;
    const std::string changed = mutate(round % 4 < 2 ? archive : archive + archive, words, random);
    CHECK(fuzz_decompress(bytes(changed), changed.size()) == 0);
  }
}

TEST_CASE("no line of JSON gets past its parser, or is found elsewhere than it is written") {
  const std::string line =
      R"({"text": "a \ud83d\ude00 \" b", "n" : [1.50, -0, {"x":NaN}, "],"] , "d":-Infinity,"l":123})";
  const std::vector<std::string> words = {"\"",       "\\",   "\\ud83d",   "\\u",
                                          "{",        "}",    "[",         "]",
                                          ",",        ":",    "NaN",       "null",
                                          "Infinity", "-",    "1e3",       " ",
                                          "\xFF",     "true", "\"text\":", std::string("\0", 1)};
  std::mt19937 random(24);
  for (int round = 0; round < 6000; ++round) {
    const std::string changed = mutate(line, words, random);
    CHECK(fuzz_json_line(bytes(changed), changed.size()) == 0);
  }
}
