#include <cmath>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "engine/training/log_files.h"
#include "tests/support/catch.h"
#include "tests/support/json_lines.h"
#include "tests/support/scratch.h"

using namespace quire;
using namespace quire::test;
namespace fs = std::filesystem;

namespace {

TrainingProgress progress_at(std::int64_t step) {
  return {.step = step,
          .total_steps = 100,
          .epoch = 0.1,
          .loss = 3.25,
          .grad_norm = std::nan(""),
          .learning_rate = 5e-5,
          .tokens = 1234,
          .tokens_per_second = 1e6,
          .mfu = 0.5};
}

void tell(RunLog& log) {
  for (const std::int64_t step : {10, 20}) {
    log.train(progress_at(step));
    log.eval(step, 2.0);
    log.sample(step, {"Once \"upon\"", " a\ntime \xFF"});
    log.warning(step, "step 7 is skipped");
  }
}

}  // namespace

TEST_CASE("log.jsonl has one object a line, whatever a text holds") {
  const ScratchFolder scratch;
  JsonlLog log;
  log.begin(scratch.path(), -1);
  tell(log);
  const std::string text = read_file(scratch / "log.jsonl");
  CHECK(text.substr(0, text.find('\n')) ==
        "{\"step\":10,\"epoch\":0.1,\"loss\":3.25,\"grad_norm\":null,\"learning_rate\":5e-05,"
        "\"tokens\":1234,\"tokens_per_second\":1000000.0,\"mfu\":0.5}");
  const std::vector<nlohmann::json> lines = json_lines(text);
  REQUIRE(lines.size() == 8);
  CHECK(lines[1]["eval_perplexity"] == std::exp(2.0));
  CHECK(lines[2]["prompt"] == "Once \"upon\"");
  CHECK(lines[2]["sample"] == " a\ntime \xEF\xBF\xBD");
  CHECK(lines[3]["warning"] == "step 7 is skipped");
}

TEST_CASE("log.csv has the numbers under their names, and nothing for what is not known") {
  const ScratchFolder scratch;
  CsvLog log;
  log.begin(scratch.path(), -1);
  tell(log);
  CHECK(read_file(scratch / "log.csv") == std::string(CsvLog::kHeading) +
                                              "\n10,0.1,3.25,,5e-05,1234,,,1000000,0.5\n"
                                              "10,,,,,,2,7.38905609893065,,\n"
                                              "20,0.1,3.25,,5e-05,1234,,,1000000,0.5\n"
                                              "20,,,,,,2,7.38905609893065,,\n");
}

TEMPLATE_TEST_CASE("a log that goes on drops later steps and a torn line, a new one all", "",
                   JsonlLog, CsvLog) {
  const ScratchFolder scratch;
  const fs::path path = scratch / TestType::kFileName;
  {
    TestType log;
    log.begin(scratch.path(), -1);
    tell(log);
  }
  const std::string whole = read_file(path);
  std::string first;  // up to the first line of step 20
  {
    const ScratchFolder other;
    TestType log;
    log.begin(other.path(), -1);
    log.train(progress_at(10));
    log.eval(10, 2.0);
    log.sample(10, {"Once \"upon\"", " a\ntime \xFF"});
    log.warning(10, "step 7 is skipped");
    first = read_file(other / TestType::kFileName);
  }
  write_file(path, whole + whole.substr(0, 5));
  {
    TestType log;
    log.begin(scratch.path(), 20);
    CHECK(read_file(path) == whole);
  }
  {
    TestType log;
    log.begin(scratch.path(), 19);
    CHECK(read_file(path) == first);
  }
  {
    TestType log;
    log.begin(scratch.path(), -1);
    tell(log);
    CHECK(read_file(path) == whole);
    log.discard();
    CHECK_FALSE(fs::exists(path));
  }
}
