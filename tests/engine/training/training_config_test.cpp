#include "engine/training/training_config.h"

#include <cmath>
#include <functional>
#include <utility>

#include "tests/support/catch.h"

using namespace quire;

TEST_CASE("each training option that makes no sense is refused by name") {
  const std::pair<const char*, std::function<void(TrainingConfig&)>> cases[] = {
      {"`output_dir`", [](TrainingConfig& c) { c.output_dir = ""; }},
      {"`block_size`", [](TrainingConfig& c) { c.block_size = 1; }},
      {"`num_train_epochs`", [](TrainingConfig& c) { c.num_train_epochs = 0; }},
      {"`per_device_train_batch_size`",
       [](TrainingConfig& c) { c.per_device_train_batch_size = 0; }},
      {"`gradient_accumulation_steps`",
       [](TrainingConfig& c) { c.gradient_accumulation_steps = 0; }},
      {"`learning_rate`", [](TrainingConfig& c) { c.learning_rate = NAN; }},
      {"`lr_scheduler_type`", [](TrainingConfig& c) { c.lr_scheduler_type = "step"; }},
      {"`warmup_steps`", [](TrainingConfig& c) { c.warmup_steps = -1; }},
      {"`min_lr_ratio`", [](TrainingConfig& c) { c.schedule.min_lr_ratio = 1.5; }},
      {"`weight_decay`", [](TrainingConfig& c) { c.weight_decay = -1; }},
      {"`adam_beta1`", [](TrainingConfig& c) { c.adam_beta1 = 1; }},
      {"`adam_beta2`", [](TrainingConfig& c) { c.adam_beta2 = -0.1f; }},
      {"`adam_epsilon`", [](TrainingConfig& c) { c.adam_epsilon = 0; }},
      {"`max_grad_norm`", [](TrainingConfig& c) { c.max_grad_norm = -1; }},
      {"`logging_steps`", [](TrainingConfig& c) { c.logging_steps = 0; }},
      {"`eval_steps`", [](TrainingConfig& c) { c.eval_steps = -1; }},
      {"`save_steps`", [](TrainingConfig& c) { c.save_steps = -1; }},
      {"`save_total_limit`", [](TrainingConfig& c) { c.save_total_limit = -1; }},
      {"`sample_every`", [](TrainingConfig& c) { c.sample_every = -1; }},
      {"`max_seconds`", [](TrainingConfig& c) { c.max_seconds = NAN; }},
      {"`spike_z`", [](TrainingConfig& c) { c.spike_z = -1; }},
      {"`early_stopping_patience`", [](TrainingConfig& c) { c.early_stopping_patience = -1; }},
  };
  CHECK_NOTHROW(TrainingConfig{.output_dir = "out"}.check());
  for (const auto& [option, breaks] : cases) {
    INFO(option);
    TrainingConfig config{.output_dir = "out"};
    breaks(config);
    try {
      config.check();
      FAIL_CHECK("no exception");
    } catch (const Error& error) {
      CHECK(error.fault() == Fault::usage);
      CHECK(error.message().find(option) != std::string::npos);
    }
  }
}
