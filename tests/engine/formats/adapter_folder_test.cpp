// Adapters' folders: what is saved is what is loaded, broken ones are named, and PEFT agrees.
#include "engine/formats/adapter_folder.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/random.h"
#include "engine/formats/hub_folder.h"
#include "engine/formats/safetensors.h"
#include "engine/model/gpt2.h"
#include "kernels/reference/reference_device.h"
#include "tests/support/catch.h"
#include "tests/support/fixtures.h"
#include "tests/support/python.h"
#include "tests/support/scratch.h"
#include "tests/support/text.h"

using namespace quire;
using namespace quire::test;
namespace fs = std::filesystem;

namespace {

LoraAdapter random_adapter(Device& device, const Gpt2Config& config, const LoraConfig& lora) {
  LoraAdapter adapter(device, config, lora);
  for (std::size_t i = 0; i < adapter.tensors().size(); ++i) {
    const View tensor = adapter.tensors()[i];
    for (std::int64_t j = 0; j < tensor.count(); ++j) {
      tensor.data<float>()[j] =
          random_uniform({.seed = 9, .stream = i}, static_cast<std::uint64_t>(j)) - 0.5f;
    }
  }
  return adapter;
}

std::vector<float> values_of(const View& view) {
  return {view.data<float>(), view.data<float>() + view.count()};
}

std::string message_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    CHECK(error.fault() == Fault::bad_data);
    return error.message();
  }
  return "no error";
}

void change_config(const fs::path& folder, const std::string& name, const nlohmann::json& value) {
  nlohmann::json json = parse_json<nlohmann::json>(read_file(folder / "adapter_config.json"));
  json[name] = value;
  write_file(folder / "adapter_config.json", json_text(json));
}

/// Logits of the tied small model under an adapter, [N, V], for ids 0, 1, 2, …
std::vector<float> logits_with(Device& device, const LoadedModel& model,
                               const LoraAdapter& adapter) {
  const std::shared_ptr<const Parameters> base(std::shared_ptr<void>(), &model.parameters);
  const Parameters merged = merge_adapter(device, model.config, base, adapter);
  const std::vector<std::int32_t> ids = {0, 1, 2, 3, 4, 5};
  return Gpt2(device, model.config, merged).logits({.batch = 1, .length = 6, .ids = ids});
}

}  // namespace

TEST_CASE("an adapter that was saved is loaded, to the bit") {
  ReferenceDevice device;
  const ScratchFolder scratch;
  const Gpt2Config config = read_config(test_data("tied") / "config.json");
  const LoraConfig lora = {.r = 2,
                           .lora_alpha = 5.0f,
                           .lora_dropout = 0.1f,
                           .use_rslora = true,
                           .target_modules = {"c_attn", "mlp.c_proj"},
                           .layers_to_transform = {config.n_layer - 1}};
  const LoraAdapter adapter = random_adapter(device, config, lora);
  save_adapter(device, scratch / "a", adapter, "some/base");
  CHECK(is_adapter(scratch / "a"));
  CHECK_FALSE(is_adapter(test_data("tied")));
  const AdapterConfig read = read_adapter_config(scratch / "a");
  CHECK(read.base_model_name_or_path == "some/base");
  CHECK(read.lora.r == 2);
  CHECK(read.lora.scale() == lora.scale());
  CHECK(lora.scale() == 5.0f / std::sqrt(2.0f));
  CHECK(read.lora.lora_dropout == 0.1f);
  CHECK(read.lora.target_modules == lora.target_modules);
  CHECK(read.lora.layers_to_transform == lora.layers_to_transform);
  const LoraAdapter loaded = load_adapter(device, scratch / "a", config);
  REQUIRE(loaded.names().size() == 4);
  for (std::size_t i = 0; i < 4; ++i) {
    CHECK(values_of(loaded.tensors()[i]) == values_of(adapter.tensors()[i]));
  }
  write_file(scratch / "a" / "config.json", "{}");
  CHECK(is_adapter(scratch / "a"));
  write_file(scratch / "a" / "model.safetensors", "");
  CHECK_FALSE(is_adapter(scratch / "a"));  // a model of its own wins
}

