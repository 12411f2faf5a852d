// Training with several ranks, here threads: against one rank with the batch of all of them.
#include "engine/training/ranks.h"

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>

#include "engine/training/checkpoint.h"
#include "kernels/open_device.h"
#include "tests/engine/model/model_case.h"
#include "tests/engine/training/thread_ranks.h"
#include "tests/engine/training/tiny_run.h"
#include "tests/support/catch.h"

using namespace quire;
using namespace quire::test;
namespace fs = std::filesystem;

namespace {

/// Four heads, so that each row of a batch begins with a whole block of dropout's numbers.
Gpt2Config four_heads(float dropout) {
  Gpt2Config model = tiny_model(dropout);
  model.n_head = 4;
  return model;
}

/// 12 rows a micro-batch, of 25 in an epoch: two whole ones, and one of a single row, where most
/// ranks have nothing to do.
TrainingConfig run_config(const fs::path& folder, int ranks) {
  TrainingConfig config = tiny_config(folder);
  config.per_device_train_batch_size = 12 / ranks;
  config.ranks = ranks;
  config.logging_steps = 1;
  config.max_steps = 8;
  return config;
}

struct Seen {
  std::vector<TrainingProgress> steps;
  std::vector<double> evals;
};

/// What rank 0 saw of a run.
Seen train_on(int ranks, const TrainingConfig& config, const std::string& device_name = "reference",
              std::vector<std::exception_ptr>* thrown = nullptr,
              const std::function<void(int rank, std::int64_t step)>& between = {}) {
  Seen seen;
  const std::vector<std::exception_ptr> ends =
      on_ranks(ranks, [&](const std::shared_ptr<Ranks>& together) {
        const auto device = open_test_device(device_name, 1);
        const Gpt2Config model = four_heads(0.1f);
        const Parameters parameters = initialize_parameters(*device, model, 11);
        TrainingCallbacks callbacks;
        callbacks.ranks = together;
        callbacks.on_step = [&](const TrainingProgress& progress) {
          seen.steps.push_back(progress);
        };
        callbacks.on_eval = [&](std::int64_t, double loss) { seen.evals.push_back(loss); };
        callbacks.write_companions = [](const fs::path& folder) {
          write_file(folder / "beside", "x");
        };
        std::int64_t polls = 0;
        callbacks.stop_requested = [&, rank = together->rank()] {
          if (between) between(rank, polls++);
          return false;
        };
        train(*device, model, parameters, tiny_records(25, 1), tiny_records(5, 2), config,
              callbacks);
      });
  if (thrown != nullptr) {
    *thrown = ends;
    return seen;
  }
  for (const std::exception_ptr& end : ends) {
    if (end) std::rethrow_exception(end);
  }
  return seen;
}

std::string text_of(const std::exception_ptr& thrown) {
  try {
    if (thrown) std::rethrow_exception(thrown);
  } catch (const Error& error) {
    return error.message();
  }
  return "";
}

}  // namespace

TEST_CASE("shares are as equal as can be and leave nothing out") {
  for (std::int64_t count = 0; count < 20; ++count) {
    for (int size = 1; size < 8; ++size) {
      std::int64_t next = 0;
      for (int r = 0; r < size; ++r) {
        const Share share = share_of(count, r, size);
        CHECK(share.begin == next);
        CHECK(share.end - share.begin >= count / size);
        CHECK(share.end - share.begin <= (count + size - 1) / size);
        next = share.end;
      }
      CHECK(next == count);
    }
  }
}

TEST_CASE("what fails on a rank is thrown there, and the others end with it") {
  const std::vector<std::exception_ptr> thrown =
      on_ranks(4, [](const std::shared_ptr<Ranks>& ranks) {
        ranks->agree([] {});
        CHECK(ranks->any(ranks->rank() == 3));
        CHECK_FALSE(ranks->any(false));
        ranks->agree([&] {
          if (ranks->rank() == 1) throw Error(Fault::no_space, "no room");
          if (ranks->rank() == 2) throw Error(Fault::usage, "not this way");
        });
        FAIL("not reached");
      });
  CHECK(text_of(thrown[1]) == "error: no room");
  for (const std::size_t other : {0, 2, 3}) {
    CHECK(text_of(thrown[other]) == "error: rank 1 failed, and the others end with it");
    CHECK_THROWS_AS(std::rethrow_exception(thrown[other]), PeerFailed);
  }
}

TEST_CASE("ranks train as one does with the batch of all of them, dropout included") {
  for (const std::string device : {"reference", "cpu"}) {
    const ScratchFolder scratch;
    const Seen one = train_on(1, run_config(scratch / "one", 1), device);
    REQUIRE(one.steps.size() == 8);
    for (const int ranks : {2, 3, 4}) {
      INFO(device << ", " << ranks << " ranks");
      const Seen many = train_on(ranks, run_config(scratch / std::to_string(ranks), ranks), device);
      REQUIRE(many.steps.size() == one.steps.size());
      REQUIRE(many.evals.size() == one.evals.size());
      constexpr double kEps = std::numeric_limits<float>::epsilon();
      for (std::size_t i = 0; i < one.steps.size(); ++i) {
        INFO("step " << i + 1);
        const double loss = one.steps[i].loss;
        // The first loss is a sum of the same numbers. A gradient is a sum of 12 rows in another
        // order, eps·12 at most of its size; Adam's step divides by that size, so every step moves
        // each of the few thousand parameters by lr·12·eps apart, of which those that agree in
        // sign with the gradient add up in the loss: |g|·sqrt(parameters) of them.
        const double parameters = four_heads(0).parameter_count();
        const double apart = i == 0 ? loss * 1e-14
                                    : static_cast<double>(i) * 1e-2 * 12 * kEps *
                                          std::sqrt(parameters) * one.steps[i].grad_norm;
        CHECK(std::abs(many.steps[i].loss - loss) <= apart);
        CHECK(many.steps[i].learning_rate == one.steps[i].learning_rate);
        CHECK(many.steps[i].tokens == one.steps[i].tokens);
        CHECK(many.steps[i].epoch == one.steps[i].epoch);
      }
      CHECK(many.steps[0].grad_norm == Approx(one.steps[0].grad_norm).epsilon(12 * kEps));
      CHECK(many.evals[0] == Approx(one.evals[0]).epsilon(1e-14));
    }
  }
}

