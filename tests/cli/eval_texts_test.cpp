// quire eval --texts, and --baseline, as a user runs them.
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/json.h"
#include "tests/cli/letter_model.h"
#include "tests/support/catch.h"

using namespace quire;
using namespace quire::test;
using Json = nlohmann::json;

namespace {

ProgramResult eval(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), "eval");
  return run_quire(arguments);
}

Json eval_json(std::vector<std::string> arguments) {
  arguments.emplace_back("--json");
  const ProgramResult result = eval(std::move(arguments));
  INFO(result.err);
  REQUIRE(result.exit_code == 0);
  return parse_json<Json>(result.out);
}

}  // namespace

TEST_CASE("texts are the same from every kind of file") {
  const ScratchFolder scratch;
  const std::string text =
      scratch.write("a.txt", "\xEF\xBB\xBFone two\nthree\r\n---\n\n---\n--- one two\n");
  const Json metrics = eval_json({"--texts", text});
  CHECK(metrics["texts"] == 3);
  CHECK(metrics["empty_texts"] == 1);
  CHECK(metrics["tokens"] == 6);
  CHECK(metrics["distinct_1"].get<double>() == Approx(4.0 / 6));
  CHECK(metrics["coherence"].is_null());
  CHECK(metrics["coherence_texts"] == 0);
  CHECK(!metrics.contains("copied_share"));
  CHECK(!metrics.contains("perplexity"));

  const std::string json = scratch.write("a.jsonl",
                                         "{\"index\": 0, \"text\": \"one two\\nthree\"}\n"
                                         "{\"text\": \"\"}\n\n{\"text\": \"--- one two\"}\n");
  CHECK(eval_json({"--texts", json}) == metrics);
  const std::string table =
      scratch.write("a.csv", "id,saying\n1,\"one two\nthree\"\n2,\n3,--- one two\n");
  CHECK(eval_json({"--texts", table, "--text-column", "saying"}) == metrics);
  const Json lines = eval_json({"--texts", text, "--line-by-line"});
  CHECK(lines["texts"] == 5);  // "---" is a line as others are
  const Json both = eval_json({"--texts", text, json});
  CHECK(both["texts"] == 6);
  CHECK(both["tokens"] == 12);
}

TEST_CASE("what generate writes is read back text for text") {
  const ScratchFolder scratch;
  const std::string model = make_letter_model(scratch);
  const std::vector<std::string> command = {"generate", "--model", model, "-p",         "bfj",
                                            "-p",       "h",       "-p",  "",           "-n",
                                            "9",        "--seed",  "3",   "--do-sample"};
  std::vector<std::string> with_json = command, without_prompt = command;
  with_json.emplace_back("--json");
  without_prompt.emplace_back("--no-display-prompt");
  const ProgramResult plain = run_quire(without_prompt), json = run_quire(with_json);
  REQUIRE(plain.exit_code == 0);
  REQUIRE(json.exit_code == 0);
  const Json from_text = eval_json({"--texts", scratch.write("out.txt", plain.out)});
  CHECK(from_text["texts"] == 3);
  CHECK(from_text == eval_json({"--texts", scratch.write("out.jsonl", json.out)}));
}

TEST_CASE("metrics of the program equal the fixtures") {
  QUIRE_FIXTURE(path, "metrics/metrics.json");
  const Json expected = parse_json<Json>(read_file(path));
  const Json sets = parse_json<Json>(read_file(path.parent_path() / "texts.json"));
  const ScratchFolder scratch;
  for (const auto& [name, texts] : sets.items()) {
    INFO(name);
    std::string lines;
    for (const Json& text : texts) lines += json_text(Json{{"text", text}}) + "\n";
    const Json metrics = eval_json({"--texts", scratch.write(name + ".jsonl", lines)});
    const Json& wanted = expected[name];
    CHECK(metrics["texts"] == wanted["count"]);
    CHECK(metrics["tokens"] == wanted["tokens"]);
    CHECK(metrics["longest_run"] == wanted["longest_run"]);
    // A few hundred additions of numbers up to 1: their rounding is far below this.
    const auto near = [](const Json& value) {
      return Approx(value.get<double>()).epsilon(0).margin(1e-12);
    };
    for (const char* n : {"1", "2", "3"}) {
      CHECK(metrics[std::string("distinct_") + n] == near(wanted["distinct"][n]));
    }
    CHECK(metrics["self_bleu4"] == near(wanted["self_bleu4"]));
    CHECK(metrics["seq_rep_4"] == near(wanted["seq_rep"]["4"]));
    CHECK(metrics["rep_16"] == near(wanted["rep_l"]["16"]));
  }
}

