// What a run does when something is wrong, and what it keeps when it is cut.
#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/json.h"
#include "engine/formats/hub_folder.h"
#include "engine/generation/generator.h"
#include "engine/training/checkpoint.h"
#include "tests/engine/training/tiny_run.h"
#include "tests/support/catch.h"
#include "tests/support/json_lines.h"

using namespace quire;
using namespace quire::test;
namespace fs = std::filesystem;

namespace {

std::vector<nlohmann::json> log_lines(const fs::path& folder) {
  return json_lines(read_file(folder / "log.jsonl"));
}

/// Few records and no dropout: memorised soon, and worse on others from there on.
TrainingConfig overfitting(const fs::path& output_dir) {
  TrainingConfig config = tiny_config(output_dir);
  config.max_steps = 400;
  config.eval_steps = 5;
  config.save_steps = 5;
  config.save_total_limit = 1;
  config.lr_scheduler_type = "constant";
  return config;
}

TrainingResult overfit(Device& device, const TrainingConfig& config,
                       const TrainingCallbacks& callbacks = {}) {
  const Gpt2Config model = tiny_model(0);
  const Parameters parameters = initialize_parameters(device, model, 11);
  return train(device, model, parameters, tiny_records(6, 1), tiny_records(5, 2), config,
               callbacks);
}

/// A model in which id 7 at place 7 is poisoned: the largest floats are finite, their sum is not.
Parameters poisoned(Device& device, const Gpt2Config& model) {
  Parameters parameters = initialize_parameters(device, model, 11);
  for (const View table : {parameters.tensors()[0], parameters.tensors()[1]}) {  // wte, wpe
    table.data<float>()[7 * model.n_embd] = std::numeric_limits<float>::max();
  }
  return parameters;
}

TokenRecords counting(const std::vector<int>& lengths) {
  TokenRecords records;
  for (const int length : lengths) {
    for (int i = 0; i < length; ++i) records.ids.push_back(i % 16);
    records.offsets.push_back(static_cast<std::int64_t>(records.ids.size()));
  }
  return records;
}

void same(const fs::path& a, const fs::path& b) {
  INFO(a.string() << " and " << b.string());
  CHECK(read_file(a) == read_file(b));
}

}  // namespace

TEST_CASE("runs cut by their time limit and resumed write the bytes of one run") {
  const ScratchFolder scratch;
  const std::unique_ptr<Device> device = open_reference_device();
  const TrainingConfig straight = tiny_config(scratch / "straight");
  train_tiny(*device, straight);

  TrainingConfig cut = tiny_config(scratch / "cut");
  cut.max_seconds = 1e-9;  // less than a step takes: each part makes one
  for (std::int64_t step = 1; step <= 6; ++step) {
    std::vector<double> evals;
    TrainingCallbacks callbacks;
    callbacks.on_eval = [&](std::int64_t at, double) {
      if (at == step) evals.push_back(at);
    };
    const TrainingResult result =
        train_tiny(*device, step == 1 ? cut : resumed(cut), callbacks, 0.1f);
    CHECK(result.steps == step);
    CHECK(result.out_of_time == (step < 6));
    CHECK_FALSE(result.interrupted);
    // It ends like a run that is done: evaluated, with a model folder and a checkpoint to go on.
    CHECK(evals.size() == 1);
    CHECK_NOTHROW(load_model(*device, cut.output_dir, WeightStorage::f32));
    same(cut.output_dir / "model.safetensors",
         cut.output_dir / checkpoint_name(step) / "model.safetensors");
  }

  // The log has the evaluations that were made at the limits besides.
  std::map<std::string, std::string> expected = files_of(straight.output_dir);
  std::map<std::string, std::string> files = files_of(cut.output_dir);
  std::istringstream lines(files["log.jsonl"]);
  std::string kept;
  int more = 0;
  for (std::string line; std::getline(lines, line);) {
    if (parse_json<nlohmann::json>(line)["step"].get<int>() % 2 == 1) {
      ++more;
    } else {
      kept += line + "\n";
    }
  }
  CHECK(more == 3);
  files["log.jsonl"] = kept;
  std::erase_if(files, [](const auto& file) {
    return file.first.starts_with("checkpoint-") && !file.first.starts_with("checkpoint-3/") &&
           !file.first.starts_with("checkpoint-6/");
  });
  std::string difference;
  same_files(expected, files, difference);
  INFO(difference);
  CHECK(difference.empty());
}

