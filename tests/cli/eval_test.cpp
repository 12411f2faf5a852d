// quire eval as a user runs it.
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/json.h"
#include "base/numbers.h"
#include "pipeline/eval_report.h"
#include "tests/cli/letter_model.h"
#include "tests/support/catch.h"

using namespace quire;
using namespace quire::test;
using Json = nlohmann::json;

namespace {

struct Model {
  ScratchFolder scratch;
  std::string folder = make_letter_model(scratch);
  ProgramResult run(std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(), {"eval", "--model", folder});
    return run_quire(arguments);
  }
  Json json(std::vector<std::string> arguments) const {
    arguments.emplace_back("--json");
    const ProgramResult result = run(std::move(arguments));
    INFO(result.err);
    REQUIRE(result.exit_code == 0);
    return parse_json<Json>(result.out);
  }
};

}  // namespace

TEST_CASE("eval prints loss, perplexity, tokens and bits per byte") {
  const Model model;
  const std::string text = model.scratch.write("a.txt", "the cat. the dog. the end.");
  const Json line = model.json({"--data", text});
  CHECK(line["tokens"] == 23);  // three times "th" is one token
  CHECK(line["scored"] == 22);
  const double loss = line["loss"];
  CHECK(line["perplexity"].get<double>() == Approx(std::exp(loss)));
  CHECK(line["bits_per_byte"].get<double>() == Approx(loss * 22 / std::log(2.0) / 26));
  CHECK(line["window"] == 16);
  CHECK(line["stride"] == 8);
  CHECK(model.json({"--data", text, "--batch-size", "1", "--threads", "1"}) == line);

  const ProgramResult plain = model.run({"--data", text});
  CHECK(contains(plain.out, "perplexity"));
  CHECK(contains(plain.out, "23 (22 scored)"));

  const Json prepended = model.json({"--data", text, "--prepend-endoftext"});
  CHECK(prepended["tokens"] == 24);
  CHECK(prepended["scored"] == 23);
  CHECK(prepended["bits_per_byte"].get<double>() ==
        Approx(prepended["loss"].get<double>() * 23 / std::log(2.0) / 26));
}

TEST_CASE("several texts are scored each for itself") {
  const Model model;
  const std::string a = model.scratch.write("a.txt", "the cat.\nthe dog.\n");
  const std::string b = model.scratch.write("b.txt", "an end.");
  const Json both = model.json({"--data", a, b});
  const Json first = model.json({"--data", a}), second = model.json({"--data", b});
  const auto sum = [](const Json& j) {
    return j["loss"].get<double>() * j["scored"].get<double>();
  };
  CHECK(both["scored"] == first["scored"].get<int>() + second["scored"].get<int>());
  CHECK(sum(both) == Approx(sum(first) + sum(second)));
  CHECK(model.json({"--data", a, "--line-by-line"})["scored"] ==
        first["scored"].get<int>() - 3);  // two line breaks, and the first token of the second line
}

TEST_CASE("what cannot be scored is refused") {
  const Model model;
  const std::string text = model.scratch.write("a.txt", "the cat.");
  const auto refused = [&](std::vector<std::string> arguments, int exit_code,
                           const std::string& message) {
    const ProgramResult result = model.run(std::move(arguments));
    INFO(result.err);
    CHECK(result.exit_code == exit_code);
    CHECK(result.out.empty());
    CHECK(contains(result.err, message));
  };
  refused({}, 2, "nothing to score");
  refused({"--data", "nowhere.txt"}, 3, "nowhere.txt");
  refused({"--data", text, "--stride", "17"}, 2, "stride is 17");
  refused({"--data", text, "--window", "17"}, 2, "allowed: 2 to 16");
  refused({"--data", model.scratch.write("b.txt", "x")}, 3,
          "the data has 1 token, none of them to score");
  refused(
      {"--data", model.scratch.write("c.jsonl", R"({"input_ids": [1, 2], "labels": [-100, 2]})")},
      2, "labels");
  refused({"--data", model.scratch.write("d.jsonl", R"({"input_ids": [1, 4000]})")}, 3, "4000");
}

