#include "engine/training/training_config.h"

#include <fmt/format.h>

#include <cmath>

namespace quire {
namespace {

void require(bool holds, const char* option, const std::string& value, const char* allowed) {
  if (holds) return;
  throw Error(Fault::usage, fmt::format("{} is {}", option, value),
              {fmt::format("it must be {}", allowed)});
}

}  // namespace

void TrainingConfig::check() const {
  const auto at_least = [](const char* option, auto value, auto least) {
    require(value >= least, option, fmt::format("{}", value),
            fmt::format("at least {}", least).c_str());
  };
  require(!output_dir.empty(), "--output-dir", "empty", "a folder");
  require(block_size == 0 || block_size >= 2, "--block-size", fmt::format("{}", block_size),
          "at least 2, or 0 for the model's context");
  require(max_steps > 0 || (std::isfinite(num_train_epochs) && num_train_epochs > 0),
          "--num-train-epochs", fmt::format("{}", num_train_epochs), "above 0");
  at_least("--per-device-train-batch-size", per_device_train_batch_size, 1);
  at_least("--gradient-accumulation-steps", gradient_accumulation_steps, 1);
  require(std::isfinite(learning_rate) && learning_rate >= 0, "--learning-rate",
          fmt::format("{}", learning_rate), "0 or more");
  require(std::isfinite(warmup_steps) && warmup_steps >= 0, "--warmup-steps",
          fmt::format("{}", warmup_steps), "0 or more");
  schedule.check(lr_scheduler_type, learning_rate);
  require(std::isfinite(weight_decay) && weight_decay >= 0, "--weight-decay",
          fmt::format("{}", weight_decay), "0 or more");
  require(adam_beta1 >= 0 && adam_beta1 < 1, "--adam-beta1", fmt::format("{}", adam_beta1),
          "at least 0 and below 1");
  require(adam_beta2 >= 0 && adam_beta2 < 1, "--adam-beta2", fmt::format("{}", adam_beta2),
          "at least 0 and below 1");
  require(std::isfinite(adam_epsilon) && adam_epsilon > 0, "--adam-epsilon",
          fmt::format("{}", adam_epsilon), "above 0");
  require(std::isfinite(max_grad_norm) && max_grad_norm >= 0, "--max-grad-norm",
          fmt::format("{}", max_grad_norm), "above 0, or 0 for no clipping");
  at_least("--freeze-layers", freeze_layers, 0);
  at_least("--lora-r", lora.r, 0);
  require(std::isfinite(lora.lora_alpha) && lora.lora_alpha > 0, "--lora-alpha",
          fmt::format("{}", lora.lora_alpha), "above 0");
  require(lora.lora_dropout >= 0 && lora.lora_dropout < 1, "--lora-dropout",
          fmt::format("{}", lora.lora_dropout), "at least 0 and below 1");
  at_least("--logging-steps", logging_steps, 1);
  at_least("--eval-steps", eval_steps, 0);
  at_least("--save-steps", save_steps, 0);
  at_least("--save-total-limit", save_total_limit, 0);
  at_least("--stop-at-step", stop_at_step, 0);
  at_least("--early-stopping-patience", early_stopping_patience, 0);
  at_least("--sample-every", sample_every, 0);
  require(std::isfinite(max_seconds) && max_seconds >= 0, "--max-time",
          fmt::format("{} s", max_seconds), "above 0, or 0 for no limit");
  require(!fit_to_time || max_seconds > 0, "--fit-to-time", "given without --max-time",
          "beside the time that the run is to fit into");
  require(std::isfinite(spike_z) && spike_z >= 0, "--spike-z", fmt::format("{}", spike_z),
          "above 0, or 0 for no warnings");
}

TrainingConfig with_block_size(TrainingConfig config, const Gpt2Config& model) {
  if (config.block_size == 0) config.block_size = model.n_positions;
  if (config.block_size > model.n_positions) {
    throw Error(
        Fault::usage,
        fmt::format("--block-size {} is longer than the model's context", config.block_size),
        {fmt::format("the model has {} positions", model.n_positions)},
        fmt::format("--block-size {}", model.n_positions));
  }
  return config;
}

Rows rows_of(const TokenView& records, const TrainingConfig& config) {
  return Rows(records, config.packing, config.block_size, config.overflow);
}

LoraConfig adapter_of(const TrainingConfig& config, const Gpt2Config& model) {
  LoraConfig lora = config.lora;
  if (lora.r == 0 || config.freeze_layers == 0) return lora;
  if (config.freeze_layers >= model.n_layer) {
    throw Error(Fault::usage,
                fmt::format("--freeze-layers {} leaves no block to adapt", config.freeze_layers),
                {fmt::format("the model has {} blocks", model.n_layer)},
                fmt::format("--freeze-layers {}", model.n_layer / 2));
  }
  for (int layer = config.freeze_layers; layer < model.n_layer; ++layer) {
    lora.layers_to_transform.push_back(layer);
  }
  return lora;
}

std::int64_t total_steps(const TrainingConfig& config, std::int64_t rows) {
  if (config.max_steps > 0) return config.max_steps;
  const std::int64_t batch = config.micro_batch_rows();
  const std::int64_t accumulation = config.gradient_accumulation_steps;
  const std::int64_t batches = (rows + batch - 1) / batch;
  const std::int64_t updates = (batches + accumulation - 1) / accumulation;
  return static_cast<std::int64_t>(
      std::ceil(config.num_train_epochs * static_cast<double>(updates)));
}

Schedule schedule_of(const TrainingConfig& config, std::int64_t total_steps) {
  return make_schedule({.type = config.lr_scheduler_type,
                        .learning_rate = config.learning_rate,
                        .total_steps = total_steps,
                        .warmup_steps = config.warmup_steps,
                        .arguments = config.schedule});
}

}  // namespace quire
