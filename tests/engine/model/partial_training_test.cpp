// Training of a part of the parameters: what is left out must change nothing else.
#include <algorithm>
#include <optional>

#include "engine/training/optimizer.h"
#include "tests/engine/model/odd_model.h"
#include "tests/support/bf16.h"

using namespace quire;
using namespace quire::test;

namespace {

/// Whether that parameter stays as it is under --freeze-layers.
bool is_frozen(const std::string& name, int frozen_layers) {
  if (frozen_layers == 0) return false;
  if (name == "transformer.wte.weight" || name == "transformer.wpe.weight") return true;
  for (int layer = 0; layer < frozen_layers; ++layer) {
    if (name.starts_with("transformer.h." + std::to_string(layer) + ".")) return true;
  }
  return false;
}

}  // namespace

TEST_CASE("what trains above frozen blocks has the gradients of full training, bit for bit") {
  for (const bool tied : {true, false}) {
    Gpt2Config config = odd_config();
    config.tie_word_embeddings = tied;
    const RandomBatch batch(2, 9, config.vocab_size);
    for (const std::string& name : kDevices) {
      const auto device = open_test_device(name);
      const Parameters parameters = initialize_parameters(*device, config, 1);
      Gpt2Training full(*device, config, parameters, {.batch = 2, .length = 9});
      const double loss = full.forward_backward(batch.view(), 0.1f, 4);
      for (int frozen = 0; frozen <= config.n_layer; ++frozen) {
        Gpt2Training part(*device, config, parameters,
                          {.batch = 2, .length = 9, .frozen_layers = frozen});
        CHECK(part.forward_backward(batch.view(), 0.1f, 4) == loss);
        for (std::size_t i = 0; i < parameters.names().size(); ++i) {
          const std::string& tensor = parameters.names()[i].name;
          const View got = part.gradients().tensors()[i];
          INFO(name << ", " << frozen << " frozen blocks: " << tensor);
          CHECK(static_cast<bool>(got) == !is_frozen(tensor, frozen));
          if (!got) continue;
          CHECK(to_host(*device, got) == to_host(*device, full.gradients().tensors()[i]));
        }
        CHECK(part.forward(batch.view()) == full.forward(batch.view()));
      }
    }
  }
}

TEST_CASE("an update leaves frozen parameters as they are, and has no moments of them") {
  const Gpt2Config config = odd_config();
  const RandomBatch batch(2, 9, config.vocab_size);
  for (const std::string& name : kDevices) {
    const auto device = open_test_device(name);
    const Parameters parameters = initialize_parameters(*device, config, 1);
    const Parameters before = initialize_parameters(*device, config, 1);
    Gpt2Training training(*device, config, parameters,
                          {.batch = 2, .length = 9, .frozen_layers = 2});
    AdamwOptimizer optimizer(*device, parameters, training.gradients(), nullptr,
                             {.weight_decay = 0.1f});
    training.forward_backward(batch.view(), 0.1f, 0);
    optimizer.step(1e-2f, optimizer.gradient_norm());
    for (std::size_t i = 0; i < parameters.names().size(); ++i) {
      const std::string& tensor = parameters.names()[i].name;
      INFO(name << ": " << tensor);
      const bool frozen = is_frozen(tensor, 2);
      const bool same =
          to_host(*device, parameters.tensors()[i]) == to_host(*device, before.tensors()[i]);
      CHECK(same == frozen);
      const bool moving = std::any_of(
          optimizer.pieces().begin(), optimizer.pieces().end(),
          [&](const auto& piece) { return piece.parameter->name == parameters.names()[i].name; });
      CHECK(moving == !frozen);
    }
  }
}

