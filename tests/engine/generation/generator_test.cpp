// Mostly metamorphic: a batch row is the same prompt alone, cached decoding is the full forward
// pass, any number of threads writes the same text.
#include "engine/generation/generator.h"

#include <algorithm>
#include <cmath>

#include "engine/model/gpt2.h"
#include "tests/engine/generation/tiny_model.h"
#include "tests/support/catch.h"

using namespace quire;
using namespace quire::test;

namespace {

using Ids = std::vector<std::int32_t>;

std::vector<GeneratedSequence> run(const TinyModel& model, const std::vector<Ids>& prompts,
                                   const GenerationConfig& config,
                                   const std::vector<std::uint64_t>& streams,
                                   const TokenCallback& on_token = {}) {
  return generate(*model.device, model.config, model.parameters, prompts, config, streams,
                  on_token);
}

Ids run_one(const TinyModel& model, const Ids& prompt, const GenerationConfig& config,
            std::uint64_t stream = 0) {
  return run(model, {prompt}, config, {stream})[0].output_ids;
}

GenerationConfig sampling() {
  GenerationConfig config;
  config.do_sample = true;
  config.temperature = 1.5f;
  config.top_k = 40;
  config.top_p = 0.97f;
  config.min_p = 0.001f;
  config.repetition_penalty = 1.1f;
  return config;
}

void check_rows_equal_alone(const TinyModel& model, const GenerationConfig& config) {
  const std::vector<Ids> prompts = tiny_prompts();
  const std::vector<std::uint64_t> streams = {4, 0, 4, 11, 1};
  const auto batch = run(model, prompts, config, streams);
  REQUIRE(batch.size() == prompts.size());
  for (std::size_t r = 0; r < prompts.size(); ++r) {
    INFO("row " << r);
    const auto alone = run(model, {prompts[r]}, config, {streams[r]});
    CHECK(batch[r].output_ids == alone[0].output_ids);
    CHECK(batch[r].logprobs == alone[0].logprobs);  // bit for bit
    CHECK(batch[r].finish_reason == alone[0].finish_reason);
  }
}

}  // namespace

TEST_CASE("a batch row is the same prompt alone") {
  const TinyModel reference(open_reference_device());
  const TinyModel cpu(cpu_with_threads(2));
  for (const TinyModel* model : {&reference, &cpu}) {
    GenerationConfig greedy;
    greedy.max_new_tokens = 12;
    // An eos that some rows meet and others do not.
    greedy.eos_token_ids = {run_one(*model, tiny_prompts()[2], greedy).at(3)};
    check_rows_equal_alone(*model, greedy);

    GenerationConfig sampled = sampling();
    sampled.max_new_tokens = -1;  // rows end at different steps, when their context is full
    check_rows_equal_alone(*model, sampled);
    sampled.min_new_tokens = 5;
    sampled.eos_token_ids = {1, 2, 3, 4, 5, 6, 7, 8};
    check_rows_equal_alone(*model, sampled);
  }
}

TEST_CASE("a seed gives the same text again, another seed or stream another text") {
  const TinyModel model(cpu_with_threads(1));
  GenerationConfig config = sampling();
  const Ids text = run_one(model, {1, 2}, config, 5);
  CHECK(run_one(model, {1, 2}, config, 5) == text);
  CHECK(run_one(model, {1, 2}, config, 6) != text);
  config.seed += 1;
  CHECK(run_one(model, {1, 2}, config, 5) != text);
}

TEST_CASE("without stream ids row r draws from stream r, and a wrong number of them is refused") {
  const TinyModel model(open_reference_device());
  const std::vector<Ids> prompts = {{5, 6}, {5, 6}, {7}};
  const auto numbered = run(model, prompts, sampling(), {0, 1, 2});
  const auto plain = generate(*model.device, model.config, model.parameters, prompts, sampling());
  REQUIRE(plain.size() == 3);
  for (std::size_t r = 0; r < 3; ++r) CHECK(plain[r].output_ids == numbered[r].output_ids);
  CHECK(plain[0].output_ids != plain[1].output_ids);
  CHECK_THROWS_AS(run(model, prompts, sampling(), {0, 1}), Error);
}

TEST_CASE("the number of threads does not change a token or a bit of its score") {
  GenerationConfig config = sampling();
  const std::vector<std::uint64_t> streams = {0, 1, 2, 3, 4};
  const auto expected = run(TinyModel(cpu_with_threads(1)), tiny_prompts(), config, streams);
  for (const int threads : {2, 3, 7}) {
    const auto got = run(TinyModel(cpu_with_threads(threads)), tiny_prompts(), config, streams);
    for (std::size_t r = 0; r < expected.size(); ++r) {
      CHECK(got[r].output_ids == expected[r].output_ids);
      CHECK(got[r].logprobs == expected[r].logprobs);
    }
  }
}

