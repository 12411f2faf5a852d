// A run that trains an adapter: what it saves, and how it goes on.
#include <algorithm>
#include <numeric>

#include "engine/formats/adapter_folder.h"
#include "engine/formats/hub_folder.h"
#include "engine/formats/safetensors.h"
#include "engine/training/checkpoint.h"
#include "tests/engine/training/tiny_run.h"
#include "tests/support/catch.h"

using namespace quire;
using namespace quire::test;
namespace fs = std::filesystem;

namespace {

TrainingConfig lora_config(const fs::path& output_dir) {
  TrainingConfig config = tiny_config(output_dir);
  config.lora = {
      .r = 2, .lora_alpha = 4.0f, .lora_dropout = 0.1f, .target_modules = {"c_attn", "c_proj"}};
  config.base_model = "base";
  return config;
}

bool same_values(const ConstView& a, const ConstView& b) {
  return std::equal(a.data<float>(), a.data<float>() + a.count(), b.data<float>());
}

}  // namespace

TEST_CASE("an adapter's run leaves the adapter, its moments, and the base as it was") {
  const ScratchFolder scratch;
  const std::unique_ptr<Device> device = open_reference_device();
  const Gpt2Config model = tiny_model(0.1f);
  const Parameters parameters = initialize_parameters(*device, model, 11);
  const Parameters fresh = initialize_parameters(*device, model, 11);
  TrainingConfig config = lora_config(scratch / "out");
  config.max_steps = 60;
  config.save_steps = 30;
  const TrainingResult result =
      train(*device, model, parameters, tiny_records(20, 1), tiny_records(5, 2), config);
  CHECK(result.final_eval_loss < result.first_eval_loss - 0.05);
  for (std::size_t i = 0; i < fresh.tensors().size(); ++i) {
    CHECK(same_values(parameters.tensors()[i], fresh.tensors()[i]));
  }
  CHECK(is_adapter(config.output_dir));
  CHECK_FALSE(fs::exists(config.output_dir / "model.safetensors"));
  CHECK(read_adapter_config(config.output_dir).base_model_name_or_path == "base");
  const Safetensors moments(config.output_dir / "checkpoint-60" / "optimizer.safetensors");
  CHECK(moments.tensors().size() == 2 * 2 * 3 * 2);  // m and v of A and B of 3 products, 2 blocks
  // What was saved has the loss that was measured.
  const LoraAdapter adapter = load_adapter(*device, config.output_dir, model);
  const std::shared_ptr<const Parameters> base(std::shared_ptr<void>(), &parameters);
  const Parameters merged = merge_adapter(*device, model, base, adapter);
  Gpt2 network(*device, model, merged);
  const TokenRecords validation = tiny_records(5, 2);
  const Rows rows(validation, Packing::none, model.n_positions);
  double sum = 0;
  for (std::int64_t r = 0; r < rows.size(); ++r) {
    for (const float loss : network.token_losses(rows.gather({&r, 1}).view())) sum += loss;
  }
  CHECK(sum / static_cast<double>(rows.targets()) == Approx(result.final_eval_loss).epsilon(1e-5));

  // Merged on request, into the same numbers.
  config.output_dir = scratch / "merged";
  config.lora_merge = true;
  train(*device, model, parameters, tiny_records(20, 1), tiny_records(5, 2), config);
  CHECK(fs::exists(config.output_dir / "checkpoint-60" / "adapter_model.safetensors"));
  CHECK_FALSE(fs::exists(config.output_dir / "adapter_config.json"));
  const LoadedModel saved = load_model(*device, config.output_dir, WeightStorage::f32);
  for (std::size_t i = 0; i < merged.tensors().size(); ++i) {
    CHECK(same_values(saved.parameters.tensors()[i], merged.tensors()[i]));
  }
}

