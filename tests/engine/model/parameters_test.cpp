#include "engine/model/parameters.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <set>

#include "base/random.h"
#include "tests/engine/model/model_case.h"

using namespace quire;
using namespace quire::test;

TEST_CASE("parameters are listed as transformers names them") {
  Gpt2Config config = Gpt2Config::preset("tiny").value();
  config.tie_word_embeddings = false;
  const std::vector<NamedParameter> list = parameter_list(config);
  REQUIRE(list.size() == 2 + 4 * 12 + 2 + 1);
  CHECK(list.front().name == "transformer.wte.weight");
  CHECK(list[4].name == "transformer.h.0.attn.c_attn.weight");
  CHECK(list[4].shape == Shape{128, 384});
  CHECK(list.back().name == "lm_head.weight");
  std::int64_t count = 0;
  for (const NamedParameter& parameter : list) {
    count += parameter.shape.count();
    CHECK(parameter.decays == (parameter.shape.rank() == 2));
    CHECK(parameter.is_matrix == (parameter.shape.rank() == 2));
  }
  CHECK(count == config.parameter_count());
  CHECK(Parameters::bytes(parameter_list(config)) ==
        static_cast<std::size_t>(count) * sizeof(float));
}

TEST_CASE("roles and names are the same memory") {
  for (const bool tied : {true, false}) {
    Gpt2Config config = Gpt2Config::preset("tiny").value();
    config.vocab_size = 77;
    config.n_inner = 100;
    config.tie_word_embeddings = tied;
    const auto device = open_reference_device();
    Parameters first(*device, config);
    const void* wte = first.wte().bytes();
    const Parameters p = std::move(first);
    CHECK(p.wte().bytes() == wte);
    CHECK(p.find("transformer.wte.weight").bytes() == p.wte().bytes());
    CHECK(p.find("transformer.wpe.weight").bytes() == p.wpe().bytes());
    const auto& last = p.layer(3);
    const std::string h = "transformer.h.3.";
    CHECK(p.find(h + "ln_1.weight").bytes() == last[Role::ln_1].weight.bytes());
    CHECK(p.find(h + "attn.c_attn.bias").bytes() == last[Role::c_attn].bias.bytes());
    CHECK(p.find(h + "attn.c_proj.weight").bytes() == last[Role::attn_proj].weight.bytes());
    CHECK(p.find(h + "ln_2.bias").bytes() == last[Role::ln_2].bias.bytes());
    CHECK(p.find(h + "mlp.c_fc.weight").bytes() == last[Role::c_fc].weight.bytes());
    CHECK(p.find(h + "mlp.c_proj.bias").bytes() == last[Role::mlp_proj].bias.bytes());
    CHECK(p.find("transformer.ln_f.bias").bytes() == p.ln_f().bias.bytes());
    CHECK(p.find(tied ? "transformer.wte.weight" : "lm_head.weight").bytes() == p.head().data);
    CHECK(last[Role::c_fc].weight.shape() == Shape{128, 100});
    CHECK_THROWS_AS(p.find("transformer.h.4.ln_1.weight"), Error);
    // No two tensors meet, and each begins on a cache line.
    const std::byte* end = nullptr;
    for (const View& tensor : p.tensors()) {
      CHECK(static_cast<const std::byte*>(tensor.bytes()) >= end);
      CHECK(reinterpret_cast<std::uintptr_t>(tensor.bytes()) % 64 == 0);
      end = static_cast<const std::byte*>(tensor.bytes()) + tensor.size_bytes();
    }
  }
}

TEST_CASE("borrowed tensors are checked against the config") {
  Gpt2Config config = Gpt2Config::preset("tiny").value();
  config.vocab_size = 77;
  const auto device = open_reference_device();
  const auto owner = std::make_shared<Parameters>(*device, config);
  const Parameters borrowed(config, owner->weights(), owner);
  CHECK(borrowed.head().data == owner->head().data);
  const auto writable = [](const Parameters& parameters) {
    return std::ranges::count_if(parameters.tensors(), [](const View& view) { return !!view; });
  };
  CHECK(writable(borrowed) == 0);  // nobody writes into them
  CHECK(writable(Parameters(config, owner->weights(), owner, 1, owner->tensors())) ==
        std::ssize(owner->names()));
  std::vector<ConstView> views = owner->weights();
  std::swap(views[4], views[6]);
  CHECK_THROWS_AS(Parameters(config, views, owner), Error);
  views.pop_back();
  CHECK_THROWS_AS(Parameters(config, views, owner), Error);
}

