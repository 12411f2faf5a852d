#include "corpus/metrics.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/json.h"
#include "tests/support/catch.h"
#include "tests/support/fixtures.h"

using namespace quire;
using Json = nlohmann::json;

namespace {

std::vector<TokenNumbers> numbers_of(const std::vector<std::string>& texts) {
  TokenReader reader;
  std::vector<TokenNumbers> numbers;
  for (const std::string& text : texts) numbers.push_back(reader.read(text));
  return numbers;
}

}  // namespace

TEST_CASE("tokens are cut at white space of all kinds and known again") {
  TokenReader reader;
  const TokenNumbers first = reader.read(
      " the\tcat,\xC2\xA0the\xE3\x80\x80The\x1C"
      "cat,\n");
  CHECK(first == TokenNumbers{0, 1, 0, 2, 1});
  CHECK(reader.read("cat, dog") == TokenNumbers{1, 3});
  CHECK(reader.read(" \n").empty());
}

TEST_CASE("repetition inside of texts and between them") {
  const auto texts = numbers_of({"a b a b a", "a b", "", "c"});
  CHECK(distinct_ngrams(texts, 1) == 3.0 / 8);
  CHECK(distinct_ngrams(texts, 2) == 2.0 / 5);
  CHECK(distinct_ngrams(texts, 6) == 0);
  CHECK(repeated_ngrams(texts, 1) == (1 - 2.0 / 5) / 4);
  CHECK(repeated_ngrams(texts, 2) == (1 - 2.0 / 4) / 4);
  CHECK(repeated_tokens(texts, 1) == 0);
  CHECK(repeated_tokens(texts, 2) == 3.0 / 4 / 4);
  CHECK(longest_run(texts) == 1);
  CHECK(longest_run(numbers_of({"a b b", "c c c a", ""})) == 3);
  CHECK(longest_run({}) == 0);
  CHECK(distinct_ngrams({}, 1) == 0);
  CHECK(repeated_tokens({}, 1) == 0);
}

TEST_CASE("self-BLEU: alike is 1, nothing in common 0") {
  const std::vector<double> alike = self_bleu(numbers_of({"a b c d e", "a b c d e", "x"}));
  REQUIRE(alike.size() == 3);
  CHECK(alike[0] == Approx(1).epsilon(1e-15));
  CHECK(alike[1] == alike[0]);
  CHECK(alike[2] == 0);
  CHECK(self_bleu(numbers_of({"alone here"})) == std::vector<double>{0});
  CHECK(self_bleu({}).empty());
  // 3 of 4 tokens and 2 of 3 pairs are shared, 1 of 2 triples, no four; the reference has 5 tokens.
  const std::vector<double> some = self_bleu(numbers_of({"a b c x", "a b c d e"}));
  CHECK(some[0] == Approx(std::exp(1 - 5.0 / 4) * std::pow(3.0 / 4 * 2 / 3 * 1 / 2 * 0.1, 0.25)));
  // The reference nearest in length counts, the shorter one on a tie: no penalty here.
  const std::vector<double> tie = self_bleu(numbers_of({"a b c", "a b c d", "a b c d e"}));
  CHECK(tie[1] == Approx(1).epsilon(1e-15));
}

TEST_CASE("the share that is copied counts tokens in shared n-grams once") {
  const auto all =
      numbers_of({"one two three four five six", "x two three four five y", "five six"});
  const std::vector<TokenNumbers> text = {all[0]}, training = {all[1], all[2]};
  CHECK(copied_share(text, training, 3) == 4.0 / 6);
  CHECK(copied_share(text, training, 4) == 4.0 / 6);
  CHECK(copied_share(text, training, 5) == 0);
  CHECK(copied_share(text, training, 2) == 5.0 / 6);
  CHECK(copied_share(text, text, 6) == 1);
  CHECK(copied_share({}, training, 3) == 0);
}

TEST_CASE("keywords are found as whole words of either case") {
  const std::string text = "The Silver-Lake ran over; été was late.";
  CHECK(keyword_coverage(text, {"silver", "lake", "ÉTÉ", "ran over"}) == 1);
  CHECK(keyword_coverage(text, {"lak", "over"}) == 0.5);
  CHECK(keyword_coverage("overt, over", {" over "}) == 1);
  CHECK(keyword_coverage("overt", {"over", "vert", ""}) == 0);
  CHECK(keyword_coverage("", {}) == 1);
}

TEST_CASE("coherence is what neighbouring sentences share") {
  const StopWords english = StopWords::english();
  CHECK(!local_coherence("Only the silver lake", english));
  CHECK(!local_coherence("", english));
  // {silver, lake} and {lake, froze, solid, times}, which has nothing in common with {birds, sang}.
  CHECK(*local_coherence("The silver lake.\nThe Lake froze solid, 3 times. Birds sang.", english) ==
        Approx(1 / std::sqrt(2.0 * 4) / 2));
  CHECK(*local_coherence("The silver lake. The Lake froze. Birds sang!", english) ==
        Approx(0.5 / 2));
  CHECK(*local_coherence("Of the. Silver lake.", english) == 0);
}

TEST_CASE("text metrics equal the fixtures") {
  QUIRE_FIXTURE(path, "metrics/metrics.json");
  const Json expected = parse_json<Json>(read_file(path));
  const Json sets = parse_json<Json>(read_file(path.parent_path() / "texts.json"));
  // A few hundred additions of numbers up to 1: their rounding is far below this.
  const auto near = [](const Json& value) {
    return Approx(value.get<double>()).epsilon(0).margin(1e-12);
  };
  CHECK(sets.size() == 4);
  for (const auto& [name, texts] : sets.items()) {
    INFO(name);
    const auto numbers = numbers_of(texts.get<std::vector<std::string>>());
    const Json& of_set = expected[name];
    std::size_t tokens = 0;
    for (const TokenNumbers& text : numbers) tokens += text.size();
    CHECK(tokens == of_set["tokens"]);
    for (const auto& [n, value] : of_set["distinct"].items()) {
      CHECK(distinct_ngrams(numbers, std::stoul(n)) == near(value));
    }
    for (const auto& [n, value] : of_set["seq_rep"].items()) {
      CHECK(repeated_ngrams(numbers, std::stoul(n)) == near(value));
    }
    for (const auto& [window, value] : of_set["rep_l"].items()) {
      CHECK(repeated_tokens(numbers, std::stoul(window)) == near(value));
    }
    CHECK(longest_run(numbers) == of_set["longest_run"]);
    const std::vector<double> each = self_bleu(numbers);
    REQUIRE(each.size() == of_set["self_bleu4_each"].size());
    for (std::size_t i = 0; i < each.size(); ++i)
      CHECK(each[i] == near(of_set["self_bleu4_each"][i]));
    CHECK(mean_of(each) == near(of_set["self_bleu4"]));
  }
}
