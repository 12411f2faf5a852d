// How a run fits into a time and a share (run_plan.h).
#include "engine/training/run_plan.h"

#include <chrono>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/json.h"
#include "engine/training/checkpoint.h"
#include "tests/engine/training/tiny_run.h"
#include "tests/support/catch.h"
#include "tests/support/counted_clock.h"

using namespace quire;
using namespace quire::test;

namespace {

/// A value of each of the log's lines that have it.
std::vector<double> logged(const TrainingConfig& config, const char* name) {
  std::istringstream lines(read_file(config.output_dir / "log.jsonl"));
  std::vector<double> values;
  for (std::string line; std::getline(lines, line);) {
    const nlohmann::json fields = parse_json<nlohmann::json>(line);
    if (fields.contains(name)) values.push_back(fields[name]);
  }
  return values;
}

}  // namespace

TEST_CASE("a plan spreads the steps that are left over what the schedule has left") {
  const StepPlan whole;
  CHECK(whole.total(1000) == 1000);
  CHECK(whole.place(7, 1000) == 7);

  const StepPlan half = whole.fitted(200, 400, 1000);
  CHECK(half == StepPlan{.steps = 600, .anchor = 200, .anchor_place = 200});
  CHECK(half.place(200, 1000) == 200);
  CHECK(half.place(400, 1000) == 600);
  CHECK(half.place(600, 1000) == 1000);

  // Slower again: it stands at 600 of the schedule, and has 50 steps for the rest.
  const StepPlan slower = half.fitted(400, 50, 1000);
  CHECK(slower == StepPlan{.steps = 450, .anchor = 400, .anchor_place = 600});
  CHECK(slower.place(425, 1000) == 800);
  // Faster: never more steps than the schedule has.
  CHECK(slower.fitted(425, 100'000, 1000) ==
        StepPlan{.steps = 625, .anchor = 425, .anchor_place = 800});
  // Too late for anything: one step. A twentieth is no reason to plan anew.
  CHECK(half.fitted(400, -3, 1000).steps == 401);
  CHECK(half.fitted(400, 191, 1000) == half);
  CHECK_FALSE(half.fitted(400, 189, 1000) == half);
  CHECK(whole.fitted(0, 1'000'000, 1000) == whole);
}

TEST_CASE("steps that fit into a time leave room for the evaluations") {
  const RunPace pace{.step = 0.5, .evaluation = 2};
  CHECK(pace.steps_within(102, 0) == 200);
  CHECK(pace.steps_within(102, 4) == 100);  // half a second of validation a step
  CHECK(pace.steps_within(1, 4) == 0);
}

TEST_CASE("validation is held to its share, by fewer times first and then by fewer rows") {
  EvalCost cost{
      .steps = 100, .step_tokens = 1000, .epoch_steps = 10, .rows = 50, .row_tokens = 100};
  CHECK(cost.evaluations() == 11);
  const auto share = [&](const EvalPlan& plan) {
    const auto rows = static_cast<double>(plan.rows > 0 ? plan.rows : cost.rows);
    const std::int64_t every = plan.every > 0 ? plan.every : cost.epoch_steps;
    const auto times = static_cast<double>(2 + (cost.steps - 1) / every);
    const double validation = times * rows * cost.row_tokens;
    return validation / (validation + 3 * cost.step_tokens * static_cast<double>(cost.steps));
  };
  // 11 · 5,000 tokens forward beside 3 · 100,000: 15%. Of 33,333 six evaluations can be had.
  CHECK(share({}) > 0.15);
  CHECK(bounded(cost, 0.1) == EvalPlan{.rows = 0, .every = 20});
  CHECK(share(bounded(cost, 0.1)) <= 0.1);
  CHECK(bounded(cost, 0.2) == EvalPlan{});
  cost.rows = 5000;  // as many as a folder that one book of six is held out of
  const EvalPlan plan = bounded(cost, 0.1);
  CHECK(plan == EvalPlan{.rows = 66, .every = 25});
  CHECK(share(plan) <= 0.1);
  CHECK(share(plan) > 0.09);
  cost.epoch_steps = 200;  // before and after alone
  CHECK(bounded(cost, 0.1) == EvalPlan{.rows = 166, .every = 0});
  cost.row_tokens = 1e9;
  CHECK(bounded(cost, 0.1).rows == 1);
}

TEST_CASE("a run that is too long for its time ends in it, with a low learning rate") {
  const ScratchFolder scratch;
  const std::unique_ptr<Device> device = open_reference_device();
  TrainingConfig config = tiny_config(scratch / "fitted");
  config.max_steps = 100'000;
  config.logging_steps = 1;
  config.eval_steps = 0;
  config.save_steps = 0;
  config.max_seconds = 2;
  config.fit_to_time = true;
  TrainingCallbacks callbacks;
  CountedClock clock(std::chrono::microseconds(1));
  // What no rehearsal knows of: the pace of the steps is measured again.
  callbacks.on_step = [&](const TrainingProgress&) { clock.pass(std::chrono::milliseconds(10)); };
  const TrainingResult result = train_tiny(*device, config, callbacks);
  CHECK(result.steps < 200);
  const std::vector<double> rates = logged(config, "learning_rate");
  REQUIRE(std::ssize(rates) == result.steps);
  CHECK(*std::max_element(rates.begin(), rates.end()) > 0.9 * config.learning_rate);
  CHECK(rates.back() < 0.1 * config.learning_rate);
}

TEST_CASE("a run that fits into its time writes the bytes of one without a limit") {
  const ScratchFolder scratch;
  const std::unique_ptr<Device> device = open_reference_device();
  const TrainingConfig straight = tiny_config(scratch / "straight");
  train_tiny(*device, straight);
  TrainingConfig fitted = tiny_config(scratch / "fitted");
  fitted.max_seconds = 3600;
  fitted.fit_to_time = fitted.estimate = true;
  std::vector<TrainingEstimate> estimates;
  TrainingCallbacks callbacks;
  callbacks.on_estimate = [&](const TrainingEstimate& estimate) { estimates.push_back(estimate); };
  train_tiny(*device, fitted, callbacks);
  std::string difference;
  CHECK(same_files(files_of(straight.output_dir), files_of(fitted.output_dir), difference));
  INFO(difference);

  REQUIRE(estimates.size() == 1);
  CHECK(estimates[0].steps == 6);
  CHECK(estimates[0].asked_steps == 6);
  CHECK(estimates[0].evaluations == 4);  // before step 1, after 2, 4 and 6
  CHECK(estimates[0].eval_rows == 5);
  CHECK(estimates[0].seconds ==
        Approx(6 * estimates[0].step_seconds + 4 * estimates[0].evaluation_seconds));
}

TEST_CASE("a run with a plan that is stopped goes on with it, to the bytes of one that was not") {
  const ScratchFolder scratch;
  const std::unique_ptr<Device> device = open_reference_device();
  // Both begin at a checkpoint that a shortened run left: step 2 of 5, of 6 asked for.
  TrainingConfig first = tiny_config(scratch / "straight");
  first.stop_at_step = 2;
  train_tiny(*device, first);
  const auto state_file = checkpoint_name(2) + "/trainer_state.json";
  nlohmann::json state = parse_json<nlohmann::json>(read_file(first.output_dir / state_file));
  state["plan"] = {{"steps", 5}, {"anchor", 1}, {"anchor_place", 1.5}};
  write_file(first.output_dir / state_file, json_text(state, 2) + "\n");
  std::filesystem::copy(first.output_dir, scratch / "cut",
                        std::filesystem::copy_options::recursive);

  TrainingConfig straight = tiny_config(scratch / "straight");
  straight.resume_from_checkpoint = "latest";
  CHECK(train_tiny(*device, straight).steps == 5);
  TrainingConfig cut = tiny_config(scratch / "cut");
  cut.resume_from_checkpoint = "latest";
  cut.stop_at_step = 4;
  CHECK(train_tiny(*device, cut).steps == 4);
  cut.stop_at_step = 0;
  CHECK(train_tiny(*device, cut).steps == 5);
  CHECK(read_file(straight.output_dir / "model.safetensors") ==
        read_file(cut.output_dir / "model.safetensors"));
  CHECK(read_trainer_state(cut.output_dir / checkpoint_name(4)).plan ==
        StepPlan{.steps = 5, .anchor = 1, .anchor_place = 1.5});
  // Step 5 of 5 stands at 1.5 + 3 · 4.5/4 of 6: the cosine of a warm-up of 2.
  const Schedule schedule = schedule_of(straight, 6);
  CHECK(logged(straight, "learning_rate").back() ==
        Approx(straight.learning_rate * schedule.factor(1.5 + 3 * 4.5 / 4)));
}

TEST_CASE("a share bounds validation that nobody asked the steps of, and a stop keeps its rows") {
  const ScratchFolder scratch;
  const std::unique_ptr<Device> device = open_reference_device();
  TrainingConfig config = tiny_config(scratch / "bounded");
  config.eval_steps = 0;
  config.eval_share = 0.04;
  config.logging_steps = 1;
  train_tiny(*device, config);
  // 20 rows of which 6 make a step, 5 held out: before, after 4 steps and at the end they are 15
  // forward beside 108. Of 4% there is room for 1.5 a time.
  const TrainerState state = read_trainer_state(config.output_dir / checkpoint_name(6));
  CHECK(state.eval_plan.rows == 1);
  CHECK(logged(config, "eval_loss").size() == 3);

  TrainingConfig stopped = config;
  stopped.output_dir = scratch / "stopped";
  stopped.stop_at_step = 3;
  train_tiny(*device, stopped);
  stopped.stop_at_step = 0;
  stopped.resume_from_checkpoint = "latest";
  stopped.eval_share = 0.9;  // what the run began with counts
  train_tiny(*device, stopped);
  CHECK(logged(stopped, "eval_loss") == logged(config, "eval_loss"));

  TrainingConfig asked = tiny_config(scratch / "asked");  // every 2 steps
  asked.eval_share = 0.04;
  train_tiny(*device, asked);
  CHECK(read_trainer_state(asked.output_dir / checkpoint_name(6)).eval_plan == EvalPlan{});
  CHECK(logged(asked, "eval_loss").size() == 4);
}
