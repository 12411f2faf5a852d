// Seeded mutations of valid files, a few thousand rounds: what a fuzzer does, short enough for
// every run of the tests.
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "tests/fuzz/targets.h"
#include "tests/support/catch.h"

namespace {

// One to four random edits: a byte changed, a part removed, doubled or moved, or one of `words` put
// in.
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

}  // namespace

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
  const std::vector<std::string> words = {
      "\"",           "\"\"",     ",",     "\n",     "\r",
      "\r\n",         ",,",       "\",\"", "\"\n\"", std::string("\0", 1),
      "\xEF\xBB\xBF", "\xFF\xFE", "\t",    "a,b,c\n"};
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
