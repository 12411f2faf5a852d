// What a download left in the place of a file: every reader of a model or of data says what it is.
#include <filesystem>
#include <string>
#include <vector>

#include "base/file.h"
#include "tests/cli/letter_model.h"
#include "tests/cli/program.h"
#include "tests/support/catch.h"
#include "tests/support/fixtures.h"

using namespace quire;
using namespace quire::test;

namespace {

const char* const kPointer =
    "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n";
const char* const kPage = "<!DOCTYPE html>\n<html><head><title>404</title></head></html>\n";

void check_named(const std::vector<std::string>& arguments, const std::string& file,
                 const std::string& what) {
  const ProgramResult result = run_quire(arguments);
  INFO(arguments[0] << " " << file << ": " << result.err);
  CHECK(result.exit_code == 3);
  CHECK(contains(result.err, file));
  CHECK(contains(result.err, what));
}

}  // namespace

TEST_CASE("a Git LFS pointer or a web page in the place of a model's file is called that") {
  for (const char* name :
       {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
        "special_tokens_map.json", "vocab.json", "merges.txt", "model.safetensors",
        "model.safetensors.index.json", "adapter_config.json"}) {
    const ScratchFolder scratch;
    const std::filesystem::path model = make_letter_model(scratch);
    const std::string file = name;
    if (file == "vocab.json" || file == "merges.txt")
      std::filesystem::remove(model / "tokenizer.json");
    if (file.ends_with("index.json") || file.starts_with("adapter")) {
      std::filesystem::remove(model / "model.safetensors");
    }
    const std::vector<std::string> generate = {"generate", "--model", model, "-p", "a", "-n", "1"};
    write_file(model / name, kPointer);
    check_named(generate, name, "it is a Git LFS pointer, not the file of 12345 bytes itself");
    write_file(model / name, kPage);
    check_named(generate, name, "it is a web page");
  }
}

TEST_CASE("a Git LFS pointer in the place of data is not learnt") {
  const ScratchFolder scratch;
  const std::string model = make_letter_model(scratch);
  for (const char* name : {"a.txt", "a.csv", "a.jsonl"}) {
    const std::string file = scratch.write(name, kPointer);
    const std::string what = "is no text\n  it is a Git LFS pointer";
    check_named({"data", "inspect", file}, name, what);
    check_named({"data", "prepare", file, "--tokenizer", model, "-o", scratch / "out"}, name, what);
    check_named({"train", "--config", "tiny", "--tokenizer", model, "--data", file, "--output-dir",
                 scratch / "out"},
                name, what);
    check_named({"eval", "--model", model, "--data", file}, name, what);
    check_named({"generate", "--model", model, "--prompt-file", file}, name, what);
    check_named({"tokenizer", "encode", "--tokenizer", model, file}, name, what);
    check_named({"tokenizer", "train", "-o", scratch / "out", file}, name, what);
  }
  check_named({"keywords", scratch / "a.csv"}, "a.csv", "it is a Git LFS pointer");
  const std::vector<std::string> generate = {"generate", "--model", model, "--requests"};
  std::vector<std::string> lines = generate, table = generate;
  lines.push_back(scratch / "a.jsonl");
  table.insert(table.end(), {scratch / "a.csv", "--template", "{a} {b}"});
  check_named(lines, "a.jsonl", "it is a Git LFS pointer");
  check_named(table, "a.csv", "it is a Git LFS pointer");
  check_named({"eval", "--texts", scratch / "a.txt"}, "a.txt", "it is a Git LFS pointer");
}
