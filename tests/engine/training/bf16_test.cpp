// Training in bfloat16 beside float parameters: on the CUDA kernels with activations in it, on the
// reference and on a CPU that has the instructions with the operands of products rounded to it.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "engine/model/gpt2.h"
#include "engine/training/checkpoint.h"
#include "engine/training/cost.h"
#include "engine/training/optimizer.h"
#include "kernels/cuda/cuda_device.h"
#include "kernels/open_device.h"
#include "kernels/reference/reference_device.h"
#include "tests/engine/training/tiny_run.h"
#include "tests/support/bf16.h"
#include "tests/support/catch.h"

using namespace quire;
using namespace quire::test;

namespace {

std::vector<std::byte> bytes_of(Device& device, const ConstView& view) {
  std::vector<std::byte> bytes(view.size_bytes());
  device.copy_to_host(bytes.data(), view.bytes(), bytes.size());
  return bytes;
}

/// One row of the tiny model's records.
struct Row {
  std::vector<std::int32_t> ids, targets;
  Row() {
    const TokenRecords records = tiny_records(3, 5);
    ids.assign(records.ids.begin(), records.ids.begin() + 10);
    targets.assign(records.ids.begin() + 1, records.ids.begin() + 11);
  }
  TokenBatch view() const { return {.batch = 1, .length = 10, .ids = ids, .targets = targets}; }
};

/// A device without 16-bit activations or products.
class WideDevice : public ReferenceDevice {
 public:
  std::string why_not_in_bf16() const override { return "it is wide"; }
};

/// Counts the products it is asked for, all of them and those of operands as they are stored.
class CountingDevice : public ReferenceDevice {
 public:
  int products = 0, as_stored = 0;

  void do_matmul_forward(const MatmulForward& p) override {
    count(p.multiply);
    ReferenceDevice::do_matmul_forward(p);
  }
  void do_matmul_backward_input(const MatmulBackwardInput& p) override {
    count(p.multiply);
    ReferenceDevice::do_matmul_backward_input(p);
  }
  void do_matmul_backward_weight(const MatmulBackwardWeight& p) override {
    count(p.multiply);
    ReferenceDevice::do_matmul_backward_weight(p);
  }
  void do_matmul_add(const MatmulAdd& p) override {
    count(p.multiply);
    ReferenceDevice::do_matmul_add(p);
  }

