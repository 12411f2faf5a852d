#include "engine/generation/processors.h"

#include <cmath>
#include <limits>

#include "tests/support/catch.h"

using namespace quire;

namespace {

using Ids = std::vector<std::int32_t>;
using Scores = std::vector<float>;

constexpr float kNever = -std::numeric_limits<float>::infinity();

/// What they make of scores 0, 1, 2, …, 7 in a row whose prompt is its first two ids.
Scores process(const GenerationConfig& config, const Ids& ids, int max_length = 100) {
  Scores scores = {0, 1, 2, 3, 4, 5, 6, 7};
  const Row row{.ids = ids, .prompt_length = 2, .max_length = max_length};
  for (const Processor& p : make_processors(config)) p.apply(row, scores);
  return scores;
}

/// 0, 1, …, 7 with some of them forbidden.
Scores without(const Ids& forbidden) {
  Scores scores = {0, 1, 2, 3, 4, 5, 6, 7};
  for (const std::int32_t id : forbidden) scores[static_cast<std::size_t>(id)] = kNever;
  return scores;
}

}  // namespace

TEST_CASE("no processor touches anything by default") {
  CHECK(process({}, {1, 2, 3}) == without({}));
}

TEST_CASE("the repetition penalty follows the bias, once for each token of the row") {
  GenerationConfig config;
  config.repetition_penalty = 2.0f;
  config.sequence_bias = {{{3}, 4.0f}, {{5}, -9.0f}};
  config.suppress_tokens = {6};
  Scores want = without({6});
  want[3] = (3 + 4) / 2.0f;
  want[5] = (5 - 9) * 2.0f;
  CHECK(process(config, {5, 3, 6, 3}) == want);
}

TEST_CASE("no_repeat_ngram forbids what would complete an n-gram again") {
  GenerationConfig config;
  config.no_repeat_ngram_size = 2;
  CHECK(process(config, {5, 6, 5, 7, 5}) == without({6, 7}));
  config.no_repeat_ngram_size = 3;
  CHECK(process(config, {5, 6, 1, 5, 6}) == without({1}));
  CHECK(process(config, {5, 6, 1, 6, 5}) == without({}));
  config.no_repeat_ngram_size = 1;
  CHECK(process(config, {5, 6, 5}) == without({5, 6}));
  config.no_repeat_ngram_size = 4;  // longer than the row
  CHECK(process(config, {1, 1}) == without({}));
}

TEST_CASE("bad words are forbidden where their beginning stands, a bad word that is eos is not") {
  GenerationConfig config;
  config.eos_token_ids = {4};
  config.bad_words_ids = {{3}, {4}, {1, 2, 5}, {2, 4}};
  CHECK(process(config, {7, 1, 2}) == without({3, 5, 4}));
  CHECK(process(config, {1, 2, 7}) == without({3}));
  CHECK(process(config, {7, 2}) == without({3, 4}));
  CHECK(process(config, {2}) == without({3}));  // longer than the row: skipped, as in transformers
}

TEST_CASE("a sequence bias is added to the last token of the sequence") {
  GenerationConfig config;
  config.sequence_bias = {{{3}, 10.0f}, {{1, 2}, -0.5f}};
  CHECK(process(config, {7, 1}) == Scores{0, 1, 1.5f, 13, 4, 5, 6, 7});
  CHECK(process(config, {1, 7}) == Scores{0, 1, 2, 13, 4, 5, 6, 7});
}

TEST_CASE("eos is forbidden below either minimum length, and min_new_tokens wins") {
  GenerationConfig config;
  config.eos_token_ids = {4, 900};
  config.min_length = 4;  // counts the prompt of two
  CHECK(process(config, {1, 1, 1}) == without({4}));
  CHECK(process(config, {1, 1, 1, 1}) == without({}));
  config.min_length = 0;
  config.min_new_tokens = 4;
  CHECK(process(config, {1, 1, 1, 1, 1}) == without({4}));
  CHECK(process(config, {1, 1, 1, 1, 1, 1}) == without({}));
  config.min_length = 100;  // transformers puts min_new_tokens in its place
  CHECK(process(config, {1, 1, 1, 1, 1, 1}) == without({}));
  config.min_new_tokens = 0;
  CHECK(process(config, {1, 1}) == without({}));
}

TEST_CASE("a forced eos is all that is left for the last token") {
  GenerationConfig config;
  config.forced_eos_token_id = {6};
  CHECK(process(config, {1, 1, 1}, 5) == without({}));
  CHECK(process(config, {1, 1, 1, 1}, 5) ==
        Scores{kNever, kNever, kNever, kNever, kNever, kNever, 0, kNever});
}

TEST_CASE("the exponential decay penalty raises eos by |score|·(factor^n - 1)") {
  GenerationConfig config;
  config.eos_token_ids = {4};
  config.exponential_decay_length_penalty = {3, 1.5f};
  CHECK(process(config, {1, 1, 1, 1, 1}) == without({}));  // 3 new tokens
  CHECK(process(config, {1, 1, 1, 1, 1, 1})[4] == 4 + 4 * 0.5f);
  CHECK(process(config, {1, 1, 1, 1, 1, 1, 1})[4] == 4 + 4 * 1.25f);
  config.min_new_tokens = 50;  // forbidden stays forbidden, not NaN
  CHECK(process(config, {1, 1, 1, 1, 1, 1, 1}) == without({4}));
}

TEST_CASE("suppressed tokens never come, begin_suppress_tokens not first") {
  GenerationConfig config;
  config.suppress_tokens = {2, 3000};
  config.begin_suppress_tokens = {5};
  CHECK(process(config, {1, 1}) == without({2, 5}));
  CHECK(process(config, {1, 1, 1}) == without({2}));
}
