// Beam search: text for text and score for score what transformers' generate returns, on the
// project's own models and on fixtures/generation; and what must hold of any model.
#include "engine/generation/beam_search.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "base/json.h"
#include "engine/formats/hub_folder.h"
#include "engine/model/kv_cache.h"
#include "tests/engine/generation/tiny_model.h"
#include "tests/engine/model/model_case.h"
#include "tests/support/catch.h"
#include "tests/support/devices.h"
#include "tests/support/fixtures.h"

using namespace quire;
using namespace quire::test;
using Json = nlohmann::json;

namespace {

using Ids = std::vector<std::int32_t>;

/// How far the score of a text may lie from another float32 program's: each token's log probability
/// is the difference of two numbers made of logits.
double score_bound(const Json& tolerance, std::size_t new_tokens, float length_penalty) {
  const auto n = static_cast<double>(new_tokens);
  return 2 * n * bound_of(tolerance["logits"], tolerance["max_abs_logit"]) /
         std::pow(n, static_cast<double>(length_penalty));
}

/// Runs every case whose place among the beam searches is a multiple of `every`; returns how many.
int run_cases(Device& device, const std::filesystem::path& folder,
              const std::filesystem::path& file, const std::filesystem::path& tolerance_file,
              int every) {
  const LoadedModel model = load_model(device, folder, WeightStorage::as_stored);
  const Json tolerance = parse_json<Json>(read_file(tolerance_file));
  std::ifstream lines(file);
  int cases = 0;
  int place = 0;
  for (std::string line; std::getline(lines, line);) {
    const Json test = parse_json<Json>(line);
    if (!test.contains("sequences_scores") || place++ % every != 0) continue;
    GenerationConfig config = read_generation_config(folder, model.config);
    int count = 1;
    for (const std::string& unknown : apply_options(json_text(test["kwargs"]), config)) {
      REQUIRE((unknown == "pad_token_id" || unknown == "num_return_sequences"));
      if (unknown == "num_return_sequences") test["kwargs"][unknown].get_to(count);
    }
    const std::int32_t pad =
        (test.contains("pad_token_id") ? test : test["kwargs"])["pad_token_id"].get<std::int32_t>();
    const auto prompts = test["prompt_ids"].get<std::vector<Ids>>();
    const auto expected = test["output_ids"].get<std::vector<Ids>>();
    const auto scores = test["sequences_scores"].get<std::vector<float>>();
    std::size_t width = 0;  // of the padded prompts
    for (const Ids& prompt : prompts) width = std::max(width, prompt.size());
    for (std::size_t p = 0; p < prompts.size(); ++p) {
      const auto texts =
          beam_search(device, model.config, model.parameters, prompts[p], config, count, {});
      REQUIRE(std::ssize(texts) == count);
      for (std::size_t i = 0; i < texts.size(); ++i) {
        const std::size_t r = p * texts.size() + i;
        INFO(file << " " << test["name"] << " row " << r);
        Ids output = texts[i].output_ids;
        output.resize(std::max(output.size(), expected[r].size() - width), pad);
        CHECK(output ==
              Ids(expected[r].begin() + static_cast<std::ptrdiff_t>(width), expected[r].end()));
        CHECK(std::abs(texts[i].score - scores[r]) <=
              score_bound(tolerance, texts[i].output_ids.size(), config.length_penalty));
      }
    }
    ++cases;
  }
  return cases;
}

/// The tiny model with beams that find every text of two tokens.
GenerationConfig exhaustive(const TinyModel& model) {
  GenerationConfig config;
  config.num_beams = model.config.vocab_size;
  config.max_new_tokens = 2;
  return config;
}

std::vector<GeneratedSequence> search(const TinyModel& model, const Ids& prompt,
                                      const GenerationConfig& config, int count = 1,
                                      RandomKey key = {}, const BeamCallbacks& callbacks = {}) {
  return beam_search(*model.device, model.config, model.parameters, prompt, config, count, key,
                     callbacks);
}

GenerationConfig beams(int count) {
  GenerationConfig config;
  config.num_beams = count;
  config.max_new_tokens = 8;
  return config;
}

GenerationConfig sampled_beams(int count) {
  GenerationConfig config = beams(count);
  config.do_sample = true;
  config.top_k = 0;
  return config;
}

double sum(const std::vector<float>& values) {
  double total = 0;
  for (const float value : values) total += value;
  return total;
}

}  // namespace