TEST_CASE("the memory plan has no gradients and activations of frozen blocks") {
  const Gpt2Config config = Gpt2Config::preset("gpt2").value();
  TrainingOptions options = {.batch = 4, .length = 256};
  const std::size_t full = bytes_of(Gpt2Training::memory_plan(config, options));
  const std::size_t C = 768, N = 4 * 256, kFloat = sizeof(float);
  // Ten rows of C floats a token, four statistics, and a log-sum-exp for each of 12 heads.
  const std::size_t activations = (10 * C + 4 + 12) * N * kFloat;
  const std::size_t block = (12 * C * C + 13 * C) * kFloat;
  const std::size_t tables = (50257 + 1024) * C * kFloat;
  for (const int frozen : {1, 7, 11}) {
    options.frozen_layers = frozen;
    const auto blocks = static_cast<std::size_t>(frozen);
    CHECK(full - bytes_of(Gpt2Training::memory_plan(config, options)) ==
          tables + blocks * (block + activations));
  }
  options.frozen_layers = 12;
  const std::vector<MemoryItem> last = Gpt2Training::memory_plan(config, options);
  for (const MemoryItem& item : last) {
    if (item.name == "gradients") CHECK(item.bytes == 2 * C * kFloat);  // ln_f alone
    CHECK(item.name != "MLP pre-activations");
  }
  options.frozen_layers = 13;
  try {
    Gpt2Training::memory_plan(config, options);
    FAIL("no exception");
  } catch (const Error& error) {
    CHECK(error.message() ==
          "error: `freeze_layers` 13 is not a number of blocks\n  the model has 12 blocks\n"
          "  try: `freeze_layers` 6");
  }
}

TEST_CASE("gradient checkpointing changes no bit of loss and gradients") {
  for (const bool tied : {true, false}) {
    Gpt2Config config = odd_config();
    config.tie_word_embeddings = tied;
    const RandomBatch batch(2, 9, config.vocab_size);
    for (const std::string& name : kDevices) {
      const auto device = open_test_device(name);
      const Parameters parameters = initialize_parameters(*device, config, 1);
      std::vector<DType> types = {DType::f32};
      if (trains_in(*device, DType::bf16)) types.push_back(DType::bf16);
      for (const DType activations : types) {
        for (const int frozen : {0, 1, 3}) {
          INFO(name << ", " << name_of(activations) << ", " << frozen << " frozen blocks");
          TrainingOptions options = {
              .batch = 2, .length = 9, .activations = activations, .frozen_layers = frozen};
          Gpt2Training kept(*device, config, parameters, options);
          options.gradient_checkpointing = true;
          Gpt2Training computed_again(*device, config, parameters, options);
          for (const std::uint64_t seed : {4, 5}) {  // the second pass finds the first one's rests
            CHECK(computed_again.forward_backward(batch.view(), 0.1f, seed) ==
                  kept.forward_backward(batch.view(), 0.1f, seed));
            CHECK(all_gradients(*device, computed_again) == all_gradients(*device, kept));
          }
          CHECK(computed_again.forward(batch.view()) == kept.forward(batch.view()));
        }
      }
    }
  }
}

TEST_CASE("gradient checkpointing keeps one row of each block instead of ten") {
  const Gpt2Config config = Gpt2Config::preset("gpt2").value();
  TrainingOptions options = {.batch = 4, .length = 256};
  const std::size_t full = bytes_of(Gpt2Training::memory_plan(config, options));
  options.gradient_checkpointing = true;
  const std::size_t C = 768, N = 4 * 256;
  CHECK(full - bytes_of(Gpt2Training::memory_plan(config, options)) ==
        11 * (9 * C + 4 + 12) * N * sizeof(float));
}

