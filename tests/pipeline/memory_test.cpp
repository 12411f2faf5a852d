// Memory plans held against a card's memory: what they let through runs,
// and what they refuse would not have.
#ifndef QUIRE_TEST_ON_GPU
#include <memory>
#include <numeric>

#include "engine/generation/generator.h"
#include "kernels/cuda/cuda_device.h"
#include "kernels/open_device.h"
#include "pipeline/inference_memory.h"
#include "pipeline/memory_plan.h"
#include "pipeline/training_memory.h"
#include "tests/cuda_on_host/runtime.h"
#include "tests/support/catch.h"
#include "tests/support/scratch.h"

using namespace quire;
using namespace quire::test;

namespace {

/// A card with `room` bytes for plans, beside what is in use.
class Card {
 public:
  Card() : before_(cuda_on_host::machine()), device_(open_cuda_device(0)) {}
  ~Card() { cuda_on_host::machine() = before_; }
  Device& device() { return *device_; }

  void set_room(std::int64_t room) {
    cuda_on_host::machine().memory = before_.memory;
    const DeviceMemory memory = device_->memory().value();
    std::int64_t free = room;
    while (free - free / 32 < room) ++free;
    cuda_on_host::machine().memory = memory.total - memory.free + static_cast<std::size_t>(free);
    REQUIRE(memory_room(*device_).available == room);
  }

 private:
  cuda_on_host::Machine before_;
  std::unique_ptr<Device> device_;
};

/// What a refusal advises, or "fits".
std::string next_of(const std::function<void()>& check) {
  try {
    check();
  } catch (const Error& error) {
    CHECK(error.fault() == Fault::no_space);
    return error.next();
  }
  return "fits";
}

/// Fails unless what `run` takes at once is the plan, and no more beside it than is kept for ops.
void check_taken(std::int64_t plan, const std::function<void()>& run) {
  cuda_on_host::take_peak_memory();  // what it was before now
  const std::size_t before = cuda_on_host::take_peak_memory();
  run();
  const auto taken = static_cast<std::int64_t>(cuda_on_host::take_peak_memory() - before);
  CHECK(taken >= plan);
  CHECK(taken <= plan + plan / 31);
}

Gpt2Config small_model() {
  Gpt2Config config;
  config.vocab_size = 300;
  config.n_positions = 64;
  config.n_embd = 32;
  config.n_layer = 2;
  config.n_head = 2;
  config.bos_token_id = config.eos_token_id = 299;
  return config;
}

}  // namespace

TEST_CASE("training that its plan lets onto a card runs there, and needs what the plan says") {
  const ScratchFolder scratch;
  const Gpt2Config model = small_model();
  for (const bool bf16 : {false, true}) {
    Card card;
    TrainingConfig config;
    config.output_dir = scratch / (bf16 ? "bf16" : "float");
    config.per_device_train_batch_size = 2;
    config.block_size = 32;
    config.max_steps = 1;
    config.bf16 = bf16;
    TokenRecords records;
    records.ids.resize(400);
    std::iota(records.ids.begin(), records.ids.end(), 0);
    for (std::int32_t& id : records.ids) id = id * 7 % 299;
    records.offsets = {0, 400};

    const std::int64_t plan = bytes_of(training_memory_plan(model, config, card.device()));
    card.set_room(plan - 1);
    CHECK(
        next_of([&] { check_memory(model, config, card.device(), memory_room(card.device())); }) ==
        "`per_device_train_batch_size` 1 `gradient_accumulation_steps` 2 (the same 2 rows a step)");
    card.set_room(plan);
    CHECK(next_of([&] {
            check_memory(model, config, card.device(), memory_room(card.device()));
          }) == "fits");
    check_taken(plan, [&] {
      const Parameters parameters = initialize_parameters(card.device(), model, 1);
      train(card.device(), model, parameters, records, {}, config);
    });
  }
}