TEST_CASE("best model, patience and rotation go on over a stop as if there had been none") {
  const ScratchFolder scratch;
  const std::unique_ptr<Device> device = open_reference_device();
  TrainingConfig straight = overfitting(scratch / "straight");
  straight.save_steps = 50;
  straight.load_best_model_at_end = true;
  straight.early_stopping_patience = 3;
  const TrainingResult whole = overfit(*device, straight);
  REQUIRE(whole.steps < 400);
  const TrainerState end = read_trainer_state(whole.last_checkpoint);

  // Before the best, between it and the end at a step with an evaluation, and at one without.
  for (const std::int64_t stop :
       {end.best_step - 2, end.best_step + 5, end.best_step + 8, whole.steps}) {
    INFO("stopped at " << stop << ", best " << end.best_step << ", end " << whole.steps);
    TrainingConfig cut = straight;
    cut.output_dir = scratch / ("cut-" + std::to_string(stop));
    overfit(*device, cut, stop_after(stop));
    const TrainingResult result = overfit(*device, resumed(cut));
    CHECK(result.steps == whole.steps);
    CHECK(result.final_eval_loss == whole.final_eval_loss);
    CHECK(result.last_checkpoint.filename() == whole.last_checkpoint.filename());
    std::string difference;
    same_files(files_of(straight.output_dir), files_of(cut.output_dir), difference);
    CHECK(difference == "");
  }
}

TEST_CASE("rotation never removes the best checkpoint") {
  const ScratchFolder scratch;
  const std::unique_ptr<Device> device = open_reference_device();
  TrainingConfig config = overfitting(scratch / "out");
  config.early_stopping_patience = 4;
  const TrainingResult result = overfit(*device, config);
  const std::int64_t best = read_trainer_state(result.last_checkpoint).best_step;
  REQUIRE(best < result.steps);
  CHECK(checkpoint_steps(config.output_dir) == std::vector<std::int64_t>{best, result.steps});
}

TEST_CASE("a run that goes on in another folder looks for the best anew") {
  const ScratchFolder scratch;
  const std::unique_ptr<Device> device = open_reference_device();
  TrainingConfig config = overfitting(scratch / "first");
  config.load_best_model_at_end = true;
  config.max_steps = 300;
  const TrainingResult first = overfit(*device, config, stop_after(250));
  const std::int64_t best = read_trainer_state(first.last_checkpoint).best_step;
  REQUIRE(best < 250);
  config.output_dir = scratch / "second";
  config.resume_from_checkpoint = first.last_checkpoint.string();
  std::vector<std::string> notes;
  TrainingCallbacks callbacks;
  callbacks.on_note = [&](const std::string& line) { notes.push_back(line); };
  const TrainingResult second = overfit(*device, config, callbacks);
  CHECK(second.steps == 300);
  REQUIRE_FALSE(notes.empty());
  CHECK(notes[0].find(checkpoint_name(best) + ", the best so far, is not in") == 0);
  CHECK(read_trainer_state(second.last_checkpoint).best_step >= 250);
  CHECK(fs::exists(config.output_dir / "model.safetensors"));
}

TEST_CASE("what is saved last is not trusted before a step has gone well") {
  const ScratchFolder scratch;
  const std::unique_ptr<Device> device = open_reference_device();
  const Gpt2Config model = tiny_model(0);
  const TokenRecords records = counting({10, 10, 10, 10});
  TrainingConfig config = tiny_config(scratch / "out");
  config.per_device_train_batch_size = 1;
  config.gradient_accumulation_steps = 1;
  config.save_steps = 1;
  config.save_total_limit = 1;
  config.max_steps = 2;
  const auto run = [&](const TrainingConfig& with) {
    const Parameters parameters = initialize_parameters(*device, model, 11);
    return train(*device, model, parameters, records, {}, with);
  };
  run(config);
  CHECK(checkpoint_steps(config.output_dir) == std::vector<std::int64_t>{2});

  config.max_steps = 9;
  TrainingConfig wild = resumed(config);
  wild.learning_rate = 1e30f;  // step 3 is computed well, and leaves nothing behind it
  wild.max_grad_norm = 0;
  wild.lr_scheduler_type = "constant";
  const std::string message = scratch.message_of(Fault::diverged, [&] { run(wild); });
  CHECK(message.find("step 6: loss") != std::string::npos);
  CHECK(message.find("the last good checkpoint is DIR/out/checkpoint-2") != std::string::npos);
  CHECK(message.find("`resume_from_checkpoint` DIR/out/checkpoint-2 with a lower") !=
        std::string::npos);
  CHECK(checkpoint_steps(config.output_dir) == std::vector<std::int64_t>{2, 3});

  config.resume_from_checkpoint = (config.output_dir / "checkpoint-2").string();
  CHECK(run(config).steps == 9);
  CHECK(checkpoint_steps(config.output_dir) == std::vector<std::int64_t>{9});
}