 private:
  void count(Multiply multiply) {
    ++products;
    if (multiply == Multiply::as_stored) ++as_stored;
  }
};

/// Losses of some steps on one row.
std::vector<double> losses(Device& device, DType activations, int steps) {
  const Gpt2Config model = tiny_model(0.0f);
  const Parameters parameters = initialize_parameters(device, model, 11);
  Gpt2Training network(device, model, parameters,
                       {.batch = 1, .length = 10, .activations = activations});
  AdamwOptimizer optimizer(device, parameters, network.gradients(), network.copies(), {});
  const Row row;
  std::vector<double> result;
  for (int step = 0; step < steps; ++step) {
    network.zero_gradients();
    result.push_back(network.forward_backward(row.view(), 0.1f, 0));
    optimizer.step(1e-2f, optimizer.gradient_norm());
  }
  return result;
}

/// Each of the steps so far has moved the loss by what 8 bits do to it.
void check_losses(Device& device) {
  constexpr int kSteps = 20;
  const std::vector<double> wide = losses(device, DType::f32, kSteps);
  const std::vector<double> narrow = losses(device, DType::bf16, kSteps);
  CHECK(narrow != wide);
  for (std::size_t step = 0; step < wide.size(); ++step) {
    INFO(device.description() << ", step " << step << ": " << narrow[step] << ", in float "
                              << wide[step]);
    CHECK(std::abs(narrow[step] - wide[step]) <=
          static_cast<double>(step + 1) * 0x1p-8 * wide.front());
  }
  CHECK(narrow.back() < 0.6 * narrow.front());
}

/// All gradients of one row, side by side.
std::vector<float> gradients(Device& device, DType activations) {
  const Gpt2Config model = tiny_model(0.0f);
  const Parameters parameters = initialize_parameters(device, model, 11);
  Gpt2Training network(device, model, parameters,
                       {.batch = 1, .length = 10, .activations = activations});
  network.forward_backward(Row().view(), 0.1f, 0);
  std::vector<float> all;
  for (const View& view : network.gradients().tensors()) {
    const std::size_t count = all.size();
    all.resize(count + static_cast<std::size_t>(view.count()));
    device.copy_to_host(all.data() + count, view.bytes(), view.size_bytes());
  }
  return all;
}

double norm_of_difference(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += (double{a[i]} - b[i]) * (double{a[i]} - b[i]);
  return std::sqrt(sum);
}

/// A product of operands that are each off by 2^-9 of themselves is off by 2^-8 of their norms at
/// most. On its way to a gradient a number goes through the 9 products of the forward pass (4 in
/// each of two blocks, and the head) and through as many backward, whose roundings have nothing to
/// do with each other: their squares add up.
void check_gradients(Device& device) {
  constexpr double kProducts = 2 * 9;
  const std::vector<float> wide = gradients(device, DType::f32);
  const std::vector<float> narrow = gradients(device, DType::bf16);
  const double size = norm_of_difference(wide, std::vector<float>(wide.size()));
  const double off = norm_of_difference(narrow, wide);
  INFO(device.description() << ": off by " << off << " of " << size);
  CHECK(off > 0);
  CHECK(off <= std::sqrt(kProducts) * 0x1p-8 * size);
}

/// A run that is cut and goes on ends in the bytes of one that was not.
void check_resumed(Device& device) {
  const ScratchFolder scratch;
  TrainingConfig straight = tiny_config(scratch / "straight"),
                 split = tiny_config(scratch / "split");
  straight.bf16 = split.bf16 = true;
  train_tiny(device, straight);
  const TrainingResult first = train_tiny(device, split, stop_after(3));
  CHECK(first.interrupted);
  split.resume_from_checkpoint = "latest";
  CHECK(train_tiny(device, split).steps == 6);
  std::string difference;
  same_files(files_of(straight.output_dir), files_of(split.output_dir), difference);
  INFO(difference);
  CHECK(difference.empty());

  split.bf16 = false;  // other numbers would come of it
  try {
    train_tiny(device, split);
    FAIL("no exception");
  } catch (const Error& error) {
    CHECK(error.fault() == Fault::usage);
    CHECK(error.message().find("bf16") != std::string::npos);
  }
}

/// The mean loss of a token over the last 40 of 240 steps, in nats. Model, data and order are the
/// seed's: fresh rows in each step, where an id follows from the one before in 7 of 8 cases.
double plateau(Device& device, DType activations, std::uint64_t seed) {
  constexpr int kRows = 8, kLength = 16, kSteps = 240, kLast = 40;
  Gpt2Config model = tiny_model(0.0f);
  model.n_positions = kLength;
  model.n_embd = 48;
  const Parameters parameters = initialize_parameters(device, model, seed);
  Gpt2Training network(device, model, parameters,
                       {.batch = kRows, .length = kLength, .activations = activations});
  AdamwOptimizer optimizer(device, parameters, network.gradients(), network.copies(), {});
  const RandomKey key{seed, 2};
  std::uint64_t n = 0;
  double sum = 0;
  for (int step = 0; step < kSteps; ++step) {
    std::vector<std::int32_t> ids, targets;
    for (int row = 0; row < kRows; ++row) {
      std::int32_t id = static_cast<std::int32_t>(random_bits(key, n++) % 16);
      for (int t = 0; t < kLength; ++t) {
        ids.push_back(id);
        const bool follows = random_bits(key, n++) % 8 != 0;
        id = follows ? (3 * id + 1) % 16 : static_cast<std::int32_t>(random_bits(key, n++) % 16);
        targets.push_back(id);
      }
    }
    network.zero_gradients();
    const double loss = network.forward_backward(
        {.batch = kRows, .length = kLength, .ids = ids, .targets = targets},
        1.0f / (kRows * kLength), 0);
    optimizer.step(3e-3f, optimizer.gradient_norm());
    if (step >= kSteps - kLast) sum += loss / (kRows * kLength);
  }
  return sum / kLast;
}

}  // namespace

