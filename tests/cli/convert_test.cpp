// quire convert as a user runs it.
#include <csignal>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/json.h"
#include "tests/cli/letter_model.h"
#include "tests/cli/program.h"
#include "tests/support/catch.h"

using namespace quire;
using namespace quire::test;
namespace fs = std::filesystem;

namespace {

/// A model of `layers` blocks of GPT-2's, all zeros: a file with a hole, that takes no room.
std::string make_hollow_model(const ScratchFolder& scratch, int layers) {
  nlohmann::ordered_json header;
  std::int64_t offset = 0;
  const auto add = [&](const std::string& name, const std::vector<std::int64_t>& shape) {
    std::int64_t bytes = 4;
    for (const std::int64_t extent : shape) bytes *= extent;
    header[name] = {{"dtype", "F32"}, {"shape", shape}, {"data_offsets", {offset, offset + bytes}}};
    offset += bytes;
  };
  constexpr std::int64_t C = 768;
  add("wte.weight", {50257, C});
  add("wpe.weight", {1024, C});
  for (int i = 0; i < layers; ++i) {
    const std::string block = "h." + std::to_string(i) + ".";
    for (const char* ln : {"ln_1", "ln_2"}) {
      add(block + ln + ".weight", {C});
      add(block + ln + ".bias", {C});
    }
    for (const auto& [name, in, out] :
         {std::tuple("attn.c_attn", C, 3 * C), std::tuple("attn.c_proj", C, C),
          std::tuple("mlp.c_fc", C, 4 * C), std::tuple("mlp.c_proj", 4 * C, C)}) {
      add(block + name + ".weight", {in, out});
      add(block + name + ".bias", {out});
    }
  }
  add("ln_f.weight", {C});
  add("ln_f.bias", {C});
  const std::string text = header.dump();
  const std::uint64_t size = text.size();
  const fs::path file =
      scratch.write("hollow/model.safetensors",
                    std::string(reinterpret_cast<const char*>(&size), sizeof size) + text);
  fs::resize_file(file, sizeof size + size + static_cast<std::uintmax_t>(offset));
  scratch.write("hollow/config.json",
                nlohmann::ordered_json{{"model_type", "gpt2"}, {"n_layer", layers}}.dump());
  return file.parent_path().string();
}

}  // namespace

TEST_CASE("a model goes to GGUF and back, and writes the same text") {
  const ScratchFolder scratch;
  const std::string model = make_letter_model(scratch);
  const std::string gguf = scratch / "x.gguf", back = scratch / "back";
  ProgramResult result = run_quire({"convert", model, gguf, "--resize-vocab", "258"});
  INFO(result.err);
  REQUIRE(result.exit_code == 0);
  CHECK(contains(result.err, "the vocabulary grows from 40 to 258 rows"));
  CHECK(contains(result.err, "28 tensors, "));
  CHECK(contains(result.err, " MB/s: " + gguf));
  CHECK(result.out.empty());

  result = run_quire({"convert", gguf, back, "--tokenizer", model, "--json"});
  REQUIRE(result.exit_code == 0);
  const nlohmann::ordered_json json = parse_json<nlohmann::ordered_json>(result.out);
  CHECK(json["format"] == "safetensors");
  CHECK(json["tensors"] == 28);
  CHECK(json["bytes"] == fs::file_size(back + "/model.safetensors"));
  CHECK(json["files"].size() == 9);
  CHECK(contains(read_file(back + "/README.md"), "library_name: transformers"));
  CHECK(json["seconds"].get<double>() > 0);

  const std::string grown = scratch / "grown";
  REQUIRE(run_quire({"convert", model, grown, "--resize-vocab", "258"}).exit_code == 0);
  const std::vector<std::string> more = {"-p", "the", "-n", "8"};
  std::vector<std::string> first = {"generate", "--model", back},
                           second = {"generate", "--model", grown};
  first.insert(first.end(), more.begin(), more.end());
  second.insert(second.end(), more.begin(), more.end());
  result = run_quire(first);
  INFO(result.err);
  REQUIRE(result.exit_code == 0);
  CHECK(result.out == run_quire(second).out);
}

TEST_CASE("what quire convert does not understand is told with the next command") {
  const ScratchFolder scratch;
  const std::string model = make_letter_model(scratch);
  const std::string out = scratch / "out";
  const auto refused = [&](std::vector<std::string> arguments, int code) {
    arguments.insert(arguments.begin(), "convert");
    const ProgramResult result = run_quire(arguments);
    CHECK(result.exit_code == code);
    CHECK_FALSE(fs::exists(out));
    return result.err;
  };
  CHECK(contains(refused({}, 2), "what shall be converted?"));
  CHECK(contains(refused({model}, 2), "where to?"));
  CHECK(contains(refused({model, out, "more"}, 2), "one model at a time"));
  CHECK(contains(refused({model, out, "--dtype", "int4"}, 2), "try: --format gguf"));
  CHECK(contains(refused({model, out, "--max-shard-size", "many"}, 2), "sizes are 500MB, 5GB"));
  CHECK(contains(refused({model, out + ".gguf", "--max-shard-size", "5GB"}, 2), "a folder is"));
  CHECK(contains(refused({model, out, "--format", "onnx"}, 2), "auto|safetensors|gguf"));
  CHECK(contains(refused({scratch / "nothing", out}, 3), "there is no model"));
  CHECK(contains(refused({scratch.write("x.gguf", "GGUF").string(), out}, 3), "not a usable GGUF"));
  CHECK(contains(refused({model, model}, 2), "--overwrite-output-dir"));
  CHECK(contains(refused({model, out, "--resize-vocab", "20"}, 2),
                 "--resize-vocab 20 leaves no row for the model's bos_token_id"));
}

TEST_CASE("Ctrl-C while a model is converted leaves nothing behind") {
  const ScratchFolder scratch;
  const std::string model = make_hollow_model(scratch, 12);
  for (const char* name : {"out", "out.gguf"}) {
    INFO(name);
    const fs::path out = scratch / name;
    Program program({"convert", model, out});
    const std::string beginning = out.string() + ".tmp-" + std::to_string(program.process());
    const bool is_folder = out.extension().empty();
    REQUIRE(program.wait_for_file(is_folder ? beginning + "/config.json" : beginning));
    program.send(SIGINT);
    const ProgramResult result = program.wait();
    INFO(result.err);
    CHECK(result.exit_code == 130);
    CHECK(contains(result.err, "interrupted: nothing is written"));
    CHECK(std::distance(fs::directory_iterator(scratch.path()), {}) == 1);
  }
}

TEST_CASE("a terminal shows how far a conversion is") {
  const ScratchFolder scratch;
  const std::string model = make_hollow_model(scratch, 4);
  const ProgramResult result =
      run_quire({"convert", model, scratch / "x.gguf", "--dtype", "int4", "--threads", "1"},
                {.streams = Streams::terminal});
  CHECK(result.exit_code == 0);
  CHECK(contains(result.out, "% "));
  CHECK(contains(result.out, " MB/s"));
  CHECK(contains(result.out, " left"));
}
