// The head as a device wants it: rows of zeros behind its table, more rows of logits at once.
#include <algorithm>

#include "engine/model/elements.h"
#include "engine/training/optimizer.h"
#include "tests/engine/model/odd_model.h"
#include "tests/support/bf16.h"
#ifndef QUIRE_TEST_ON_GPU
#include "tests/cuda_on_host/runtime.h"
#endif

using namespace quire;
using namespace quire::test;

namespace {

/// What lies behind the V rows of the head in memory, widened.
template <class AnyView>
std::vector<float> behind_head(Device& device, const TensorsByRole<AnyView>& p) {
  const Weight head = p.head(), padded = p.padded_head();
  const std::int64_t V = head.out(), W = padded.out();
  if (W == V) return {};
  const auto* const end = static_cast<const std::byte*>(head.data) + head.size_bytes();
  const ConstView rest(end, head.dtype(), {W - V, head.in()});
  std::vector<std::byte> bytes(rest.size_bytes());
  device.copy_to_host(bytes.data(), rest.bytes(), bytes.size());
  std::vector<float> values(static_cast<std::size_t>(rest.count()));
  read_elements(bytes.data(), rest.dtype(), values);
  return values;
}

/// Bit for bit, but where a library chooses an algorithm by the number of columns.
void check_same(const Device& device, const std::string& what, const std::vector<float>& got,
                const std::vector<float>& want) {
  compare_rows(device.rows_alone(), what, got, want, 64 * kEps * largest_magnitude(want));
}

}  // namespace

TEST_CASE("the head's table is filled up with rows that belong to no tensor") {
  for (const bool tied : {true, false}) {
    Gpt2Config config = odd_config();
    config.tie_word_embeddings = tied;
    for (const std::string& name : kDevices) {
      INFO(name);
      const auto device = open_test_device(name);
      const Parameters p = initialize_parameters(*device, config, 1);
      CHECK(p.head().shape == Shape{53, 15});
      CHECK(p.wte().shape() == Shape{53, 15});
      CHECK(p.padded_head().data == p.head().data);
      CHECK(p.padded_head().shape == Shape{name == kCudaDevice ? 128 : 53, 15});
      CHECK(p.all().count() * 4 == static_cast<std::int64_t>(Parameters::bytes(
                                       parameter_list(config), {}, 1, device->vocab_multiple())));
      std::int64_t count = 0;
      for (std::size_t i = 0; i < p.names().size(); ++i) {
        CHECK(p.tensors()[i].shape() == p.names()[i].shape);
        count += p.tensors()[i].count();
      }
      CHECK(count == config.parameter_count());
      const Parameters borrowed(config, p.weights(), nullptr);
      CHECK(borrowed.padded_head().shape == Shape{53, 15});
    }
  }
}

TEST_CASE("a head that is loaded as it is stored is filled up where the device wants it so") {
  const RandomBatch batch(2, 5, 20);
  for (const std::string& folder : kSmallModels) {
    for (const std::string& name : kDevices) {
      INFO(folder << ", " << name);
      const auto device = open_test_device(name);
      const LoadedModel model = load_model(*device, test_data(folder), WeightStorage::as_stored);
      const Parameters& p = model.parameters;
      CHECK(p.padded_head().out() == round_up(model.config.vocab_size, device->vocab_multiple()));
      const std::vector<float> behind = behind_head(*device, p);
      CHECK((device->vocab_multiple() == 1) == behind.empty());
      CHECK(behind == std::vector<float>(behind.size(), 0.0f));
      const Parameters plain(model.config, p.weights(), nullptr);
      check_same(*device, "losses", Gpt2(*device, model.config, p).token_losses(batch.view()),
                 Gpt2(*device, model.config, plain).token_losses(batch.view()));
    }
  }
}

// Over borrowed tensors nothing lies behind the table, and the pass takes it as it is.
TEST_CASE("rows behind the head's table change no bit") {
  for (const bool tied : {true, false}) {
    Gpt2Config config = odd_config();
    config.tie_word_embeddings = tied;
    config.n_positions = 100;
    const RandomBatch batch(3, 100, config.vocab_size);
    for (const std::string& name : kDevices) {
      INFO(name);
      const auto device = open_test_device(name);
      const Parameters padded = initialize_parameters(*device, config, 1);
      const Parameters plain(config, padded.weights(), nullptr);
      Gpt2 scores(*device, config, padded), plain_scores(*device, config, plain);
      check_same(*device, "logits", scores.logits(batch.view()), plain_scores.logits(batch.view()));
      check_same(*device, "losses", scores.token_losses(batch.view()),
                 plain_scores.token_losses(batch.view()));
      Gpt2Training training(*device, config, padded, {.batch = 3, .length = 100});
      Gpt2Training plain_training(*device, config, plain, {.batch = 3, .length = 100});
      const double loss = plain_training.forward_backward(batch.view(), 0.1f, 4);
      CHECK(std::abs(training.forward_backward(batch.view(), 0.1f, 4) - loss) <=
            (device->rows_alone() ? 0.0 : 64 * kEps * loss));
      check_same(*device, "gradients", all_gradients(*device, training),
                 all_gradients(*device, plain_training));
    }
  }
}