TEST_CASE("in bfloat16 training on the CPU ends nearer to float than one seed to another") {
  const auto device = open_device("cpu");
  QUIRE_NEEDS_BF16(*device);
  constexpr int kSeeds = 6;
  std::vector<double> wide, narrow;
  for (std::uint64_t seed = 1; seed <= kSeeds; ++seed) {
    wide.push_back(plateau(*device, DType::f32, seed));
    narrow.push_back(plateau(*device, DType::bf16, seed));
  }
  double mean = 0, squares = 0;
  for (const double loss : wide) mean += loss / kSeeds;
  for (const double loss : wide) squares += (loss - mean) * (loss - mean);
  const double spread = std::sqrt(squares / (kSeeds - 1));  // standard deviation of the seeds
  CHECK(mean < 0.5 * std::log(17.0));                       // something has been learned
  for (int i = 0; i < kSeeds; ++i) {
    INFO("seed " << i + 1 << ": " << narrow[i] << ", in float " << wide[i]
                 << "; the seeds spread by " << spread);
    CHECK(narrow[i] != wide[i]);
    // And than 2^-8 of itself, which is what one product of rounded operands is off by at most.
    CHECK(std::abs(narrow[i] - wide[i]) <= std::min(spread, 0x1p-8 * wide[i]));
  }
}

TEST_CASE("in bfloat16 the loss falls as it does in float") {
  check_losses(*open_cuda_device(0));
  check_losses(*open_reference_device());
}

TEST_CASE("in bfloat16 the loss falls on the CPU as it does in float") {
  const auto device = open_device("cpu");
  QUIRE_NEEDS_BF16(*device);
  check_losses(*device);
}

TEST_CASE("gradients in bfloat16 are those in float but for the roundings of products") {
  check_gradients(*open_cuda_device(0));
  check_gradients(*open_reference_device());
}

TEST_CASE("gradients in bfloat16 are on the CPU those in float but for the products' roundings") {
  const auto device = open_device("cpu");
  QUIRE_NEEDS_BF16(*device);
  check_gradients(*device);
}

TEST_CASE("the copies are the parameters, rounded, after every step") {
  const auto device = open_cuda_device(0);
  const Gpt2Config model = tiny_model(0.0f);
  const Parameters parameters = initialize_parameters(*device, model, 11);
  Gpt2Training network(*device, model, parameters,
                       {.batch = 1, .length = 10, .activations = DType::bf16});
  REQUIRE(network.copies() != nullptr);
  AdamwOptimizer optimizer(*device, parameters, network.gradients(), network.copies(), {});
  const Row row;
  for (int step = 0; step < 3; ++step) {
    for (std::size_t i = 0; i < parameters.tensors().size(); ++i) {
      const ConstView copy = network.copies()->weights()[i], master = parameters.weights()[i];
      INFO("step " << step << ", " << parameters.names()[i].name);
      CHECK(master.dtype() == DType::f32);
      CHECK((copy.dtype() == DType::bf16) == parameters.names()[i].is_matrix);
      if (copy.dtype() == DType::f32) {
        CHECK(copy.bytes() == master.bytes());
        continue;
      }
      const std::vector<std::byte> wide = bytes_of(*device, master);
      std::vector<BFloat16> want(static_cast<std::size_t>(master.count()));
      for (std::size_t k = 0; k < want.size(); ++k) {
        float value = 0;
        std::memcpy(&value, wide.data() + k * sizeof value, sizeof value);
        want[k] = to_bfloat16(value);
      }
      const std::vector<std::byte> got = bytes_of(*device, copy);
      CHECK(std::memcmp(got.data(), want.data(), got.size()) == 0);
    }
    network.zero_gradients();
    network.forward_backward(row.view(), 0.1f, 0);
    optimizer.step(1e-2f, optimizer.gradient_norm());
  }
}

