#include "engine/training/trainer.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>

#include "engine/formats/hub_folder.h"
#include "engine/formats/safetensors.h"
#include "engine/training/checkpoint.h"
#include "engine/training/optimizer.h"
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

}  // namespace

TEST_CASE("training learns, logs, evaluates and leaves a model folder that loads") {
  const ScratchFolder scratch;
  const std::unique_ptr<Device> device = open_reference_device();
  TrainingConfig config = tiny_config(scratch / "out");
  config.max_steps = 60;
  config.eval_steps = 20;
  config.save_steps = 25;
  config.save_total_limit = 2;
  std::vector<fs::path> saved;
  TrainingCallbacks callbacks;
  callbacks.on_save = [&](const fs::path& path) { saved.push_back(path.filename()); };
  callbacks.write_companions = [](const fs::path& folder) { write_file(folder / "beside", "x"); };
  const TrainingResult result = train_tiny(*device, config, callbacks, 0.0f);

  CHECK(result.steps == 60);
  CHECK_FALSE(result.interrupted);
  CHECK(result.first_eval_loss == Approx(std::log(17)).epsilon(0.1));  // fresh: all ids alike
  CHECK(result.final_eval_loss < result.first_eval_loss - 0.5);
  CHECK(saved == std::vector<fs::path>{"checkpoint-25", "checkpoint-50", "checkpoint-60", "out"});
  CHECK(checkpoint_steps(config.output_dir) == std::vector<std::int64_t>{50, 60});
  CHECK(fs::exists(config.output_dir / "beside"));
  CHECK(fs::exists(config.output_dir / "checkpoint-60" / "beside"));

  const LoadedModel loaded = load_model(*device, config.output_dir, WeightStorage::f32);
  const LoadedModel last = load_model(*device, result.last_checkpoint, WeightStorage::f32);
  for (std::size_t i = 0; i < loaded.parameters.tensors().size(); ++i) {
    const View a = loaded.parameters.tensors()[i];
    const View b = last.parameters.tensors()[i];
    CHECK(std::equal(a.data<float>(), a.data<float>() + a.count(), b.data<float>()));
  }

  std::vector<std::int64_t> train_steps, eval_steps;
  for (const nlohmann::json& line : log_lines(config.output_dir)) {
    if (line.contains("eval_loss")) {
      eval_steps.push_back(line["step"]);
      CHECK(line["eval_perplexity"].get<double>() ==
            Approx(std::exp(line["eval_loss"].get<double>())));
      continue;
    }
    train_steps.push_back(line["step"]);
    for (const char* key :
         {"epoch", "loss", "grad_norm", "learning_rate", "tokens", "tokens_per_second"}) {
      CHECK(line.contains(key));
    }
  }
  CHECK(eval_steps == std::vector<std::int64_t>{0, 20, 40, 60});
  CHECK(train_steps.size() == 15);
}

TEST_CASE("four micro-batches of one row give the update of one batch of four") {
  // Rows have different numbers of targets: a mean of micro-batch means would differ.
  const ScratchFolder scratch;
  const std::unique_ptr<Device> device = open_reference_device();
  const Gpt2Config model = tiny_model(0);
  std::vector<Parameters> results;
  std::vector<double> losses;
  for (const int rows : {4, 1, 2}) {
    TrainingConfig config = tiny_config(scratch / std::to_string(rows));
    config.max_steps = 4;
    config.warmup_steps = 0;
    config.per_device_train_batch_size = rows;
    config.gradient_accumulation_steps = 4 / rows;
    results.push_back(initialize_parameters(*device, model, 11));
    losses.push_back(
        train(*device, model, results.back(), tiny_records(18, 1), {}, config).final_loss);
  }
  for (const std::size_t other : {1u, 2u}) {
    // Sums of the same few hundred floats in another order, then AdamW's division: 1e-5 of a step
    // of lr = 1e-2, four times.
    CHECK(losses[other] == Approx(losses[0]).epsilon(1e-5));
    for (std::size_t i = 0; i < results[0].tensors().size(); ++i) {
      if (results[0].names()[i].name.find("c_attn.bias") != std::string::npos) continue;  // noise
      const View a = results[0].tensors()[i];
      const View b = results[other].tensors()[i];
      INFO(results[0].names()[i].name);
      for (std::int64_t j = 0; j < a.count(); ++j) {
        REQUIRE(std::abs(a.data<float>()[j] - b.data<float>()[j]) < 4e-2 * 1e-3);
      }
    }
  }
}

