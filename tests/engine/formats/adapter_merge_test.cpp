// Adapters of every kind: the model that comes of each computes what PEFT computes.
#include "engine/formats/adapter_merge.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <tuple>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "engine/formats/adapter_config.h"
#include "engine/formats/adapter_folder.h"
#include "engine/formats/low_rank_part.h"
#include "engine/model/gpt2.h"
#include "engine/model/vocabulary.h"
#include "kernels/reference/reference_device.h"
#include "tests/support/catch.h"
#include "tests/support/fixtures.h"
#include "tests/support/scratch.h"

using namespace quire;
using namespace quire::test;
namespace fs = std::filesystem;

namespace {

LoadedModel load_merged(Device& device, const fs::path& adapter, const fs::path& base) {
  return merge_adapter_folder(device, adapter, load_model(device, base, WeightStorage::f32));
}

/// At the last `rows` of the ids 0 … 5.
std::vector<float> last_logits(Device& device, const LoadedModel& model, int rows) {
  const std::vector<std::int32_t> ids = {0, 1, 2, 3, 4, 5};
  std::vector<float> all =
      Gpt2(device, model.config, model.parameters).logits({.batch = 1, .length = 6, .ids = ids});
  return {all.end() - rows * static_cast<std::ptrdiff_t>(model.config.vocab_size), all.end()};
}

/// A copy of one of the adapters, to be broken.
fs::path copied(const ScratchFolder& scratch, const std::string& name) {
  fs::remove_all(scratch / name);
  fs::copy(test_data("adapters") / name, scratch / name);
  return scratch / name;
}

std::vector<double> product(const std::vector<double>& a, const std::vector<double>& b,
                            std::size_t n) {  // [n, 1]·[1, m]
  std::vector<double> result;
  for (std::size_t i = 0; i < n; ++i) {
    for (const double value : b) result.push_back(a[i] * value);
  }
  return result;
}

}  // namespace

TEST_CASE("adapters of every kind compute what PEFT computes with them") {
  ReferenceDevice device;
  const fs::path folder = test_data("adapters");
  const auto expected = parse_json<nlohmann::json>(read_file(folder / "expected.json"));
  REQUIRE(expected.size() == 19);
  for (const auto& [name, logits] : expected.items()) {
    const fs::path base = folder / ("base-" + name.substr(name.find('-') + 1));
    const LoadedModel plain = load_model(device, base, WeightStorage::f32);
    const LoadedModel merged = load_merged(device, folder / name, base);
    const std::vector<float> want = logits, got = last_logits(device, merged, 2),
                             without = last_logits(device, plain, 2);
    REQUIRE(got.size() == want.size());
    double largest = 0, worst = 0, moved = 0;
    for (std::size_t i = 0; i < got.size(); ++i) {
      largest = std::max(largest, std::abs(double{want[i]}));
      worst = std::max(worst, std::abs(double{got[i]} - double{want[i]}));
      moved = std::max(moved, std::abs(double{want[i]} - double{without[i]}));
    }
    // As for plain adapters: an eps for each rounding one after the other, four products of at most
    // n_inner + r terms a block; and those of torch's own singular vectors, of as many terms again.
    const double roundings = 2 * 4.0 * merged.config.n_layer * (merged.config.inner() + 5);
    INFO(name << ": worst " << worst << ", bound " << roundings * 0x1p-23 * largest << ", moved "
              << moved);
    CHECK(worst <= roundings * 0x1p-23 * largest);
    CHECK(moved > 100 * worst);
    const bool untied = name == "save_head-tied" || name == "save_wte-tied" || name == "wte-tied" ||
                        name == "head-tied";
    CHECK(merged.config.tie_word_embeddings == (name.ends_with("-tied") && !untied));
  }
}

TEST_CASE("the cases' PiSSA and OLoRA adapters give the tokens that PEFT gives") {
  ReferenceDevice device;
  QUIRE_CASE(pissa, "pissa_adapter");
  QUIRE_CASE(olora, "olora_adapter");
  // The next token and the logarithm of its probability as PEFT's pissa_init()
  // and olora_init() give them, the latter by QR of the stored [in, out];
  // and the logarithm where the base stays as it is.
  for (const auto& [adapter, base, token, log_probability, unchanged] :
       {std::tuple(pissa, "pissa_base", 29, -2.374230, -2.145834),
        std::tuple(olora, "olora_base", 36, -2.449522, -2.286913)}) {
    const LoadedModel model = load_merged(device, adapter, adapter.parent_path() / base);
    const std::vector<std::int32_t> ids = {1, 2, 3, 4, 5};
    const std::vector<float> logits =
        Gpt2(device, model.config, model.parameters).logits({.batch = 1, .length = 5, .ids = ids});
    const auto last = logits.end() - model.config.vocab_size;
    const auto best = std::max_element(last, logits.end());
    CHECK(best - last == token);
    double sum = 0;
    for (auto logit = last; logit != logits.end(); ++logit) sum += std::exp(*logit - *best);
    // A hundredth of what the change of the base makes.
    CHECK(std::abs(-std::log(sum) - log_probability) < std::abs(unchanged - log_probability) / 100);
  }
}