TEST_CASE("copying, keywords and coherence") {
  const ScratchFolder scratch;
  const std::string table = scratch.write("t.csv",
                                          "text,words\n\"The lake is deep. A deep lake "
                                          "sleeps.\",\"lake, Deep,night\"\nNothing here,\n");
  const std::string training =
      scratch.write("train.csv", "quote,by\nhow deep a lake is deep. a,x\n");
  const Json metrics =
      eval_json({"--texts", table, "--keywords-column", "words", "--training-data", training,
                 "--training-text-column", "quote", "--copied-ngram", "3"});
  CHECK(metrics["copied_share"].get<double>() == Approx(3.0 / 10));     // "lake is deep."
  CHECK(metrics["keyword_coverage"].get<double>() == Approx(2.0 / 3));  // the second asks for none
  // {lake, deep} and {deep, lake, sleeps}
  CHECK(metrics["coherence"].get<double>() == Approx(2 / std::sqrt(2.0 * 3)));
  CHECK(metrics["coherence_texts"] == 1);
  const std::string lines = scratch.write(
      "t.jsonl", R"({"text": "The lake, deep", "words": ["lake", "lake, deep", "night"]})");
  CHECK(eval_json({"--texts", lines, "--keywords-column", "words"})["keyword_coverage"]
            .get<double>() == Approx(2.0 / 3));
}

TEST_CASE("with a model the texts' perplexity is that of the same data") {
  const ScratchFolder scratch;
  const std::string model = make_letter_model(scratch);
  const std::string texts = scratch.write("t.txt", "the cat.\n---\nthe dog.\n");
  const std::string data =
      scratch.write("d.jsonl", "{\"text\": \"the cat.\"}\n{\"text\": \"the dog.\"}");
  const Json with_model = eval_json({"--texts", texts, "--model", model});
  const Json scored = eval_json({"--data", data, "--model", model});
  CHECK(with_model["perplexity"] == scored["perplexity"]);
  CHECK(with_model["bits_per_byte"] == scored["bits_per_byte"]);
  CHECK(with_model["texts"] == 2);
}

TEST_CASE("two sets of texts, or two models, side by side") {
  const ScratchFolder scratch;
  const std::string a = scratch.write("a.txt", "one two two\n---\none\n");
  const std::string b = scratch.write("b.txt", "one one one\n");
  const Json json = eval_json({"--texts", a, "--baseline", b});
  CHECK(json["distinct_1"].get<double>() == Approx(2.0 / 4));
  CHECK(json["baseline"]["distinct_1"].get<double>() == Approx(1.0 / 3));
  CHECK(json["difference"]["distinct_1"].get<double>() == Approx(2.0 / 4 - 1.0 / 3));
  CHECK(json["difference"]["texts"] == 1);
  CHECK(json["difference"]["coherence"].is_null());

  const std::string model = make_letter_model(scratch);
  const std::filesystem::path other = scratch / "other";
  std::filesystem::create_directories(other);
  for (const char* name : {"config.json", "model.safetensors"}) {
    std::filesystem::copy_file(test_data("untied") / name, other / name);
  }
  letter_tokenizer().save(other, 16);
  const std::string data = scratch.write("c.txt", "catsanddogs");
  const Json models = eval_json({"--data", data, "--model", other, "--baseline", model});
  const Json first = eval_json({"--data", data, "--model", other});
  const Json second = eval_json({"--data", data, "--model", model});
  CHECK(models["baseline"] == second);
  CHECK(models["perplexity"] == first["perplexity"]);
  CHECK(models["perplexity"] != models["baseline"]["perplexity"]);
  CHECK(models["difference"]["perplexity"].get<double>() ==
        first["perplexity"].get<double>() - second["perplexity"].get<double>());
}

