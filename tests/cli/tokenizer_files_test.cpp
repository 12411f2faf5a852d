// quire tokenizer add and convert, and commands that take a tokenizer from a model's file.
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/json.h"
#include "tests/cli/letter_model.h"
#include "tests/cli/program.h"
#include "tests/support/catch.h"
#include "tests/support/fixtures.h"

using namespace quire;
using namespace quire::test;
using Json = nlohmann::json;
namespace fs = std::filesystem;

namespace {

ProgramResult encode(const std::string& tokenizer, const std::string& text) {
  ProgramOptions options;
  options.input = text;
  return run_quire({"tokenizer", "encode", "--tokenizer", tokenizer}, options);
}

Json parsed(const fs::path& file) {
  return parse_json<Json>(read_file(file));
}

}  // namespace

TEST_CASE("a GGUF file and llm.c's are models by themselves") {
  QUIRE_FIXTURE(transformers, "models/tiny-char");
  QUIRE_FIXTURE(gguf, "models/tiny-char-gguf/tiny-char-f32.gguf");
  QUIRE_FIXTURE(llmc, "models/tiny-char-llmc/model_fp32.bin");
  QUIRE_FIXTURE(tokenizer, "models/tiny-char-llmc/tokenizer.bin");
  const ScratchFolder scratch;
  const std::string alone = scratch / "model.gguf";
  fs::copy_file(gguf, alone);
  const auto text_of = [](const std::string& model, const std::vector<std::string>& more) {
    std::vector<std::string> arguments = {"generate", "--model", model, "-p", "ROMEO:", "-n", "12"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const ProgramResult result = run_quire(arguments);
    INFO(result.err);
    CHECK(result.exit_code == 0);
    return result.out;
  };
  const std::string text = text_of(transformers, {});
  CHECK(text_of(alone, {}) == text);
  CHECK(text_of(llmc, {}) == text);
  CHECK(text_of(transformers / "model.safetensors", {"--tokenizer", tokenizer}) == text);
  CHECK(text_of(transformers, {"--tokenizer", alone}) == text);

  const std::string data = scratch.write("text.txt", "First Citizen:\nWe are accounted poor.\n");
  const auto loss_of = [&](const std::string& model) {
    const ProgramResult result = run_quire({"eval", "--model", model, "--data", data, "--json"});
    INFO(result.err);
    REQUIRE(result.exit_code == 0);
    return parse_json<Json>(result.out)["loss"].get<double>();
  };
  CHECK(loss_of(alone) == loss_of(transformers));
  // What is trained from it is a folder that has all.
  const ProgramResult trained =
      run_quire({"train", "--model", alone, "--data", data, "--max-steps", "1", "--block-size", "8",
                 "--output-dir", scratch / "out"});
  INFO(trained.err);
  CHECK(trained.exit_code == 0);
  CHECK(encode(scratch / "out", text).out == encode(transformers, text).out);
  const ProgramResult prepared = run_quire({"data", "prepare", data, "--tokenizer", alone, "-o",
                                            scratch / "shards", "--overflow", "error"});
  INFO(prepared.err);
  CHECK(prepared.exit_code == 0);  // whose context is the model's
}

TEST_CASE("tokens are added behind the last id, where transformers looks for them") {
  const ScratchFolder scratch;
  const std::string model = make_letter_model(scratch);
  const std::string out = scratch / "out";
  const ProgramResult result =
      run_quire({"tokenizer", "add", model, out, "--special-token", "<|user|>", "--token", "ZEBRA",
                 "--pad-token", "<|pad|>", "--special-token", "<|endoftext|>", "--json"});
  INFO(result.err);
  REQUIRE(result.exit_code == 0);
  const Json line = parse_json<Json>(result.out);
  CHECK(line["tokens"] == 261);
  CHECK(line["ids"] ==
        Json{{"<|user|>", 258}, {"<|endoftext|>", 39}, {"<|pad|>", 259}, {"ZEBRA", 260}});
  CHECK(contains(result.err, "     39 <|endoftext|>  (was there)"));
  CHECK(contains(result.err, "quire convert MODEL OUT --resize-vocab 261"));

  const Json map = parsed(scratch / "out/special_tokens_map.json");
  CHECK(map["pad_token"] == "<|pad|>");
  CHECK(map["additional_special_tokens"] == Json{"<|user|>"});
  const Json config = parsed(scratch / "out/tokenizer_config.json");
  CHECK(config["additional_special_tokens"] == Json{"<|user|>"});
  CHECK(config["added_tokens_decoder"]["258"]["special"] == true);
  CHECK(config["added_tokens_decoder"]["260"]["special"] == false);
  CHECK(config["pad_token"] == "<|pad|>");
  CHECK(config["model_max_length"] == parsed(fs::path(model) / "config.json")["n_positions"]);
  CHECK(parsed(scratch / "out/tokenizer.json")["added_tokens"].size() == 4);
  CHECK(contains(encode(out, "<|user|>ZEBRA<|pad|>").out, "258 260 259"));
  // The pair of files and the small ones tell all of it, too; a second time adds nothing.
  fs::remove(scratch / "out/tokenizer.json");
  CHECK(contains(encode(out, "<|user|>ZEBRA<|pad|>").out, "258 260 259"));
  const ProgramResult again = run_quire(
      {"tokenizer", "add", out, out, "--special-token", "<|user|>", "--overwrite", "--json"});
  CHECK(parse_json<Json>(again.out)["tokens"] == 261);
  CHECK_FALSE(contains(again.err, "--resize-vocab"));
  CHECK(parsed(scratch / "out/special_tokens_map.json") == map);

  // What a model without the rows says.
  const std::string data = scratch.write("text.txt", "a b <|user|> c d\n");
  const auto fails = [&](std::vector<std::string> arguments, const std::string& next) {
    arguments.insert(arguments.end(), {"--model", model, "--tokenizer", out});
    const ProgramResult failed = run_quire(arguments);
    INFO(failed.err);
    CHECK(failed.exit_code != 0);
    CHECK(contains(failed.err, next));
  };
  fails({"generate", "-p", "<|user|>"}, "quire convert MODEL OUT --resize-vocab");
  fails({"eval", "--data", data}, "quire convert MODEL OUT --resize-vocab 261");
  fails({"train", "--data", data, "--output-dir", scratch / "run"}, "--resize-vocab for a model");
}

TEST_CASE("a tokenizer is written in another form") {
  QUIRE_FIXTURE(transformers, "models/tiny-char");
  QUIRE_FIXTURE(gguf, "models/tiny-char-gguf/tiny-char-f32.gguf");
  QUIRE_FIXTURE(llmc, "models/tiny-char-llmc/tokenizer.bin");
  const ScratchFolder scratch;
  const auto convert = [&](const std::string& from, const std::string& to) {
    const ProgramResult result = run_quire({"tokenizer", "convert", from, scratch / to});
    INFO(result.err);
    REQUIRE(result.exit_code == 0);
    return result.err;
  };
  convert(gguf, "tokenizer.bin");
  CHECK(read_file(scratch / "tokenizer.bin") == read_file(llmc));
  convert(llmc, "folder");
  const std::string text = "ROMEO: naïve 日本 <|endoftext|>\n";
  CHECK(encode(scratch / "folder", text).out == encode(transformers, text).out);
  CHECK(parsed(scratch / "folder/vocab.json") == parsed(transformers / "vocab.json"));
  CHECK(read_file(scratch / "folder/merges.txt") == read_file(transformers / "merges.txt"));
  CHECK(parsed(scratch / "folder/special_tokens_map.json") ==
        parsed(transformers / "special_tokens_map.json"));

  // Learnt tokens whose order does not tell their merges.
  Json tree = parsed(transformers / "tokenizer.json");
  std::swap(tree["model"]["merges"][0], tree["model"]["merges"][700]);
  scratch.write("odd/tokenizer.json", json_text(tree));
  CHECK(contains(convert(scratch / "odd", "odd.bin"), "decodes, but does not encode"));
}

TEST_CASE("what add and convert refuse") {
  const ScratchFolder scratch;
  const std::string model = make_letter_model(scratch);
  const std::string file = scratch.write("file", "");
  const auto fails = [&](const std::vector<std::string>& arguments, int exit_code,
                         const std::string& reason) {
    const ProgramResult result = run_quire(arguments);
    INFO(result.err);
    CHECK(result.exit_code == exit_code);
    CHECK(contains(result.err, reason));
    CHECK(contains(result.err, "try: "));
  };
  const std::string out = scratch / "out";
  fails({"tokenizer", "add", model, out}, 2, "nothing to add");
  fails({"tokenizer", "add", model, "--token", "x"}, 2, "1 place named");
  fails({"tokenizer", "add", model, model, "--token", "x"}, 2, "holds a tokenizer already");
  fails({"tokenizer", "add", model, out, "--token", ""}, 2, "a token to add is empty");
  fails({"tokenizer", "convert", model, out + ".gguf"}, 2, "a GGUF file holds a model");
  fails({"tokenizer", "convert", model, file}, 2, "is a file");
  fails({"tokenizer", "convert", file, out}, 3, "no tokenizer in");
  fails({"tokenizer", "convert", scratch / "none", out}, 3, "there is no model");
  scratch.write("short.bin", std::string("\xC8\xD7\x34\x01\x02", 5));
  fails({"tokenizer", "convert", scratch / "short.bin", out}, 3, "short.bin: ends at byte 5");
  CHECK_FALSE(fs::exists(out));
}