TEST_CASE("fresh parameters have GPT-2's distribution, and the seed decides them") {
  Gpt2Config config = Gpt2Config::preset("tiny").value();
  config.vocab_size =
      1501;  // 192,128 numbers in the largest tensor: several are drawn side by side
  const auto device = open_reference_device();
  const Parameters p = initialize_parameters(*device, config, 42);
  const Parameters again = initialize_parameters(*device, config, 42);
  const Parameters other = initialize_parameters(*device, config, 43);
  std::set<float> beginnings;
  for (std::size_t i = 0; i < p.names().size(); ++i) {
    const NamedParameter& named = p.names()[i];
    INFO(named.name);
    const std::vector<float> values = to_host(*device, p.tensors()[i]);
    CHECK(values == to_host(*device, again.tensors()[i]));
    if (!named.is_matrix) {
      const bool is_scale = named.name.find("ln_") != std::string::npos &&
                            named.name.find(".weight") != std::string::npos;
      for (const float value : values) REQUIRE(value == (is_scale ? 1.0f : 0.0f));
      continue;
    }
    CHECK(values != to_host(*device, other.tensors()[i]));
    CHECK(beginnings.insert(values[0]).second);  // each tensor draws from a stream of its own
    const bool projection = named.name.find("c_proj") != std::string::npos;
    const double deviation = 0.02 / (projection ? std::sqrt(8.0) : 1.0);
    const double n = static_cast<double>(values.size());
    double mean = 0, square = 0, fourth = 0;
    for (const float value : values) {
      const double x = value / deviation;
      mean += x / n;
      square += x * x / n;
      fourth += x * x * x * x / n;
    }
    // Six standard errors of the mean, the variance and the fourth moment of a normal variable.
    CHECK(std::abs(mean) <= 6 / std::sqrt(n));
    CHECK(std::abs(square - 1) <= 6 * std::sqrt(2 / n));
    CHECK(std::abs(fourth - 3) <= 6 * std::sqrt(96 / n));
  }
  // Box and Muller of the numbers with the same index, wherever a thread's part begins and ends.
  const std::vector<float> table = to_host(*device, p.tensors()[0]);
  constexpr double kFew = 10 * 0x1p-23;  // 2 pi ulps of the angle, three of the radius
  int wrong = 0;
  for (std::size_t i = 0; i < table.size(); i += 2) {
    const auto u = static_cast<float>((random_bits({42, 0}, i) + 1.0) * 0x1p-32);
    const double radius = 0.02 * std::sqrt(-2 * std::log(static_cast<double>(u)));
    const double angle = 2 * std::numbers::pi * random_uniform({42, 0}, i + 1);
    wrong += std::abs(table[i] - radius * std::cos(angle)) > kFew * radius;
    wrong += std::abs(table[i + 1] - radius * std::sin(angle)) > kFew * radius;
  }
  CHECK(wrong == 0);
}

TEST_CASE("an arena counts what it hands out") {
  const auto layout = [](Arena& arena) {
    return std::vector<View>{arena.take("a", {3, 5}), arena.take("b", {7}, DType::i32),
                             arena.take("a", {3, 5})};
  };
  Arena count;
  layout(count);
  CHECK(count.taken() == 3 * 64);
  const auto device = open_reference_device();
  Arena arena(*device, count.taken());
  const std::vector<View> first = layout(arena);
  CHECK(first[0].shape() == Shape{3, 5});
  CHECK(first[1].dtype() == DType::i32);
  CHECK(first[2].bytes() != first[0].bytes());
  CHECK_THROWS_AS(arena.take("c", {1}), Error);
  arena.restart();
  CHECK(layout(arena)[2].bytes() == first[2].bytes());
  const std::vector<MemoryItem> plan = arena.plan();
  REQUIRE(plan.size() == 2);
  CHECK(plan[0].name == "a");
  CHECK(plan[0].bytes == 128);
}
