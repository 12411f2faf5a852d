// quire data as a user runs it, and quire train on what it prepared.
#include <sys/resource.h>

#include <algorithm>
#include <csignal>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "base/file.h"
#include "base/json.h"
#include "cli/train_data.h"
#include "tests/cli/program.h"
#include "tests/support/catch.h"
#include "tests/support/data.h"
#include "tokenizer/tokenizer.h"

using namespace quire;
using namespace quire::test;
namespace fs = std::filesystem;
using Json = nlohmann::json;

namespace {

ProgramResult data(std::vector<std::string> arguments, const ProgramOptions& options = {}) {
  arguments.insert(arguments.begin(), "data");
  return run_quire(arguments, options);
}

void check_refused(const ProgramResult& result, int exit_code, const std::string& message) {
  INFO(result.err);
  CHECK(result.exit_code == exit_code);
  CHECK(contains(result.err, message));
}

/// A table of 60 rows, 9 of them twice, a tokenizer learnt from it,
/// and the config of a small model.
struct Workplace {
  ScratchFolder folder;
  std::string table, tokenizer, config;

  Workplace() {
    std::string rows = "name,text\n";
    for (int i = 0; i < 60; ++i) {
      rows += "fox " + std::to_string(i * 37 % 51) + ",it jumps over " +
              (i % 3 == 0 ? "the lazy dog" : "a quick brown hen and sleeps") + ".\n";
    }
    table = folder.write("table.csv", rows);
    tokenizer = folder / "tokenizer";
    const fs::path file = table;
    train_bpe({&file, 1}, {.vocab_size = 300}).save(tokenizer, 32);
    config = folder.write("config.json",
                          R"({"n_layer": 1, "n_head": 2, "n_embd": 16, "n_positions": 24})");
  }

