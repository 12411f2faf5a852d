// Adapters: what a fresh one, a trained one and a merged one must have in common with their base.
#include <numeric>

#include "engine/model/lora.h"
#include "engine/training/optimizer.h"
#include "tests/engine/model/odd_model.h"
#include "tests/support/bf16.h"

using namespace quire;
using namespace quire::test;

namespace {

// Under an adapter of c_fc the activation is taken of the pre-activation as it is stored. The CPU
// always takes it so; where it is part of the product, it may be taken of an unrounded one.
const std::vector<std::string> kAllModules = {"c_attn", "c_proj", "c_fc"};

LoraConfig lora_of(std::vector<std::string> modules, float dropout = 0.0f) {
  return {
      .r = 3, .lora_alpha = 6.0f, .lora_dropout = dropout, .target_modules = std::move(modules)};
}

/// Replaces the zeros of every B, so that the adapter does something.
void draw_b(Device& device, const LoraAdapter& adapter) {
  for (std::size_t i = 1; i < adapter.tensors().size(); i += 2) {
    const View b = adapter.tensors()[i];
    std::vector<float> values(static_cast<std::size_t>(b.count()));
    for (std::size_t j = 0; j < values.size(); ++j) {
      values[j] = 0.2f * random_uniform({.seed = 3, .stream = i}, j) - 0.1f;
    }
    device.copy_to_device(b.bytes(), values.data(), b.size_bytes());
    device.synchronize();
  }
}

double sum_of_magnitudes(const std::vector<float>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0,
                         [](double sum, float value) { return sum + std::abs(value); });
}

}  // namespace

TEST_CASE("a fresh adapter leaves the losses of its base, bit for bit, with and without dropout") {
  const Gpt2Config config = odd_config();
  const RandomBatch batch(2, 9, config.vocab_size);
  for (const std::string& name : kDevices) {
    INFO(name);
    const auto device = open_test_device(name);
    const Parameters parameters = initialize_parameters(*device, config, 1);
    Gpt2Training base(*device, config, parameters, {.batch = 2, .length = 9});
    const LoraConfig lora =
        lora_of(name == "cpu" ? kAllModules : std::vector<std::string>{"c_attn", "c_proj"}, 0.2f);
    const LoraAdapter adapter = initialize_adapter(*device, config, lora, 5);
    Gpt2Training adapted(*device, config, parameters, {.batch = 2, .length = 9}, &adapter);
    CHECK(adapted.forward(batch.view()) == base.forward(batch.view()));
    CHECK(adapted.forward_backward(batch.view(), 1.0f, 4) ==
          base.forward_backward(batch.view(), 1.0f, 4));
  }
}

TEST_CASE("with every dropout, an adapter's gradient is the slope of the loss with the same seed") {
  const Gpt2Config config = odd_config();
  const RandomBatch batch(2, 9, config.vocab_size);
  const auto device = open_reference_device();
  const Parameters parameters = initialize_parameters(*device, config, 1);
  for (const float dropout : {0.0f, 0.3f}) {
    const LoraAdapter adapter =
        initialize_adapter(*device, config, lora_of(kAllModules, dropout), 5);
    draw_b(*device, adapter);
    Gpt2Training training(*device, config, parameters, {.batch = 2, .length = 9}, &adapter);
    Gpt2Training other(*device, config, parameters, {.batch = 2, .length = 9}, &adapter);
    const double loss = training.forward_backward(batch.view(), 1.0f, 3);
    for (std::size_t i = 0; i < adapter.tensors().size(); ++i) {
      // Along the gradient of one tensor: d loss/dt of p + t·g is |g|².
      const View tensor = adapter.tensors()[i];
      const std::vector<float> at = to_host(*device, tensor);
      const std::vector<float> g = to_host(*device, training.gradients().tensors()[i]);
      const double norm = std::sqrt(std::inner_product(g.begin(), g.end(), g.begin(), 0.0));
      const auto loss_at = [&](double t) {
        std::vector<float> moved(at);
        for (std::size_t j = 0; j < at.size(); ++j) {
          moved[j] = static_cast<float>(at[j] + t * g[j] / norm);
        }
        device->copy_to_device(tensor.bytes(), moved.data(), tensor.size_bytes());
        return other.forward_backward(batch.view(), 1.0f, 3);
      };
      // As in gpt2_training_test: Richardson's extrapolation, and the rounding of four losses.
      const double h = 4e-3;
      const double slope =
          (8 * (loss_at(h) - loss_at(-h)) - (loss_at(2 * h) - loss_at(-2 * h))) / (12 * h);
      device->copy_to_device(tensor.bytes(), at.data(), tensor.size_bytes());
      INFO(adapter.names()[i].name << ": slope " << slope << ", |gradient| " << norm);
      CHECK(norm > 0);
      CHECK(std::abs(slope - norm) <= 2 * kEps * loss / h);
    }
  }
}