TEST_CASE("beam search agrees with transformers on the project's own models") {
  for (const TestDevice& tested : devices_under_test()) {
    INFO(tested.name);
    for (const char* name : {"tied", "untied"}) {
      const std::filesystem::path folder = test_data(name);
      CHECK(run_cases(tested.device, folder, folder / "generation.jsonl", folder / "tolerance.json",
                      tested.name == "cpu" ? 1 : 4) == (tested.name == "cpu" ? 58 : 15));
    }
  }
}

TEST_CASE("beam search agrees with transformers token for token") {
  QUIRE_FIXTURE(path, "generation");
  const std::filesystem::path models = path.parent_path() / "models";
  const std::filesystem::path tolerances = path.parent_path() / "fixtures";
  const auto cpu = open_device("cpu");
  const auto run = [&](const std::string& name) {
    return run_cases(*cpu, models / name, path / (name + ".jsonl"),
                     tolerances / name / "tolerance.json", 1);
  };
  CHECK(run("tiny-char") == 138);
  CHECK(run("odd-tied") == 3);
  CHECK(run("odd-inverse-layer") == 3);
}

TEST_CASE("as many beams as tokens find the best text of two tokens") {
  const TinyModel model(open_reference_device());
  Gpt2Decoder decoder(*model.device, model.config, model.parameters, 1, 8, 4);
  const auto log_probabilities = [&](const Ids& ids) {
    decoder.reset();
    std::vector<float> logits = to_host(*model.device, decoder.forward(1, ids));
    double total = 0;
    for (const float logit : logits) total += std::exp(static_cast<double>(logit));
    for (float& logit : logits) logit = static_cast<float>(logit - std::log(total));
    return logits;
  };
  double best = -1e30;
  Ids best_ids;
  const std::vector<float> first = log_probabilities({3, 1, 4});
  for (std::int32_t a = 0; a < model.config.vocab_size; ++a) {
    const std::vector<float> second = log_probabilities({3, 1, 4, a});
    for (std::int32_t b = 0; b < model.config.vocab_size; ++b) {
      const float score = first[static_cast<std::size_t>(a)] + second[static_cast<std::size_t>(b)];
      if (score > best) {
        best = score;
        best_ids = {a, b};
      }
    }
  }
  const auto texts = search(model, {3, 1, 4}, exhaustive(model), 3);
  CHECK(texts[0].output_ids == best_ids);
  CHECK(std::abs(texts[0].score - best / 2) < 1e-5);
  CHECK(texts[0].finish_reason == FinishReason::length);
}

TEST_CASE("beam texts come best first, differ, and score what their tokens add up to") {
  const TinyModel model(open_device("cpu"));
  GenerationConfig config = beams(4);
  config.length_penalty = 0.7f;
  config.top_logprobs = 2;
  const auto texts = search(model, {9, 8, 7, 6}, config, 4);
  REQUIRE(texts.size() == 4);
  std::set<Ids> different;
  for (std::size_t i = 0; i < texts.size(); ++i) {
    different.insert(texts[i].output_ids);
    if (i > 0) CHECK(texts[i - 1].score >= texts[i].score);
    const double n = static_cast<double>(texts[i].output_ids.size());
    CHECK(std::abs(texts[i].score - sum(texts[i].logprobs) / std::pow(n, 0.7)) < 1e-5 * n);
    REQUIRE(texts[i].top_logprobs.size() == texts[i].output_ids.size());
    CHECK(texts[i].top_logprobs[0].size() == 2);
  }
  CHECK(different.size() == 4);
}

TEST_CASE("one beam is greedy decoding") {
  const TinyModel model(open_device("cpu"));
  GenerationConfig config = beams(1);
  for (const Ids& prompt : tiny_prompts()) {
    const auto greedy =
        generate(*model.device, model.config, model.parameters, {prompt}, config, {0});
    CHECK(search(model, prompt, config)[0].output_ids == greedy[0].output_ids);
  }
}

