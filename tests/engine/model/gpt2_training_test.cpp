// Training against itself: what must not change the result, and by how much.
#include <cmath>
#include <numeric>

#include "engine/model/forward.h"
#include "tests/engine/model/odd_model.h"

using namespace quire;
using namespace quire::test;

namespace {

/// Gradients that are sums over the same K tokens, taken in another order: K·eps·Σ|terms|. The sum
/// of magnitudes is not at hand; per tensor, the largest gradient stands for it, as terms of random
/// batches do not cancel by orders of magnitude in all elements at once. The key third of
/// c_attn.bias does: its terms are those of the query third.
void check_same_gradients(Device& device, const Gpt2Training& got, const Gpt2Training& want,
                          int tokens) {
  for (std::size_t i = 0; i < got.gradients().tensors().size(); ++i) {
    const std::vector<float> expected = to_host(device, want.gradients().tensors()[i]);
    check_close(got.gradients().names()[i].name, to_host(device, got.gradients().tensors()[i]),
                expected, tokens * kEps * largest_magnitude(expected));
  }
}

}  // namespace

TEST_CASE("four micro-batches of one row have the gradient of one of four") {
  const Gpt2Config config = odd_config();
  const RandomBatch batch(4, 11, config.vocab_size);
  const float scale = 1.0f / static_cast<float>(count_targets(batch.targets));
  for (const std::string& name : kDevices) {
    INFO(name);
    const auto device = open_test_device(name);
    const Parameters parameters = initialize_parameters(*device, config, 1);
    const TrainingOptions options = {.batch = 4, .length = 11, .dropout = false};
    Gpt2Training whole(*device, config, parameters, options);
    Gpt2Training parts(*device, config, parameters, options);
    const double loss = whole.forward_backward(batch.view(), scale, 0);
    double sum = 0;
    for (int row = 0; row < 4; ++row) {
      sum += parts.forward_backward(batch.rows(row, 1), scale, 0);
    }
    // Where every row's losses are its own, both sums are exact enough in double.
    CHECK(std::abs(sum - loss) <= (device->rows_alone() ? 0.0 : 64 * kEps * loss));
    check_same_gradients(*device, parts, whole, 44);
  }
}

TEST_CASE("gradients are added until they are zeroed") {
  const Gpt2Config config = odd_config();
  const RandomBatch batch(2, 7, config.vocab_size);
  for (const std::string& name : kDevices) {
    INFO(name);
    const auto device = open_test_device(name);
    const Parameters parameters = initialize_parameters(*device, config, 1);
    Gpt2Training training(*device, config, parameters, {.batch = 2, .length = 7, .dropout = false});
    training.forward_backward(batch.view(), 1.0f, 0);
    const std::vector<float> once = all_gradients(*device, training);
    training.forward_backward(batch.view(), 1.0f, 0);
    const std::vector<float> twice = all_gradients(*device, training);
    training.zero_gradients();
    CHECK(largest_magnitude(all_gradients(*device, training)) == 0);
    training.forward_backward(batch.view(), 1.0f, 0);
    CHECK(all_gradients(*device, training) == once);
    double largest = largest_magnitude(once);
    for (std::size_t i = 0; i < once.size(); ++i) {
      // Not exactly twice: the second pass adds its terms to the first pass's sum one by one.
      REQUIRE(std::abs(twice[i] - 2.0 * once[i]) <= 14 * kEps * 2 * largest);
    }
  }
}

TEST_CASE("the dropout seed decides everything that dropout does") {
  const Gpt2Config config = odd_config();
  const RandomBatch batch(2, 9, config.vocab_size);
  for (const std::string& name : kDevices) {
    INFO(name);
    const auto device = open_test_device(name);
    const Parameters parameters = initialize_parameters(*device, config, 1);
    const auto run = [&](const Gpt2Config& with, bool dropout, std::uint64_t seed) {
      Gpt2Training training(*device, with, parameters,
                            {.batch = 2, .length = 9, .dropout = dropout});
      const double loss = training.forward_backward(batch.view(), 1.0f, seed);
      std::vector<float> gradients = all_gradients(*device, training);
      return std::pair(loss, gradients);
    };
    CHECK(run(config, true, 5) == run(config, true, 5));
    CHECK(run(config, true, 5).first != run(config, true, 6).first);
    CHECK(run(config, false, 5) == run(config, false, 6));
    CHECK(run(config, false, 5).first != run(config, true, 5).first);

    Gpt2Config without = config;
    without.embd_pdrop = without.attn_pdrop = without.resid_pdrop = 0;
    CHECK(run(without, true, 5) == run(config, false, 5));
    // Each of the four sites drops by itself.
    for (float Gpt2Config::*site :
         {&Gpt2Config::embd_pdrop, &Gpt2Config::attn_pdrop, &Gpt2Config::resid_pdrop}) {
      Gpt2Config one = without;
      one.*site = 0.5f;
      CHECK(run(one, true, 5).first != run(without, true, 5).first);
    }
  }
}

