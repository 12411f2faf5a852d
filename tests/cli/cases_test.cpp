// The cases of which the README beside them says what is right,
// and that no test of their kind reads.
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/json.h"
#include "corpus/csv.h"
#include "tests/cli/program.h"
#include "tests/support/catch.h"
#include "tests/support/fixtures.h"

using namespace quire;
using namespace quire::test;
namespace fs = std::filesystem;
using Json = nlohmann::json;

namespace {

fs::path narrator() {
  return test_data("../../models/narrator");
}

Json inspected(const fs::path& data) {
  const ProgramResult result = run_quire({"data", "inspect", "--json", data});
  INFO(result.err);
  REQUIRE(result.exit_code == 0);
  return parse_json<Json>(result.out);
}

void check_refused(const fs::path& data, const std::string& why) {
  const ProgramResult result = run_quire({"data", "inspect", data});
  INFO(result.err);
  CHECK(result.exit_code == 3);
  CHECK(contains(result.err, data.string()));
  CHECK(contains(result.err, why));
}

/// How many of the texts a model trained on them all but one ends:
/// probability of the end above 0.9.
int ended(const fs::path& data, const std::vector<std::string>& texts,
          std::vector<std::string> more = {}) {
  const ScratchFolder folder;
  std::vector<std::string> train = {"train",
                                    "--model",
                                    narrator(),
                                    "--packing",
                                    "none",
                                    "--num-train-epochs",
                                    "60",
                                    "--dropout",
                                    "0",
                                    "--learning-rate",
                                    "5e-4",
                                    "--data",
                                    data,
                                    "--output-dir",
                                    folder / "model"};
  train.insert(train.end(), more.begin(), more.end());
  const ProgramResult trained = run_quire(train);
  INFO(trained.err);
  REQUIRE(trained.exit_code == 0);
  CHECK(contains(trained.err, "held out 1 record,"));
  std::string requests;
  for (const std::string& text : texts) {
    requests += json_text(Json{{"prompt", text}, {"max_new_tokens", 1}}) + "\n";
  }
  const ProgramResult next =
      run_quire({"generate", "--model", folder / "model", "--requests",
                 folder.write("r.jsonl", requests), "--logprobs", "1", "--json"});
  INFO(next.err);
  REQUIRE(next.exit_code == 0);
  int count = 0;
  for (const Json& line : json_lines(next.out)) {
    const Json best = line["top_logprobs"][0][0];
    count += best["token"] == "<|endoftext|>" && std::exp(best["logprob"].get<double>()) > 0.9;
  }
  return count;
}

}  // namespace

TEST_CASE("the cases of JSON lines are read, or refused with the line") {
  QUIRE_CASE(folder, "jsonl");
  QUIRE_CASE(lone, "json/lone_surrogate.jsonl");
  check_refused(folder / "arr.json", "is of a kind that is not read: .json");
  check_refused(folder / "arr.jsonl", "line 1: it holds a JSON array, not an object");
  check_refused(folder / "cat.jsonl", "line 1: it is not valid JSON");
  check_refused(folder / "odd.jsonl", "line 5: 'text' is {\"a\":1}, not a text");
  const Json lines = inspected(folder / "crlf.jsonl");
  CHECK(lines["records"] == 2);
  CHECK(lines["samples"][1]["text"] == "b line");
  const Json separator = inspected(folder / "ls.jsonl");
  CHECK(separator["records"] == 1);
  CHECK(separator["samples"][0]["text"] == "sep \u2028 inside");
  CHECK(inspected(lone)["samples"][0]["text"] == "caf\uFFFD");
  CHECK(contains(run_quire({"data", "inspect", lone}).err,
                 "warning: 1 line has half a surrogate pair, in " + lone.string() + " line 1"));
}

TEST_CASE("slow: a few records are learnt with their ends") {
  QUIRE_CASE(eight, "eos-few/few8.csv");
  QUIRE_CASE(sixteen, "eos-few/few16.csv");
  QUIRE_CASE(model, narrator());
  for (const fs::path& file : {eight, sixteen}) {
    CsvReader csv(file);
    std::vector<std::string> quotes, fields;
    while (csv.next(fields)) quotes.push_back(fields[0]);
    CHECK(ended(file, quotes, {"--text-column", "quote"}) >= std::ssize(quotes) - 1);
  }
}

TEST_CASE("slow: a folder of a few texts is learnt with their ends") {
  QUIRE_CASE(folder, "eos-few/books");
  QUIRE_CASE(model, narrator());
  std::vector<std::string> texts;
  for (const fs::directory_entry& file : fs::directory_iterator(folder)) {
    texts.push_back(read_file(file.path()));
  }
  CHECK(ended(folder, texts) >= 5);  // of six
}
