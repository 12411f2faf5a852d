// quire data as a user runs it, and quire train on what it prepared.
#include <sys/resource.h>

#include <algorithm>
#include <csignal>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/json.h"
#include "pipeline/training_data.h"
#include "tests/cli/data_workplace.h"
#include "tests/support/catch.h"
#include "tests/support/data.h"
#include "tokenizer/tokenizer.h"

using namespace quire;
using namespace quire::test;
namespace fs = std::filesystem;
using Json = nlohmann::json;

namespace {

std::size_t shards_in(const fs::path& folder) {
  const fs::directory_iterator entries(folder);
  return static_cast<std::size_t>(
      std::count_if(begin(entries), end(entries),
                    [](const auto& entry) { return entry.path().extension() == ".tokens"; }));
}

}  // namespace

TEST_CASE("training on shards is training on the text, bit for bit") {
  const DataWorkplace work;
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
  const DataWorkplace work;
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
  const DataWorkplace work;
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
  const DataWorkplace work;
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
  const DataWorkplace work;
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
  const DataWorkplace work;
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
  const DataWorkplace work;
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
  const DataWorkplace work;
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

TEST_CASE("a validation file is prepared beside the data, and compared with it") {
  const DataWorkplace work;
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
