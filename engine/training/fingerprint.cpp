#include "engine/training/fingerprint.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/json.h"
#include "base/random.h"
#include "engine/formats/hub_folder.h"

namespace quire {
namespace {

std::uint64_t hash(const TokenStream& values, std::uint64_t seed) {
  std::uint64_t h = mix(seed, values.size());
  values.for_each([&](std::span<const std::int32_t> stretch, std::int64_t) {
    for (const std::int32_t value : stretch) h = mix(h, value);
  });
  return h;
}

std::uint64_t hash(const RecordOffsets& values, std::uint64_t seed) {
  std::uint64_t h = mix(seed, values.size());
  values.for_each([&](std::int64_t value) { h = mix(h, value); });
  return h;
}

// Of what the ids are, not of where they lie: a run on text goes on with shards made of it.
std::string describe(const TokenView& records) {
  const std::uint64_t h = hash(records.offsets, hash(records.labels, hash(records.ids, 0)));
  return fmt::format("{} tokens in {} records, hash {:016x}", records.ids.size(), records.size(),
                     h);
}

}  // namespace

Fingerprint fixed_facts(const Gpt2Config& model, const TrainingConfig& config,
                        const TokenView& records, const TokenView& validation) {
  Fingerprint facts;
  facts["training data"] = describe(records);
  facts["validation data"] = describe(validation);
  facts["block_size"] = std::to_string(config.block_size);
  facts["packing"] = name_of(config.packing);
  if (config.packing != Packing::stream && config.overflow != Overflow::truncate) {
    facts["overflow"] = name_of(config.overflow);
  }
  facts["per_device_train_batch_size × ranks"] = std::to_string(config.micro_batch_rows());
  facts["gradient_accumulation_steps"] = std::to_string(config.gradient_accumulation_steps);
  facts["seed"] = std::to_string(config.seed);
  facts["data_seed"] = std::to_string(config.data_seed.value_or(config.seed));
  if (config.bf16) facts["bf16"] = "true";
  if (config.freeze_layers > 0) facts["freeze_layers"] = std::to_string(config.freeze_layers);
  if (config.lora.r > 0) {
    facts["base_model"] = config.base_model;
    facts["lora_r"] = std::to_string(config.lora.r);
    facts["lora_alpha"] = fmt::format("{}", config.lora.lora_alpha);
    facts["lora_dropout"] = fmt::format("{}", config.lora.lora_dropout);
    facts["lora_target_modules"] = json_text(nlohmann::json(config.lora.target_modules));
  }
  const nlohmann::json fields = parse_json<nlohmann::json>(config_to_json(model, DType::f32));
  for (const auto& [name, value] : fields.items()) facts["model " + name] = json_text(value);
  return facts;
}

Fingerprint option_facts(const TrainingConfig& config) {
  Fingerprint facts;
  if (config.max_steps > 0) {
    facts["max_steps"] = std::to_string(config.max_steps);
  } else {
    facts["num_train_epochs"] = fmt::format("{}", config.num_train_epochs);
  }
  facts["learning_rate"] = fmt::format("{}", config.learning_rate);
  facts["lr_scheduler_type"] = config.lr_scheduler_type;
  facts["warmup_steps"] = fmt::format("{}", config.warmup_steps);
  facts["min_lr_ratio"] = fmt::format("{}", config.schedule.min_lr_ratio);
  config.schedule.each_set(
      [&](const char* name, const auto& value) { facts[name] = fmt::format("{}", value); });
  facts["weight_decay"] = fmt::format("{}", config.weight_decay);
  facts["adam_beta1"] = fmt::format("{}", config.adam_beta1);
  facts["adam_beta2"] = fmt::format("{}", config.adam_beta2);
  facts["adam_epsilon"] = fmt::format("{}", config.adam_epsilon);
  facts["max_grad_norm"] = fmt::format("{}", config.max_grad_norm);
  return facts;
}

}  // namespace quire
