#include "engine/training/schedule.h"

#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "base/error.h"
#include "tests/support/catch.h"
#include "tests/support/fixtures.h"

using quire::Schedule;

TEST_CASE("schedules of these shapes are transformers' own, step by step") {
  QUIRE_FIXTURE(path, "schedules/schedules.json");
  const nlohmann::json cases = nlohmann::json::parse(std::ifstream(path));
  int compared = 0;
  for (const nlohmann::json& item : cases) {
    const std::string name = item["name"];
    const nlohmann::json& args = item["args"];
    const double base = item["base_lr"];
    Schedule schedule;
    if (name.rfind("constant", 0) == 0) {
      schedule.shape = Schedule::Shape::constant;
    } else if (name.rfind("linear", 0) == 0) {
      schedule.shape = Schedule::Shape::linear;
    } else if (name == "cosine" || name.rfind("cosine_cycles", 0) == 0 || name == "cosine_min_lr") {
      schedule.shape = Schedule::Shape::cosine;
      schedule.cycles = args.value("num_cycles", 0.5);
      schedule.min_ratio = args.value("min_lr", 0.0) / base;
    } else {
      continue;
    }
    schedule.total_steps = args.value("num_training_steps", 100);
    schedule.warmup_steps = args.value("num_warmup_steps", 0);
    for (std::size_t t = 0; t < item["lr"].size(); ++t) {
      INFO(name << " step " << t);
      const double expected = item["lr"][t];
      // Both sides are doubles; the factors are sums of order 1, so a few ulps of the base rate.
      CHECK(std::abs(base * schedule.factor(static_cast<std::int64_t>(t)) - expected) <=
            8 * 2.3e-16 * base);
    }
    ++compared;
  }
  CHECK(compared == 8);
}

TEST_CASE("a warm-up starts at zero, and a share of the steps is rounded up") {
  CHECK(Schedule::warmup_count(0.1, 101) == 11);
  CHECK(Schedule::warmup_count(0.1, 100) == 10);
  CHECK(Schedule::warmup_count(0.0, 100) == 0);
  CHECK(Schedule::warmup_count(1.0, 100) == 1);
  CHECK(Schedule::warmup_count(20, 100) == 20);
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