TEST_CASE("an adapter's folder that is broken, or of another kind, is named") {
  ReferenceDevice device;
  const ScratchFolder scratch;
  const Gpt2Config config = read_config(test_data("tied") / "config.json");
  const LoraAdapter adapter = random_adapter(device, config, {.r = 2});
  const fs::path folder = scratch / "a";
  const auto message = [&](const std::function<void()>& damage) {
    save_adapter(device, folder, adapter, "base");
    damage();
    return message_of([&] { load_adapter(device, folder, config); });
  };
  const auto config_with = [&](const std::string& name, const nlohmann::json& value) {
    return message([&] { change_config(folder, name, value); });
  };
  CHECK(message([] {}) == "no error");
  CHECK(contains(message([&] { fs::remove(folder / "adapter_model.safetensors"); }),
                 "has no adapter_model.safetensors"));
  CHECK(contains(message([&] { write_file(folder / "adapter_config.json", "{"); }),
                 "adapter_config.json is not valid JSON"));
  CHECK(contains(message([&] { write_file(folder / "adapter_config.json", "[]"); }),
                 "is not a JSON object"));
  CHECK(contains(config_with("peft_type", "IA3"), "\"peft_type\" is \"IA3\"\n  expected \"LORA\""));
  CHECK(contains(config_with("use_dora", true), "\"use_dora\" is true"));
  CHECK(contains(config_with("bias", "all"), "\"bias\" is \"all\""));
  CHECK(contains(config_with("modules_to_save", {"lm_head"}), "\"modules_to_save\""));
  CHECK(contains(config_with("rank_pattern", {{"c_attn", 4}}), "\"rank_pattern\""));
  CHECK(contains(config_with("r", "two"), "\"r\" is \"two\"\n  expected a whole number"));
  CHECK(contains(config_with("r", 0), "does not fit the model\n  the adapter's rank r is 0"));
  CHECK(contains(config_with("r", 3), "it has the shape [2, "));
  CHECK(contains(config_with("target_modules", 3), "expected a list of names, or an expression"));
  CHECK(contains(config_with("target_modules", "all"), "\"target_modules\" is \"all\""));
  CHECK(contains(config_with("target_modules", {"c_attn", "wte"}), "\"target_modules\" is ["));
  CHECK(contains(config_with("target_modules", {"c_attn", "wxe"}), "no module 'wxe'"));
  CHECK(contains(config_with("target_modules", {"c_attn", "c_fc"}), "has no tensor base_model."));
  CHECK(contains(config_with("layers_to_transform", {0}), "belongs to no product of a block"));
  CHECK(contains(config_with("layers_to_transform", {99}), "a block 99"));

  adapter.tensors()[1].data<float>()[3] = std::nanf("");
  try {
    save_adapter(device, scratch / "b", adapter, "base");
    FAIL("no exception");
  } catch (const Error& error) {
    CHECK(error.fault() == Fault::diverged);
    CHECK_FALSE(fs::exists(scratch / "b/adapter_model.safetensors"));
  }
}

TEST_CASE("PEFT computes with our adapters what we do, and we with PEFT's") {
  const std::string python = python_with({"torch", "transformers", "safetensors", "peft"});
  if (python.empty()) {
    QUIRE_SKIP("no Python with transformers and peft (set QUIRE_PYTHON)");
  }
  ReferenceDevice device;
  const ScratchFolder scratch;
  const LoadedModel model = load_model(device, test_data("tied"), WeightStorage::f32);
  const LoraAdapter ours = random_adapter(
      device, model.config, {.r = 3, .lora_alpha = 2.0f, .target_modules = {"c_attn", "c_proj"}});
  save_adapter(device, scratch / "ours", ours, test_data("tied").string());
  // Loads ours; makes one of its own, with random B, and saves it; logits of both.
  const auto [text, well] = output_of(
      "'" + python +
      "' -c '\n"
      "import json, sys, torch\n"
      "from transformers import GPT2LMHeadModel\n"
      "from peft import LoraConfig, PeftModel, get_peft_model\n"
      "base, ours, theirs = sys.argv[1:4]\n"
      "ids = torch.arange(6)[None]\n"
      "def logits(model):\n"
      "  with torch.no_grad(): return model.eval()(ids).logits.flatten().tolist()\n"
      "load = lambda: GPT2LMHeadModel.from_pretrained(base)\n"
      "results = [logits(PeftModel.from_pretrained(load(), ours)), logits(load())]\n"
      "torch.manual_seed(1)\n"
      "model = get_peft_model(load(), LoraConfig(task_type=\"CAUSAL_LM\", r=2, lora_alpha=3,\n"
      "  target_modules=[\"c_attn\", \"mlp.c_proj\", \"c_fc\"], fan_in_fan_out=True,\n"
      "  layers_to_transform=[0]))\n"
      "for name, p in model.named_parameters():\n"
      "  if \"lora_B\" in name: torch.nn.init.normal_(p, std=0.3)\n"
      "model.save_pretrained(theirs)\n"
      "print(json.dumps(results + [logits(model)]))\n' '" +
      test_data("tied").string() + "' '" + (scratch / "ours").string() + "' '" +
      (scratch / "theirs").string() + "'");
  INFO(text);
  REQUIRE(well);
  const auto results = parse_json<nlohmann::json>(text.substr(text.find('[')));
  const std::vector<float> of_base = results[1];
  const LoraAdapter theirs = load_adapter(device, scratch / "theirs", model.config);
  CHECK(theirs.config().layers_to_transform == std::vector<int>{0});
  const auto compare_logits = [&](const std::vector<float>& want, const std::vector<float>& got) {
    REQUIRE(got.size() == want.size());
    double largest = 0, worst = 0, moved = 0;
    for (std::size_t i = 0; i < got.size(); ++i) {
      largest = std::max(largest, std::abs(double{want[i]}));
      worst = std::max(worst, std::abs(double{got[i]} - double{want[i]}));
      moved = std::max(moved, std::abs(double{want[i]} - double{of_base[i]}));
    }
    // Another order of the same sums: an eps for each of the roundings one after the other, four
    // products of at most n_inner + r terms a block.
    const double roundings = 4.0 * model.config.n_layer * (model.config.inner() + 3);
    INFO("worst " << worst << ", largest logit " << largest << ", bound "
                  << roundings * 0x1p-23 * largest);
    CHECK(worst <= roundings * 0x1p-23 * largest);
    CHECK(moved > 100 * worst);  // the adapter does something
  };
  compare_logits(results[0], logits_with(device, model, ours));
  compare_logits(results[2], logits_with(device, model, theirs));
}