TEST_CASE("a results folder gets the table and a CSV, replaced as a whole") {
  const ScratchFolder scratch;
  const std::string text = scratch.write("a.txt", "one two two\n");
  const std::string out = scratch.write("out/notes.txt", "mine").parent_path();
  scratch.write("out/evaluation_metrics.csv", "old");
  const ProgramResult result =
      eval({"--texts", text, "--output-dir", out, "--overwrite-output-dir"});
  INFO(result.err);
  REQUIRE(result.exit_code == 0);
  CHECK(contains(result.out, "distinct_1"));
  CHECK(contains(result.out, "0.6667"));
  const std::string table = read_file(scratch / "out/evaluation_metrics.txt");
  CHECK(contains(table, text));
  CHECK(contains(table, result.out));
  const std::string csv = read_file(scratch / "out/evaluation_metrics.csv");
  CHECK(csv.starts_with("metric,value\ntexts,1\nempty_texts,0\ntokens,3\ndistinct_1,0.6666666"));
  CHECK(contains(csv, "\ncoherence,\n"));
  CHECK(read_file(scratch / "out/notes.txt") == "mine");
  std::size_t files = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(out)) ++files;
  CHECK(files == 3);

  REQUIRE(eval({"--texts", text, "--baseline", text, "-o", out, "--overwrite"}).exit_code == 0);
  CHECK(contains(read_file(scratch / "out/evaluation_metrics.csv"),
                 "metric,value,baseline,difference\ntexts,1,1,0\n"));
}

TEST_CASE("texts that cannot be measured are refused") {
  const ScratchFolder scratch;
  const std::string text = scratch.write("a.txt", "one two\n");
  const std::string table = scratch.write("a.csv", "id,quote\n1,a long saying of some kind here\n");
  const auto refused = [&](const std::vector<std::string>& arguments, int exit_code,
                           const std::vector<std::string>& parts) {
    const ProgramResult result = eval(arguments);
    INFO(result.err);
    CHECK(result.exit_code == exit_code);
    CHECK(result.out.empty());
    for (const std::string& part : parts) CHECK(contains(result.err, part));
  };
  refused({"--texts", text, "--data", text}, 2, {"exclude each other"});
  refused({"--texts", scratch / "b.txt"}, 3, {"there is no file", "did you mean"});
  refused({"--texts", scratch.write("e.txt", "")}, 3, {"e.txt holds no text"});
  refused({"--texts", scratch.write("f.txt", "\n---\n\n")}, 3, {"all of its 2 texts are empty"});
  refused({"--texts", table}, 3,
          {"no column 'text'", "columns: id, quote",
           "quire eval --texts " + table + " --text-column 'quote'"});
  refused({"--texts", table, "--text-column", "quote", "--keywords-column", "idd"}, 3,
          {"no column 'idd'", "columns: id, quote", "--keywords-column 'id'"});
  refused({"--texts", table, "--text-column", "quote", "--keywords-column", "words"}, 3,
          {"no column 'words'", "columns: id, quote"});
  refused({"--texts", text, "--keywords-column", "words"}, 2, {"has no columns"});
  refused({"--texts", scratch.write("k.csv", "text,words\na,\n"), "--keywords-column", "words"}, 3,
          {"'words' is empty"});
  refused({"--texts", text, "--training-data", table}, 3,
          {"no column 'text'", "--training-data " + table + " --training-text-column 'quote'"});
  refused({"--texts", scratch.write("n.jsonl", "{\"text\": null}")}, 3, {"line 1", "is null"});
  refused({"--texts", scratch.write("m.jsonl", "{\"txt\": \"a\"}")}, 3,
          {"fields: txt", "quire eval --texts"});
  refused({"--texts", text, "--copied-ngram", "3"}, 2, {"wants --training-data"});
  refused({"--texts", text, "--stride", "3"}, 2, {"wants --model"});
  refused({"--data", text, "--keywords-column", "a"}, 2, {"is for --texts"});
  refused({"--texts", text, "--output-dir", text}, 3, {"cannot create the folder"});
  refused({"--texts", text, "--baseline", scratch / "none.txt"}, 3, {"none.txt"});
}