TEST_CASE("a merged adapter gives the losses and, by the chain rule, the gradients") {
  const Gpt2Config config = odd_config();
  const RandomBatch batch(2, 9, config.vocab_size);
  constexpr int kTokens = 18;
  for (const std::string& name : kDevices) {
    const auto device = open_test_device(name);
    const auto parameters =
        std::make_shared<const Parameters>(initialize_parameters(*device, config, 1));
    const LoraConfig lora = lora_of(kAllModules);
    const LoraAdapter adapter = initialize_adapter(*device, config, lora, 5);
    draw_b(*device, adapter);
    const Parameters merged = merge_adapter(*device, config, parameters, adapter);
    const TrainingOptions options = {.batch = 2, .length = 9, .dropout = false};
    Gpt2Training beside(*device, config, *parameters, options, &adapter);
    Gpt2Training one(*device, config, merged, options);
    const double loss = one.forward_backward(batch.view(), 1.0f, 0);
    // Each of 4·L products is rounded anew where the adapter's share is added: K + r + 2 roundings.
    const double roundings = 4.0 * config.n_layer * (config.inner() + lora.r + 2);
    CHECK(std::abs(beside.forward_backward(batch.view(), 1.0f, 0) - loss) <=
          roundings * kEps * loss);
    CHECK(loss != beside.forward(RandomBatch(2, 9, config.vocab_size, 8).view()));

    for (std::size_t i = 0; i < adapter.tensors().size(); i += 2) {
      // W' = W + s·Aᵀ·Bᵀ, so dA = s·(dW·B)ᵀ and dB = s·(A·dW)ᵀ.
      std::string weight = adapter.names()[i].name;  // base_model.model.X.lora_A.weight
      weight = weight.substr(17, weight.size() - 17 - 14) + ".weight";
      const std::vector<float> d_w = to_host(*device, one.gradients().find(weight));
      const std::vector<float> a = to_host(*device, adapter.tensors()[i]);
      const std::vector<float> b = to_host(*device, adapter.tensors()[i + 1]);
      const std::size_t r = static_cast<std::size_t>(lora.r), K = a.size() / r, N = b.size() / r;
      std::vector<float> d_a(a.size()), d_b(b.size());
      for (std::size_t j = 0; j < r; ++j) {
        for (std::size_t k = 0; k < K; ++k) {
          double sum = 0;
          for (std::size_t n = 0; n < N; ++n) sum += double{d_w[k * N + n]} * b[n * r + j];
          d_a[j * K + k] = static_cast<float>(lora.scale() * sum);
        }
        for (std::size_t n = 0; n < N; ++n) {
          double sum = 0;
          for (std::size_t k = 0; k < K; ++k) sum += double{d_w[k * N + n]} * a[j * K + k];
          d_b[n * r + j] = static_cast<float>(lora.scale() * sum);
        }
      }
      // The error of dW as in gpt2_training_test, seen through the other factor.
      const double error = (kTokens + roundings) * kEps * largest_magnitude(d_w) * lora.scale();
      INFO(name);
      check_close(adapter.names()[i].name, to_host(*device, beside.gradients().tensors()[i]), d_a,
                  error * sum_of_magnitudes(b) / static_cast<double>(r));
      check_close(adapter.names()[i + 1].name,
                  to_host(*device, beside.gradients().tensors()[i + 1]), d_b,
                  error * sum_of_magnitudes(a) / static_cast<double>(r));
    }
  }
}