  ProgramResult prepare(const std::string& output, std::vector<std::string> more = {}) const {
    std::vector<std::string> arguments = {"prepare", table,           "--tokenizer",    tokenizer,
                                          "-o",      folder / output, "--shard-tokens", "20"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return data(arguments);
  }

  ProgramResult train(const std::string& source, const std::string& output,
                      std::vector<std::string> more = {}) const {
    std::vector<std::string> arguments = {"train",
                                          "--config",
                                          config,
                                          "--tokenizer",
                                          tokenizer,
                                          "--data",
                                          source,
                                          "--output-dir",
                                          folder / output,
                                          "--validation-split",
                                          "0.1",
                                          "--max-steps",
                                          "12",
                                          "--batch-size",
                                          "4",
                                          "--save-steps",
                                          "6",
                                          "--logging-steps",
                                          "1",
                                          "--lr",
                                          "1e-2"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run_quire(arguments);
  }

  std::string read(const std::string& name) const { return read_file(folder / name); }

  /// The log without what depends on the clock.
  std::string losses(const std::string& output) const {
    std::istringstream log(read(output + "/log.jsonl"));
    std::string losses, line;
    while (std::getline(log, line)) {
      Json entry = parse_json<Json>(line);
      entry.erase("tokens_per_second");
      entry.erase("mfu");
      losses += json_text(entry) + "\n";
    }
    return losses;
  }
};

std::size_t shards_in(const fs::path& folder) {
  const fs::directory_iterator entries(folder);
  return static_cast<std::size_t>(
      std::count_if(begin(entries), end(entries),
                    [](const auto& entry) { return entry.path().extension() == ".tokens"; }));
}

}  // namespace

TEST_CASE("training on shards is training on the text, bit for bit") {
  const Workplace work;
  struct Way {
    std::string packing;
    std::vector<std::string> text_options;
  };
  const std::vector<Way> ways = {
      {"stream", {}},
      {"none", {"--template", "{name} {text}", "--clean", "duplicates"}},
      {"records", {"--template", "{name}: {text}", "--loss-on", "completion"}}};
  for (const Way& way : ways) {
    INFO(way.packing);
    std::vector<std::string> options = way.text_options;
    options.insert(options.end(), {"--packing", way.packing});
    const ProgramResult text = work.train(work.table, "text-" + way.packing, options);
    INFO(text.err);
    REQUIRE(text.exit_code == 0);

    const std::string shards = "shards-" + way.packing;
    const ProgramResult prepared = work.prepare(shards, way.text_options);
    INFO(prepared.err);
    REQUIRE(prepared.exit_code == 0);
    REQUIRE(shards_in(work.folder / shards) > 1);
    const ProgramResult mapped =
        work.train(work.folder / shards, "mapped-" + way.packing, {"--packing", way.packing});
    INFO(mapped.err);
    REQUIRE(mapped.exit_code == 0);
    CHECK(work.losses("mapped-" + way.packing) == work.losses("text-" + way.packing));
    CHECK(work.read("mapped-" + way.packing + "/model.safetensors") ==
          work.read("text-" + way.packing + "/model.safetensors"));
  }
}

TEST_CASE("a run on text goes on with the shards made of it, and not with others") {
  const Workplace work;
  REQUIRE(work.prepare("shards").exit_code == 0);
  REQUIRE(work.prepare("other", {"--text-column", "name"}).exit_code == 0);
  REQUIRE(work.train(work.table, "text").exit_code == 0);
  const std::string checkpoint = work.folder / "text/checkpoint-6";
  const ProgramResult resumed =
      work.train(work.folder / "shards", "mapped", {"--resume-from-checkpoint", checkpoint});
  INFO(resumed.err);
  CHECK(resumed.exit_code == 0);
  CHECK(contains(resumed.err, "going on from"));
  CHECK(work.read("mapped/model.safetensors") == work.read("text/model.safetensors"));
  check_refused(work.train(work.folder / "other", "no", {"--resume-from-checkpoint", checkpoint}),
                2, "training data: the checkpoint has");
}

TEST_CASE("shards that cannot be trained on are refused with the reason") {
  const Workplace work;
  const std::string shards = work.folder / "shards";
  REQUIRE(work.prepare("shards").exit_code == 0);
  check_refused(work.train(shards, "out", {"--template", "{text}"}), 2,
                "--template does nothing to shards");
  check_refused(work.train(shards, "out", {"--clean", "nfc"}), 2, "--clean does nothing to shards");
  check_refused(work.train(shards, "out", {"--loss-on", "completion"}), 2,
                "--loss-on completion does nothing to shards");
  check_refused(work.train(shards, "out", {"--data", shards, work.table}), 2,
                "token shards and text cannot be trained on together");
  const fs::path table = work.table;
  const std::string other = work.folder / "other-tokenizer";
  train_bpe({&table, 1}, {.vocab_size = 290}).save(other, 32);
  check_refused(work.train(shards, "out", {"--tokenizer", other}), 3,
                "was made with another tokenizer than this one");
  fs::remove(fs::path(shards) / "manifest.json");
  check_refused(work.train(shards, "out"), 3, "was not prepared to its end");
  CHECK_FALSE(fs::exists(work.folder / "out/config.json"));
}

TEST_CASE("the manifest says what the shards hold and how they were made") {
  const Workplace work;
  const ProgramResult result =
      work.prepare("shards", {"--template", "{name} {text}\xC3\xA9", "--clean",
                              "control,duplicates", "--json", "--threads", "1"});
  INFO(result.err);
  REQUIRE(result.exit_code == 0);
  const Json json = parse_json<Json>(result.out);
  CHECK(json == parse_json<Json>(work.read("shards/manifest.json")));
  CHECK(json["records"] == 51);
  CHECK(json["bytes_per_id"] == 2);
  CHECK(json["labels"] == false);
  CHECK(json["records_with_invalid_utf8"] == 0);
  CHECK(json["tokenizer"]["vocab_size"] == 300);
  CHECK(json["cleaning"] == parse_json<Json>(R"([{"step": "control", "changed": 0, "dropped": 0},
                        {"step": "duplicates", "changed": 0, "dropped": 9}])"));
  CHECK(json["options"]["template"] == "{name} {text}\xC3\xA9");
  CHECK(json["shards"].size() == shards_in(work.folder / "shards"));
  std::int64_t tokens = 0;
  for (const Json& shard : json["shards"]) tokens += shard["tokens"].get<std::int64_t>();
  CHECK(json["tokens"] == tokens);
  // The same on any number of threads.
  REQUIRE(
      work.prepare("again", {"--template", "{name} {text}\xC3\xA9", "--threads", "2"}).exit_code ==
      0);
  CHECK(work.read("again/shard-00000.tokens") == work.read("shards/shard-00000.tokens"));
}

TEST_CASE("a folder in use is kept, and what failed is known as unfinished") {
  const Workplace work;
  REQUIRE(work.prepare("shards").exit_code == 0);
  const std::string before = work.read("shards/manifest.json");
  check_refused(work.prepare("shards"), 2, "shards is not empty");
  CHECK(work.read("shards/manifest.json") == before);
  work.folder.write("shards/mine.txt", "kept");
  const std::size_t many = shards_in(work.folder / "shards");
  REQUIRE(work.prepare("shards", {"--overwrite", "--shard-tokens", "100000"}).exit_code == 0);
  CHECK(many > 1);
  CHECK(shards_in(work.folder / "shards") == 1);
  CHECK(work.read("shards/mine.txt") == "kept");

  // A row that is broken comes last: what was there before it is no data set.
  const std::string broken = work.folder.write("broken.csv", work.read("table.csv") + "\"open");
  check_refused(data({"prepare", broken, "--tokenizer", work.tokenizer, "--overwrite", "-o",
                      work.folder / "shards"}),
                3, "broken.csv line 62: the quote that opens here is never closed");
  CHECK_FALSE(fs::exists(work.folder / "shards/manifest.json"));
}

TEST_CASE("a disk that is full while preparing ends with 4 and leaves no half shard") {
  const Workplace work;
  rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_FSIZE, &before) == 0);
  const rlimit small{1000, before.rlim_max};
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &small) == 0);
  const ProgramResult full = work.prepare("shards", {"--shard-tokens", "100000"});
  ::setrlimit(RLIMIT_FSIZE, &before);
  check_refused(full, 4, "cannot write");
  CHECK(fs::is_empty(work.folder / "shards"));
  CHECK(work.prepare("shards").exit_code == 0);
}

