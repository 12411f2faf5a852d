// quire data inspect as a user runs it.
#include <nlohmann/json.hpp>

#include "tests/cli/data_workplace.h"

using namespace quire;
using namespace quire::test;
namespace fs = std::filesystem;
using Json = nlohmann::json;

TEST_CASE("inspecting shows columns before anyone chose one") {
  const ScratchFolder folder;
  const std::string table =
      folder.write("a.csv", "quote,mood\nHello there,glad\n\"Good\nbye\",\n,sad\nNo,sad\n");
  const ProgramResult people = data({"inspect", table});
  INFO(people.out + people.err);
  CHECK(people.exit_code == 0);
  CHECK(contains(people.out, "1 × .csv, 63 bytes") == contains(people.out, "63 bytes"));
  CHECK(contains(people.out, "75.0%"));
  CHECK(contains(people.out, "\"Hello there\""));
  CHECK(contains(people.err, "--text-column NAME"));
  const Json json = parse_json<Json>(data({"inspect", table, "--json"}).out);
  CHECK(json["rows"] == 4);
  CHECK(json["columns"] ==
        parse_json<Json>(R"([{"name": "quote", "filled": 3, "bytes": 21, "example": "Hello there"},
                        {"name": "mood", "filled": 3, "bytes": 10, "example": "glad"}])"));
  CHECK_FALSE(json.contains("records"));
}

TEST_CASE("inspecting counts, measures, and names the first place of every trouble") {
  const DataWorkplace work;
  const std::string file =
      work.folder.write("a.csv",
                        "text,n\none two,1\ncaf\xC3\x83\xC2\xA9 au lait,2\none two,3\nbell\x07,4\n"
                        "e\xCC\x81,5\nbroken \xFF byte,6\n0123456789,7\n");
  const std::vector<std::string> arguments = {
      "inspect", file, "--template", "{n}. {text}", "--json", "--max-line-length", "15"};
  const ProgramResult result = data(arguments);
  INFO(result.err);
  REQUIRE(result.exit_code == 0);
  const Json words = parse_json<Json>(result.out);
  CHECK(words["records"] == 7);
  CHECK(words["lengths"]["unit"] == "words");
  CHECK(words["lengths"]["least"] == 2);
  CHECK(words["lengths"]["most"] == 4);
  CHECK(words["lengths"]["median"] == 3);
  CHECK(words["lengths"]["histogram"] ==
        parse_json<Json>(
            R"([{"low": 2, "high": 3, "records": 5}, {"low": 4, "high": 7, "records": 2}])"));
  const auto trouble = [&](const char* key, int records, int line) {
    INFO(key);
    CHECK(words["trouble"][key]["records"] == records);
    CHECK(words["trouble"][key].value("line", 0) == line);
  };
  trouble("invalid_utf8", 1, 7);
  trouble("mojibake", 1, 3);
  trouble("control", 1, 5);
  trouble("not_nfc", 1, 6);
  trouble("long_lines", 2, 3);
  trouble("duplicates", 0, 0);
  CHECK(words["trouble"]["mojibake"]["excerpt"] == "2. caf\u00C3\u00A9 au lait");
  CHECK_FALSE(words.contains("epoch"));
  CHECK(words["samples"].size() == 5);
  CHECK(words["samples"][0]["text"] == "1. one two");

  const Json plain = parse_json<Json>(data({"inspect", file, "--json"}).out);
  CHECK(plain["trouble"]["duplicates"]["records"] == 1);
  CHECK(plain["trouble"]["duplicates"]["line"] == 4);
  const Json cleaned =
      parse_json<Json>(data({"inspect", file, "--json", "--clean", "duplicates,nfc,control"}).out);
  CHECK(cleaned["records"] == 6);
  CHECK(cleaned["trouble"]["control"]["records"] == 0);
  CHECK(cleaned["cleaning"] == parse_json<Json>(R"([{"step": "nfc", "changed": 1, "dropped": 0},
                        {"step": "control", "changed": 1, "dropped": 0},
                        {"step": "duplicates", "changed": 0, "dropped": 1}])"));
  const std::string people = data({"inspect", file}).out;
  CHECK(contains(people, "line 3: \"caf\u00C3\u00A9 au lait\"\n    --clean repair-mojibake"));
}

TEST_CASE("inspecting tells the rows and steps of an epoch as training will have them") {
  const DataWorkplace work;
  REQUIRE(work.prepare("shards").exit_code == 0);
  for (const char* packing : {"stream", "records", "none"}) {
    const std::vector<std::string> options = {
        "--packing", packing, "--block-size", "20", "--gradient-accumulation-steps", "2"};
    std::vector<std::string> arguments = options;
    arguments.insert(arguments.end(), {"--tokenizer", work.tokenizer, "--batch-size", "4",
                                       "--validation-split", "0.1", "--json"});
    std::vector<std::string> text = arguments, shards = arguments;
    text.insert(text.begin(), {"inspect", work.table});
    shards.insert(shards.begin(), {"inspect", (work.folder / "shards").string()});
    const Json of_text = parse_json<Json>(data(text).out);
    const Json of_shards = parse_json<Json>(data(shards).out);
    CHECK(of_text["epoch"] == of_shards["epoch"]);
    CHECK(of_text["lengths"] == of_shards["lengths"]);
    CHECK(of_text["samples"] == of_shards["samples"]);
    CHECK(of_text["epoch"]["records_held_out"] == 6);
    CHECK(contains(of_text["samples"][0]["text"].get<std::string>(), "<|endoftext|>"));

    std::vector<std::string> train = options;
    train.insert(train.end(), {"--max-steps", "-1", "--epochs", "1"});
    const ProgramResult run = work.train(work.table, std::string("run-") + packing, train);
    INFO(run.err);
    REQUIRE(run.exit_code == 0);
    const std::string steps = std::to_string(of_text["epoch"]["steps"].get<int>());
    CHECK(contains(run.err, "step " + steps + "/" + steps));
  }
}

TEST_CASE("data that is not there or is packed badly is refused by inspecting too") {
  const ScratchFolder folder;
  check_refused(data({"inspect"}), 2, "no data is named");
  check_refused(data({"inspect", folder / "no.csv"}), 3, "there is no file or folder");
  check_refused(data({"inspect", folder.write("a.txt", "")}), 3, "a.txt holds no text");
  check_refused(data({"inspect", folder.write("a.csv", "a,b\n1\n")}), 3,
                "a.csv line 2: the row has 1 field");
  check_refused(data({"inspect", folder.write("a.jsonl", "{\"text\": 1}\n{\n")}), 3,
                "a.jsonl line 2: it is not valid JSON");
  check_refused(data({"inspect", folder.write("a.tokens", "QRTOKENS")}), 3,
                "is not a token shard, or damaged");
  check_refused(data({"look"}), 2, "quire data cannot 'look'");
  for (const char* action : {"inspect", "prepare"}) {
    const ProgramResult help = data({action, "--help"});
    CHECK(help.exit_code == 0);
    CHECK(contains(help.out, "samples/quotes.csv"));
  }
}
