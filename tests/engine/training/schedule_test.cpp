#include "engine/training/schedule.h"

#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "tests/support/catch.h"
#include "tests/support/fixtures.h"

using namespace quire;

namespace {

/// transformers' name of the schedule that a function of its optimization.py makes.
const std::map<std::string, std::string> kTypes = {
    {"get_constant_schedule", "constant"},
    {"get_constant_schedule_with_warmup", "constant_with_warmup"},
    {"get_linear_schedule_with_warmup", "linear"},
    {"get_cosine_schedule_with_warmup", "cosine"},
    {"get_cosine_with_hard_restarts_schedule_with_warmup", "cosine_with_restarts"},
    {"get_polynomial_decay_schedule_with_warmup", "polynomial"},
    {"get_inverse_sqrt_schedule", "inverse_sqrt"},
    {"get_cosine_with_min_lr_schedule_with_warmup", "cosine_with_min_lr"},
    {"get_wsd_schedule", "warmup_stable_decay"},
};

ScheduleOptions options_of(const nlohmann::json& item) {
  const nlohmann::json& args = item["args"];
  ScheduleOptions options{.type = kTypes.at(item["function"]), .learning_rate = item["base_lr"]};
  options.total_steps = 100;  // where the function is not told
  ScheduleArguments& a = options.arguments;
  std::size_t known = 0;
  const auto take = [&](const char* name, auto& into) {
    known += args.contains(name) ? 1 : 0;
    into = args.value(name, into);
  };
  take("num_training_steps", options.total_steps);
  take("num_warmup_steps", options.warmup_steps);
  take("min_lr", a.min_lr);
  take("min_lr_ratio", a.min_lr_ratio);
  take("num_cycles", a.num_cycles);
  take("power", a.power);
  take("lr_end", a.lr_end);
  take("timescale", a.timescale);
  take("num_stable_steps", a.num_stable_steps);
  take("num_decay_steps", a.num_decay_steps);
  take("warmup_type", a.warmup_type);
  take("decay_type", a.decay_type);
  REQUIRE(known == args.size());  // none of its arguments is passed over
  return options;
}

}  // namespace

TEST_CASE("schedules are transformers' own, step by step") {
  QUIRE_FIXTURE(path, "schedules/schedules.json");
  const nlohmann::json cases = quire::parse_json<nlohmann::json>(read_file(path));
  CHECK(cases.size() == 17);
  for (const nlohmann::json& item : cases) {
    const ScheduleOptions options = options_of(item);
    CHECK_NOTHROW(options.arguments.check(options.type, options.learning_rate));
    const Schedule schedule = make_schedule(options);
    for (std::size_t t = 0; t < item["lr"].size(); ++t) {
      INFO(item["name"] << " step " << t);
      const double expected = item["lr"][t];
      // Both sides are doubles; the factors are sums of order 1, so a few ulps of the base rate.
      CHECK(std::abs(options.learning_rate * schedule.factor(static_cast<std::int64_t>(t)) -
                     expected) <= 8 * 2.3e-16 * options.learning_rate);
    }
  }
}

TEST_CASE("a warm-up starts at zero, and a share of the steps is rounded up") {
  CHECK(Schedule::step_count(0.1, 101) == 11);
  CHECK(Schedule::step_count(0.1, 100) == 10);
  CHECK(Schedule::step_count(0.0, 100) == 0);
  CHECK(Schedule::step_count(1.0, 100) == 1);
  CHECK(Schedule::step_count(20, 100) == 20);
  const Schedule schedule{.shape = Schedule::Shape::cosine, .total_steps = 10, .warmup_steps = 4};
  CHECK(schedule.factor(0) == 0.0);
  CHECK(schedule.factor(1) == 0.25);
  CHECK(schedule.factor(4) == 1.0);
  CHECK(schedule.factor(7) == Approx(0.5));
}

TEST_CASE("a minimum rate is what a decay ends at, not what a warm-up starts from") {
  const Schedule schedule{
      .shape = Schedule::Shape::linear, .total_steps = 20, .warmup_steps = 10, .min_ratio = 0.1};
  CHECK(schedule.factor(0) == 0.0);
  CHECK(schedule.factor(15) == Approx(0.5 * 0.9 + 0.1));
  CHECK(schedule.factor(20) == Approx(0.1));
  CHECK(schedule.factor(100) == Approx(0.1));
}

TEST_CASE("an unknown schedule is refused by name") {
  CHECK(Schedule::shape_from_name("constant_with_warmup") == Schedule::Shape::constant);
  try {
    Schedule::shape_from_name("cosin");
    FAIL("no exception");
  } catch (const quire::Error& error) {
    CHECK(error.fault() == quire::Fault::usage);
    CHECK(error.message().find("cosin") != std::string::npos);
  }
}

TEST_CASE("what a schedule has no use for is refused, with what it takes") {
  const auto refusal = [](const std::string& type, const ScheduleArguments& arguments) {
    try {
      arguments.check(type, 5e-5);
    } catch (const Error& error) {
      CHECK(error.fault() == Fault::usage);
      return error.message();
    }
    return std::string("fits");
  };
  CHECK(refusal("linear", {.power = 2}).find("`power` does not go with") != std::string::npos);
  CHECK(refusal("linear", {.power = 2}).find("takes `min_lr` `min_lr_ratio`") != std::string::npos);
  CHECK(refusal("polynomial", {.power = 2}) == "fits");
  CHECK(refusal("polynomial", {.min_lr = 1e-6}).find("`min_lr`") != std::string::npos);
  CHECK(refusal("polynomial", {.lr_end = 1e-3}).find("at most the learning rate") !=
        std::string::npos);
  CHECK(refusal("constant", {.num_cycles = 2}).find("no such options") != std::string::npos);
  CHECK(refusal("cosine", {.min_lr = 1e-6, .min_lr_ratio = 0.1}).find("two words") !=
        std::string::npos);
  CHECK(refusal("cosine_with_min_lr", {}).find("needs its minimum") != std::string::npos);
  CHECK(refusal("warmup_stable_decay", {}).find("`num_decay_steps` 0.1") != std::string::npos);
  CHECK(refusal("warmup_stable_decay", {.num_decay_steps = 0.1, .decay_type = "fast"})
            .find("`decay_type` is fast") != std::string::npos);
}

TEST_CASE("a decay may be a share of the run, and must fit into it") {
  const Schedule schedule = make_schedule({.type = "warmup_stable_decay",
                                           .total_steps = 101,
                                           .warmup_steps = 10,
                                           .arguments = {.num_decay_steps = 0.2}});
  CHECK(schedule.decay_steps == 21);
  CHECK(schedule.stable_steps == 70);
  CHECK(schedule.factor(79) == 1.0);
  CHECK(schedule.factor(101) == 0.0);
  CHECK_THROWS_AS(make_schedule({.type = "warmup_stable_decay",
                                 .total_steps = 20,
                                 .warmup_steps = 10,
                                 .arguments = {.num_decay_steps = 11}}),
                  Error);
}