TEST_CASE("where the backward pass of an adapter ends changes no gradient") {
  const Gpt2Config config = odd_config();
  const RandomBatch batch(2, 9, config.vocab_size);
  const auto device = open_test_device("cpu");
  const Parameters parameters = initialize_parameters(*device, config, 1);
  for (const std::vector<std::string>& modules :
       {std::vector<std::string>{"c_attn"}, {"attn.c_proj"}, {"c_fc"}, {"mlp.c_proj"}}) {
    LoraConfig lora = lora_of(modules, 0.1f);
    lora.layers_to_transform = {1, 2};
    const LoraAdapter part = initialize_adapter(*device, config, lora, 5);
    draw_b(*device, part);
    // The same pairs among others that do nothing: their B is zero.
    const LoraAdapter whole = initialize_adapter(*device, config, lora_of(kAllModules, 0.1f), 6);
    for (std::size_t i = 0; i < part.names().size(); ++i) {
      const View to = whole.find(part.names()[i].name);
      const std::vector<float> values = to_host(*device, part.tensors()[i]);
      device->copy_to_device(to.bytes(), values.data(), to.size_bytes());
    }
    Gpt2Training of_part(*device, config, parameters, {.batch = 2, .length = 9}, &part);
    Gpt2Training of_whole(*device, config, parameters, {.batch = 2, .length = 9}, &whole);
    Gpt2Training again(*device, config, parameters,
                       {.batch = 2, .length = 9, .gradient_checkpointing = true}, &part);
    const double loss = of_whole.forward_backward(batch.view(), 0.1f, 4);
    CHECK(of_part.forward_backward(batch.view(), 0.1f, 4) == loss);
    CHECK(again.forward_backward(batch.view(), 0.1f, 4) == loss);
    for (std::size_t i = 0; i < part.names().size(); ++i) {
      const std::string& tensor = part.names()[i].name;
      INFO(tensor);
      const std::vector<float> got = to_host(*device, of_part.gradients().tensors()[i]);
      CHECK(largest_magnitude(got) > 0);
      CHECK(got == to_host(*device, of_whole.gradients().find(tensor)));
      CHECK(got == to_host(*device, again.gradients().tensors()[i]));
    }
  }
}

TEST_CASE("an update changes the adapter and leaves its base, in bf16 too") {
  const Gpt2Config config = odd_config();
  const RandomBatch batch(2, 9, config.vocab_size);
  for (const std::string& name : kDevices) {
    const auto device = open_test_device(name);
    const Parameters parameters = initialize_parameters(*device, config, 1);
    const Parameters before = initialize_parameters(*device, config, 1);
    for (const DType activations : {DType::f32, DType::bf16}) {
      if (!trains_in(*device, activations)) continue;
      INFO(name << ", " << name_of(activations));
      const LoraAdapter adapter =
          initialize_adapter(*device, config, lora_of(kAllModules, 0.1f), 5);
      Gpt2Training training(*device, config, parameters,
                            {.batch = 2, .length = 9, .activations = activations}, &adapter);
      AdamwOptimizer optimizer(*device, adapter, training.gradients(), nullptr, {});
      double first = 0, last = 0;
      for (int step = 0; step < 30; ++step) {
        training.zero_gradients();
        last = training.forward_backward(batch.view(), 0.1f, 1);
        if (step == 0) first = last;
        optimizer.step(1e-2f, optimizer.gradient_norm());
      }
      CHECK(last < 0.9 * first);
      for (std::size_t i = 0; i < parameters.tensors().size(); ++i) {
        CHECK(to_host(*device, parameters.tensors()[i]) == to_host(*device, before.tensors()[i]));
      }
    }
  }
}