TEST_CASE("no two dropout sites share a stream") {
  const Gpt2Config config = Gpt2Config::preset("gpt2-xl").value();
  const DropoutSites sites(config, 1, 0.0f, 0, 8);
  std::vector<std::uint64_t> streams = {sites.embedding().key.stream};
  for (int l = 0; l < config.n_layer; ++l) {
    streams.push_back(sites.attention(l).key.stream);
    streams.push_back(sites.attention_projection(l).key.stream);
    streams.push_back(sites.mlp_projection(l).key.stream);
    for (const Role product : kProducts) streams.push_back(sites.adapter(l, product).key.stream);
  }
  std::sort(streams.begin(), streams.end());
  CHECK(std::adjacent_find(streams.begin(), streams.end()) == streams.end());
}

// The fixtures have no dropout, so its backward is held against the slope of the loss itself.
TEST_CASE("with dropout, the gradient is the slope of the loss with the same seed") {
  const Gpt2Config config = odd_config();
  const RandomBatch batch(2, 9, config.vocab_size);
  const auto device = open_reference_device();
  const Parameters parameters = initialize_parameters(*device, config, 1);
  Gpt2Training training(*device, config, parameters, {.batch = 2, .length = 9, .dropout = true});
  Gpt2Training other(*device, config, parameters, {.batch = 2, .length = 9, .dropout = true});
  const double loss = training.forward_backward(batch.view(), 1.0f, 3);
  for (std::size_t i = 0; i < parameters.tensors().size(); ++i) {
    // Along the gradient of one tensor: d loss/dt of p + t·g is |g|².
    const View tensor = parameters.tensors()[i];
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
    // Richardson's extrapolation leaves an error of order h⁴, and rounding: four losses, each good
    // to eps of itself, with weights that add up to 18/12.
    const double h = 4e-3;
    const double slope =
        (8 * (loss_at(h) - loss_at(-h)) - (loss_at(2 * h) - loss_at(-2 * h))) / (12 * h);
    device->copy_to_device(tensor.bytes(), at.data(), tensor.size_bytes());
    INFO(parameters.names()[i].name << ": slope " << slope << ", |gradient| " << norm);
    CHECK(std::abs(slope - norm) <= 2 * kEps * loss / h);
  }
}

TEST_CASE("packed records are trained as if each were alone") {
  const Gpt2Config config = odd_config();
  const RandomBatch batch(1, 12, config.vocab_size);
  const std::span<const std::int32_t> ids(batch.ids), targets(batch.targets);
  const std::vector<int> starts = {0, 5, 6, 12};  // records of 5, 1 and 6 tokens
  std::vector<std::int32_t> positions, first_key;
  for (std::size_t r = 0; r + 1 < starts.size(); ++r) {
    for (int t = starts[r]; t < starts[r + 1]; ++t) {
      positions.push_back(t - starts[r]);
      first_key.push_back(starts[r]);
    }
  }
  const TokenBatch packed = {.batch = 1,
                             .length = 12,
                             .ids = ids,
                             .targets = targets,
                             .positions = positions,
                             .first_key = first_key};
  for (const std::string& name : kDevices) {
    INFO(name);
    const auto device = open_test_device(name);
    const Parameters parameters = initialize_parameters(*device, config, 1);
    const TrainingOptions options = {.batch = 1, .length = 12, .dropout = false};
    Gpt2Training one_row(*device, config, parameters, options);
    Gpt2Training record_by_record(*device, config, parameters, options);
    Gpt2 gpt2(*device, config, parameters);
    const std::vector<float> losses = gpt2.token_losses(packed);
    one_row.forward_backward(packed, 1.0f, 0);
    for (std::size_t r = 0; r + 1 < starts.size(); ++r) {
      const auto first = static_cast<std::size_t>(starts[r]);
      const auto count = static_cast<std::size_t>(starts[r + 1] - starts[r]);
      const TokenBatch alone = {.batch = 1,
                                .length = static_cast<int>(count),
                                .ids = ids.subspan(first, count),
                                .targets = targets.subspan(first, count)};
      const auto part = losses.begin() + static_cast<std::ptrdiff_t>(first);
      compare_rows(device->rows_alone(), "losses", gpt2.token_losses(alone),
                   std::vector<float>(part, part + static_cast<std::ptrdiff_t>(count)),
                   64 * kEps * largest_magnitude(losses));
      record_by_record.forward_backward(alone, 1.0f, 0);
    }
    check_same_gradients(*device, record_by_record, one_row, 12);
  }
}

