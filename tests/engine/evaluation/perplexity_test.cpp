#include "engine/evaluation/perplexity.h"

#include <array>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/json.h"
#include "engine/formats/hub_folder.h"
#include "tests/engine/generation/tiny_model.h"
#include "tests/support/catch.h"
#include "tests/support/fixtures.h"
#include "tokenizer/tokenizer.h"

using namespace quire;
using namespace quire::test;

namespace {

using Ids = std::vector<std::int32_t>;

Ids some_ids(int count) {
  Ids ids;
  for (int i = 0; i < count; ++i) ids.push_back((i * 37 + i * i * 11) % 61);
  return ids;
}

/// From the definition, one token at a time: the loss of ids[t] after ids[begin … t).
double loss_after(TinyModel& model, const Ids& ids, std::size_t begin, std::size_t t) {
  Gpt2 gpt2(*model.device, model.config, model.parameters);
  const Ids context(ids.begin() + static_cast<std::ptrdiff_t>(begin),
                    ids.begin() + static_cast<std::ptrdiff_t>(t));
  const std::vector<float> logits =
      gpt2.logits({.batch = 1, .length = static_cast<int>(context.size()), .ids = context});
  const float* last = logits.data() + logits.size() - 61;
  double sum = 0;
  for (int v = 0; v < 61; ++v) sum += std::exp(static_cast<double>(last[v]));
  return std::log(sum) - last[ids[t]];
}

/// Float losses: a rounding each of the loss and of logits that are below 100 here.
double bound(const PerplexityResult& result) {
  return static_cast<double>(result.scored) * 4 * 6e-8 * 100;
}

}  // namespace

TEST_CASE(
    "every id that has one before it is scored once, with the context that its window allows") {
  TinyModel model(open_reference_device());
  Gpt2 gpt2(*model.device, model.config, model.parameters);
  for (const auto& [count, window, stride] :
       {std::array{50, 24, 8}, std::array{50, 24, 23}, std::array{41, 10, 1},
        std::array{24, 24, 12}, std::array{7, 24, 12}, std::array{2, 24, 24},
        std::array{50, 24, 24}, std::array{49, 24, 24}, std::array{48, 24, 24},
        std::array{9, 2, 2}}) {
    INFO(count << " ids, window " << window << ", stride " << stride);
    const Ids ids = some_ids(count);
    double expected = 0;
    int scored = 0;
    for (int t = 1; t < count; ++t) {
      int begin = 0;  // of the first window that reaches t
      while (begin + window <= t) begin += stride;
      if (begin == t) continue;  // nothing is before it
      ++scored;
      expected +=
          loss_after(model, ids, static_cast<std::size_t>(begin), static_cast<std::size_t>(t));
    }
    const PerplexityOptions options{.window = window, .stride = stride, .batch = 3};
    const PerplexityResult result = perplexity(gpt2, model.config, ids, options);
    CHECK(result.scored == scored);
    CHECK(count_scored(count, options) == scored);
    CHECK(std::fabs(result.loss_sum - expected) <= bound(result));
    CHECK(result.perplexity() == std::exp(result.loss_sum / scored));
  }
}

TEST_CASE("where there are labels, those that are ignored are context alone") {
  TinyModel model(open_reference_device());
  Gpt2 gpt2(*model.device, model.config, model.parameters);
  const Ids ids = some_ids(41);
  Ids labels = ids;
  double expected = 0;
  int scored = 0;
  for (int t = 0; t < 41; ++t) {
    if (t < 17 || t % 3 == 0) {
      labels[static_cast<std::size_t>(t)] = kIgnoredTarget;
      continue;
    }
    int begin = 0;
    while (begin + 10 <= t) begin += 4;
    ++scored;
    expected +=
        loss_after(model, ids, static_cast<std::size_t>(begin), static_cast<std::size_t>(t));
  }
  const PerplexityResult result =
      perplexity(gpt2, model.config, ids, {.window = 10, .stride = 4, .batch = 3}, {}, labels);
  CHECK(result.scored == scored);
  CHECK(std::fabs(result.loss_sum - expected) <= bound(result));
}

