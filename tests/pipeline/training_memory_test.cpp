#include "pipeline/training_memory.h"

#include <string>

#include "kernels/open_device.h"
#include "tests/support/catch.h"
#include "tests/support/text.h"

using namespace quire;
using namespace quire::test;

TEST_CASE("a plan that does not fit comes with the options that do") {
  const auto device = open_device("cpu");
  Gpt2Config model = Gpt2Config::preset("gpt2").value();
  TrainingConfig config{
      .output_dir = "out", .per_device_train_batch_size = 12, .gradient_accumulation_steps = 2};
  const auto bytes_with = [&](int batch, int block, bool checkpointing = false) {
    TrainingConfig other = config;
    other.gradient_checkpointing = checkpointing;
    other.per_device_train_batch_size = batch;
    other.block_size = block;
    std::int64_t sum = 0;
    for (const MemoryItem& item : training_memory_plan(model, other, *device)) {
      sum += static_cast<std::int64_t>(item.bytes);
    }
    return sum;
  };
  const auto next_step = [&](std::int64_t available) {
    try {
      check_memory(model, config, *device, {.available = available});
    } catch (const Error& error) {
      CHECK(error.fault() == Fault::no_space);
      return error.next();
    }
    return std::string("fits");
  };
  CHECK(next_step(bytes_with(12, 1024)) == "fits");
  // 24 rows a step: 8 × 3 is the next smaller way, 11, 10 and 9 do not divide them.
  CHECK(contains(next_step(bytes_with(12, 1024) - 1),
                 "`per_device_train_batch_size` 8 "
                 "`gradient_accumulation_steps` 3 "));
  CHECK(contains(next_step(bytes_with(3, 1024)),
                 "`per_device_train_batch_size` 3 "
                 "`gradient_accumulation_steps` 8 "));
  int rows = 12;
  while (24 % rows != 0 || bytes_with(rows, 1024, true) >= bytes_with(1, 1024)) --rows;
  REQUIRE(rows > 1);
  CHECK(contains(next_step(bytes_with(1, 1024) - 1),
                 "`per_device_train_batch_size` " + std::to_string(rows) +
                     " `gradient_accumulation_steps` " + std::to_string(24 / rows) +
                     " `gradient_checkpointing` (the same 24 rows a step)"));
  CHECK(contains(next_step(bytes_with(1, 1024, true)),
                 "`gradient_accumulation_steps` 24 `gradient_checkpointing` (the"));
  CHECK(contains(next_step(bytes_with(1, 1024, true) - 1),
                 "`gradient_checkpointing` `block_size` 512"));
  CHECK(contains(next_step(1'000'000), "a smaller model"));
}