TEST_CASE("a row's loss does not depend on the rows beside it") {
  const Gpt2Config config = odd_config();
  const RandomBatch batch(5, 24, config.vocab_size);
  for (const std::string& name : kDevices) {
    INFO(name);
    const auto device = open_test_device(name);
    const Parameters parameters = initialize_parameters(*device, config, 1);
    Gpt2 gpt2(*device, config, parameters);
    const std::vector<float> all = gpt2.token_losses(batch.view());
    for (int row = 0; row < 5; ++row) {
      const std::vector<float> alone = gpt2.token_losses(batch.rows(row, 1));
      compare_rows(device->rows_alone(), "losses",
                   std::vector<float>(all.begin() + row * 24, all.begin() + (row + 1) * 24), alone,
                   64 * kEps * largest_magnitude(all));
    }
  }
}

// 300 rows are more than one chunk of the head.
TEST_CASE("the head in chunks gives the losses of the logits") {
  Gpt2Config config = odd_config();
  config.n_positions = 100;
  const RandomBatch batch(3, 100, config.vocab_size);
  for (const std::string& name : kDevices) {
    INFO(name);
    const auto device = open_test_device(name);
    const Parameters parameters = initialize_parameters(*device, config, 1);
    Gpt2 gpt2(*device, config, parameters);
    const std::vector<float> logits = gpt2.logits(batch.view());
    const std::vector<float> losses = gpt2.token_losses(batch.view());
    const std::size_t V = static_cast<std::size_t>(config.vocab_size);
    // Where rows are not alone, a chunk's logits are of other sums than those of all rows.
    const double of_logits = device->rows_alone() ? 0.0 : 64 * kEps * largest_magnitude(logits);
    for (std::size_t n = 0; n < losses.size(); ++n) {
      if (batch.targets[n] == kIgnoredTarget) continue;
      double sum = 0;
      for (std::size_t v = 0; v < V; ++v) sum += std::exp(static_cast<double>(logits[n * V + v]));
      const double want =
          std::log(sum) - logits[n * V + static_cast<std::size_t>(batch.targets[n])];
      // V terms summed in float, each exponential good to 2 ulp.
      REQUIRE(std::abs(losses[n] - want) <=
              (static_cast<double>(V) + 2) * kEps + kEps * want + of_logits);
    }
    Gpt2Training training(*device, config, parameters,
                          {.batch = 3, .length = 100, .dropout = false});
    CHECK(training.forward(batch.view()) == training.forward_backward(batch.view(), 1.0f, 0));
  }
}

TEST_CASE("any number of threads gives the same bits") {
  Gpt2Config config = odd_config();  // large enough that every op is divided among threads
  config.n_embd = 96;
  config.n_inner = 0;
  config.n_layer = 2;
  config.n_positions = 40;
  config.vocab_size = 517;
  const RandomBatch batch(2, 39, config.vocab_size);
  std::vector<float> losses, gradients, logits;
  double loss = 0;
  for (const int threads : {1, 2, 5}) {
    INFO(threads << " threads");
    const auto device = open_test_device("cpu", threads);
    const Parameters parameters = initialize_parameters(*device, config, 1);
    Gpt2 gpt2(*device, config, parameters);
    Gpt2Training training(*device, config, parameters, {.batch = 2, .length = 39, .dropout = true});
    const double got_loss = training.forward_backward(batch.view(), 0.01f, 9);
    const std::vector<float> got_losses = gpt2.token_losses(batch.view());
    const std::vector<float> got_gradients = all_gradients(*device, training);
    const std::vector<float> got_logits = gpt2.logits(batch.view());
    if (threads == 1) {
      loss = got_loss;
      losses = got_losses;
      gradients = got_gradients;
      logits = got_logits;
    }
    CHECK(got_loss == loss);
    CHECK(got_losses == losses);
    CHECK(got_gradients == gradients);
    CHECK(got_logits == logits);
  }
}