TEST_CASE("a run in bfloat16 that is stopped and resumed writes the same bytes") {
  check_resumed(*open_cuda_device(0));
}

TEST_CASE("a run in bfloat16 on the CPU writes the same bytes, resumed and with any threads") {
  const ScratchFolder scratch;
  std::map<std::string, std::string> want;
  for (const int threads : {1, 2, 3}) {
    const auto device = open_device("cpu", {.threads = threads});
    QUIRE_NEEDS_BF16(*device);
    check_resumed(*device);
    TrainingConfig config = tiny_config(scratch / std::to_string(threads));
    config.bf16 = true;
    train_tiny(*device, config);
    const std::map<std::string, std::string> got = files_of(config.output_dir);
    if (threads == 1) want = got;
    std::string difference;
    same_files(got, want, difference);
    INFO(threads << " threads: " << difference);
    CHECK(difference.empty());
  }
}

TEST_CASE("all products of training are asked for in bfloat16, an adapter's too") {
  CountingDevice device;
  const Gpt2Config model = tiny_model(0.0f);
  const Parameters parameters = initialize_parameters(device, model, 11);
  const Row row;
  for (const float dropout : {-1.0f, 0.0f, 0.5f}) {  // below 0: no adapter
    for (const bool checkpointing : {false, true}) {
      INFO("dropout " << dropout << (checkpointing ? ", checkpointing" : ""));
      const LoraAdapter adapter =
          initialize_adapter(device, model,
                             {.r = 2,
                              .lora_dropout = std::max(dropout, 0.0f),
                              .target_modules = {"c_attn", "c_proj", "c_fc"}},
                             5);
      Gpt2Training network(device, model, parameters,
                           {.batch = 1,
                            .length = 10,
                            .activations = DType::bf16,
                            .gradient_checkpointing = checkpointing},
                           dropout < 0 ? nullptr : &adapter);
      device.products = device.as_stored = 0;
      network.forward_backward(row.view(), 0.1f, 1);
      network.forward(row.view());
      CHECK(device.products >= 4 * 9);  // forward twice, and both gradients
      CHECK(device.as_stored == 0);
    }
  }
}

TEST_CASE("where activations stay float there are no copies, and the plan is that of float") {
  ReferenceDevice device;
  const Gpt2Config model = tiny_model(0.0f);
  const Parameters parameters = initialize_parameters(device, model, 11);
  const Gpt2Training network(device, model, parameters,
                             {.batch = 1, .length = 10, .activations = DType::bf16});
  CHECK(network.copies() == nullptr);
  TrainingConfig config = tiny_config("out");
  const auto plan = training_memory_plan(model, config, device);
  config.bf16 = true;
  const auto narrow = training_memory_plan(model, config, device);
  const auto on_cuda = training_memory_plan(model, config, *open_cuda_device(0));
  REQUIRE(narrow.size() == plan.size());
  for (std::size_t i = 0; i < plan.size(); ++i) CHECK(narrow[i].bytes == plan[i].bytes);
  CHECK(on_cuda.size() == plan.size() + 1);  // the copies
}

TEST_CASE("a device that does not compute in bfloat16 says why") {
  WideDevice device;
  const Gpt2Config model = tiny_model(0.0f);
  const Parameters parameters = initialize_parameters(device, model, 11);
  try {
    Gpt2Training network(device, model, parameters,
                         {.batch = 1, .length = 10, .activations = DType::bf16});
    FAIL("no exception");
  } catch (const Error& error) {
    CHECK(error.fault() == Fault::device);
    CHECK(error.message() ==
          "error: this device does not compute in bfloat16\n  reference\n  it is wide\n"
          "  try: float32, without `bf16`");
  }
}