TEST_CASE("the best model is kept, and training ends when it gets no better") {
  const ScratchFolder scratch;
  const std::unique_ptr<Device> device = open_reference_device();
  const Gpt2Config model = tiny_model(0);
  TrainingConfig config = tiny_config(scratch / "out");
  config.max_steps = 400;
  config.eval_steps = 5;
  config.save_steps = 50;
  config.save_total_limit = 1;
  config.lr_scheduler_type = "constant";
  config.load_best_model_at_end = true;
  config.early_stopping_patience = 3;
  std::vector<double> evals;
  TrainingCallbacks callbacks;
  callbacks.on_eval = [&](std::int64_t step, double loss) {
    if (step > 0) evals.push_back(loss);
  };
  const Parameters parameters = initialize_parameters(*device, model, 11);
  const TokenRecords validation = tiny_records(5, 2);
  // Few records and no dropout: memorised soon, and worse on others from there on.
  const TrainingResult result =
      train(*device, model, parameters, tiny_records(6, 1), validation, config, callbacks);

  CHECK(result.steps < 400);
  const std::size_t best =
      static_cast<std::size_t>(std::min_element(evals.begin(), evals.end()) - evals.begin());
  CHECK(evals.size() == best + 4);
  CHECK(result.final_eval_loss == evals[best]);
  // The model that was saved has that loss, computed afresh.
  const LoadedModel loaded = load_model(*device, config.output_dir, WeightStorage::f32);
  Gpt2 network(*device, loaded.config, loaded.parameters);
  double sum = 0;
  const Rows rows(validation, Packing::none, model.n_positions);
  for (std::int64_t r = 0; r < rows.size(); ++r) {
    for (const float loss : network.token_losses(rows.gather({&r, 1}).view())) sum += loss;
  }
  CHECK(sum / static_cast<double>(rows.targets()) == Approx(evals[best]).epsilon(1e-5));
  // Rotation to one checkpoint has spared the best one.
  CHECK(fs::exists(config.output_dir / checkpoint_name(5 * (static_cast<int>(best) + 1))));
  CHECK(checkpoint_steps(config.output_dir).size() <= 2);
}

TEST_CASE("steps that are not finite are skipped and named; three in a row end the run") {
  const ScratchFolder scratch;
  const std::unique_ptr<Device> device = open_reference_device();
  Gpt2Config model = tiny_model(0);
  model.tie_word_embeddings = false;
  // Id 7 at position 7 is poisoned: the largest floats are finite, their sum is not.
  const auto poisoned = [&] {
    Parameters parameters = initialize_parameters(*device, model, 11);
    for (const View table : {parameters.tensors()[0], parameters.tensors()[1]}) {  // wte, wpe
      table.data<float>()[7 * model.n_embd] = std::numeric_limits<float>::max();
    }
    return parameters;
  };
  const auto records_of = [](const std::vector<int>& lengths) {
    TokenRecords records;
    for (const int length : lengths) {
      for (int i = 0; i < length; ++i) records.ids.push_back(i % 16);
      records.offsets.push_back(static_cast<std::int64_t>(records.ids.size()));
    }
    return records;
  };
  TrainingConfig config = tiny_config(scratch / "out");
  config.per_device_train_batch_size = 1;
  config.gradient_accumulation_steps = 1;
  config.save_steps = 1;
  std::vector<std::string> notes;
  TrainingCallbacks callbacks;
  callbacks.on_warning = [&](const std::string& line) { notes.push_back(line); };

  SECTION("one bad record of six") {
    const Parameters parameters = poisoned();
    const TrainingResult result =
        train(*device, model, parameters, records_of({4, 4, 10, 4, 4, 4}), {}, config, callbacks);
    CHECK(result.steps == 6);
    REQUIRE(notes.size() == 1);
    CHECK(notes[0].find("skipped") != std::string::npos);
    // No checkpoint of the skipped step, and nothing spread.
    CHECK(checkpoint_steps(config.output_dir).size() == 5);
    CHECK_NOTHROW(load_model(*device, config.output_dir, WeightStorage::f32));
  }
  SECTION("all records bad") {
    const Error error = thrown_by([&] {
      train(*device, model, poisoned(), records_of({10, 10, 10, 10}), {}, config, callbacks);
    });
    CHECK(error.fault() == Fault::diverged);
    CHECK(notes.size() == 3);
    CHECK(error.message().find("no checkpoint") != std::string::npos);
  }
  SECTION("the last good checkpoint is named") {
    TrainingConfig good = config;
    good.max_steps = 2;
    train(*device, model, initialize_parameters(*device, model, 11), records_of({10, 10, 10, 10}),
          {}, good);
    config.resume_from_checkpoint = "latest";
    config.learning_rate = 1e30f;  // the next update leaves nothing finite
    config.max_grad_norm = 0;
    const Error error = thrown_by([&] {
      train(*device, model, initialize_parameters(*device, model, 11), records_of({10, 10, 10, 10}),
            {}, config, callbacks);
    });
    CHECK(error.fault() == Fault::diverged);
    CHECK(error.message().find("checkpoint-") != std::string::npos);
  }
}