TEST_CASE("an adapter's run that is stopped and resumed writes the same bytes") {
  const ScratchFolder scratch;
  const std::unique_ptr<Device> device = open_reference_device();
  const TrainingConfig straight = lora_config(scratch / "straight");
  TrainingConfig split = lora_config(scratch / "split");
  CHECK(train_tiny(*device, straight).steps == 6);
  CHECK(train_tiny(*device, split, stop_after(2)).interrupted);
  split.resume_from_checkpoint = "latest";
  split.gradient_checkpointing = true;  // which changes nothing
  CHECK(train_tiny(*device, split).steps == 6);
  fs::remove_all(split.output_dir / checkpoint_name(2));
  std::string difference;
  same_files(files_of(straight.output_dir), files_of(split.output_dir), difference);
  INFO(difference);
  CHECK(difference.empty());

  const auto refusal = [&](const TrainingConfig& config) {
    try {
      train_tiny(*device, config);
    } catch (const Error& error) {
      CHECK(error.fault() == Fault::usage);
      return error.details();
    }
    return std::vector<std::string>{"no error"};
  };
  TrainingConfig other = split;
  other.lora.r = 3;
  other.base_model = "another";
  CHECK(refusal(other) ==
        std::vector<std::string>{"base_model: the checkpoint has base, now another",
                                 "lora_r: the checkpoint has 2, now 3"});
  other = split;
  other.lora = {};
  CHECK(refusal(other).size() == 5);
}

TEST_CASE("what samples are made with is the model with its adapter as it is") {
  const ScratchFolder scratch;
  const std::unique_ptr<Device> device = open_reference_device();
  TrainingConfig config = lora_config(scratch / "out");
  config.sample_every = 6;
  const Parameters base = initialize_parameters(*device, tiny_model(0.1f), 11);
  std::vector<bool> like_base;
  TrainingCallbacks callbacks;
  callbacks.sample = [&](std::int64_t, const Parameters& now) {
    like_base.push_back(
        same_values(now.layer(0)[Role::c_attn].weight, base.layer(0)[Role::c_attn].weight));
    CHECK(same_values(now.wte(), base.wte()));
    return std::vector<TextSample>{};
  };
  train_tiny(*device, config, callbacks);
  CHECK(like_base == std::vector<bool>{true, false});  // before the first step, and after the last
}

TEST_CASE("frozen blocks get no adapter") {
  const ScratchFolder scratch;
  const std::unique_ptr<Device> device = open_reference_device();
  TrainingConfig config = lora_config(scratch / "out");
  config.freeze_layers = 1;
  train_tiny(*device, config);
  CHECK(read_adapter_config(config.output_dir).lora.layers_to_transform == std::vector<int>{1});
  config.freeze_layers = 2;
  config.overwrite_output_dir = true;
  try {
    train_tiny(*device, config);
    FAIL("no exception");
  } catch (const Error& error) {
    CHECK(std::string(error.what()) == "`freeze_layers` 2 leaves no block to adapt");
  }
}

TEST_CASE("a folder that is written over holds a model or an adapter, not both") {
  const ScratchFolder scratch;
  const std::unique_ptr<Device> device = open_reference_device();
  TrainingConfig config = tiny_config(scratch / "out");
  train_tiny(*device, config);
  TrainingConfig adapter = lora_config(scratch / "out");
  config.overwrite_output_dir = adapter.overwrite_output_dir = true;
  train_tiny(*device, adapter);
  CHECK(is_adapter(config.output_dir));
  train_tiny(*device, config);
  CHECK_FALSE(fs::exists(config.output_dir / "adapter_config.json"));
  CHECK(fs::exists(config.output_dir / "model.safetensors"));
}

TEST_CASE("the memory plan of an adapter has neither gradients nor moments of the base") {
  const auto device = open_reference_device();
  const Gpt2Config model = Gpt2Config::preset("gpt2").value();
  // With two micro-batches, so that no activations lie among the model's gradients.
  TrainingConfig config{
      .output_dir = "out", .per_device_train_batch_size = 1, .gradient_accumulation_steps = 2};
  config.lora.r = 8;
  const std::size_t adapter = 12 * 8 * (768 + 2304) * sizeof(float);
  std::size_t total = 0;
  for (const MemoryItem& item : training_memory_plan(model, config, *device)) {
    if (item.name == "gradients" || item.name == "adapter") CHECK(item.bytes == adapter);
    if (item.name == "AdamW moments") CHECK(item.bytes == 2 * adapter);
    total += item.bytes;
  }
  config.lora.r = 0;
  std::size_t full = 0;
  for (const MemoryItem& item : training_memory_plan(model, config, *device)) full += item.bytes;
  const std::size_t parameters = static_cast<std::size_t>(model.parameter_count()) * sizeof(float);
  const std::size_t products = 13 * 1024 * 8 * sizeof(float);  // with A, and their gradient
  CHECK(full - total == 3 * parameters - 4 * adapter - products);
}