TEST_CASE("sharded moments change no bit, and their checkpoints are those of whole ones") {
  for (const std::string device : {"reference", "cpu"}) {
    const ScratchFolder scratch;
    TrainingConfig config = run_config(scratch / "whole", 3);
    train_on(3, config, device);
    const auto whole = files_of(scratch / "whole");
    config.output_dir = scratch / "sharded";
    config.zero = true;
    train_on(3, config, device);
    std::string difference;
    INFO(device);
    CHECK(same_files(whole, files_of(scratch / "sharded"), difference));
    INFO(difference);
    CHECK(difference.empty());
  }
}

TEST_CASE("a run of ranks resumes bit for bit, sharded or not") {
  const ScratchFolder scratch;
  TrainingConfig config = run_config(scratch / "straight", 4);
  train_on(4, config);
  const auto straight = files_of(scratch / "straight");
  config.output_dir = scratch / "resumed";
  config.stop_at_step = 5;
  config.zero = true;
  train_on(4, config);
  fs::remove_all(scratch / "resumed" / "checkpoint-3");
  config.stop_at_step = 0;
  config.zero = false;
  config.resume_from_checkpoint = "latest";
  train_on(4, config);
  const auto resumed = files_of(scratch / "resumed");
  for (const char* name : {"model.safetensors", "checkpoint-6/optimizer.safetensors", "log.jsonl",
                           "checkpoint-8/trainer_state.json"}) {
    INFO(name);
    CHECK(resumed.at(name) == straight.at(name));
  }
}

TEST_CASE("a run goes on with other ranks as long as the batch of all of them stays") {
  const ScratchFolder scratch;
  TrainingConfig config = run_config(scratch / "out", 4);
  config.stop_at_step = 4;
  config.zero = true;
  train_on(4, config);
  config = run_config(scratch / "out", 2);
  config.resume_from_checkpoint = "latest";
  CHECK(train_on(2, config).steps.size() == 4);

  config.per_device_train_batch_size = 12;
  config.resume_from_checkpoint = (scratch / "out" / "checkpoint-4").string();
  std::vector<std::exception_ptr> thrown;
  train_on(2, config, "reference", &thrown);
  CHECK(text_of(thrown[0]).find("per_device_train_batch_size × ranks: the checkpoint has 12, now "
                                "24") != std::string::npos);
}

TEST_CASE("when a rank is lost, the first one left saves the step before") {
  for (const int victim : {0, 2}) {
    for (const bool zero : {false, true}) {
      const ScratchFolder scratch;
      INFO("rank " << victim << (zero ? ", sharded" : ""));
      TrainingConfig config = run_config(scratch / "out", 3);
      config.save_steps = 3;
      config.eval_steps = 100;
      config.zero = zero;
      std::vector<std::exception_ptr> thrown;
      // Polled in the first evaluation, before step 1, and after each step: this is after step 5.
      train_on(3, config, "reference", &thrown, [&](int rank, std::int64_t polls) {
        if (rank == victim && polls == 6) throw std::runtime_error("killed");
      });
      const int speaker = victim == 0 ? 1 : 0;
      const std::vector<std::int64_t> saved = checkpoint_steps(config.output_dir);
      REQUIRE_FALSE(saved.empty());
      const std::string message = text_of(thrown[static_cast<std::size_t>(speaker)]);
      CHECK(message.find("rank " + std::to_string(victim) + " is lost") != std::string::npos);
      CHECK(message.find("checkpoint-" + std::to_string(saved.back())) != std::string::npos);
      CHECK(message.find("`resume_from_checkpoint` latest") != std::string::npos);
      CHECK(saved.back() == (zero ? 3 : 5));
      CHECK((message.find("`zero`") != std::string::npos) == zero);
      CHECK(fs::exists(config.output_dir / checkpoint_name(saved.back()) / "beside"));

      config.resume_from_checkpoint = "latest";
      train_on(3, config);
      config.resume_from_checkpoint.clear();
      config.output_dir = scratch / "straight";
      train_on(3, config);
      CHECK(files_of(scratch / "out").at("model.safetensors") ==
            files_of(scratch / "straight").at("model.safetensors"));
    }
  }
}

TEST_CASE("ranks that would train different things are refused") {
  const ScratchFolder scratch;
  const std::vector<std::exception_ptr> thrown =
      on_ranks(2, [&](const std::shared_ptr<Ranks>& ranks) {
        const auto device = open_reference_device();
        const Gpt2Config model = four_heads(0);
        const Parameters parameters = initialize_parameters(*device, model, 11);
        TrainingCallbacks callbacks;
        callbacks.ranks = ranks;
        train(*device, model, parameters,
              tiny_records(20, 1 + static_cast<unsigned>(ranks->rank())), tiny_records(5, 2),
              run_config(scratch / "out", 2), callbacks);
      });
  CHECK(text_of(thrown[0]).find("rank 1 does not train what rank 0 trains") != std::string::npos);
  CHECK_FALSE(fs::exists(scratch / "out"));
}
