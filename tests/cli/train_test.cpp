// quire train, run as a user would.
#include <sys/resource.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "cli/terminal.h"
#include "cli/train_progress.h"
#include "kernels/open_device.h"
#include "tests/cli/train_workplace.h"
#include "tests/support/bf16.h"
#include "tests/support/catch.h"

using namespace quire;
using namespace quire::test;
namespace fs = std::filesystem;

TEST_CASE("a fresh model is trained, and its options saved make it again") {
  const Workplace work;
  const ProgramResult run =
      run_quire(work.command("out", {"--max-steps", "20", "--eval_steps", "10", "--save-steps",
                                     "10", "--warmup-ratio", "0.2", "--data_seed", "7"}));
  INFO(run.err);
  REQUIRE(run.exit_code == 0);
  CHECK(run.out.empty());  // everything for people is on stderr
  CHECK(contains(run.err, "memory"));
  CHECK(contains(run.err, "step 20/20"));
  CHECK(contains(run.err, "% peak"));
  CHECK(contains(run.err, "try: quire generate --model"));
  const std::string out = work.folder / "out";
  for (const char* name :
       {"config.json", "generation_config.json", "model.safetensors", "vocab.json", "merges.txt",
        "tokenizer.json", "quire_config.json", "log.jsonl", "checkpoint-10/optimizer.safetensors",
        "checkpoint-20/trainer_state.json", "checkpoint-20/tokenizer.json"}) {
    INFO(name);
    CHECK(fs::exists(fs::path(out) / name));
  }
  const nlohmann::json config = parse_json<nlohmann::json>(file(out, "config.json"));
  CHECK(config["vocab_size"] == 300);
  CHECK(config["eos_token_id"] == 299);

  const ProgramResult again = run_quire({"train", "--config-file", out + "/quire_config.json",
                                         "--output-dir", work.folder / "again", "--quiet"});
  INFO(again.err);
  CHECK(again.exit_code == 0);
  CHECK(file(out, "model.safetensors") == file(work.folder / "again", "model.safetensors"));
  CHECK(file(out, "quire_config.json") == file(work.folder / "again", "quire_config.json"));
}

TEST_CASE("a model that training made worse is said to be worse") {
  const Workplace work;
  const ProgramResult worse = run_quire(work.command("worse", {"--max-steps", "4", "--lr", "1"}));
  CHECK(worse.exit_code == 0);
  CHECK(contains(worse.err, "worse than before: a lower --learning-rate"));
  const ProgramResult better =
      run_quire(work.command("better", {"--max-steps", "4", "--zero", "1"}));
  CHECK(better.exit_code == 0);
  CHECK(contains(better.err, "--zero 1 is for mpirun"));  // one process has nothing to divide
  CHECK_FALSE(contains(better.err, "worse"));
}

TEST_CASE("Ctrl-C saves and exits with 130, and the resumed run ends in the same bytes") {
  const Workplace work;
  const std::vector<std::string> options = {"--max-steps", "60", "--save-steps", "20"};
  REQUIRE(run_quire(work.command("straight", options)).exit_code == 0);
  Program program(work.command("cut", options));
  REQUIRE(program.wait_for("step 10/60"));
  program.send(SIGINT);
  const ProgramResult cut = program.wait();
  INFO(cut.err);
  CHECK(cut.exit_code == 130);
  CHECK(contains(cut.err, "--resume-from-checkpoint latest"));
  CHECK_FALSE(fs::exists(work.folder / "cut/model.safetensors"));

  std::vector<std::string> resume = options;
  resume.insert(resume.end(), {"--resume-from-checkpoint", "latest", "--threads", "1"});
  const ProgramResult resumed = run_quire(work.command("cut", resume));
  INFO(resumed.err);
  CHECK(resumed.exit_code == 0);
  for (const char* name : {"model.safetensors", "checkpoint-60/optimizer.safetensors",
                           "checkpoint-60/trainer_state.json", "quire_config.json"}) {
    INFO(name);
    CHECK(file(work.folder / "straight", name) == file(work.folder / "cut", name));
  }

  // The checkpoint brings model and tokenizer: neither has to be named. Another batch is refused.
  const ProgramResult bare =
      run_quire({"train", "--data", work.text, "--line-by-line", "--output-dir",
                 work.folder / "cut", "--resume-from-checkpoint", "latest", "--batch-size", "8"});
  CHECK(bare.exit_code == 2);
  CHECK(contains(bare.err, "per_device_train_batch_size × ranks: the checkpoint has 4, now 8"));
}