TEST_CASE("beam search writes the same on any number of threads, and fills the context") {
  const TinyModel one(cpu_with_threads(1)), three(cpu_with_threads(3));
  GenerationConfig config = beams(3);
  config.max_new_tokens = -1;
  for (const Ids& prompt : tiny_prompts()) {
    const auto a = search(one, prompt, config, 3), b = search(three, prompt, config, 3);
    for (std::size_t i = 0; i < a.size(); ++i) {
      CHECK(a[i].output_ids == b[i].output_ids);
      CHECK(a[i].score == b[i].score);
      CHECK(prompt.size() + a[i].output_ids.size() ==
            static_cast<std::size_t>(one.config.n_positions));
    }
  }
}

TEST_CASE("sampled beams follow their seed, and their distribution") {
  const TinyModel model(open_device("cpu"));
  const Ids prompt = {10, 20};
  const auto texts = [&](std::uint64_t seed) {
    return search(model, prompt, sampled_beams(3), 1, {seed, 1})[0].output_ids;
  };
  CHECK(texts(5) == texts(5));
  std::set<Ids> different;
  for (std::uint64_t seed = 0; seed < 8; ++seed) different.insert(texts(seed));
  CHECK(different.size() > 1);

  // A single beam's first draw is a draw from the softmax.
  GenerationConfig config = sampled_beams(1);
  config.max_new_tokens = 1;
  const auto likeliest = search(model, prompt, beams(1))[0];
  const double p = std::exp(static_cast<double>(likeliest.logprobs[0]));
  constexpr int kDraws = 600;
  int drawn = 0;
  for (std::uint64_t seed = 0; seed < kDraws; ++seed) {
    drawn +=
        search(model, prompt, config, 1, {seed, 9})[0].output_ids[0] == likeliest.output_ids[0];
  }
  CHECK(std::abs(drawn / double{kDraws} - p) <= 5 * std::sqrt(p * (1 - p) / kDraws));
}

TEST_CASE("a stop ends a beam's text, an interrupt the search") {
  const TinyModel model(open_device("cpu"));
  const Ids prompt = {5, 5};
  const Ids whole = search(model, prompt, beams(2))[0].output_ids;
  REQUIRE(whole.size() == 8);
  BeamCallbacks callbacks;
  callbacks.stops = [&](std::span<const std::int32_t> ids) {
    return std::equal(ids.begin(), ids.end(), whole.begin(), whole.begin() + 3);
  };
  GenerationConfig first = beams(2);
  first.early_stopping = GenerationConfig::EarlyStopping::yes;
  for (const GeneratedSequence& text : search(model, prompt, first, 2, {}, callbacks)) {
    const bool is_stopped = text.finish_reason == FinishReason::stop;
    CHECK(is_stopped == (text.output_ids == Ids(whole.begin(), whole.begin() + 3)));
  }

  callbacks = {};
  callbacks.on_step = [](int new_tokens) { return new_tokens == 2; };
  const auto cut = search(model, prompt, beams(2), 2, {}, callbacks);
  REQUIRE(cut.size() == 2);
  for (const GeneratedSequence& text : cut) {
    CHECK(text.output_ids.size() == 2);
    CHECK(text.finish_reason == FinishReason::stop);
  }
}

TEST_CASE("beam search refuses more texts than beams, and what no prompt may hold") {
  const TinyModel model(open_device("cpu"));
  CHECK_THROWS_WITH(search(model, {1}, beams(2), 3),
                    Catch::Contains("num_return_sequences is 3, num_beams 2"));
  CHECK_THROWS_WITH(search(model, {}, beams(2)), Catch::Contains("the prompt is empty"));
  CHECK_THROWS_WITH(search(model, {61}, beams(2)), Catch::Contains("has id 61"));
  GenerationConfig config = beams(0);
  CHECK_THROWS_WITH(config.check(), Catch::Contains("num_beams is 0"));
}