TEST_CASE("rows that are there train as their records do, unless the config has others") {
  const ScratchFolder scratch;
  const std::unique_ptr<Device> device = open_reference_device();
  TrainingConfig config = tiny_config(scratch / "records");
  train_tiny(*device, config);
  const auto want = files_of(config.output_dir);

  const Gpt2Config model = tiny_model(0.1f);
  const TokenRecords records = tiny_records(20, 1), held_out = tiny_records(5, 2);
  const Rows rows(records, Packing::none, 12), validation(held_out, Packing::none, 12);
  const auto train_rows = [&](const Rows& validate_on) {
    const Parameters parameters = initialize_parameters(*device, model, 11);
    train(*device, model, parameters, rows, validate_on, config);
  };
  config.output_dir = scratch / "rows";
  train_rows(validation);
  std::string difference;
  CHECK(same_files(files_of(config.output_dir), want, difference));
  CHECK(difference.empty());

  config.output_dir = scratch / "others";
  const std::string refused = "rows are not cut as the config of the run has it";
  for (const Rows& others : {Rows(held_out, Packing::none, 11), Rows(held_out, Packing::stream, 12),
                             Rows(held_out, Packing::none, 12, Overflow::split)}) {
    CHECK(thrown_by([&] { train_rows(others); }).what() == refused);
  }
  config.block_size = 11;
  CHECK(thrown_by([&] { train_rows(Rows(held_out, Packing::none, 11)); }).what() == refused);
}

TEST_CASE("data that cannot be trained on is refused with what is wrong") {
  const ScratchFolder scratch;
  const std::unique_ptr<Device> device = open_reference_device();
  const Gpt2Config model = tiny_model(0);
  const Parameters parameters = initialize_parameters(*device, model, 11);
  const auto message = [&](const TokenRecords& records, TrainingConfig config) {
    const Error error = thrown_by([&] { train(*device, model, parameters, records, {}, config); });
    return std::to_string(static_cast<int>(error.fault())) + " " + error.message();
  };
  const TrainingConfig config = tiny_config(scratch / "out");
  CHECK(message({}, config).find("3 error: there is nothing to train on") == 0);
  CHECK(message({.ids = {3}, .labels = {}, .offsets = {0, 1}}, config).find("nothing to train") !=
        std::string::npos);
  const std::string outside =
      message({.ids = {1, 2, 17, 3}, .labels = {}, .offsets = {0, 2, 4}}, config);
  CHECK(outside.find("training id 17 is outside the vocabulary") != std::string::npos);
  CHECK(outside.find("record 1") != std::string::npos);
  CHECK(message({.ids = {1, 2}, .labels = {1, -1}, .offsets = {0, 2}}, config)
            .find("training label -1") != std::string::npos);
  TrainingConfig longer = config;
  longer.block_size = 13;
  CHECK(message(tiny_records(3, 1), longer).find("12 positions") != std::string::npos);
  TrainingConfig patient = config;
  patient.early_stopping_patience = 1;
  CHECK(message(tiny_records(3, 1), patient).find("`validation_share`") != std::string::npos);
  CHECK(!fs::exists(config.output_dir));
}

TEST_CASE("flops count what is multiplied, and the memory plan what is allocated") {
  const auto device = open_reference_device();
  Gpt2Config model;  // GPT-2 124M
  const double parameters = 124'439'808.0 - 1024.0 * 768;
  const double attention = 12.0 * 768 * 1024, head = 50257.0 * 768;
  CHECK(training_flops(model, 10, 1024) == 10 * (6 * parameters + 6 * attention));
  TrainingConfig part;
  part.freeze_layers = 6;  // forward; gradients of inputs but for 6 blocks; of weights of 6 blocks
  const double half = (parameters - head) / 2;
  CHECK(training_flops(model, 10, 1024, part) ==
        10 * (2 * parameters + 2 * (parameters - half) + 2 * half + 4 * attention));
  part.freeze_layers = 0;
  part.lora.r = 8;
  CHECK(training_flops(model, 10, 1024, part) ==
        10 * (4 * parameters + 6 * attention + 6.0 * 12 * 8 * (768 + 2304)));
  model = tiny_model(0);
  const std::vector<MemoryItem> plan = training_memory_plan(model, tiny_config("out"), *device);
  std::size_t moments = 0;
  for (const MemoryItem& item : plan) {
    if (item.name == "AdamW moments") moments = item.bytes;
  }
  CHECK(moments == 8 * static_cast<std::size_t>(model.parameter_count()));
  for (std::size_t i = 1; i < plan.size(); ++i) CHECK(plan[i - 1].bytes >= plan[i].bytes);
}