TEST_CASE("Ctrl-C ends preparing with 130, and what is there is known as unfinished") {
  const Workplace work;
  std::string lines;
  for (int i = 0; i < 8'000'000; ++i) lines += "a\n";  // some 25 batches
  const std::string text = work.folder.write("long.txt", lines);
  Program program({"data", "prepare", text, "--line-by-line", "--tokenizer", work.tokenizer, "-o",
                   work.folder / "shards", "--shard-tokens", "100000"},
                  {.streams = Streams::terminal});
  REQUIRE(program.wait_for("of text"));
  program.send(SIGINT);
  const ProgramResult result = program.wait();
  INFO(result.out);
  CHECK(result.exit_code == 130);
  CHECK(contains(result.out, "shards is not finished"));
  CHECK(shards_in(work.folder / "shards") > 0);
  check_refused(work.train(work.folder / "shards", "out"), 3, "was not prepared to its end");
}

TEST_CASE("preparing says what is missing or makes no sense") {
  const Workplace work;
  const std::string out = work.folder / "out";
  check_refused(data({"prepare", "--tokenizer", work.tokenizer, "-o", out}), 2, "no data is named");
  check_refused(data({"prepare", work.table, "-o", out}), 2, "--tokenizer is missing");
  check_refused(data({"prepare", work.table, "--tokenizer", work.tokenizer}), 2,
                "--output-dir is missing");
  check_refused(work.prepare("out", {"--text-column", "txt"}), 3, "columns: name, text (60 rows");
  check_refused(work.prepare("out", {"--template", "no braces", "--overwrite"}), 2,
                "names no column");
  check_refused(work.prepare("out", {"--template", "{nme}", "--overwrite"}), 3,
                "has no column 'nme'");
  check_refused(work.prepare("out", {"--clean", "nfd", "--overwrite"}), 2,
                "there is no step 'nfd'");
  check_refused(work.prepare("table.csv"), 3, "cannot create the folder");
  check_refused(data({"prepare", work.folder / "nothing.csv", "--tokenizer", work.tokenizer, "-o",
                      work.folder / "new"}),
                3, "there is no file or folder");
  CHECK_FALSE(fs::exists(work.folder / "new"));
  const std::string empty = work.folder.write("empty.csv", "text\n\n");
  check_refused(data({"prepare", empty, "--tokenizer", work.tokenizer, "-o", out, "--overwrite"}),
                3, "empty.csv holds no text");
  const std::string labels =
      work.folder.write("l.jsonl", "{\"input_ids\": [1, 2], \"labels\": [1, 70000]}\n");
  check_refused(data({"prepare", labels, "--tokenizer", work.tokenizer, "-o", out, "--overwrite"}),
                3, "record 1 has the label 70000");
}

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
  const Workplace work;
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
  const Workplace work;
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