TEST_CASE("an adapter of rank 8 has gradients of its two factors alone") {
  const Gpt2Config config = Gpt2Config::preset("gpt2").value();
  TrainingOptions options = {.batch = 1, .length = 1024};
  options.lora.r = 8;
  for (const MemoryItem& item : Gpt2Training::memory_plan(config, options)) {
    // 12 blocks of A [8, 768] and B [2304, 8].
    if (item.name == "gradients") CHECK(item.bytes == 12 * 8 * (768 + 2304) * sizeof(float));
    if (item.name == "products with the adapter's A")
      CHECK(item.bytes == 12 * 1024 * 8 * sizeof(float));
  }
}

TEST_CASE("a fresh adapter is drawn as PEFT draws it") {
  const auto device = open_reference_device();
  Gpt2Config config = odd_config();
  config.n_embd = 96;
  const LoraAdapter adapter = initialize_adapter(*device, config, lora_of({"c_attn"}), 5);
  const std::vector<float> a = to_host(*device, adapter.pair(0, Role::c_attn).a.view);  // [3, 96]
  const double bound = 1.0 / std::sqrt(96.0);
  double sum = 0, squares = 0;
  for (const float value : a) {
    CHECK(std::abs(value) <= bound);
    sum += value;
    squares += double{value} * value;
  }
  // 288 uniform draws: five deviations of their mean and of their variance, bound²/3.
  const double count = static_cast<double>(a.size());
  CHECK(std::abs(sum / count) <= 5 * bound / std::sqrt(3 * count));
  CHECK(std::abs(squares / count - bound * bound / 3) <=
        5 * bound * bound * std::sqrt(4.0 / 45.0 / count));
  CHECK(largest_magnitude(to_host(*device, adapter.pair(0, Role::c_attn).b.view)) == 0);
  CHECK(to_host(*device, adapter.pair(1, Role::c_attn).a.view) != a);
  CHECK(to_host(*device,
                initialize_adapter(*device, config, lora_of({"c_attn"}), 6).tensors()[0]) != a);
}

TEST_CASE("modules are found by the ends of their names, as PEFT finds them") {
  const Gpt2Config config = odd_config();
  const auto adapted = [&](std::vector<std::string> modules, std::vector<int> layers = {}) {
    LoraConfig lora = lora_of(std::move(modules));
    lora.layers_to_transform = std::move(layers);
    std::vector<std::string> names;
    for (const NamedParameter& parameter : adapter_list(config, lora)) {
      names.push_back(parameter.name + " " + parameter.shape.to_string());
    }
    return names;
  };
  CHECK(adapted({"c_attn"}, {1}) ==
        std::vector<std::string>{
            "base_model.model.transformer.h.1.attn.c_attn.lora_A.weight [3, 15]",
            "base_model.model.transformer.h.1.attn.c_attn.lora_B.weight [45, 3]"});
  CHECK(adapted({"c_proj"}).size() == 2 * 2 * 3);
  CHECK(adapted({"attn.c_proj"}).size() == 2 * 3);
  CHECK(adapted({"mlp.c_proj", "c_fc"}, {0}) ==
        std::vector<std::string>{
            "base_model.model.transformer.h.0.mlp.c_fc.lora_A.weight [3, 15]",
            "base_model.model.transformer.h.0.mlp.c_fc.lora_B.weight [31, 3]",
            "base_model.model.transformer.h.0.mlp.c_proj.lora_A.weight [3, 31]",
            "base_model.model.transformer.h.0.mlp.c_proj.lora_B.weight [15, 3]"});
  CHECK(adapted({"h.2.attn.c_attn"}).size() == 2);
  const auto refusal = [&](const LoraConfig& lora) {
    try {
      adapter_list(config, lora);
    } catch (const Error& error) {
      CHECK(error.fault() == Fault::usage);
      return std::string(error.what());
    }
    return std::string("no error");
  };
  CHECK(refusal(lora_of({"c_attn", "attn"})) == "there is no module 'attn' to adapt");
  CHECK(refusal(lora_of({"_attn"})) == "there is no module '_attn' to adapt");
  CHECK(refusal(lora_of({})) == "`target_modules` names no module");
  CHECK(refusal({.r = 0}) == "the adapter's rank r is 0");
  CHECK(refusal({.r = 1, .layers_to_transform = {3}}) == "the adapter has a block 3");
}
