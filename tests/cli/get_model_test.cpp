// What is said where a model is not there, and which one trains when none is named.
#include "pipeline/get_model.h"

#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/json.h"
#include "cli/help_text.h"
#include "tests/cli/train_workplace.h"
#include "tests/support/catch.h"

using namespace quire;
using namespace quire::test;
namespace fs = std::filesystem;

namespace {

/// A folder of its own with an empty Hub cache.
struct Elsewhere {
  ScratchFolder scratch;
  ProgramOptions here{.environment = {{"HF_HOME", scratch / "home"}, {"HF_HUB_CACHE", ""}},
                      .folder = scratch.path()};
  ProgramResult run(const std::vector<std::string>& arguments) const {
    return run_quire(arguments, here);
  }
};

/// A model of 20,000 parameters with its tokenizer, trained for a step.
std::string small_model(const Workplace& work) {
  REQUIRE(run_quire(work.command("small", {"--max-steps", "1", "--save-steps", "0"})).exit_code ==
          0);
  return work.folder / "small";
}

}  // namespace

TEST_CASE("a mistyped model gets the nearest one, and a file that is none is told") {
  const Elsewhere e;
  const std::string typo = "narator", text = e.scratch.write("a.txt", "The fox jumps.\n");
  const ProgramResult mistyped = run_quire({"generate", "-m", typo, "-p", "x"});
  CHECK(mistyped.exit_code == 3);
  CHECK(contains(mistyped.err, "no model 'narator'\n  did you mean narrator?\n"));
  for (const std::vector<std::string>& command :
       {std::vector<std::string>{"generate", "-m", text, "-p", "x"},
        {"eval", "-m", text, "--data", text},
        {"train", "-m", text, "--data", text, "-o", e.scratch / "out"}}) {
    const ProgramResult result = run_quire(command);
    CHECK(result.exit_code == 3);
    CHECK(contains(result.err,
                   "error: " + text + " is not a model\n  there is no config.json beside it\n"));
  }
}

TEST_CASE(
    "every command that wants gpt2 says how to get it, where it goes, and what needs nothing") {
  const Elsewhere e;
  const std::string text = e.scratch.write("a.txt", "The fox jumps.\n");
  e.scratch.write("adapter/adapter_config.json",
                  R"({"peft_type": "LORA", "r": 2, "target_modules": ["c_attn"],
          "base_model_name_or_path": "gpt2"})");
  e.scratch.write("adapter/adapter_model.safetensors", "");
  e.scratch.write("sweep.json", R"({"method": "grid", "train": {"model": "gpt2", "data": "a.txt"},
                                    "search": {"learning_rate": [0.1]}})");
  const std::vector<std::vector<std::string>> commands = {
      {"generate", "-m", "gpt2", "-p", "x"},
      {"generate", "-m", kBundledModel, "--tokenizer", "gpt2", "-p", "x"},
      {"generate", "-m", "adapter", "-p", "x"},
      {"eval", "-m", "gpt2", "--data", text},
      {"eval", "-m", kBundledModel, "--tokenizer", "gpt2", "--data", text},
      {"eval", "-m", "gpt2", "--texts", text},
      {"eval", "-m", kBundledModel, "--baseline", "gpt2", "--data", text},
      {"train", "--model", "gpt2", "--data", text, "--output-dir", "out"},
      {"train", "--config", "tiny", "--tokenizer", "gpt2", "--data", text, "--output-dir", "out"},
      {"tokenizer", "encode", "--tokenizer", "gpt2"},
      {"tokenizer", "decode", "--tokenizer", "gpt2"},
      {"data", "inspect", text, "--tokenizer", "gpt2"},
      {"data", "prepare", text, "--tokenizer", "gpt2", "-o", "out"},
      {"demo", "--model", "gpt2"},
      {"sweep", "sweep.json", "--output-dir", "out"},
  };
  for (const std::vector<std::string>& command : commands) {
    const ProgramResult run = e.run(command);
    INFO(command[0] << " " << command[1] << "\n" << run.err);
    CHECK(run.exit_code == 3);
    if (command[0] == "sweep") continue;  // says it in the log of its run
    CHECK(contains(run.err, "this gets it:\n    quire download gpt2\n"));
    CHECK(contains(run.err,
                   "python3 -c \"from huggingface_hub import snapshot_download as get; "
                   "get('gpt2', local_dir='gpt2', "));
    CHECK(contains(run.err, "that writes the folder gpt2 here"));
    CHECK(contains(run.err, (e.scratch.path() / "home/hub").string() + "\n"));
    const bool of_adapter = command[2] == "adapter";  // whose config is to be mended
    CHECK(contains(run.err, std::string(kBundledModel) + ", which comes with Quire") != of_adapter);
  }
  CHECK(contains(file(e.scratch / "out/run-001", "train.log"), "quire download gpt2\n"));
}