TEST_CASE("a validation file is prepared beside the data, and compared with it") {
  const Workplace work;
  work.folder.write("set/a.txt", "The fox jumps.\nThe hen sleeps.\nThe dog is lazy.\n");
  work.folder.write("set/table.csv", "text\nno\n");
  const std::string valid =
      work.folder.write("set/valid.txt", "The fox sleeps.\nThe hen sleeps.\n");
  const std::string out = work.folder / "out";
  const std::vector<std::string> set = {work.folder / "set", "--validation-file", valid,
                                        "--line-by-line",    "--tokenizer",       work.tokenizer};
  std::vector<std::string> arguments = set;
  arguments.insert(arguments.begin(), "prepare");
  arguments.insert(arguments.end(), {"-o", out, "--json"});
  const ProgramResult prepared = data(arguments);
  INFO(prepared.err);
  REQUIRE(prepared.exit_code == 0);
  CHECK(contains(prepared.err, "1 file of --data is not learnt from: --validation-file names it"));
  CHECK(contains(prepared.err, "set: only its .txt are read; passed over: 1 × .csv (for these"));
  CHECK(contains(prepared.err, "--data " + out + " --validation-file " + out + "/validation "));
  const std::vector<Json> manifests = json_lines(prepared.out);
  REQUIRE(manifests.size() == 2);
  CHECK(manifests[0]["records"] == 3);
  CHECK(manifests[1]["records"] == 2);
  CHECK(fs::exists(out + "/validation/manifest.json"));

  // Shards and text give the same bytes.
  const auto train = [&](const std::string& name, std::vector<std::string> more) {
    more.insert(more.begin(),
                {"train", "--config", work.config, "--tokenizer", work.tokenizer, "--output-dir",
                 work.folder / name, "--max-steps", "2", "--batch-size", "1", "--packing", "none"});
    const ProgramResult run = run_quire(more);
    INFO(run.err);
    CHECK(run.exit_code == 0);
    return read_file(fs::path(work.folder / name) / "log.jsonl");
  };
  const auto losses = [](const std::string& log) {
    std::vector<double> values;
    for (const Json& line : json_lines(log)) {
      for (const char* name : {"loss", "eval_loss"}) {
        if (line.contains(name)) values.push_back(line[name]);
      }
    }
    return values;
  };
  const std::vector<double> of_text = losses(
      train("text", {"--data", work.folder / "set", "--validation-file", valid, "--line-by-line"}));
  CHECK(of_text.size() == 3);
  CHECK(of_text ==
        losses(train("shards", {"--data", out, "--validation-file", out + "/validation"})));
  CHECK(of_text ==
        losses(train("both", {"--data", out, "--validation-file", valid, "--line-by-line"})));

  arguments = set;
  arguments.insert(arguments.begin(), "inspect");
  const ProgramResult shown = data(arguments);
  CHECK(contains(shown.out, "Validation file 2 records, of which 1 stands in the data, too\n"));
  arguments.emplace_back("--json");
  const Json json = parse_json<Json>(data(arguments).out);
  CHECK(json["records"] == 3);
  CHECK(json["validation"] == Json({{"records", 2}, {"also_in_data", 1}}));
  CHECK(json["epoch"]["records_held_out"] == 2);
  CHECK(json["skipped"] == Json({{".csv", 1}}));
  check_refused(data({"inspect", out, "--validation-file", valid}), 2, "not with shards");
  check_refused(data({"inspect", valid, "--validation-file", valid}), 2, "nothing is left");
}
