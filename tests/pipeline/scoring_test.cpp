#include "pipeline/scoring.h"

#include <algorithm>

#include "kernels/open_device.h"
#include "pipeline/completions.h"
#include "tests/support/catch.h"
#include "tests/support/letter_model.h"

using namespace quire;
using namespace quire::test;

namespace {

std::vector<Record> records_of(const std::vector<std::string>& texts) {
  std::vector<Record> records;
  for (const std::string& text : texts) {
    records.push_back({.text = text, .input_ids = {}, .labels = {}});
  }
  return records;
}

}  // namespace

TEST_CASE("scoring says how far it is, and ends where it is asked to") {
  const ScratchFolder scratch;
  const ScoringOptions options{.model = make_letter_model(scratch),
                               .perplexity = {.window = 4, .stride = 2, .batch = 1}};
  const std::vector<Record> records = records_of({"abcabcab", "bcd"});
  bool begun = false;
  std::int64_t most = 1'000'000;
  std::vector<std::int64_t> seen;
  const ScoringCallbacks callbacks{
      .open_device = [] { return open_device("cpu"); },
      .note = [](const std::string&) {},
      .on_begin = [&] { begun = true; },
      .stop_requested = [&] { return !seen.empty() && seen.back() >= most; }};
  const auto run = [&] {
    seen.clear();
    return score(options, records, callbacks, [&](const Scored& so_far) {
      CHECK(begun);
      CHECK(so_far.to_score == 9);
      seen.push_back(so_far.result.scored);
    });
  };
  const Scored whole = run();
  CHECK_FALSE(whole.stopped);
  CHECK(whole.tokens == 11);
  CHECK(whole.result.scored == 9);  // but the first of each text
  CHECK(whole.bytes == 11);
  CHECK(std::is_sorted(seen.begin(), seen.end()));
  CHECK(seen.back() == 9);

  most = 4;
  const Scored part = run();
  CHECK(part.stopped);
  CHECK(part.result.scored >= 4);
  CHECK(part.result.scored < 9);
}

TEST_CASE("a search for completions ends between two records") {
  const ScratchFolder scratch;
  const ScoringOptions options{.model = make_letter_model(scratch)};
  std::vector<Record> records = records_of({"ab", "cd", "ef"});
  for (Record& record : records) record.prompt_bytes = 1;
  std::int64_t most = 3;
  std::int64_t done = 0;
  const ScoringCallbacks callbacks{.open_device = [] { return open_device("cpu"); },
                                   .note = [](const std::string&) {},
                                   .on_begin = [] {},
                                   .stop_requested = [&] { return done >= most; }};
  const auto run = [&] {
    return score_completions(options, records, 2, callbacks,
                             [&](const CompletionScores& so_far) { done = so_far.records; });
  };
  CHECK(run().records == 3);
  most = 1;
  const CompletionScores part = run();
  CHECK(part.stopped);
  CHECK(part.records == 1);
}
