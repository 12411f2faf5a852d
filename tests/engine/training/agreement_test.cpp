// Whole runs of train() against torch, and against themselves on other numbers of threads.
#include <algorithm>
#include <cmath>
#include <string>

#include "engine/training/trainer.h"
#include "tests/engine/model/model_case.h"
#include "tests/engine/training/tiny_run.h"

using namespace quire;
using namespace quire::test;

namespace {

/// Records whose rows are the fixture's batch: its ids and one more that nobody looks at, its
/// targets as labels one place later.
TokenRecords records_of(const ForwardBatch& batch) {
  TokenRecords records;
  for (int b = 0; b < batch.batch; ++b) {
    const TokenBatch row = batch.row(b);
    records.ids.insert(records.ids.end(), row.ids.begin(), row.ids.end());
    records.ids.push_back(0);
    records.labels.push_back(kIgnoredTarget);
    records.labels.insert(records.labels.end(), row.targets.begin(), row.targets.end());
    records.offsets.push_back(static_cast<std::int64_t>(records.ids.size()));
  }
  return records;
}

/// The same AdamW steps as torch made on one batch, through records, batches, loop and optimizer;
/// `rows` of the batch at a time.
void check_run(ModelCase c, int rows) {
  const ScratchFolder scratch;
  const ForwardBatch batch(Safetensors(c.folder / "forward.safetensors"));
  const nlohmann::json run = c.json("train.json");
  const std::size_t steps = run["loss_before_step"].size();
  Gpt2Config config = c.model.config;
  config.resid_pdrop = config.embd_pdrop = config.attn_pdrop = 0;
  const TrainingConfig training = {.output_dir = scratch / "out",
                                   .packing = Packing::none,
                                   .max_steps = static_cast<std::int64_t>(steps),
                                   .per_device_train_batch_size = rows,
                                   .gradient_accumulation_steps = batch.batch / rows,
                                   .learning_rate = run["lr"],
                                   .lr_scheduler_type = "constant",
                                   .weight_decay = run["weight_decay"],
                                   .adam_beta1 = run["betas"][0],
                                   .adam_beta2 = run["betas"][1],
                                   .adam_epsilon = run["eps"],
                                   .max_grad_norm = run["clip_norm"],
                                   .save_steps = 0};
  TrainingCallbacks callbacks;
  callbacks.on_step = [&](const TrainingProgress& progress) {
    const std::size_t i = static_cast<std::size_t>(progress.step) - 1;
    const double loss = run["loss_before_step"][i], norm = run["grad_norm_before_clip"][i];
    INFO("step " << progress.step);
    CHECK(std::abs(progress.loss - loss) <= bound_of(c.tolerance["loss_per_step"], loss));
    CHECK(std::abs(progress.grad_norm - norm) <= bound_of(c.tolerance["grad_norm_per_step"], norm));
  };
  const TokenRecords records = records_of(batch);
  const TrainingResult result =
      train(*c.device, config, c.model.parameters, records, records, training, callbacks);
  const double first = run["loss_before_step"][0],
               last = run[run.contains("loss_after_20_steps") ? "loss_after_20_steps"
                                                              : "loss_after_all_steps"];
  CHECK(result.steps == static_cast<std::int64_t>(steps));
  CHECK(std::abs(result.first_eval_loss - first) <= bound_of(c.tolerance["loss_per_step"], first));
  CHECK(std::abs(result.final_eval_loss - last) <= bound_of(c.tolerance["loss_per_step"], last));
}

}  // namespace

TEST_CASE("small set: a run's losses and gradient norms are torch's") {
  for (const std::string& name : kSmallModels) {
    for (const std::string& device : kDevices) {
      INFO(name << " on " << device);
      check_run(small_case(name, device), 2);
      check_run(small_case(name, device), 1);  // two micro-batches with 8 and 7 targets
    }
  }
}

TEST_CASE("fixtures: a run's losses and gradient norms are torch's") {
  QUIRE_FIXTURE(path, "fixtures");
  for (const std::string& name : kFixtureModels) {
    INFO(name);
    check_run(fixture_case(name, "cpu"), 2);
    check_run(fixture_case(name, "cpu"), 1);
  }
}

TEST_CASE("a run writes the same bytes on any number of threads") {
  const ScratchFolder scratch;
  Gpt2Config model = tiny_model(0.1f);
  model.vocab_size = 301;
  model.n_positions = 33;
  model.n_embd = 60;
  TokenRecords records;
  for (std::uint64_t i = 0; i < 3000; ++i) {
    records.ids.push_back(static_cast<std::int32_t>(random_bits({3, 4}, i) % 301));
  }
  records.offsets.push_back(3000);
  std::map<std::string, std::string> expected;
  for (const int threads : {1, 2, 3}) {
    const std::unique_ptr<Device> device = open_device("cpu", {.threads = threads});
    TrainingConfig config = tiny_config(scratch / std::to_string(threads));
    config.packing = Packing::stream;
    const Parameters parameters = initialize_parameters(*device, model, 11);
    train(*device, model, parameters, records, tiny_records(5, 2), config);
    const std::map<std::string, std::string> files = files_of(config.output_dir);
    if (expected.empty()) expected = files;
    std::string difference;
    same_files(expected, files, difference);
    INFO(threads << " threads: " << difference);
    CHECK(difference.empty());
  }
  CHECK(expected.size() > 10);
}