TEST_CASE("a validation loss that is not finite is a warning, and never the best") {
  const ScratchFolder scratch;
  const std::unique_ptr<Device> device = open_reference_device();
  Gpt2Config model = tiny_model(0);
  model.tie_word_embeddings = false;
  const Parameters parameters = poisoned(*device, model);
  TrainingConfig config = tiny_config(scratch / "out");
  config.load_best_model_at_end = true;
  std::vector<std::string> warnings;
  TrainingCallbacks callbacks;
  callbacks.on_warning = [&](const std::string& line) { warnings.push_back(line); };
  const TrainingResult result = train(*device, model, parameters, counting({4, 4, 4, 5, 6, 6, 6}),
                                      counting({10}), config, callbacks);
  CHECK(result.steps == 6);
  CHECK(warnings.size() == 4);  // at 0, 2, 4 and 6
  CHECK(read_trainer_state(result.last_checkpoint).best_step == -1);
  for (const nlohmann::json& line : log_lines(config.output_dir)) {
    if (line.contains("eval_loss")) CHECK(line["eval_loss"].is_null());
  }
}

TEST_CASE("spikes are warned of, in the log too, and nothing else changes") {
  const ScratchFolder scratch;
  const std::unique_ptr<Device> device = open_reference_device();
  TrainingConfig config = tiny_config(scratch / "watched");
  config.max_steps = 60;
  config.spike_z = 1;  // noise is enough
  std::vector<std::string> warnings;
  TrainingCallbacks callbacks;
  callbacks.on_warning = [&](const std::string& line) { warnings.push_back(line); };
  train_tiny(*device, config, callbacks);
  REQUIRE_FALSE(warnings.empty());
  CHECK(warnings[0].find("deviations above") != std::string::npos);
  // Of 20 records by 6 each fourth step has the 2 that are left: its gradient is no spike.
  for (const std::string& line : warnings) {
    CAPTURE(line);
    CHECK(std::stoi(line.substr(std::string("step ").size())) % 4 != 0);
  }
  std::vector<std::string> logged;
  for (const nlohmann::json& line : log_lines(config.output_dir)) {
    if (line.contains("warning")) logged.push_back(line["warning"]);
  }
  CHECK(logged == warnings);

  TrainingConfig cut = config;
  cut.output_dir = scratch / "cut";
  train_tiny(*device, cut, stop_after(31));
  train_tiny(*device, resumed(cut));
  fs::remove_all(cut.output_dir / checkpoint_name(31));
  std::string difference;
  same_files(files_of(config.output_dir), files_of(cut.output_dir), difference);
  CHECK(difference == "");

  TrainingConfig off = config;
  off.output_dir = scratch / "off";
  off.spike_z = 0;
  warnings.clear();
  train_tiny(*device, off, callbacks);
  CHECK(warnings.empty());
  same(off.output_dir / "model.safetensors", config.output_dir / "model.safetensors");
}

TEST_CASE("samples come at their steps and leave the training's bytes alone") {
  const ScratchFolder scratch;
  const std::unique_ptr<Device> device = open_reference_device();
  const Gpt2Config model = tiny_model(0.1f);
  const auto run = [&](const std::string& name, std::int64_t every,
                       const TrainingCallbacks& cut = {}, bool again = false) {
    TrainingConfig config = tiny_config(scratch / name);
    config.sample_every = every;
    config.learning_rate = 0.1f;  // six steps are to change what is drawn
    if (again) config = resumed(config);
    const Parameters parameters = initialize_parameters(*device, model, 11);
    TrainingCallbacks callbacks = cut;
    callbacks.sample = [&](std::int64_t, const Parameters&) {
      GenerationConfig options;
      options.max_new_tokens = 5;
      options.do_sample = true;
      const std::vector<GeneratedSequence> rows =
          generate(*device, model, parameters, {{3, 1}}, options, {0});
      std::string text;
      for (const std::int32_t id : rows[0].output_ids) {
        text += " " + std::to_string(id);
      }
      return std::vector<TextSample>{{"3 1", text}};
    };
    train(*device, model, parameters, tiny_records(20, 1), tiny_records(5, 2), config, callbacks);
    return files_of(config.output_dir);
  };
  std::map<std::string, std::string> without = run("without", 0);
  std::map<std::string, std::string> with = run("with", 4);
  std::vector<std::int64_t> steps;
  std::vector<std::string> texts;
  for (const nlohmann::json& line : log_lines(scratch / "with")) {
    if (!line.contains("sample")) continue;
    steps.push_back(line["step"]);
    texts.push_back(line["sample"]);
    CHECK(line["prompt"] == "3 1");
  }
  CHECK(steps == std::vector<std::int64_t>{0, 4, 6});
  CHECK(texts.front() != texts.back());  // the parameters at hand, not those of the start

  // A stop right at a sample neither loses nor repeats it.
  run("cut", 4, stop_after(4));
  std::map<std::string, std::string> cut = run("cut", 4, {}, /*again=*/true);
  CHECK(cut["log.jsonl"] == with["log.jsonl"]);

  without.erase("log.jsonl");
  with.erase("log.jsonl");
  std::string difference;
  same_files(without, with, difference);
  CHECK(difference == "");
}