TEST_CASE("the overview and the help of commands with a model say where models come from") {
  for (const std::vector<std::string>& command : {std::vector<std::string>{},
                                                  {"train"},
                                                  {"generate"},
                                                  {"eval"},
                                                  {"tokenizer", "encode"},
                                                  {"tokenizer", "decode"},
                                                  {"data", "prepare"},
                                                  {"data", "inspect"}}) {
    std::vector<std::string> arguments = command;
    arguments.emplace_back("--help");
    CHECK(contains(run_quire(arguments).out, where_models_come_from() + "\n"));
  }
}

TEST_CASE("half a model says how to get the rest") {
  const Elsewhere e;
  const Workplace work;
  const std::string cached = e.scratch / "home/hub/models--gpt2/snapshots/abc";
  fs::create_directories(cached);
  const fs::path whole = small_model(work);
  for (const char* name : {"config.json", "tokenizer.json"}) {
    fs::copy_file(whole / name, fs::path(cached) / name);
  }
  const ProgramResult weights = e.run({"generate", "-m", "gpt2", "-p", "The"});
  INFO(weights.err);
  CHECK(weights.exit_code == 3);
  CHECK(contains(weights.err, "abc holds no weights"));
  CHECK(contains(weights.err, "quire download gpt2\n"));

  fs::copy_file(whole / "model.safetensors", fs::path(cached) / "model.safetensors");
  CHECK(e.run({"generate", "-m", "gpt2", "-p", "The", "-n", "2"}).exit_code == 0);

  fs::remove(fs::path(cached) / "tokenizer.json");
  const ProgramResult prompt = e.run({"generate", "-m", "gpt2", "-p", "The"});
  CHECK(prompt.exit_code == 3);
  CHECK(contains(prompt.err, "quire download gpt2\n"));
  const ProgramResult trained =
      e.run({"train", "--model", "gpt2", "--data", work.text, "--output-dir", "out"});
  CHECK(trained.exit_code == 2);
  CHECK(contains(trained.err, "quire download gpt2\n"));

  CHECK(contains(trained.err, "without a tokenizer\n  the model's folder has none\n"));
  const ProgramResult fresh =
      e.run({"train", "--config", "tiny", "--data", work.text, "--output-dir", "out"});
  CHECK(fresh.exit_code == 2);
  CHECK(contains(fresh.err, "without a tokenizer\n  a fresh model has no vocabulary of its own\n"));
  CHECK(contains(fresh.err, "quire download gpt2\n"));
  CHECK(contains(fresh.err, std::string("--tokenizer ") + kBundledModel + " needs nothing"));

  fs::create_directories(e.scratch.path() / "gpt2");
  const ProgramResult folder = e.run({"generate", "-m", "gpt2", "-p", "The"});
  CHECK(folder.exit_code == 3);
  CHECK(contains(folder.err, "error: gpt2 is not a model folder\n  it holds no config.json\n"));
  CHECK(contains(folder.err, "quire download gpt2\n"));
}

