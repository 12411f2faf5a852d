// Beam search: text for text and score for score what transformers' generate returns, on the
// project's own models and on fixtures/generation; and what must hold of any model.
#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "base/json.h"
#include "engine/formats/hub_folder.h"
#include "engine/generation/session.h"
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

/// The texts of each prompt's search, all side by side; stops is asked of the first.
std::vector<std::vector<GeneratedSequence>> search_all(
    Device& device, const Gpt2Config& config, const Parameters& parameters,
    const std::vector<Ids>& prompts, const GenerationConfig& generation, RandomKey key = {},
    const StopCallback& stops = {}, const std::function<bool()>& stop_requested = {}) {
  const int rows = static_cast<int>(prompts.size()) * generation.num_beams;
  Session session(
      device, config, parameters,
      {.rows = rows, .longest_prompt = config.n_positions, .longest_text = config.n_positions});
  for (const Ids& prompt : prompts) session.add(prompt, generation, key, stops);
  CHECK(session.rows_in_use() == rows);
  std::vector<std::vector<GeneratedSequence>> texts(prompts.size());
  while (!session.is_empty()) {
    for (Session::Ended& ended : session.step({}, stop_requested)) {
      texts[static_cast<std::size_t>(ended.text)] = std::move(ended.sequences);
    }
  }
  CHECK(session.rows_in_use() == 0);
  return texts;
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
    const auto found = search_all(device, model.config, model.parameters, prompts, config);
    for (std::size_t p = 0; p < prompts.size(); ++p) {
      const std::vector<GeneratedSequence>& texts = found[p];
      REQUIRE(std::ssize(texts) == config.num_beams);
      for (std::size_t i = 0; i < static_cast<std::size_t>(count); ++i) {
        const std::size_t r = p * static_cast<std::size_t>(count) + i;
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
                                      const GenerationConfig& config, RandomKey key = {},
                                      const StopCallback& stops = {},
                                      const std::function<bool()>& stop_requested = {}) {
  return search_all(*model.device, model.config, model.parameters, {prompt}, config, key, stops,
                    stop_requested)[0];
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
  const auto texts = search(model, {3, 1, 4}, exhaustive(model));
  CHECK(texts[0].output_ids == best_ids);
  CHECK(std::abs(texts[0].score - best / 2) < 1e-5);
  CHECK(texts[0].finish_reason == FinishReason::length);
}

TEST_CASE("beam texts come best first, differ, and score what their tokens add up to") {
  const TinyModel model(open_device("cpu"));
  GenerationConfig config = beams(4);
  config.length_penalty = 0.7f;
  config.top_logprobs = 2;
  const auto texts = search(model, {9, 8, 7, 6}, config);
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

TEST_CASE("a beam that goes on from another one copies less than a block, whatever the prompt") {
  /// Notes what it is asked to copy in pieces.
  struct NotingDevice : ReferenceDevice {
    std::vector<std::size_t> copied;
    void copy_pieces(void* to, const void* from, std::size_t bytes, std::size_t count,
                     std::size_t stride) override {
      copied.push_back(bytes * count);
      ReferenceDevice::copy_pieces(to, from, bytes, count, stride);
    }
  } device;
  Gpt2Config config = tiny_config();
  config.n_positions = 4 * kCacheBlock;
  const Parameters parameters = initialize_parameters(device, config, 7);
  const std::size_t of_slot = 2 * sizeof(float) * static_cast<std::size_t>(config.n_layer) *
                              static_cast<std::size_t>(config.n_embd);
  for (const int length : {kCacheBlock, kCacheBlock + 6, 3 * kCacheBlock + 6}) {
    Ids prompt;
    for (int t = 0; t < length; ++t) prompt.push_back(t * 7 % config.vocab_size);
    device.copied.clear();
    search_all(device, config, parameters, {prompt}, beams(3));
    CHECK(device.copied.size() >= 2);  // all begin from one row, and some part later
    for (const std::size_t bytes : device.copied) {
      INFO(length << " tokens: " << bytes << " bytes");
      CHECK(bytes % of_slot == 0);
      CHECK(bytes / of_slot < static_cast<std::size_t>(length % kCacheBlock + 8));
    }
  }
}

TEST_CASE("generate() writes the best text of a search") {
  const TinyModel model(open_device("cpu"));
  GenerationConfig config = beams(3);
  config.early_stopping = GenerationConfig::EarlyStopping::yes;
  config.eos_token_ids = {5, 6, 7, 8, 9, 10, 11, 12};
  const auto texts =
      generate(*model.device, model.config, model.parameters, tiny_prompts(), config);
  for (std::size_t p = 0; p < texts.size(); ++p) {
    const GeneratedSequence best = search(model, tiny_prompts()[p], config)[0];
    CHECK(texts[p].output_ids == best.output_ids);
    CHECK(texts[p].logprobs == best.logprobs);
    CHECK(texts[p].score == best.score);
  }
}

TEST_CASE("beam search writes the same on any number of threads, and fills the context") {
  const TinyModel one(cpu_with_threads(1)), three(cpu_with_threads(3));
  GenerationConfig config = beams(3);
  config.max_new_tokens = -1;
  for (const Ids& prompt : tiny_prompts()) {
    const auto a = search(one, prompt, config), b = search(three, prompt, config);
    REQUIRE(a.size() == 3);
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
    return search(model, prompt, sampled_beams(3), {seed, 1})[0].output_ids;
  };
  CHECK(texts(5) == texts(5));
  std::set<Ids> different;
  for (std::uint64_t seed = 0; seed < 8; ++seed) different.insert(texts(seed));
  CHECK(different.size() > 1);

  // The first two draws are without replacement from the softmax: p + sum of q·p/(1 - q) that the
  // likeliest token is one of them.
  GenerationConfig config = sampled_beams(2);
  config.max_new_tokens = 1;
  config.top_logprobs = model.config.vocab_size;
  const auto first = search(model, prompt, config)[0].top_logprobs[0];
  const double likeliest = std::exp(static_cast<double>(first[0].second));
  double p = likeliest;
  for (std::size_t other = 1; other < first.size(); ++other) {
    const double q = std::exp(static_cast<double>(first[other].second));
    p += q * likeliest / (1 - q);
  }
  constexpr int kDraws = 600;
  int drawn = 0;
  for (std::uint64_t seed = 0; seed < kDraws; ++seed) {
    for (const GeneratedSequence& text : search(model, prompt, config, {seed, 9})) {
      drawn += text.output_ids[0] == first[0].first;
    }
  }
  CHECK(std::abs(drawn / double{kDraws} - p) <= 5 * std::sqrt(p * (1 - p) / kDraws));
}

TEST_CASE("a stop ends a beam's text, an interrupt the search") {
  const TinyModel model(open_device("cpu"));
  const Ids prompt = {5, 5};
  const Ids whole = search(model, prompt, beams(2))[0].output_ids;
  REQUIRE(whole.size() == 8);
  const StopCallback stops = [&](std::span<const std::int32_t> ids) {
    return std::ranges::equal(ids.subspan(prompt.size()), std::span(whole).first(3));
  };
  GenerationConfig first = beams(2);
  first.early_stopping = GenerationConfig::EarlyStopping::yes;
  first.length_penalty = -1;  // the shorter one wins
  int stopped = 0;
  for (const GeneratedSequence& text : search(model, prompt, first, {}, stops)) {
    const bool is_stopped = text.finish_reason == FinishReason::stop;
    CHECK(is_stopped == (text.output_ids == Ids(whole.begin(), whole.begin() + 3)));
    stopped += is_stopped;
  }
  CHECK(stopped == 1);

  int steps = 0;
  const auto cut = search(model, prompt, beams(2), {}, {}, [&] { return ++steps == 2; });
  REQUIRE(cut.size() == 2);
  for (const GeneratedSequence& text : cut) {
    CHECK(text.output_ids.size() == 2);
    CHECK(text.finish_reason == FinishReason::stop);
  }
}

TEST_CASE("beam search refuses what no prompt may hold") {
  const TinyModel model(open_device("cpu"));
  CHECK_THROWS_WITH(search(model, {}, beams(2)), Catch::Contains("the prompt is empty"));
  CHECK_THROWS_WITH(search(model, {61}, beams(2)), Catch::Contains("has id 61"));
  GenerationConfig config = beams(0);
  CHECK_THROWS_WITH(config.check(), Catch::Contains("num_beams is 0"));
}
