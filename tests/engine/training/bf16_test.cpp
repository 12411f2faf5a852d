// Training with bfloat16 activations beside float parameters, on the CUDA kernels.
#include <cmath>
#include <cstring>

#include "engine/model/gpt2.h"
#include "engine/training/checkpoint.h"
#include "engine/training/optimizer.h"
#include "kernels/cuda/cuda_device.h"
#include "kernels/open_device.h"
#include "tests/engine/training/tiny_run.h"
#include "tests/support/catch.h"

using namespace quire;
using namespace quire::test;

namespace {

std::vector<std::byte> bytes_of(Device& device, const View& view) {
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

}  // namespace

TEST_CASE("in bfloat16 the loss falls as it does in float") {
  const auto device = open_cuda_device(0);
  const std::vector<double> wide = losses(*device, DType::f32, 12);
  const std::vector<double> narrow = losses(*device, DType::bf16, 12);
  CHECK(narrow != wide);
  // Each of the steps so far has moved the loss by what 8 bits do to it.
  for (std::size_t step = 0; step < wide.size(); ++step) {
    INFO("step " << step << ": " << narrow[step] << ", in float " << wide[step]);
    CHECK(std::abs(narrow[step] - wide[step]) <=
          static_cast<double>(step + 1) * 0x1p-8 * wide.front());
  }
  CHECK(narrow.back() < 0.6 * narrow.front());
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
      const View copy = network.copies()->tensors()[i], master = parameters.tensors()[i];
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
  const ScratchFolder scratch;
  const auto device = open_cuda_device(0);
  TrainingConfig straight = tiny_config(scratch / "straight"),
                 split = tiny_config(scratch / "split");
  straight.bf16 = split.bf16 = true;
  train_tiny(*device, straight);
  const TrainingResult first = train_tiny(*device, split, stop_after(3));
  CHECK(first.interrupted);
  split.resume_from_checkpoint = "latest";
  CHECK(train_tiny(*device, split).steps == 6);
  std::string difference;
  same_files(files_of(straight.output_dir), files_of(split.output_dir), difference);
  INFO(difference);
  CHECK(difference.empty());

  split.bf16 = false;  // other numbers would come of it
  try {
    train_tiny(*device, split);
    FAIL("no exception");
  } catch (const Error& error) {
    CHECK(error.fault() == Fault::usage);
    CHECK(error.message().find("bf16") != std::string::npos);
  }
}

TEST_CASE("a device that does not compute in bfloat16 says so") {
  const auto device = open_device("cpu");
  const Gpt2Config model = tiny_model(0.0f);
  const Parameters parameters = initialize_parameters(*device, model, 11);
  try {
    Gpt2Training network(*device, model, parameters,
                         {.batch = 1, .length = 10, .activations = DType::bf16});
    FAIL("no exception");
  } catch (const Error& error) {
    CHECK(error.fault() == Fault::device);
    CHECK(error.message().find("bfloat16") != std::string::npos);
  }
}
