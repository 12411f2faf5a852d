#include "pipeline/stop_strings.h"

#include "tests/support/catch.h"
#include "tests/support/letter_model.h"

using namespace quire;
using namespace quire::test;

TEST_CASE("a stop string is found wherever tokens cut it") {
  const Tokenizer tokenizer = letter_tokenizer();
  const auto stops_at = [&](const std::vector<std::string>& stops, const std::string& prompt,
                            const std::string& text) {
    std::vector<TokenId> ids = tokenizer.encode(prompt);
    int place = 0;
    for (const TokenId id : tokenizer.encode(text)) {
      ++place;
      ids.push_back(id);
      if (ends_at_stop(tokenizer, stops, ids)) return place;
    }
    return 0;
  };
  CHECK(stops_at({"abc"}, "x", "xxabcx") == 5);
  CHECK(stops_at({"ab", "xa"}, "y", "xab") == 2);
  CHECK(stops_at({"t"}, "x", "atha") == 2);  // inside the token "th"
  CHECK(stops_at({"ath"}, "x", "atha") == 2);
  CHECK(stops_at({"atx"}, "x", "atha") == 0);
  CHECK(stops_at({"abc"}, "xab", "cx") == 1);    // begins in the prompt
  CHECK(stops_at({"abc"}, "abc", "xabx") == 0);  // lies in the prompt
  CHECK(stops_at({"a"}, "xa", "bbb") == 0);
  CHECK(stops_at({"é"}, "x", "aéa") == 3);
  CHECK(stops_at({"aaaaaaaaaa", "ba"}, "x", "aaaba") == 5);
}