TEST_CASE("frozen blocks stay as they are through a run, and a continuation freezes the same") {
  const ScratchFolder scratch;
  const std::unique_ptr<Device> device = open_reference_device();
  TrainingConfig config = tiny_config(scratch / "out");
  config.freeze_layers = 1;
  train_tiny(*device, config);
  const LoadedModel trained = load_model(*device, config.output_dir, WeightStorage::f32);
  const Parameters fresh = initialize_parameters(*device, tiny_model(0.1f), 11);
  for (std::size_t i = 0; i < fresh.names().size(); ++i) {
    const std::string& name = fresh.names()[i].name;
    INFO(name);
    const View a = fresh.tensors()[i], b = trained.parameters.tensors()[i];
    const bool same = std::equal(a.data<float>(), a.data<float>() + a.count(), b.data<float>());
    CHECK(same ==
          (name.find(".wte.") != std::string::npos || name.find(".wpe.") != std::string::npos ||
           name.find(".h.0.") != std::string::npos));
  }
  const Safetensors moments(config.output_dir / "checkpoint-3" / "optimizer.safetensors");
  CHECK(moments.find("m.transformer.h.0.ln_1.weight") == nullptr);
  CHECK(moments.find("m.transformer.wte.weight") == nullptr);
  CHECK(moments.find("v.transformer.h.1.ln_1.weight") != nullptr);

  const std::map<std::string, std::string> expected = files_of(config.output_dir);
  config.resume_from_checkpoint = (config.output_dir / "checkpoint-3").string();
  CHECK(train_tiny(*device, config).steps == 6);
  std::string difference;
  CHECK(same_files(expected, files_of(config.output_dir), difference));
  config.freeze_layers = 0;
  const Error error = thrown_by([&] { train_tiny(*device, config); });
  CHECK(error.fault() == Fault::usage);
  CHECK(error.details() ==
        std::vector<std::string>{"freeze_layers: the checkpoint has 1, now none"});
}

TEST_CASE("a run may be continued with gradient checkpointing, and ends in the same bytes") {
  const ScratchFolder scratch;
  const std::unique_ptr<Device> device = open_reference_device();
  TrainingConfig config = tiny_config(scratch / "out");
  train_tiny(*device, config);
  const std::map<std::string, std::string> expected = files_of(config.output_dir);
  config.resume_from_checkpoint = (config.output_dir / "checkpoint-3").string();
  config.gradient_checkpointing = true;
  train_tiny(*device, config);
  std::string difference;
  same_files(expected, files_of(config.output_dir), difference);
  INFO(difference);
  CHECK(difference.empty());
}

TEST_CASE("a step that is being made says how far it is") {
  const ScratchFolder scratch;
  const std::unique_ptr<Device> device = open_reference_device();
  TrainingConfig config = tiny_config(scratch / "out");
  config.max_steps = 2;
  std::vector<std::int64_t> told;
  TrainingCallbacks callbacks;
  callbacks.on_batch = [&](const StepProgress& p) {
    CHECK(p.total_steps == 2);
    CHECK(p.batches == 2);
    told.push_back(10 * p.step + p.batches_done);
  };
  callbacks.on_step = [&](const TrainingProgress& p) { told.push_back(100 + p.step); };
  train_tiny(*device, config, callbacks);
  CHECK(told == std::vector<std::int64_t>{10, 11, 101, 20, 21, 102});
}

TEST_CASE("texts that were cut by a stop are made by the run that goes on, with the same files") {
  const std::unique_ptr<Device> device = open_reference_device();
  const auto sampling = [](std::int64_t cut_at, TrainingCallbacks callbacks) {
    callbacks.sample = [cut_at](std::int64_t step, const Parameters&) -> std::vector<TextSample> {
      if (step == cut_at) return {};
      return {{"prompt", "text of step " + std::to_string(step)}};
    };
    return callbacks;
  };
  // Step 4 has an evaluation that is cut too, or a checkpoint.
  for (const auto& [eval_steps, save_steps] : {std::pair{2, 3}, std::pair{3, 2}}) {
    INFO(eval_steps);
    const ScratchFolder scratch;
    TrainingConfig config = tiny_config(scratch / "straight");
    config.sample_every = 2;
    config.eval_steps = eval_steps;
    config.save_steps = save_steps;
    train_tiny(*device, config, sampling(-1, {}));
    config.output_dir = scratch / "cut";
    CHECK(train_tiny(*device, config, sampling(4, stop_after(4))).interrupted);
    CHECK(read_trainer_state(scratch / "cut/checkpoint-4").sample_cut);
    config.resume_from_checkpoint = "latest";
    train_tiny(*device, config, sampling(-1, {}));
    auto resumed = files_of(scratch / "cut");
    if (save_steps == 3) {  // what the stop has left
      std::erase_if(resumed,
                    [](const auto& entry) { return entry.first.starts_with("checkpoint-4/"); });
    }
    std::string difference;
    CHECK(same_files(files_of(scratch / "straight"), resumed, difference));
    CHECK(difference.empty());
  }
}
