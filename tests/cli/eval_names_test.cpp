// quire eval --metrics: some of the numbers, by the names that evaluate has for them.
#include "pipeline/metric_names.h"

#include <nlohmann/json.hpp>

#include "base/json.h"
#include "tests/cli/letter_model.h"
#include "tests/support/catch.h"

using namespace quire;
using namespace quire::test;

namespace {

struct Texts {
  ScratchFolder scratch;
  std::string model = make_letter_model(scratch);
  std::string data = scratch.write("data.txt", "the cat sat\nthe dog sat\n");
  std::string text = scratch.write("a.txt", "the cat sat\n---\nthe dog sat\n");

  ProgramResult run(std::vector<std::string> more) const {
    more.insert(more.begin(), {"eval", "-q"});
    return run_quire(more);
  }
  std::vector<std::string> keys(std::vector<std::string> more) const {
    more.emplace_back("--json");
    const ProgramResult result = run(more);
    INFO(result.err);
    REQUIRE(result.exit_code == 0);
    std::vector<std::string> names;
    const nlohmann::ordered_json line = parse_json<nlohmann::ordered_json>(result.out);
    for (const auto& [key, value] : line.items()) names.push_back(key);
    return names;
  }
};

using Strings = std::vector<std::string>;

}  // namespace

TEST_CASE("eval tells the metrics that are asked for, in that order") {
  const Texts t;
  CHECK(t.keys({"--data", t.data, "--model", t.model, "--metrics", "perplexity"}) ==
        Strings{"perplexity"});
  CHECK(t.keys({"--texts", t.text, "--metrics", "self_bleu4,distinct_2", "texts"}) ==
        Strings{"self_bleu4", "distinct_2", "texts"});
  CHECK(t.keys({"--texts", t.text, "--model", t.model, "--metrics", "perplexity"}) ==
        Strings{"perplexity"});
  const ProgramResult table =
      t.run({"--data", t.data, "--model", t.model, "--metrics", "tokens", "scored"});
  CHECK(table.exit_code == 0);
  CHECK(contains(table.out, "tokens"));
  CHECK_FALSE(contains(table.out, "perplexity"));

  const std::string out = t.scratch / "out";
  const ProgramResult both =
      t.run({"--texts", t.text, "--baseline", t.text, "--metrics", "tokens", "-o", out, "--json"});
  CHECK(both.out == "{\"tokens\":6,\"baseline\":{\"tokens\":6},\"difference\":{\"tokens\":0}}\n");
  CHECK(read_file(std::filesystem::path(out) / "evaluation_metrics.csv") ==
        "metric,value,baseline,difference\ntokens,6,6,0\n");
}

TEST_CASE("a metric that eval does not have is answered with what stands nearest") {
  const Texts t;
  const auto refused = [&](const Strings& options) {
    const ProgramResult run = t.run(options);
    CHECK(run.exit_code == 2);
    CHECK(run.out.empty());
    return run.err;
  };
  CHECK(contains(refused({"--texts", t.text, "--metrics", "bleu"}),
                 "error: quire eval has no metric 'bleu'\n  nearest is self_bleu4, "));
  CHECK(contains(refused({"--data", t.data, "--metrics", "accuracy"}),
                 "nearest is exact_match, of --data FILE --template TEXT --completions K\n"));
  CHECK(contains(refused({"--texts", t.text, "--metrics", "distnct_2"}),
                 "  try: --metrics distinct_2\n"));
  // One that there is, elsewhere or with another option.
  CHECK(contains(refused({"--data", t.data, "--metrics", "distinct_2"}),
                 "error: --metrics distinct_2 is for --texts FILE\n  --data FILE has loss, "));
  CHECK(contains(refused({"--data", t.data, "--metrics", "among_top_5"}),
                 "--metrics among_top_K is for --data FILE --completions K\n"));
  CHECK(contains(refused({"--texts", t.text, "--metrics", "copied_share"}),
                 "error: --metrics copied_share wants --training-data\n"));
  CHECK(contains(refused({"--texts", t.text, "--metrics", "texts,perplexity"}),
                 "error: --metrics perplexity wants --model\n"));
}

TEST_CASE("no name is both a metric and answered with another one") {
  for (const MetricName& metric : metric_names()) CHECK(nearest_metric(metric.name).empty());
  // The most used of evaluate 0.4 that are about text.
  for (const char* name :
       {"accuracy",    "bertscore", "bleu",      "cer",   "chrf",   "f1",
        "google_bleu", "mauve",     "meteor",    "rouge", "rouge1", "rouge2",
        "rougeL",      "rougeLsum", "sacrebleu", "squad", "ter",    "text_duplicates",
        "wer",         "word_count"}) {
    INFO(name);
    CHECK_FALSE(nearest_metric(name).empty());
  }
}