TEST_CASE("outputs of layernorms and activations that are kept are those computed again") {
  for (const bool tied : {true, false}) {
    Gpt2Config config = odd_config();
    config.tie_word_embeddings = tied;
    config.activation_function = tied ? Activation::gelu_new : Activation::relu;
    const RandomBatch batch(2, 9, config.vocab_size);
    for (const std::string& name : kDevices) {
      const auto device = open_test_device(name);
      const Parameters parameters = initialize_parameters(*device, config, 1);
      std::vector<DType> types = {DType::f32};
      if (trains_in(*device, DType::bf16)) types.push_back(DType::bf16);
      for (const DType activations : types) {
        for (const int frozen : {-1, 0, 1, 3}) {  // -1: an adapter on all products
          INFO(name << ", " << name_of(activations) << ", " << frozen << " frozen blocks");
          TrainingOptions options = {.batch = 2,
                                     .length = 9,
                                     .activations = activations,
                                     .frozen_layers = std::max(frozen, 0)};
          std::optional<LoraAdapter> adapter;
          if (frozen < 0) {
            const LoraConfig lora{
                .r = 2, .lora_dropout = 0.1f, .target_modules = {"c_attn", "c_proj", "c_fc"}};
            adapter.emplace(initialize_adapter(*device, config, lora, 3));
          }
          const LoraAdapter* const beside = adapter ? &*adapter : nullptr;
          Gpt2Training computed_again(*device, config, parameters, options, beside);
          options.keep_outputs = true;
          Gpt2Training kept(*device, config, parameters, options, beside);
          for (const std::uint64_t seed : {4, 5}) {
            CHECK(kept.forward_backward(batch.view(), 0.1f, seed) ==
                  computed_again.forward_backward(batch.view(), 0.1f, seed));
            const std::vector<float> got = all_gradients(*device, kept);
            const std::vector<float> want = all_gradients(*device, computed_again);
            if (name != "reference") {
              CHECK(got == want);
              continue;
            }
            // It takes the activation of a product that is not rounded yet, so what it keeps is off
            // by half an ulp: in a gradient that is a term for each of 18 tokens.
            check_close("gradients", got, want, 18 * kEps * largest_magnitude(want));
          }
          CHECK(kept.forward(batch.view()) == computed_again.forward(batch.view()));
        }
      }
    }
  }
}

TEST_CASE("the logits of a chunk and what a block works with are in one place") {
  const Gpt2Config config = Gpt2Config::preset("gpt2").value();
  for (const std::size_t N : {256, 4096}) {
    TrainingOptions options = {.batch = static_cast<int>(N / 256), .length = 256};
    options.head.rows = 256;
    const auto plan = Gpt2Training::memory_plan(config, options);
    const auto place =
        std::ranges::find(plan, "logits of a chunk, or work of a block", &MemoryItem::name);
    REQUIRE(place != plan.end());
    // An activation or its gradient, 4·C wide, and a branch's output.
    const std::size_t logits = std::size_t{256} * 50257, work = 5 * 768 * N;
    CHECK(place->bytes == std::max(logits, work) * sizeof(float));
  }
}

TEST_CASE("outputs that are kept take six more rows of each block that trains") {
  const Gpt2Config config = Gpt2Config::preset("gpt2").value();
  const std::size_t C = 768, N = 4 * 256;
  for (const int frozen : {0, 3}) {
    TrainingOptions options = {.batch = 4, .length = 256, .frozen_layers = frozen};
    const std::size_t again = bytes_of(Gpt2Training::memory_plan(config, options));
    options.keep_outputs = true;
    CHECK(bytes_of(Gpt2Training::memory_plan(config, options)) - again ==
          static_cast<std::size_t>(12 - frozen) * 6 * C * N * sizeof(float));
    options.gradient_checkpointing = true;
    const std::int64_t checkpointing = bytes_of(Gpt2Training::memory_plan(config, options));
    options.keep_outputs = false;
    CHECK(checkpointing == bytes_of(Gpt2Training::memory_plan(config, options)));
  }
}