TEST_CASE("a run that stops at a step goes on with the schedule it had, to the same bytes") {
  const Workplace work;
  const std::vector<std::string> options = {"--max-steps",  "20", "--save-steps",   "0",
                                            "--eval-steps", "5",  "--warmup-steps", "3"};
  REQUIRE(run_quire(work.command("straight", options)).exit_code == 0);
  std::vector<std::string> first = options, second = options;
  first.insert(first.end(), {"--stop-at-step", "5"});
  const ProgramResult stopped = run_quire(work.command("cut", first));
  INFO(stopped.err);
  CHECK(stopped.exit_code == 0);
  CHECK(contains(stopped.err, "stopped after step 5"));
  CHECK(contains(stopped.err, "step 5: validation loss"));
  CHECK(fs::exists(work.folder / "cut/checkpoint-5"));
  CHECK_FALSE(fs::exists(work.folder / "cut/model.safetensors"));
  second.insert(second.end(), {"--resume-from-checkpoint", "latest"});
  const ProgramResult resumed = run_quire(work.command("cut", second));
  INFO(resumed.err);
  CHECK(resumed.exit_code == 0);
  for (const char* name : {"model.safetensors", "quire_config.json"}) {
    INFO(name);
    CHECK(file(work.folder / "straight", name) == file(work.folder / "cut", name));
  }
}

TEST_CASE("with --json every line of stdout is an event") {
  const Workplace work;
  const ProgramResult run =
      run_quire(work.command("out", {"--max-steps", "10", "--json", "--save-dtype", "bfloat16"}));
  INFO(run.err);
  REQUIRE(run.exit_code == 0);
  std::vector<std::string> events;
  for (const nlohmann::json& line : json_lines(run.out)) events.push_back(line.at("event"));
  CHECK(events ==
        std::vector<std::string>{"estimate", "eval", "log", "log", "eval", "save", "save", "done"});
  CHECK(contains(file(work.folder / "out", "config.json"), "bfloat16"));
}

TEST_CASE("a model goes on with its own tokenizer, on records with ids and labels too") {
  const Workplace work;
  REQUIRE(run_quire(work.command("first", {"--max-steps", "5"})).exit_code == 0);
  const std::string ids =
      work.folder.write("ids.jsonl",
                        "{\"input_ids\": [1, 2, 3, 4], \"labels\": [-100, -100, 3, 4]}\n"
                        "{\"text\": \"The fox jumps.\"}\n{\"input_ids\": [5, 6, 7]}\n");
  const ProgramResult second = run_quire({"train", "--model", work.folder / "first", "--data", ids,
                                          "--packing", "none", "--validation-split", "0",
                                          "--output-dir", work.folder / "second", "--epochs", "2"});
  INFO(second.err);
  CHECK(second.exit_code == 0);
  CHECK(fs::exists(work.folder / "second/tokenizer.json"));

  // Without tokenizer files ids are enough, and text is refused.
  for (const char* name : {"vocab.json", "merges.txt", "tokenizer.json"}) {
    fs::remove(work.folder / "first" / name);
  }
  const std::string only_ids = work.folder.write("only.jsonl", "{\"input_ids\": [1, 2, 3, 4]}\n");
  const ProgramResult third = run_quire({"train", "--model", work.folder / "first", "--data",
                                         only_ids, "--validation-split", "0", "--output-dir",
                                         work.folder / "third", "--epochs", "2"});
  INFO(third.err);
  CHECK(third.exit_code == 0);
  const ProgramResult text = run_quire({"train", "--model", work.folder / "first", "--data",
                                        work.text, "--output-dir", work.folder / "fourth"});
  CHECK(text.exit_code == 2);
  CHECK(contains(text.err, "--tokenizer DIR"));
}