TEST_CASE("training leaves zeros behind the head, whatever learns") {
  for (const bool tied : {true, false}) {
    Gpt2Config config = odd_config();
    config.tie_word_embeddings = tied;
    const RandomBatch batch(2, 9, config.vocab_size);
    for (const std::string& name : kDevices) {
      const auto device = open_test_device(name);
      for (const DType activations : {DType::f32, DType::bf16}) {
        if (!trains_in(*device, activations)) continue;
        INFO(name << ", " << name_of(activations));
        const Parameters parameters = initialize_parameters(*device, config, 1);
        Gpt2Training training(*device, config, parameters,
                              {.batch = 2, .length = 9, .activations = activations});
        AdamwOptimizer optimizer(*device, parameters, training.gradients(), training.copies(),
                                 {.weight_decay = 0.1f});
        for (int step = 0; step < 3; ++step) {
          training.zero_gradients();
          training.forward_backward(batch.view(), 0.1f, 4);
          optimizer.step(1e-2f, optimizer.gradient_norm());
        }
        const auto zeros = [](const std::vector<float>& values) {
          return std::all_of(values.begin(), values.end(), [](float x) { return x == 0.0f; });
        };
        CHECK(zeros(behind_head(*device, parameters)));
        if (training.copies() != nullptr) CHECK(zeros(behind_head(*device, *training.copies())));
        // Without an adapter they are those of parameters.
        const auto& gradients = static_cast<const ParameterGradients&>(training.gradients());
        CHECK(zeros(behind_head(*device, gradients)));
        CHECK_FALSE(zeros(to_host(*device, gradients.head().view)));
      }
    }
  }
}

TEST_CASE("a device's chunks of the head are as large as its memory allows") {
  const Gpt2Config config = Gpt2Config::preset("gpt2").value();
  const auto cpu = open_device("cpu");
  CHECK(head_layout(*cpu, config, DType::f32).rows == 256);
  CHECK(head_layout(*cpu, config, DType::f32).vocab_multiple == 1);
#ifndef QUIRE_TEST_ON_GPU
  const auto rows_with = [&](std::size_t gigabytes, DType dtype) {
    const cuda_on_host::Machine before = cuda_on_host::machine();
    const auto device = open_cuda_device(0);
    cuda_on_host::machine().memory = gigabytes << 30;
    const std::int64_t rows = head_layout(*device, config, dtype).rows;
    cuda_on_host::machine() = before;
    return rows;
  };
  // 50,304 columns of 2 bytes: 16,384 rows are 1.54 GiB, a thirty-second of 49.1.
  CHECK(rows_with(80, DType::bf16) == 16384);
  CHECK(rows_with(50, DType::bf16) == 16384);
  CHECK(rows_with(49, DType::bf16) == 8192);
  CHECK(rows_with(80, DType::f32) == 8192);
  CHECK(rows_with(8, DType::f32) == 1024);
  CHECK(rows_with(1, DType::f32) == 256);
#endif
}

#ifndef QUIRE_TEST_ON_GPU
// 300 rows in chunks of 256, or at once.
TEST_CASE("losses do not depend on the chunks of the head, and gradients by their rounding alone") {
  Gpt2Config config = odd_config();
  config.n_positions = 100;
  const RandomBatch batch(3, 100, config.vocab_size);
  const auto run = [&](std::size_t memory, std::int64_t rows) {
    const cuda_on_host::Machine before = cuda_on_host::machine();
    const auto device = open_cuda_device(0);
    cuda_on_host::machine().memory = memory;
    CHECK(head_layout(*device, config, DType::f32).rows == rows);
    const Parameters parameters = initialize_parameters(*device, config, 1);
    Gpt2Training training(*device, config, parameters, {.batch = 3, .length = 100});
    const double loss = training.forward_backward(batch.view(), 0.1f, 4);
    cuda_on_host::machine() = before;
    CHECK(training.forward(batch.view()) > 0);
    return std::pair(loss, all_gradients(*device, training));
  };
  const auto chunks = run(std::size_t{4} << 20, 256);  // of 128 columns, in 4 MiB
  const auto whole = run(std::size_t{8} << 30, 16384);
  CHECK(chunks.first == whole.first);
  check_close("gradients", chunks.second, whole.second,
              300 * kEps * largest_magnitude(whole.second));
  CHECK(chunks.second != whole.second);  // they were summed in two orders
}
#endif