TEST_CASE("activations in the memory of gradients to come leave the bits as they are") {
  Gpt2Config config = odd_config();
  // A chunk of 256 rows of 11 logits has a place among the gradients, of 53 none.
  for (const auto& [vocabulary, tied] :
       std::vector<std::pair<int, bool>>{{11, true}, {11, false}, {53, true}}) {
    config.vocab_size = vocabulary;
    config.tie_word_embeddings = tied;
    for (const std::string& name : kDevices) {
      const auto device = open_test_device(name);
      const Parameters parameters = initialize_parameters(*device, config, 1);
      for (const int frozen : {0, 1, 3}) {
        for (const int kind : {0, 1, 2}) {  // what is kept: as always, outputs too, inputs alone
          INFO(name << ", " << frozen << " frozen blocks, kind " << kind);
          TrainingOptions options = {.batch = 4,
                                     .length = 20,
                                     .frozen_layers = frozen,
                                     .gradient_checkpointing = kind == 2,
                                     .keep_outputs = kind == 1};
          Gpt2Training apart(*device, config, parameters, options);
          options.accumulates = false;
          Gpt2Training lent(*device, config, parameters, options);
          // Of few tokens all layers but the lowest lie there, of many some or none.
          for (const auto& [rows, columns] :
               std::vector<std::pair<int, int>>{{1, 3}, {1, 12}, {4, 20}, {2, 11}}) {
            const RandomBatch batch(rows, columns, config.vocab_size, rows);
            apart.zero_gradients();
            const double loss = apart.forward_backward(batch.view(), 0.1f, 4);
            CHECK(lent.forward_backward(batch.view(), 0.1f, 4) == loss);
            CHECK(all_gradients(*device, lent) == all_gradients(*device, apart));
            CHECK(lent.forward(batch.view()) == apart.forward(batch.view()));
          }
        }
      }
    }
  }
}

TEST_CASE("an adapter's gradients begin with zeros where they are not added to") {
  const Gpt2Config config = odd_config();
  const RandomBatch batch(2, 9, config.vocab_size);
  const auto device = open_test_device(kDevices.back());
  const Parameters parameters = initialize_parameters(*device, config, 1);
  const LoraAdapter adapter =
      initialize_adapter(*device, config, {.r = 2, .target_modules = {"c_attn"}}, 3);
  const TrainingOptions options = {.batch = 2, .length = 9, .accumulates = false};
  Gpt2Training training(*device, config, parameters, options, &adapter);
  training.forward_backward(batch.view(), 0.1f, 0);
  const std::vector<float> once = all_gradients(*device, training);
  CHECK(largest_magnitude(once) > 0);
  training.forward_backward(batch.view(), 0.1f, 0);
  CHECK(all_gradients(*device, training) == once);
}

TEST_CASE("what lies among the gradients is not in the memory plan") {
  const Gpt2Config config = Gpt2Config::preset("gpt2").value();
  const std::int64_t C = config.n_embd, H = config.n_head, V = config.vocab_size;
  const std::int64_t of_block = 12 * C * C + 13 * C;             // gradients
  const std::int64_t end = config.n_layer * of_block - 256 * V;  // the logits lie behind it
  for (const auto& [batch, length] :
       std::vector<std::pair<int, int>>{{4, 64}, {4, 256}, {2, 1024}}) {
    INFO(batch << " x " << length);
    TrainingOptions options = {.batch = batch, .length = length};
    const std::int64_t whole = bytes_of(Gpt2Training::memory_plan(config, options));
    options.accumulates = false;
    const std::int64_t saved = whole - bytes_of(Gpt2Training::memory_plan(config, options));
    // x, q, k, v, att, x_mid and fc; four statistics; one for each head. A layer lies where it ends
    // below its own block's gradients, behind the layers before.
    const std::int64_t N = batch * length, of_layer = N * (10 * C + 4 + H);
    std::int64_t lies = 0;
    for (int l = 1; l < config.n_layer; ++l) {
      lies += lies + of_layer <= std::min(l * of_block, end) ? of_layer : 0;
    }
    const std::int64_t logits = std::min<std::int64_t>(N, 256) * V;
    CHECK(saved == 4 * (lies + std::max<std::int64_t>(0, logits - 5 * C * N)));
  }
}