TEST_CASE("measures have four decimals for people, and two models their names") {
  const Model model;
  const std::string text = model.scratch.write("a.txt", "the cat. the dog. the end.");
  const Json line = model.json({"--data", text});
  const auto four = [&](const char* name) { return fixed_number(line[name].get<double>(), 4); };
  const ProgramResult one = model.run({"--data", text});
  CHECK(one.out == "loss           " + four("loss") + "\nperplexity     " + four("perplexity") +
                       "\nbits per byte  " + four("bits_per_byte") +
                       "\ntokens         23 (22 scored)\n");
  CHECK(one.err.starts_with("2 windows of 16 tokens, stride 8: "));

  // Two folders of one name.
  const std::filesystem::path other = model.scratch / "other/model";
  std::filesystem::create_directories(other.parent_path());
  std::filesystem::copy(model.folder, other);
  const ProgramResult two = model.run({"--data", text, "--baseline", other});
  INFO(two.out + two.err);
  CHECK(two.exit_code == 0);
  const std::string name = model.scratch.path().filename().string() + "/model";
  CHECK(two.err.starts_with(name + ": 2 windows of 16 tokens"));
  CHECK(contains(two.err, "\nother/model: 2 windows of 16 tokens"));
  CHECK(contains(two.out.substr(0, two.out.find('\n')), name + "  other/model  difference"));
  CHECK(contains(two.out, four("perplexity")));

  // A baseline that is not there is told before anything is scored.
  const ProgramResult none = model.run({"--data", text, "--baseline", "none"});
  CHECK(none.exit_code == 3);
  CHECK(none.err.starts_with("error: there is no model 'none'\n"));
}

TEST_CASE("what is set side by side is called as it is typed, or as far as it differs") {
  using Names = std::pair<std::string, std::string>;
  CHECK(distinct_names("narrator", "results/model") == Names{"narrator", "results/model"});
  const std::string far = "/home/somebody/projects/quotes";
  CHECK(distinct_names(far + "/model", "narrator") == Names{"model", "narrator"});
  CHECK(distinct_names(far + "/a/model", far + "/b/model/") == Names{"a/model", "b/model"});
  CHECK(distinct_names(far + "/model", "model") == Names{"quotes/model", "model"});
  CHECK(distinct_names("model", "model") == Names{"model", "model (baseline)"});
  CHECK(distinct_names("./model", "model") == Names{"./model", "model"});
}

TEST_CASE("a stride as long as the window is noted") {
  const Model model;
  const std::string text = model.scratch.write("a.txt", "the cat. the dog. the end.");
  CHECK(contains(model.run({"--data", text, "--stride", "16"}).err, "smaller --stride"));
  CHECK(!contains(model.run({"--data", text, "--stride", "15"}).err, "smaller --stride"));
}

TEST_CASE("eval agrees with the fixtures") {
  QUIRE_FIXTURE(path, "metrics/perplexity.json");
  const std::filesystem::path root = path.parent_path().parent_path();
  const Json fixture = parse_json<Json>(read_file(path));
  const Json& row = fixture["rows"][0];
  const ProgramResult result =
      run_quire({"eval", "--model", (root / "models/tiny-char").string(), "--data",
                 (root / "metrics/ppl_text.txt").string(), "--stride", "64", "--json"});
  REQUIRE(result.exit_code == 0);
  const Json line = parse_json<Json>(result.out);
  CHECK(line["tokens"] == row["tokens"]);
  CHECK(line["perplexity"].get<double>() ==
        Approx(row["perplexity_float32"].get<double>()).epsilon(5e-6));
  CHECK(line["bits_per_byte"].get<double>() ==
        Approx(row["bits_per_byte"].get<double>()).epsilon(1e-6));
}
