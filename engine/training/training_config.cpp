#include "engine/training/training_config.h"

#include <fmt/format.h>

#include <cmath>

namespace quire {
namespace {

void require(bool holds, const char* field, const auto& value, const std::string& allowed) {
  if (holds) return;
  throw Error(Fault::usage, fmt::format("{} is {}", field_name(field), value),
              {fmt::format("it must be {}", allowed)});
}

}  // namespace

void TrainingConfig::check() const {
  const auto at_least = [](const char* field, auto value, auto least) {
    require(value >= least, field, value, fmt::format("at least {}", least));
  };
  require(!output_dir.empty(), "output_dir", "empty", "a folder");
  require(block_size == 0 || block_size >= 2, "block_size", block_size,
          "at least 2, or 0 for the model's context");
  require(max_steps > 0 || (std::isfinite(num_train_epochs) && num_train_epochs > 0),
          "num_train_epochs", num_train_epochs, "above 0");
  at_least("per_device_train_batch_size", per_device_train_batch_size, 1);
  at_least("gradient_accumulation_steps", gradient_accumulation_steps, 1);
  require(std::isfinite(learning_rate) && learning_rate >= 0, "learning_rate", learning_rate,
          "0 or more");
  require(std::isfinite(warmup_steps) && warmup_steps >= 0, "warmup_steps", warmup_steps,
          "0 or more");
  schedule.check(lr_scheduler_type, learning_rate);
  require(std::isfinite(weight_decay) && weight_decay >= 0, "weight_decay", weight_decay,
          "0 or more");
  require(adam_beta1 >= 0 && adam_beta1 < 1, "adam_beta1", adam_beta1, "at least 0 and below 1");
  require(adam_beta2 >= 0 && adam_beta2 < 1, "adam_beta2", adam_beta2, "at least 0 and below 1");
  require(std::isfinite(adam_epsilon) && adam_epsilon > 0, "adam_epsilon", adam_epsilon, "above 0");
  require(std::isfinite(max_grad_norm) && max_grad_norm >= 0, "max_grad_norm", max_grad_norm,
          "above 0, or 0 for no clipping");
  at_least("freeze_layers", freeze_layers, 0);
  at_least("lora_r", lora.r, 0);
  require(std::isfinite(lora.lora_alpha) && lora.lora_alpha > 0, "lora_alpha", lora.lora_alpha,
          "above 0");
  require(lora.lora_dropout >= 0 && lora.lora_dropout < 1, "lora_dropout", lora.lora_dropout,
          "at least 0 and below 1");
  at_least("logging_steps", logging_steps, 1);
  at_least("eval_steps", eval_steps, 0);
  at_least("save_steps", save_steps, 0);
  at_least("save_total_limit", save_total_limit, 0);
  at_least("stop_at_step", stop_at_step, 0);
  at_least("early_stopping_patience", early_stopping_patience, 0);
  at_least("sample_every", sample_every, 0);
  require(std::isfinite(max_seconds) && max_seconds >= 0, "max_seconds",
          fmt::format("{} s", max_seconds), "above 0, or 0 for no limit");
  require(!fit_to_time || max_seconds > 0, "fit_to_time", "given without `max_seconds`"_named,
          "beside the time that the run is to fit into");
  require(std::isfinite(spike_z) && spike_z >= 0, "spike_z", spike_z,
          "above 0, or 0 for no warnings");
}

TrainingConfig with_block_size(TrainingConfig config, const Gpt2Config& model) {
  if (config.block_size == 0) config.block_size = model.n_positions;
  if (config.block_size > model.n_positions) {
    throw Error(Fault::usage,
                fmt::format("{} {} is longer than the model's context", field_name("block_size"),
                            config.block_size),
                {fmt::format("the model has {} positions", model.n_positions)},
                "`block_size` "_named + std::to_string(model.n_positions));
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
                fmt::format("{} {} leaves no block to adapt", field_name("freeze_layers"),
                            config.freeze_layers),
                {fmt::format("the model has {} blocks", model.n_layer)},
                "`freeze_layers` "_named + std::to_string(model.n_layer / 2));
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
  return static_cast<std::int64_t>(std::ceil(config.num_train_epochs * updates));
}

Schedule schedule_of(const TrainingConfig& config, std::int64_t total_steps) {
  return make_schedule({.type = config.lr_scheduler_type,
                        .learning_rate = config.learning_rate,
                        .total_steps = total_steps,
                        .warmup_steps = config.warmup_steps,
                        .arguments = config.schedule});
}

}  // namespace quire
