#include <algorithm>
#include <deque>
#include <string>
#include <string_view>

#include "base/text.h"
#include "corpus/characters.h"
#include "corpus/keywords.h"
#include "corpus/sentences.h"
#include "corpus/words.h"
#include "tests/fuzz/targets.h"

using namespace quire;

int fuzz_keywords(const std::uint8_t* data, std::size_t size) {
  static const StopWords stop_words = StopWords::english();
  if (size < 2) return 0;
  const KeywordOptions options = {.top = 1 + data[0] % 8,
                                  .ngram = 1 + data[0] / 8 % 4,
                                  .dedup = data[1] / 255.0,
                                  .window = 1 + data[0] / 32 % 3};
  const std::string_view text(reinterpret_cast<const char*>(data) + 2, size - 2);
  const std::u32string wide = characters::from_utf8(text);
  std::size_t end = 0;
  for (const std::u32string_view sentence : split_sentences(wide)) {
    const std::size_t begin = static_cast<std::size_t>(sentence.data() - wide.data());
    QUIRE_FUZZ_REQUIRE(!sentence.empty() && begin >= end);
    for (; end < begin; ++end) QUIRE_FUZZ_REQUIRE(characters::is_blank(wide[end]));
    end = begin + sentence.size();
    std::deque<std::u32string> made;
    for (const std::u32string_view word : split_words(sentence, made)) {
      QUIRE_FUZZ_REQUIRE(!word.empty());
    }
  }

  const std::vector<Keyword> keywords = extract_keywords(text, options, stop_words);
  QUIRE_FUZZ_REQUIRE(std::ssize(keywords) <= options.top);
  for (std::size_t i = 0; i < keywords.size(); ++i) {
    const std::string& phrase = keywords[i].text;
    QUIRE_FUZZ_REQUIRE(!phrase.empty() && is_utf8(phrase));
    QUIRE_FUZZ_REQUIRE(std::count(phrase.begin(), phrase.end(), ' ') < options.ngram);
    QUIRE_FUZZ_REQUIRE(i == 0 || keywords[i - 1].score <= keywords[i].score);
  }
  return 0;
}

#ifdef QUIRE_LIBFUZZER
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  return fuzz_keywords(data, size);
}
#endif
