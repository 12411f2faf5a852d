// Token for token what transformers' generate returns: every greedy case of tests/data and of
// fixtures/generation.
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/json.h"
#include "engine/formats/hub_folder.h"
#include "engine/generation/generator.h"
#include "tests/engine/generation/tiny_model.h"
#include "tests/support/devices.h"
#include "tests/support/fixtures.h"

using namespace quire;
using Json = nlohmann::json;

namespace {

using Ids = std::vector<std::int32_t>;

/// Runs every case whose place in the file is a multiple of `every`; returns how many.
int run_cases(Device& device, const std::filesystem::path& folder,
              const std::filesystem::path& file, int every) {
  const LoadedModel model = load_model(device, folder, WeightStorage::as_stored);
  std::ifstream lines(file);
  int cases = 0;
  int place = 0;
  for (std::string line; std::getline(lines, line);) {
    const Json test = parse_json<Json>(line);
    if (test.contains("sequences_scores")) continue;  // beam search
    if (place++ % every != 0) continue;
    GenerationConfig config = read_generation_config(folder, model.config);
    for (const std::string& unknown : apply_options(json_text(test["kwargs"]), config)) {
      REQUIRE(unknown ==
              "pad_token_id");  // what fills finished rows there; we have no such filling
    }
    const auto prompts = test["prompt_ids"].get<std::vector<Ids>>();
    const auto expected = test["output_ids"].get<std::vector<Ids>>();
    const auto generated = generate(device, model.config, model.parameters, prompts, config,
                                    std::vector<std::uint64_t>(prompts.size()));
    const std::int32_t pad =
        (test.contains("pad_token_id") ? test : test["kwargs"])["pad_token_id"].get<std::int32_t>();
    std::size_t width = 0;  // of the padded prompts
    for (const Ids& prompt : prompts) width = std::max(width, prompt.size());
    for (std::size_t r = 0; r < prompts.size(); ++r) {
      INFO(file << " " << test["name"] << " row " << r);
      Ids output = generated[r].output_ids;
      output.resize(std::max(output.size(), expected[r].size() - width), pad);
      CHECK(output ==
            Ids(expected[r].begin() + static_cast<std::ptrdiff_t>(width), expected[r].end()));
    }
    ++cases;
  }
  return cases;
}

}  // namespace

TEST_CASE("greedy generation agrees with transformers on the project's own models") {
  for (const test::TestDevice& tested : test::devices_under_test()) {
    INFO(tested.name);
    for (const char* name : {"tied", "untied"}) {
      const std::filesystem::path folder = test::test_data(name);
      CHECK(run_cases(tested.device, folder, folder / "generation.jsonl", 1) == 12);
    }
  }
}

TEST_CASE("greedy generation agrees with transformers token for token") {
  QUIRE_FIXTURE(path, "generation");
  const std::filesystem::path models = path.parent_path() / "models";
  const auto cpu = open_device("cpu");
  CHECK(run_cases(*cpu, models / "tiny-char", path / "tiny-char.jsonl", 1) == 76);
  CHECK(run_cases(*cpu, models / "odd-tied", path / "odd-tied.jsonl", 1) == 10);
  CHECK(run_cases(*cpu, models / "odd-inverse-layer", path / "odd-inverse-layer.jsonl", 1) == 10);
}

TEST_CASE("greedy generation on the reference device agrees with transformers") {
  QUIRE_FIXTURE(path, "generation");
  const std::filesystem::path models = path.parent_path() / "models";
  const auto reference = open_reference_device();
  CHECK(run_cases(*reference, models / "tiny-char", path / "tiny-char.jsonl", 9) > 5);
  CHECK(run_cases(*reference, models / "odd-tied", path / "odd-tied.jsonl", 2) == 5);
  CHECK(run_cases(*reference, models / "odd-inverse-layer", path / "odd-inverse-layer.jsonl", 2) ==
        5);
}