TEST_CASE("log probabilities are those of the full forward pass") {
  const TinyModel model(open_reference_device());
  GenerationConfig config = sampling();  // they are taken before the processors and warpers
  config.top_logprobs = 3;
  const Ids prompt = {10, 20, 30};
  const GeneratedSequence generated = run(model, {prompt}, config, {0})[0];
  Ids ids = prompt;
  ids.insert(ids.end(), generated.output_ids.begin(), generated.output_ids.end());

  Gpt2 full(*model.device, model.config, model.parameters);
  const std::vector<float> logits =
      full.logits({.batch = 1, .length = static_cast<int>(ids.size()), .ids = ids});
  const auto vocab = static_cast<std::size_t>(model.config.vocab_size);
  REQUIRE(generated.logprobs.size() == generated.output_ids.size());
  REQUIRE(generated.top_logprobs.size() == generated.output_ids.size());
  for (std::size_t i = 0; i < generated.output_ids.size(); ++i) {
    const float* row = logits.data() + (prompt.size() + i - 1) * vocab;
    double sum = 0;
    for (std::size_t v = 0; v < vocab; ++v) sum += std::exp(static_cast<double>(row[v]));
    const double expected = row[generated.output_ids[i]] - std::log(sum);
    // The logits are floats: two roundings of the largest of them, and one of the result.
    const double largest = *std::max_element(row, row + vocab);
    const double bound = 4 * 6e-8 * (std::fabs(largest) + std::fabs(expected) + 1);
    CHECK(std::fabs(generated.logprobs[i] - expected) <= bound);

    const auto& top = generated.top_logprobs[i];
    REQUIRE(top.size() == 3);
    CHECK(top[0].second >= top[1].second);
    CHECK(top[1].second >= top[2].second);
    CHECK(std::fabs(top[0].second - (largest - std::log(sum))) <= bound);
  }
}

TEST_CASE("generation ends when the context is full") {
  const TinyModel model(open_reference_device());
  GenerationConfig config;
  config.max_new_tokens = 1000;
  Ids prompt(20, 3);
  const GeneratedSequence generated = run(model, {prompt}, config, {0})[0];
  CHECK(generated.output_ids.size() == 4);
  CHECK(generated.finish_reason == FinishReason::length);

  prompt.assign(24, 3);  // full already: the one token that its logits are for
  CHECK(run_one(model, prompt, config).size() == 1);
  prompt.assign(23, 3);
  CHECK(run_one(model, prompt, config).size() == 1);

  SECTION("in a batch, each row has the whole context") {
    const auto rows = run(model, {Ids(24, 3), {4}, Ids(20, 3)}, config, {0, 1, 2});
    CHECK(rows[0].output_ids.size() == 1);
    CHECK(rows[1].output_ids.size() == 23);
    CHECK(rows[2].output_ids == generated.output_ids);
  }
  SECTION("a longer prompt is refused with both lengths") {
    prompt.assign(25, 3);
    try {
      run_one(model, prompt, config);
      FAIL("no exception");
    } catch (const Error& error) {
      CHECK(error.fault() == Fault::usage);
      CHECK(std::string(error.what()) == "the prompt has 25 tokens, the model's context holds 24");
    }
  }
}

TEST_CASE("max_new_tokens beats max_length, which counts the prompt") {
  const TinyModel model(open_reference_device());
  GenerationConfig config;
  config.max_length = 9;
  config.max_new_tokens = 3;
  CHECK(run_one(model, {1, 2, 3}, config).size() == 3);
  config.max_new_tokens = 0;
  CHECK(run_one(model, {1, 2, 3}, config).size() == 6);
  CHECK_THROWS_AS(run_one(model, Ids(9, 1), config), Error);
}

TEST_CASE("a row that the callback ends keeps its token, the others go on") {
  const TinyModel model(open_reference_device());
  GenerationConfig config;
  config.max_new_tokens = 8;
  std::vector<Ids> seen(2);
  const auto rows = run(model, {{1, 2, 3}, {4}}, config, {0, 0}, [&](int row, std::int32_t token) {
    seen[static_cast<std::size_t>(row)].push_back(token);
    return row == 0 && seen[0].size() == 3;
  });
  CHECK(rows[0].output_ids.size() == 3);
  CHECK(rows[0].finish_reason == FinishReason::stop);
  CHECK(rows[1].output_ids.size() == 8);
  CHECK(rows[1].finish_reason == FinishReason::length);
  CHECK(seen[0] == rows[0].output_ids);
  CHECK(seen[1] == rows[1].output_ids);
}

TEST_CASE("an eos ends a row and stays in it") {
  const TinyModel model(open_reference_device());
  GenerationConfig config;
  config.max_new_tokens = 8;
  const Ids free = run_one(model, {1, 2, 3}, config);
  config.eos_token_ids = {1000, free[2]};  // an id outside the vocabulary never comes
  const GeneratedSequence ended = run(model, {{1, 2, 3}}, config, {0})[0];
  const auto first = std::find(free.begin(), free.end(), free[2]);
  CHECK(ended.output_ids == Ids(free.begin(), first + 1));
  CHECK(ended.finish_reason == FinishReason::eos);
  config.min_new_tokens = 8;
  CHECK(run(model, {{1, 2, 3}}, config, {0})[0].finish_reason == FinishReason::length);
}

TEST_CASE("prompts that cannot be gone on from are refused") {
  const TinyModel model(open_reference_device());
  const GenerationConfig config;
  CHECK_THROWS_AS(run_one(model, {}, config), Error);
  CHECK_THROWS_AS(run_one(model, {61}, config), Error);
  CHECK_THROWS_AS(run_one(model, {1, -1}, config), Error);
  CHECK(run(model, {}, config, {}).empty());
}
