// Whatever JSON the program reads: where it is broken, the message names the file and the line in it,
// and no library.
#include <algorithm>

#include "base/file.h"
#include "pipeline/get_model.h"
#include "tests/cli/letter_model.h"
#include "tests/support/catch.h"

using namespace quire;
using namespace quire::test;
namespace fs = std::filesystem;

namespace {

const char* const kBroken = "{\n \"a\": 1,\n \"b\": }\n";

void check_message(const std::vector<std::string>& arguments, const fs::path& file,
                   const std::string& place, const fs::path& input = {}) {
  ProgramOptions options;
  if (!input.empty()) options.input = read_file(input);
  const ProgramResult result = run_quire(arguments, options);
  INFO(result.err);
  CHECK(result.exit_code == 3);
  CHECK(contains(result.err, file.string()));
  CHECK(contains(result.err, place + ": unexpected '}'; expected '[', '{', or a literal"));
  CHECK_FALSE(contains(result.err, "exception"));
  CHECK_FALSE(contains(result.err, "parse error"));
}

}  // namespace

TEST_CASE("a broken file of a model is named with its line") {
  const ScratchFolder scratch;
  const std::string model = make_letter_model(scratch);
  const std::vector<std::string> generate = {"generate", "--model", model, "-p", "a", "-n", "1"};
  for (const char* name : {"config.json", "generation_config.json", "tokenizer.json", "vocab.json",
                           "tokenizer_config.json"}) {
    INFO(name);
    const fs::path file = fs::path(model) / name;
    // vocab.json is read where there is no tokenizer.json.
    const fs::path other = fs::path(model) / "tokenizer.json";
    const std::string kept = fs::exists(other) ? read_file(other) : "";
    if (name == std::string("vocab.json")) fs::remove(other);
    const std::string sound = fs::exists(file) ? read_file(file) : "{}";
    write_file(file, kBroken);
    check_message(generate, file, "line 3, column 7");
    write_file(file, sound);
    if (!kept.empty()) write_file(other, kept);
  }
  const fs::path index = fs::path(model) / "model.safetensors.index.json";
  fs::remove(fs::path(model) / "model.safetensors");
  write_file(index, kBroken);
  check_message(generate, index, "line 3, column 7");
  const fs::path adapter = scratch.write("adapter/adapter_config.json", kBroken);
  check_message({"generate", "--model", adapter.parent_path(), "-p", "a"}, adapter,
                "line 3, column 7");
}

TEST_CASE("a broken header of weights is told without the library's name") {
  const ScratchFolder scratch;
  const std::string model = make_letter_model(scratch);
  const fs::path file = fs::path(model) / "model.safetensors";
  std::string bytes = read_file(file);
  bytes.replace(8, 6, "{\"a\":}");
  write_file(file, bytes);
  check_message({"generate", "--model", model, "-p", "a", "-n", "1"}, file, "line 1, column 6");
}

TEST_CASE("broken options and lines of data are told with their own line") {
  const ScratchFolder scratch;
  const std::string model = make_letter_model(scratch);
  const fs::path file = scratch.write("broken.json", kBroken);
  check_message({"train", "--config-file", file}, file, "line 3, column 7");
  check_message({"train", "--config", file, "--data", file, "--output-dir", scratch / "out"}, file,
                "line 3, column 7");
  check_message({"sweep", file, "--output-dir", scratch / "out"}, file, "line 3, column 7");
  const fs::path large = scratch.write("large.json", "{\"seed\": 1e400}");
  for (const std::vector<std::string>& command :
       {std::vector<std::string>{"train", "--config-file", large},
        {"sweep", large, "--output-dir", scratch / "out"}}) {
    const ProgramResult result = run_quire(command);
    CHECK(result.exit_code == 3);
    CHECK(result.err.starts_with("error: " + large.string() +
                                 " is not valid JSON\n  number overflow parsing '1e400'\n"));
  }
  const fs::path lines = scratch.write("lines.jsonl",
                                       "{\"text\": \"a\"}\n"
                                       "{\"text\": }\n");
  const fs::path requests =
      scratch.write("requests.jsonl", "{\"prompt\": \"a\"}\n{\"prompt\": }\n");
  check_message({"generate", "--model", model, "--requests", requests}, requests.string() + ":2",
                "column 12");
  const std::string of_data = lines.string() + " line 2: it is not valid JSON";
  check_message(
      {"train", "--model", kBundledModel, "--data", lines, "--output-dir", scratch / "out"},
      of_data, "column 10");
  check_message({"eval", "--model", model, "--data", lines}, of_data, "column 10");
  check_message({"eval", "--texts", lines}, of_data, "column 10");
  check_message({"data", "inspect", lines}, of_data, "column 10");
  check_message({"tokenizer", "encode", "--jsonl", "--tokenizer", model}, "standard input:2",
                "column 10", lines);
  const ProgramResult types = run_quire({"generate", "--model", model, "--requests",
                                         scratch.write("types.jsonl", "{\"prompt\": 1}")});
  CHECK(types.exit_code == 3);
  CHECK(contains(types.err, "type must be string, but is number"));
  CHECK_FALSE(contains(types.err, "exception"));
}