TEST_CASE("an adapter whose tensors do not fit what it says is refused by name") {
  ReferenceDevice device;
  const ScratchFolder scratch;
  const auto says = [&](const std::string& name, const std::string& field,
                        const nlohmann::json& value) {
    const fs::path folder = copied(scratch, name);
    auto config = parse_json<nlohmann::json>(read_file(folder / "adapter_config.json"));
    config[field] = value;
    write_file(folder / "adapter_config.json", json_text(config));
    return scratch.message_of(Fault::bad_data, [&] {
      load_merged(device, folder,
                  test_data("adapters") / ("base-" + name.substr(name.find('-') + 1)));
    });
  };
  const auto contains = [](const std::string& text, const std::string& part) {
    INFO(text);
    CHECK(text.find(part) != std::string::npos);
  };
  contains(says("rank_alpha-tied", "rank_pattern", {{"c_attn", 4}}), "does not fit");
  contains(says("bias_all-tied", "bias", "none"), "belongs to no");
  contains(says("dora-tied", "use_dora", false), "belongs to no");
  contains(says("save_ln-untied", "modules_to_save", {"ln_1"}), "has no tensor");
  contains(says("wte-tied", "use_dora", true), "\"use_dora\" with an embedding");
  contains(says("regex-tied", "target_modules", ".*c_attn"), "has no tensor");
  contains(says("lora_bias-tied", "lora_bias", false), "belongs to no");
  contains(says("exclude-tied", "exclude_modules", nullptr), "has no tensor");
}

TEST_CASE("the principal part of a weight is its largest singular values' share") {
  // 5·u·vᵀ + 2·p·qᵀ with orthonormal u, p and v, q.
  const double h = std::sqrt(0.5);
  const std::vector<double> u = {h, h, 0}, p = {h, -h, 0}, v = {0.6, 0.8, 0, 0, 0},
                            q = {0, 0, 1, 0, 0};
  const std::vector<double> first = product(u, v, 3), second = product(p, q, 3);
  for (const bool transposed : {false, true}) {
    std::vector<float> weight(15), rest(15);
    for (std::size_t i = 0; i < 3; ++i) {
      for (std::size_t j = 0; j < 5; ++j) {
        const std::size_t at = transposed ? j * 3 + i : i * 5 + j;
        weight[at] = static_cast<float>(5 * first[i * 5 + j] + 2 * second[i * 5 + j]);
        rest[at] = static_cast<float>(2 * second[i * 5 + j]);
      }
    }
    REQUIRE(remove_principal_part(weight, transposed ? 5 : 3, transposed ? 3 : 5, 1));
    // The weight was rounded to floats, and so is the rest: an eps of its size for each.
    for (std::size_t i = 0; i < 15; ++i) CHECK(std::abs(weight[i] - rest[i]) <= 2 * 5 * 0x1p-24);
  }
  std::vector<float> equal = {1, 0, 0, 0, 1, 0, 0, 0, 1};
  CHECK_FALSE(remove_principal_part(equal, 3, 3, 1));  // which of the three?
  CHECK(equal == std::vector<float>{1, 0, 0, 0, 1, 0, 0, 0, 1});
  CHECK(remove_principal_part(equal, 3, 3, 3));
  CHECK(equal == std::vector<float>(9, 0.0f));
}

TEST_CASE("an adapter of a model with more rows brings them along") {
  ReferenceDevice device;
  const ScratchFolder scratch;
  for (const char* name : {"base-tied", "base-untied"}) {
    const LoadedModel base = load_model(device, test_data("adapters") / name, WeightStorage::f32);
    Gpt2Config config = base.config;
    config.vocab_size = 27;
    const Parameters grown = grow_vocabulary(device, config, base.parameters, 7);
    const LoraAdapter adapter = initialize_adapter(device, config, {.r = 2}, 3);
    save_adapter(device, scratch / name, adapter, "base", &grown);
    CHECK(adapted_vocab_size(scratch / name) == 27);
    const LoadedModel merged = load_merged(device, scratch / name, test_data("adapters") / name);
    CHECK(merged.config.vocab_size == 27);
    CHECK(merged.config.tie_word_embeddings == base.config.tie_word_embeddings);
    // The adapter is fresh and changes nothing: the model is the grown one, to the bit.
    const LoadedModel tables =
        with_adapter_tables(device, scratch / name,
                            load_model(device, test_data("adapters") / name, WeightStorage::f32));
    for (const LoadedModel* model : {&merged, &tables}) {
      const std::vector<std::int32_t> ids = {0, 25, 26};
      CHECK(Gpt2(device, config, model->parameters).logits({.batch = 1, .length = 3, .ids = ids}) ==
            Gpt2(device, config, grown).logits({.batch = 1, .length = 3, .ids = ids}));
    }
    CHECK(load_adapter(device, scratch / name, config).names().size() == adapter.names().size());
  }
}
