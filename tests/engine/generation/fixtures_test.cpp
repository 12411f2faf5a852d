// Token for token what transformers' generate returns: every greedy case of fixtures/generation.
#include <fstream>
#include <nlohmann/json.hpp>

#include "engine/formats/hub_folder.h"
#include "engine/generation/generator.h"
#include "tests/engine/generation/tiny_model.h"
#include "tests/support/fixtures.h"

using namespace quire;
using Json = nlohmann::json;

namespace {

using Ids = std::vector<std::int32_t>;

/// Runs every case whose place in the file is a multiple of `every`; returns how many.
int run_cases(Device& device, const std::filesystem::path& root, const std::string& name,
              int every) {
  const std::filesystem::path folder = root / "models" / name;
  const LoadedModel model = load_model(device, folder, WeightStorage::as_stored);
  std::ifstream lines(root / "generation" / (name + ".jsonl"));
  int cases = 0;
  int place = 0;
  for (std::string line; std::getline(lines, line);) {
    const Json test = Json::parse(line);
    if (test.contains("sequences_scores")) continue;  // beam search
    if (place++ % every != 0) continue;
    GenerationConfig config = read_generation_config(folder, model.config);
    REQUIRE(apply_options(test["kwargs"].dump(), config).empty());
    const auto prompts = test["prompt_ids"].get<std::vector<Ids>>();
    const auto expected = test["output_ids"].get<std::vector<Ids>>();
    const auto generated = generate(device, model.config, model.parameters, prompts, config,
                                    std::vector<std::uint64_t>(prompts.size()));
    std::size_t width = 0;  // of the padded prompts
    for (const Ids& prompt : prompts) width = std::max(width, prompt.size());
    for (std::size_t r = 0; r < prompts.size(); ++r) {
      INFO(name << " " << test["name"] << " row " << r);
      Ids output = generated[r].output_ids;
      output.resize(std::max(output.size(), expected[r].size() - width),
                    test["pad_token_id"].get<std::int32_t>());
      CHECK(output ==
            Ids(expected[r].begin() + static_cast<std::ptrdiff_t>(width), expected[r].end()));
    }
    ++cases;
  }
  return cases;
}

}  // namespace

TEST_CASE("greedy generation agrees with transformers token for token") {
  QUIRE_FIXTURE(path, "generation");
  const auto cpu = open_device("cpu");
  CHECK(run_cases(*cpu, path.parent_path(), "tiny-char", 1) == 76);
  CHECK(run_cases(*cpu, path.parent_path(), "odd-tied", 1) == 10);
  CHECK(run_cases(*cpu, path.parent_path(), "odd-inverse-layer", 1) == 10);
}

TEST_CASE("greedy generation on the reference device agrees with transformers") {
  QUIRE_FIXTURE(path, "generation");
  const auto reference = open_reference_device();
  CHECK(run_cases(*reference, path.parent_path(), "tiny-char", 9) > 5);
  CHECK(run_cases(*reference, path.parent_path(), "odd-tied", 2) == 5);
  CHECK(run_cases(*reference, path.parent_path(), "odd-inverse-layer", 2) == 5);
}