TEST_CASE("outputs are kept where they fit a card, and training takes what the plan then says") {
  const ScratchFolder scratch;
  const Gpt2Config model = small_model();
  Card card;
  const int micro_batches = GENERATE(1, 2);
  CAPTURE(micro_batches);
  TrainingConfig config;
  config.output_dir = scratch / "out";
  config.per_device_train_batch_size = 2;
  config.gradient_accumulation_steps = micro_batches;
  config.block_size = 32;
  config.max_steps = 1;
  config.bf16 = true;
  TokenRecords records;
  records.ids.resize(400, 5);
  records.offsets = {0, 400};

  const std::int64_t again = bytes_of(training_memory_plan(model, config, card.device()));
  TrainingConfig kept = config;
  kept.keep_outputs = true;
  const std::int64_t plan = bytes_of(training_memory_plan(model, kept, card.device()));
  // Two blocks keep 6 rows of 32 channels in two bytes. Where layers lie among the gradients, larger
  // ones may have less room there.
  const std::int64_t outputs = 2 * 6 * 32 * 2 * 64;
  if (micro_batches > 1) {
    CHECK(plan - again == outputs);
  } else {
    CHECK(plan - again >= outputs);
  }
  CHECK(keeps_outputs(model, config, card.device(), plan));
  CHECK_FALSE(keeps_outputs(model, config, card.device(), plan - 1));
  kept.gradient_checkpointing = true;
  CHECK_FALSE(keeps_outputs(model, kept, card.device(), plan));
  kept.gradient_checkpointing = false;
  const std::unique_ptr<Device> cpu = open_device("cpu");
  CHECK_FALSE(keeps_outputs(model, config, *cpu, plan * 1000));
  check_taken(plan, [&] {
    const Parameters parameters = initialize_parameters(card.device(), model, 1);
    train(card.device(), model, parameters, records, {}, kept);
  });
}

TEST_CASE("texts that their plan lets onto a card are generated there") {
  Gpt2Config model = small_model();
  model.vocab_size = 1500;  // its logits are more than what is kept for ops
  Card card;
  const Parameters parameters = initialize_parameters(card.device(), model, 1);
  const SessionSize size{.rows = 4, .longest_prompt = 20, .longest_text = 32};
  const auto check = [&](const SessionSize& wanted, int beams = 1) {
    return next_of(
        [&] { check_generation_memory(card.device(), model, DType::f32, wanted, beams); });
  };
  // The least room that is enough, between none and plenty.
  std::int64_t low = 0, high = 10'000'000;
  while (high - low > 1) {
    card.set_room((low + high) / 2);
    (check(size) == "fits" ? high : low) = (low + high) / 2;
  }
  card.set_room(high - 1);
  CHECK(check(size) == "`batch_size` 3 (the same texts)");
  CHECK(check({.rows = 1, .longest_prompt = 60, .longest_text = 64}) == "fits");
  card.set_room(high);
  GenerationConfig generation;
  generation.max_new_tokens = 12;
  generation.eos_token_ids.clear();
  generation.do_sample = true;
  const std::vector<std::int32_t> prompt(20, 5);
  check_taken(high, [&] {
    const auto texts = generate(card.device(), model, parameters, {prompt, prompt, prompt, prompt},
                                generation, {0, 1, 2, 3});
    CHECK(texts[3].output_ids.size() == 12);
  });

  // The rows of a batch may be fewer; a search alone needs as many as it has beams.
  CHECK(check({.rows = 400, .longest_prompt = 20, .longest_text = 32}, 3) ==
        "`batch_size` 3 (the same texts)");
  CHECK(check({.rows = 400, .longest_prompt = 20, .longest_text = 32}, 4) ==
        "`num_beams` 3 (a narrower search)");

  card.set_room(68'000);
  CHECK(check({.rows = 1, .longest_prompt = 20, .longest_text = 64})
            .starts_with("`batch_size` 1 `max_new_tokens` "));
  card.set_room(100);
  CHECK(check(size).starts_with("`device` cpu"));
  // A CPU's memory is the machine's, which gives way.
  const std::unique_ptr<Device> cpu = open_device("cpu");
  CHECK_NOTHROW(check_generation_memory(*cpu, model, DType::f32, {1'000'000, 64, 128}));
}

TEST_CASE("windows that their plan lets onto a card are scored there") {
  const Gpt2Config model = small_model();
  Card card;
  const Parameters parameters = initialize_parameters(card.device(), model, 1);
  const HeadLayout head = head_layout(card.device(), model, DType::f32);
  const std::int64_t plan = bytes_of(Gpt2::memory_plan(model, 4, 64, DType::f32, head));
  const auto check = [&](int batch, int window) {
    return next_of([&] { check_scoring_memory(card.device(), model, DType::f32, batch, window); });
  };
  card.set_room(plan - 1);
  CHECK(check(4, 64) == "`batch_size` 3 (the same result)");
  card.set_room(plan);
  CHECK(check(4, 64) == "fits");
  const std::vector<std::int32_t> ids(256, 7);
  check_taken(plan, [&] {
    Gpt2 gpt2(card.device(), model, parameters);
    CHECK(gpt2.token_losses({.batch = 4, .length = 64, .ids = ids, .targets = ids}).size() == 256);
  });

  card.set_room(bytes_of(Gpt2::memory_plan(model, 1, 40, DType::f32, head)));
  CHECK(check(1, 64) == "`batch_size` 1 `window` 40 (less context: another result)");
}
#endif
