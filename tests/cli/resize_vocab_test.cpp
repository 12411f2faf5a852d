// A model gets rows for the ids that its tokenizer has beyond them.
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/json.h"
#include "engine/formats/safetensors.h"
#include "tests/cli/letter_model.h"
#include "tests/cli/program.h"
#include "tests/support/catch.h"

using namespace quire;
using namespace quire::test;
namespace fs = std::filesystem;

namespace {

/// The letter model: 40 rows, and a tokenizer of 258 ids.
struct Model {
  ScratchFolder scratch;
  std::string model = make_letter_model(scratch);
  std::string text;

  Model() {
    std::string lines;
    for (int i = 0; i < 12; ++i) lines += "the bad ZEBRA " + std::to_string(i) + " ran\n";
    text = scratch.write("text.txt", lines).string();
  }
  ProgramResult train(const std::string& output, std::vector<std::string> more) const {
    more.insert(more.begin(),
                {"train", "--model", model, "--data", text, "--line-by-line", "--max-steps", "4",
                 "--save-steps", "2", "--lr", "1e-2", "--output-dir", (scratch / output).string()});
    return run_quire(more);
  }
  std::string weights(const std::string& output, const char* name) const {
    return read_file(scratch / output / name);
  }
};

}  // namespace

TEST_CASE("a tokenizer with more ids than the model wants --resize-vocab") {
  const Model m;
  const ProgramResult refused = m.train("out", {});
  CHECK(refused.exit_code == 3);
  CHECK(contains(refused.err, "the tokenizer has 258 ids, the model 40"));
  CHECK(contains(refused.err, "--resize-vocab"));

  const ProgramResult result = m.train("out", {"--resize-vocab"});
  INFO(result.err);
  REQUIRE(result.exit_code == 0);
  CHECK(contains(result.err, "the vocabulary grows from 40 to 258 rows"));
  const Safetensors file(m.scratch / "out/model.safetensors");
  CHECK(file.find("transformer.wte.weight")->shape[0] == 258);
  CHECK(parse_json<nlohmann::json>(m.weights("out", "config.json"))["vocab_size"] == 258);
  CHECK(run_quire({"generate", "--model", m.scratch / "out", "-p", "ZEBRA", "-n", "3"}).exit_code ==
        0);
  // Gone on from the middle, with --model and without: the same weights, to the bit.
  for (const bool with_model : {true, false}) {
    fs::remove_all(m.scratch / "out/checkpoint-4");
    const std::string before = m.weights("out", "model.safetensors");
    fs::remove(m.scratch / "out/model.safetensors");
    std::vector<std::string> again = {"--resize-vocab", "--resume-from-checkpoint", "latest"};
    if (with_model) {
      CHECK(m.train("out", again).exit_code == 0);
    } else {
      CHECK(run_quire({"train", "--data", m.text, "--line-by-line", "--max-steps", "4",
                       "--save-steps", "2", "--lr", "1e-2", "--output-dir",
                       (m.scratch / "out").string(), "--resume-from-checkpoint", "latest"})
                .exit_code == 0);
    }
    CHECK(m.weights("out", "model.safetensors") == before);
  }
}

TEST_CASE("an adapter of a model with more rows is saved with them") {
  const Model m;
  const std::vector<std::string> lora = {"--resize-vocab", "--lora-r", "2"};
  REQUIRE(m.train("lora", lora).exit_code == 0);
  const Safetensors file(m.scratch / "lora/adapter_model.safetensors");
  REQUIRE(file.find("base_model.model.transformer.wte.weight") != nullptr);
  CHECK(file.find("base_model.model.transformer.wte.weight")->shape[0] == 258);
  const std::vector<std::string> generate = {"generate", "-p",     "ZEBRA",  "-n",
                                             "4",        "--json", "--model"};
  const auto text_of = [&](const std::string& folder) {
    std::vector<std::string> arguments = generate;
    arguments.push_back((m.scratch / folder).string());
    const ProgramResult result = run_quire(arguments);
    INFO(result.err);
    CHECK(result.exit_code == 0);
    return parse_json<nlohmann::json>(result.out)["output_ids"];
  };
  // Merged while saving, or while loading.
  std::vector<std::string> merge = lora;
  merge.emplace_back("--lora-merge");
  REQUIRE(m.train("merged", merge).exit_code == 0);
  CHECK(text_of("lora") == text_of("merged"));

  const std::string before = m.weights("lora", "adapter_model.safetensors");
  for (const bool with_model : {true, false}) {
    fs::remove_all(m.scratch / "lora/checkpoint-4");
    fs::remove(m.scratch / "lora/adapter_model.safetensors");
    std::vector<std::string> again = lora;
    if (with_model) {
      again.insert(again.end(), {"--resume-from-checkpoint", "latest"});
      CHECK(m.train("lora", again).exit_code == 0);
    } else {
      CHECK(run_quire({"train", "--data", m.text, "--line-by-line", "--max-steps", "4",
                       "--save-steps", "2", "--lr", "1e-2", "--lora-r", "2", "--output-dir",
                       (m.scratch / "lora").string(), "--resume-from-checkpoint", "latest"})
                .exit_code == 0);
    }
    CHECK(m.weights("lora", "adapter_model.safetensors") == before);
  }
}