TEST_CASE("training without a model goes on from gpt2 where it is, else from the bundled model") {
  const Elsewhere e;
  const Workplace work;
  e.scratch.write("data/processed/a.txt", read_file(work.text));
  const auto train = [&](const std::string& out, std::vector<std::string> more = {}) {
    more.insert(more.begin(), {"train", "--data_dir", "data/processed/", "--model_output_dir", out,
                               "--max-steps", "1", "--batch-size", "1", "--max-length", "32"});
    const ProgramResult run = e.run(more);
    INFO(run.err);
    CHECK(run.exit_code == 0);
    const auto saved = parse_json<nlohmann::json>(file(e.scratch / out, "quire_config.json"));
    return std::pair{run.err.substr(0, run.err.find('\n')), saved["model"].get<std::string>()};
  };
  const std::string begin = "no --model and no --config: training goes on from ";
  const auto bundled = train("models/gpt2_fine_tuned/");
  CHECK(bundled.first ==
        begin + kBundledModel + ", which comes with Quire (quire download gpt2 gets that one)");
  CHECK(bundled.second == kBundledModel);
  CHECK(contains(file(e.scratch / "models/gpt2_fine_tuned", "README.md"), kBundledModel));

  const fs::path whole = small_model(work);
  const fs::path cache = e.scratch.path() / "home/hub/models--openai-community--gpt2/snapshots/abc";
  fs::create_directories(cache.parent_path());
  fs::copy(whole, cache);
  const auto cached = train("b");
  CHECK(cached.first == begin + "gpt2, found in " + fs::relative(cache, e.scratch.path()).string());
  CHECK(cached.second == "gpt2");
  fs::remove(cache / "model.safetensors");  // a download of the tokenizer alone
  CHECK(train("c").second == kBundledModel);

  fs::copy(whole, e.scratch.path() / "gpt2");
  CHECK(train("d").first == begin + "gpt2, found in gpt2");

  // Gone on from, the run has its model from the checkpoint, and still says where it began.
  const std::string saved = file(e.scratch / "d", "quire_config.json");
  fs::remove_all(e.scratch.path() / "gpt2");
  const auto resumed = train("d", {"--resume-from-checkpoint", "latest"});
  CHECK_FALSE(contains(resumed.first, begin));
  CHECK(file(e.scratch / "d", "quire_config.json") == saved);
  CHECK(contains(file(e.scratch / "d", "README.md"), "base_model: \"gpt2\""));
}

TEST_CASE("an adapter names its base so that PEFT finds it, and its card as the Hub knows it") {
  const Elsewhere e;
  const Workplace work;
  const std::string whole = small_model(work), name = "acme/tiny";
  const fs::path cache = e.scratch.path() / "home/hub/models--acme--tiny/snapshots/abc";
  fs::create_directories(cache.parent_path());
  fs::copy(whole, cache);
  // What adapter_config.json calls the base, and the card.
  const auto trained = [&](const std::string& model, const std::string& output) {
    const ProgramResult run =
        e.run({"train", "-m", model, "--data", work.text, "-o", output, "--lora-r", "2",
               "--max-steps", "1", "--batch-size", "1", "--block-size", "8"});
    INFO(run.err);
    REQUIRE(run.exit_code == 0);
    const auto config = parse_json<nlohmann::json>(file(e.scratch / output, "adapter_config.json"));
    return std::pair(config["base_model_name_or_path"].get<std::string>(),
                     file(e.scratch / output, "README.md"));
  };
  const auto [hub_base, hub_card] = trained(name, "of_hub");
  CHECK(hub_base == name);
  CHECK(contains(hub_card, "library_name: peft\n"));
  CHECK(contains(hub_card, "base_model: \"acme/tiny\"\n"));
  CHECK_FALSE(contains(hub_card, "base_model_name_or_path"));
  CHECK(e.run({"generate", "-m", "of_hub", "-p", "The fox"}).exit_code == 0);

  // PEFT knows nothing of models that come with Quire, and takes folders, not files.
  const auto [bundled_base, bundled_card] = trained(kBundledModel, "of_bundled");
  CHECK(fs::path(bundled_base).is_absolute());
  CHECK(fs::exists(fs::path(bundled_base) / "model.safetensors"));
  CHECK_FALSE(contains(bundled_card, "base_model: "));
  CHECK(
      contains(bundled_card, std::string("The name that `") + kBundledModel + "` has on the Hub"));
  const auto [file_base, file_card] = trained(whole + "/model.safetensors", "of_file");
  CHECK(file_base == whole);
  CHECK(contains(file_card, "is where `small` lay"));
}