TEST_CASE("the number of windows computed together changes nothing") {
  TinyModel model(cpu_with_threads(2));
  Gpt2 gpt2(*model.device, model.config, model.parameters);
  const Ids ids = some_ids(133);
  const auto with_batch = [&](int batch) {
    return perplexity(gpt2, model.config, ids, {.window = 20, .stride = 6, .batch = batch})
        .loss_sum;
  };
  const double alone = with_batch(1);
  for (const int batch : {2, 5, 100}) CHECK(with_batch(batch) == alone);
}

TEST_CASE("options that would leave tokens out are refused, a text too short scores nothing") {
  TinyModel model(open_reference_device());
  Gpt2 gpt2(*model.device, model.config, model.parameters);
  const Ids ids = some_ids(30);
  CHECK(resolve({}, model.config).window == 24);
  CHECK(resolve({}, model.config).stride == 12);
  for (const PerplexityOptions& wrong :
       {PerplexityOptions{.window = 25}, PerplexityOptions{.window = 1},
        PerplexityOptions{.window = 8, .stride = 9}, PerplexityOptions{.stride = -1},
        PerplexityOptions{.batch = 0}}) {
    CHECK_THROWS_AS(perplexity(gpt2, model.config, ids, wrong), Error);
  }
  CHECK(perplexity(gpt2, model.config, Ids{4}, {}).scored == 0);
  CHECK(perplexity(gpt2, model.config, Ids{}, {}).scored == 0);
}

TEST_CASE("the callback sees the progress and can end it") {
  TinyModel model(open_reference_device());
  Gpt2 gpt2(*model.device, model.config, model.parameters);
  std::vector<std::int64_t> seen;
  const PerplexityOptions options{.window = 10, .stride = 5, .batch = 1};
  const auto record = [&](const PerplexityResult& so_far, std::int64_t total) {
    CHECK(total == 29);
    seen.push_back(so_far.scored);
    return seen.size() == 3;
  };
  perplexity(gpt2, model.config, some_ids(30), options, record);
  CHECK(seen == std::vector<std::int64_t>{9, 14, 19});
}

TEST_CASE("perplexity agrees with the fixtures") {
  QUIRE_FIXTURE(path, "metrics/perplexity.json");
  const auto device = open_device("cpu");
  const std::filesystem::path root = path.parent_path().parent_path();
  const LoadedModel model =
      load_model(*device, root / "models/tiny-char", WeightStorage::as_stored);
  const Tokenizer tokenizer = Tokenizer::load(root / "models/tiny-char");
  Gpt2 gpt2(*device, model.config, model.parameters);
  const nlohmann::json fixture = parse_json<nlohmann::json>(read_file(path));
  int rows = 0;
  for (const auto& row : fixture["rows"]) {
    std::string text;
    if (row["file"] == "ppl_text.txt") {
      text = read_file(root / "metrics/ppl_text.txt");
    } else {
      text = read_file(root / "data/tinyshakespeare/input.txt");  // ASCII: characters are bytes
      text.erase(0, text.size() - row["bytes"].get<std::size_t>());
    }
    Ids ids;
    if (row["prepend_endoftext"].get<bool>()) ids.push_back(*tokenizer.end_of_text());
    tokenizer.encode(text, SpecialTokens::parse, ids);
    REQUIRE(ids.size() == row["tokens"].get<std::size_t>());
    const PerplexityResult result =
        perplexity(gpt2, model.config, ids,
                   {.window = row["window"].get<int>(), .stride = row["stride"].get<int>()});
    INFO(json_text(row));
    CHECK(result.scored == row["scored"].get<std::int64_t>());
    // The fixture's own float program is off by up to 5e-8 relative; a hundred times that is far
    // below what one wrong token would do (1e-5).
    CHECK(result.perplexity() == Approx(row["perplexity_float32"].get<double>()).epsilon(5e-6));
    ++rows;
  }
  CHECK(rows == 7);
}