TEST_CASE("an adapter is trained, resumed, generated with and merged") {
  const Workplace work;
  REQUIRE(run_quire(work.command("base", {"--max-steps", "5"})).exit_code == 0);
  const auto command = [&](const std::string& output, std::vector<std::string> more) {
    std::vector<std::string> arguments = {"train",
                                          "--model",
                                          work.folder / "base",
                                          "--data",
                                          work.text,
                                          "--line-by-line",
                                          "--output-dir",
                                          work.folder / output,
                                          "--lora-r",
                                          "4",
                                          "--lora-dropout",
                                          "0.1",
                                          "--lora-target-modules",
                                          "c_attn",
                                          "c_proj",
                                          "--lr",
                                          "1e-2",
                                          "--max-steps",
                                          "8",
                                          "--save-steps",
                                          "4",
                                          "--batch-size",
                                          "4"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  };
  const ProgramResult run = run_quire(command("adapter", {}));
  INFO(run.err);
  REQUIRE(run.exit_code == 0);
  // In each of 2 blocks 4·(24 + 72) + 4·(24 + 24) + 4·(96 + 24).
  CHECK(contains(run.err, "rank 4, alpha 8, dropout 0.1 on c_attn, c_proj: 2,112 parameters"));
  CHECK_FALSE(fs::exists(work.folder / "adapter/model.safetensors"));
  CHECK(fs::exists(work.folder / "adapter/tokenizer.json"));
  // Its base is not on the Hub: the card names none there, and says what to write and where.
  const std::string card = file(work.folder / "adapter", "README.md");
  CHECK(contains(card, "library_name: peft\n"));
  CHECK_FALSE(contains(card, "base_model: "));
  CHECK(contains(card, "AutoPeftModelForCausalLM.from_pretrained(\"adapter\")"));
  CHECK(contains(card, "is where `base` lay on the machine"));
  CHECK(contains(card, "The name that `base` has on the Hub, twice"));
  CHECK_FALSE(contains(card, work.folder.path().string()));

  // From its checkpoint, which names the base: the same bytes.
  const std::string before = file(work.folder / "adapter", "adapter_model.safetensors");
  std::vector<std::string> resume =
      command("adapter", {"--resume-from-checkpoint", work.folder / "adapter/checkpoint-4"});
  resume.erase(resume.begin() + 1, resume.begin() + 3);  // without --model
  const ProgramResult resumed = run_quire(resume);
  INFO(resumed.err);
  CHECK(resumed.exit_code == 0);
  CHECK(file(work.folder / "adapter", "adapter_model.safetensors") == before);

  REQUIRE(run_quire(command("merged", {"--lora-merge"})).exit_code == 0);
  CHECK(contains(file(work.folder / "merged", "README.md"), "library_name: transformers\n"));
  const auto evaluated = [&](const std::string& model) {
    const ProgramResult result =
        run_quire({"eval", "--model", work.folder / model, "--data", work.text, "--line-by-line",
                   "--json", "--dtype", "float32"});
    INFO(result.err);
    REQUIRE(result.exit_code == 0);
    return parse_json<nlohmann::json>(result.out)["loss"].get<double>();
  };
  CHECK(evaluated("adapter") == evaluated("merged"));
  CHECK(evaluated("adapter") != evaluated("base"));
  const auto generated = [&](const std::string& model) {
    return run_quire({"generate", "--model", work.folder / model, "-p", "The fox"});
  };
  CHECK(generated("adapter").exit_code == 0);
  CHECK(generated("adapter").out == generated("merged").out);
  // An adapter is a model to go on from, but not one to adapt.
  const ProgramResult full =
      run_quire({"train", "--model", work.folder / "adapter", "--data", work.text, "--output-dir",
                 work.folder / "full", "--max-steps", "1"});
  CHECK(full.exit_code == 0);
  CHECK(fs::exists(work.folder / "full/model.safetensors"));
  std::vector<std::string> twice = command("twice", {});
  twice[2] = work.folder / "adapter";
  const ProgramResult refused = run_quire(twice);
  CHECK(refused.exit_code == 2);
  CHECK(contains(refused.err, "is an adapter"));
  CHECK(contains(refused.err, "--model " + (work.folder / "base").string()));

  const ProgramResult over = run_quire(command("base", {"--overwrite-output-dir"}));
  CHECK(over.exit_code == 2);
  CHECK(contains(over.err, "is the folder of --model"));
  CHECK(fs::exists(work.folder / "base/model.safetensors"));
  std::vector<std::string> misspelt = command("twice", {});
  *std::find(misspelt.begin(), misspelt.end(), "c_proj") = "c_porj";
  const ProgramResult no_module = run_quire(misspelt);
  CHECK(no_module.exit_code == 2);
  CHECK(contains(no_module.err, "there is no module 'c_porj' to adapt"));

  // A base that lies beside the adapter, then one that is gone.
  const fs::path json = work.folder / "adapter/adapter_config.json";
  nlohmann::json config = parse_json<nlohmann::json>(read_file(json));
  CHECK(config["base_model_name_or_path"] == (work.folder / "base").string());
  config["base_model_name_or_path"] = "../base";
  write_file(json, json_text(config));
  CHECK(generated("adapter").out == generated("merged").out);
  fs::remove_all(work.folder / "base");
  const ProgramResult gone = generated("adapter");
  CHECK(gone.exit_code == 3);
  CHECK(contains(gone.err, "is an adapter of the model '../base', which is not there"));
  CHECK(contains(gone.err, "base_model_name_or_path"));
}

TEST_CASE("packed records and losses on completions are what a run is told and tells") {
  const Workplace work;
  const std::string table =
      work.folder.write("t.csv", "name,face\nthe fox,:)\nthe dog,:(\nthe fox jumps,:D\n");
  const std::vector<std::string> data = {
      "--data",      table,     "--template",         "{name} => {face}",
      "--packing",   "records", "--validation-split", "0",
      "--max-steps", "3"};
  const auto run = [&](const std::string& out, const std::string& loss_on) {
    std::vector<std::string> arguments = {"train",       "--config",     work.config,
                                          "--tokenizer", work.tokenizer, "--loss-on",
                                          loss_on,       "--output-dir", work.folder / out};
    arguments.insert(arguments.end(), data.begin(), data.end());
    return run_quire(arguments);
  };
  const ProgramResult all = run("all", "all"), completion = run("completion", "completion");
  INFO(all.err << completion.err);
  REQUIRE(all.exit_code == 0);
  REQUIRE(completion.exit_code == 0);
  CHECK(file(work.folder / "all", "log.jsonl") != file(work.folder / "completion", "log.jsonl"));
  const ProgramResult refused = run_quire(work.command("none", {"--loss-on", "completion"}));
  CHECK(refused.exit_code == 2);
  CHECK(contains(refused.err, "needs a template"));
}

TEST_CASE("what cannot be trained is refused with exit code, cause and next step") {
  const Workplace work;
  const auto fails = [&](const std::vector<std::string>& arguments, int code,
                         const std::string& cause) {
    const ProgramResult run = run_quire(arguments);
    INFO(run.err);
    CHECK(run.exit_code == code);
    CHECK(contains(run.err, cause));
    CHECK(contains(run.err, "error: "));
    CHECK_FALSE(fs::exists(work.folder / "out/model.safetensors"));
  };
  const std::string out = work.folder / "out";
  fails({"train"}, 2, "--data is missing");
  fails({"train", "--data", work.text}, 2, "--output-dir is missing");
  fails({"train", "--data", work.text, "--output-dir", out, "--tokenizer", work.tokenizer}, 2,
        "neither --model nor --config");
  fails(work.command("out", {"--model", work.folder / "none"}), 2, "exclude each other");
  fails(work.command("out", {"--max-stepz", "3"}), 2, "did you mean --max-steps");
  fails(work.command("out", {"--block-size", "33"}), 2, "32 positions");
  fails(work.command("out", {"--block-size", "99999"}), 2, "--block-size 99999 is longer");
  fails(work.command("out", {"--learning-rate", "-1"}), 2, "learning-rate");
  fails(work.command("out", {"--freeze-layers", "3"}), 2, "the model has 2 blocks");
  fails(work.command("out", {"--lora-r", "4"}), 2, "--lora-r adapts a trained model");
  fails(work.command("out", {"--lora-merge"}), 2, "there is none");
  fails(work.command("out", {"--power", "2"}), 2, "--power does not go with");
  fails(work.command("out", {"--lr-scheduler-type", "warmup_stable_decay", "--warmup-steps", "9",
                             "--num-decay-steps", "9", "--max-steps", "9"}),
        2, "longer than the run");
  fails(work.command("out", {"--resume-from-checkpoint", "latest"}), 3, "there is no checkpoint");
  fails({"train", "--config", "gpt3", "--data", work.text, "--output-dir", out}, 2,
        "presets: tiny");
  fails({"train", "--config", work.config, "--data", work.text, "--output-dir", out}, 2,
        "--tokenizer DIR");
  fails({"train", "--config", work.config, "--tokenizer", work.tokenizer, "--data",
         work.folder / "none.txt", "--output-dir", out},
        3, "none.txt");
  const std::string empty = work.folder.write("empty.txt", "");
  fails({"train", "--config", work.config, "--tokenizer", work.tokenizer, "--data", empty,
         "--output-dir", out},
        3, "empty.txt");
  const std::string csv = work.folder.write("quotes.csv", "name,quote\nA,Hello there\n");
  fails({"train", "--config", work.config, "--tokenizer", work.tokenizer, "--data", csv,
         "--text-column", "text", "--output-dir", out},
        3, "columns: name, quote");
  fails({"train", "--config", "gpt2-xl", "--tokenizer", work.tokenizer, "--data", work.text,
         "--batch-size", "1024", "--output-dir", out},
        4, "training needs");
  fails(work.command("out", {"--lr", "1e30", "--max-grad-norm", "0", "--max-steps", "9"}), 6,
        "diverged");

  work.folder.write("used/notes.txt", "mine");
  fails(work.command("used"), 2, "is not empty");
  CHECK(file(work.folder / "used", "notes.txt") == "mine");
}

TEST_CASE("training in bfloat16 on the CPU goes on from a checkpoint to the same bytes") {
  QUIRE_NEEDS_BF16(*open_device("cpu"));
  const Workplace work;
  const std::vector<std::string> options = {"--max-steps", "4", "--bf16", "--device", "cpu"};
  std::vector<std::string> float_options = {"--max-steps", "4", "--device", "cpu"};
  REQUIRE(run_quire(work.command("float", float_options)).exit_code == 0);
  REQUIRE(run_quire(work.command("straight", options)).exit_code == 0);
  std::vector<std::string> cut = options;
  cut.insert(cut.end(), {"--stop-at-step", "2"});
  REQUIRE(run_quire(work.command("out", cut)).exit_code == 0);
  std::vector<std::string> resumed = options;
  resumed.insert(resumed.end(), {"--resume-from-checkpoint", "latest", "--threads", "1"});
  const ProgramResult result = run_quire(work.command("out", resumed));
  INFO(result.err);
  REQUIRE(result.exit_code == 0);
  const std::string want = file(work.folder / "straight", "model.safetensors");
  CHECK(file(work.folder / "out", "model.safetensors") == want);
  CHECK(file(work.folder / "float", "model.safetensors") != want);

  float_options.insert(float_options.end(), {"--resume-from-checkpoint", "latest"});
  const ProgramResult other = run_quire(work.command("out", float_options));
  CHECK(other.exit_code == 2);
  CHECK(contains(other.err, "bf16"));
}

TEST_CASE("an automatic type trains in what the machine can, and goes on in that of the run") {
  const Workplace work;
  const auto train = [&](const std::string& out, std::vector<std::string> options,
                         const std::string& level = "") {
    options.insert(options.end(), {"--max-steps", "4", "--device", "cpu"});
    return run_quire(work.command(out, options), {.environment = {{"QUIRE_SIMD", level}}});
  };
  const auto model = [&](const std::string& out) {
    return file(work.folder / out, "model.safetensors");
  };
  const ProgramResult both = train("both", {"--bf16", "--dtype", "float32"});
  CHECK(both.exit_code == 2);
  CHECK(contains(both.err, "exclude each other"));

  REQUIRE(train("float", {}).exit_code == 0);
  CHECK(contains(train("plain", {"--dtype", "auto"}, "scalar").err, "products    in float32"));
  REQUIRE(train("out", {"--dtype", "float32", "--stop-at-step", "2"}).exit_code == 0);
  const ProgramResult resumed =
      train("out", {"--dtype", "auto", "--resume-from-checkpoint", "latest"});
  INFO(resumed.err);
  CHECK(contains(resumed.err, "products    in float32"));
  CHECK(model("out") == model("float"));

  QUIRE_NEEDS_BF16(*open_device("cpu"));
  const ProgramResult chosen = train("auto", {"--dtype", "auto"});
  INFO(chosen.err);
  CHECK(contains(chosen.err, "products    in bfloat16"));
  CHECK(contains(file(work.folder / "auto", "quire_config.json"), "\"bf16\": true"));
  REQUIRE(train("named", {"--dtype", "bfloat16"}).exit_code == 0);
  CHECK(model("auto") == model("named"));
  CHECK(model("auto") != model("float"));
}

TEST_CASE("training in bfloat16 is refused where the processor cannot, and nothing is written") {
  const Workplace work;
  const ProgramResult result =
      run_quire(work.command("out", {"--max-steps", "1", "--bf16", "--device", "cpu"}),
                {.environment = {{"QUIRE_SIMD", "scalar"}}});
  CHECK(result.exit_code == 5);
  CHECK(
      contains(result.err, "error: this device does not compute in bfloat16\n  CPU, no vectors, "));
  CHECK(contains(result.err, "\n  try: float32, without --bf16\n"));
  CHECK_FALSE(fs::exists(work.folder / "out"));
  if (open_device("cpu")->why_not_in_bf16().empty()) {
    CHECK(contains(result.err, "\n  QUIRE_SIMD=scalar leaves AVX-512 BF16 out\n"));
  }
}

TEST_CASE("a disk that is full while saving ends with 4, and the run goes on later") {
  const Workplace work;
  const std::vector<std::string> options = {"--max-steps", "8", "--save-steps", "4"};
  REQUIRE(run_quire(work.command("straight", options)).exit_code == 0);
  // The limit on file sizes stands for the disk: the moments of 20,000 parameters do not fit in it.
  rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_FSIZE, &before) == 0);
  const rlimit small{100'000, before.rlim_max};
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &small) == 0);
  const ProgramResult full = run_quire(work.command("out", options));
  ::setrlimit(RLIMIT_FSIZE, &before);
  INFO(full.err);
  CHECK(full.exit_code == 4);
  CHECK(contains(full.err, "cannot save checkpoint-4"));

  const ProgramResult again = run_quire(
      work.command("out", {"--max-steps", "8", "--save-steps", "4", "--overwrite-output-dir"}));
  CHECK(again.exit_code == 0);
  CHECK(file(work.folder / "out", "model.safetensors") ==
        file(work.folder / "straight", "model.safetensors"));
}

TEST_CASE("the progress line fits a terminal, its end included") {
  const std::vector<LinePart> parts = TrainProgress::parts({.step = 120,
                                                            .total_steps = 500,
                                                            .loss = 3.2141,
                                                            .learning_rate = 4.2e-5,
                                                            .tokens_per_second = 12345,
                                                            .seconds_left = 125,
                                                            .mfu = 0.61,
                                                            .eval_loss = 3.4019});
  CHECK(fit_parts(parts, 79) ==
        "step 120/500 loss 3.214 val 3.402 lr 4.2e-05 12,345 tok/s 61% peak 2m 05s left");
  CHECK(fit_parts(parts, 59) == "step 120/500 loss 3.214 val 3.402 12,345 tok/s 2m 05s left");
  CHECK(fit_parts(parts, 39) == "step 120/500 loss 3.214 2m 05s left");
  CHECK(fit_parts(parts, 25) == "step 120/500 2m 05s left");
}