TEST_CASE("training keeps to its memory plan") {
  const Gpt2Config config = Gpt2Config::preset("gpt2").value();
  const TrainingOptions options = {.batch = 4, .length = 256, .dropout = true};
  std::size_t total = 0;
  const std::vector<MemoryItem> plan = Gpt2Training::memory_plan(config, options);
  for (std::size_t i = 0; i < plan.size(); ++i) {
    total += plan[i].bytes;
    if (i > 0) CHECK(plan[i - 1].bytes >= plan[i].bytes);
  }
  CHECK(plan.front().name == "gradients");
  // Gradients 0.50 GB; a layer 10·C floats a token and some statistics, 0.38 GB; the rest 0.11 GB.
  CHECK(total < 1'000'000'000);
  CHECK(total > Parameters::bytes(parameter_list(config)) + 12 * 10 * 768 * 1024 * sizeof(float));
}

TEST_CASE("scoring grows to the largest batch it meets") {
  const Gpt2Config config = odd_config();
  for (const std::string& name : kDevices) {
    INFO(name);
    const auto device = open_test_device(name);
    const Parameters parameters = initialize_parameters(*device, config, 1);
    Gpt2 used(*device, config, parameters);
    for (const int rows : {1, 4, 2, 40}) {
      const RandomBatch batch(rows, 24, config.vocab_size);
      Gpt2 fresh(*device, config, parameters);
      CHECK(used.token_losses(batch.view()) == fresh.token_losses(batch.view()));
    }
  }
}

TEST_CASE("batches up to the planned size fit, in any shape") {
  const Gpt2Config config = odd_config();
  const auto device = open_test_device(kDevices.back());
  const Parameters parameters = initialize_parameters(*device, config, 1);
  Gpt2Training training(*device, config, parameters, {.batch = 3, .length = 8, .dropout = true});
  for (const auto& [rows, columns] :
       std::vector<std::pair<int, int>>{{3, 8}, {1, 24}, {24, 1}, {2, 5}, {1, 1}, {3, 8}}) {
    const RandomBatch batch(rows, columns, config.vocab_size);
    CHECK(std::isfinite(training.forward_backward(batch.view(), 1.0f, 0)));
  }
  const RandomBatch large(5, 5, config.vocab_size);
  CHECK_THROWS_AS(training.forward_backward(large.view(), 1.0f, 0), Error);
}

TEST_CASE("batches that cannot be are named") {
  const Gpt2Config config = odd_config();
  const auto device = open_test_device(kDevices.back());
  const Parameters parameters = initialize_parameters(*device, config, 1);
  Gpt2 gpt2(*device, config, parameters);
  const auto message_of = [&](const TokenBatch& batch) {
    try {
      gpt2.token_losses(batch);
    } catch (const Error& error) {
      return error.message();
    }
    return std::string("no error");
  };
  RandomBatch batch(2, 6, config.vocab_size);
  batch.ids[8] = 53;
  CHECK(message_of(batch.view()) == "error: token id 53 is not below 53\n  at row 1, column 2");
  batch.ids[8] = -1;
  CHECK(message_of(batch.view()).find("token id -1") != std::string::npos);
  batch.ids[8] = 0;
  batch.targets[3] = -7;
  CHECK(message_of(batch.view()).find("target id -7") != std::string::npos);
  const RandomBatch longer(1, 25, config.vocab_size);
  CHECK(message_of(longer.view()).find("25 tokens does not fit the context of 24") !=
        std::string::npos);
  CHECK(message_of({.batch = 1, .length = 3, .ids = batch.ids}).find("no targets") !=
        std::string::npos);
}

/// The matrices rounded to T: once stored as such, once widened again.
template <class T>
void check_narrow(Device& device, T (*narrowed)(float)) {
  const Gpt2Config config = odd_config();
  const RandomBatch batch(2, 6, config.vocab_size);
  const Parameters wide = initialize_parameters(device, config, 1);
  auto narrow_memory = std::make_shared<std::vector<std::vector<T>>>();
  std::vector<ConstView> narrow_views;
  for (std::size_t i = 0; i < wide.tensors().size(); ++i) {
    const View tensor = wide.tensors()[i];
    if (!wide.names()[i].is_matrix) {
      narrow_views.push_back(tensor);
      continue;
    }
    std::vector<float> values = to_host(device, tensor);
    std::vector<T>& narrow = narrow_memory->emplace_back();
    for (float& value : values) {
      narrow.push_back(narrowed(value));
      value = to_float(narrow.back());
    }
    device.copy_to_device(tensor.bytes(), values.data(), tensor.size_bytes());
    narrow_views.emplace_back(narrow.data(), tensor.shape());
  }
  const Parameters narrow(config, narrow_views, narrow_memory);
  Gpt2 from_wide(device, config, wide), from_narrow(device, config, narrow);
  // Widening is exact, and the chain of multiply-adds is the same whatever the type; but beside
  // bfloat16 some devices round the other operand, too.
  const bool rounds = dtype_of<T> == DType::bf16 && device.why_not_in_bf16().empty();
  CHECK((from_narrow.logits(batch.view()) == from_wide.logits(batch.view())) != rounds);
  try {
    Gpt2Training training(device, config, narrow, {.batch = 2, .length = 6});
    FAIL("no exception");
  } catch (const Error& error) {
    CHECK(error.fault() == Fault::usage);
    CHECK(error.message().find(std::string("transformer.wte.weight is ") + name_of(dtype_of<T>)) !=
          std::string::npos);
  }
}

TEST_CASE("training refuses parameters of 16 bits, scoring takes them") {
  for (const std::string& name : kDevices) {
    INFO(name);
    const auto device = open_test_device(name);
    if (!device->shares_host_memory()) continue;  // which cannot read these views
    check_narrow<BFloat16>(*device, to_bfloat16);
    check_narrow<Half>(*device, to_half);
  }
}
