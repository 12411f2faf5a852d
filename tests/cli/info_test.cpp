// quire info as a user runs it.
#include <nlohmann/json.hpp>
#include <set>

#include "base/file.h"
#include "base/json.h"
#include "base/text.h"
#include "base/text_width.h"
#include "tests/cli/letter_model.h"
#include "tests/cli/program.h"
#include "tests/cli/train_workplace.h"
#include "tests/pipeline/weights_of_all_forms.h"
#include "tests/support/catch.h"

using namespace quire;
using namespace quire::test;
namespace fs = std::filesystem;
using Json = nlohmann::json;

namespace {

ProgramResult info(std::vector<std::string> arguments, const ProgramOptions& options = {}) {
  arguments.insert(arguments.begin(), "info");
  return run_quire(arguments, options);
}

Json json_of(std::vector<std::string> arguments, int exit_code = 0) {
  arguments.emplace_back("--json");
  const ProgramResult result = info(arguments);
  INFO(result.err);
  REQUIRE(result.exit_code == exit_code);
  return parse_json<Json>(result.out);
}

std::set<std::string> keys_of(const Json& object) {
  std::set<std::string> keys;
  for (const auto& [key, value] : object.items()) keys.insert(key);
  return keys;
}

/// Some results are out before the one that fails.
void check_fails(const ProgramResult& result, int exit_code, const std::string& message) {
  INFO(result.err);
  CHECK(result.exit_code == exit_code);
  CHECK(contains(result.err, message));
}

using Keys = std::set<std::string>;

}  // namespace

TEST_CASE("info tells what a model folder holds") {
  QUIRE_FIXTURE(model, "models/tiny-char");
  const ProgramResult text = info({model.string()});
  CHECK(text.exit_code == 0);
  CHECK(text.err.empty());
  for (const char* part :
       {"  format      safetensors, 3.03 MB in model.safetensors\n",
        "  model       3 layers of 128, 4 heads, context 256, vocabulary 1,000, gelu_new\n",
        "  parameters  755,840 in 40 tensors\n", "  head        tied to wte.weight\n",
        "  type        F32: 40 tensors, 755,840 elements, 3.02 MB\n",
        "  tokenizer   1,000 tokens, <|endoftext|> is 999 (tokenizer.json)\n",
        "  metadata    format: pt\n",
        "\n  transformer.h.*.mlp.c_proj.weight   3  [512, 128]   F32"}) {
    INFO(part << text.out);
    CHECK(contains(text.out, part));
  }
  const ProgramResult all = info({model.string(), "--tensors"});
  CHECK(contains(all.out, "\n  transformer.h.2.mlp.c_proj.weight   [512, 128]   F32    262 kB\n"));
  CHECK(count_of(all.out, "\n  transformer.") == 40);

  const Json json = json_of({model.string()});
  CHECK(keys_of(json) == Keys{"path", "format", "files", "bytes", "gpt2", "config", "config_from",
                              "parameters", "types", "tokenizer", "metadata", "trouble",
                              "tensors"});
  CHECK(json["config"]["n_layer"] == 3);
  CHECK(json["parameters"] == 755'840);
  CHECK(json["types"] ==
        parse_json<Json>(R"({"F32": {"tensors": 40, "elements": 755840, "bytes": 3023360}})"));
  CHECK(json["tokenizer"] == parse_json<Json>(R"({"file": "tokenizer.json", "size": 1000,
                                                  "special_tokens": {"999": "<|endoftext|>"}})"));
  CHECK(json["tensors"].size() == 40);
  CHECK(json["tensors"][0] ==
        parse_json<Json>(R"({"name": "transformer.h.0.attn.c_attn.bias", "shape": [384],
                             "type": "F32", "bytes": 1536, "kind": "parameter"})"));
  // Several models, an object each.
  const ProgramResult two = info({model.string(), path_of(kForms[9]).string(), "--json"});
  CHECK(json_lines(two.out).at(1)["format"] == "GGUF");
}

TEST_CASE("info goes by what --model takes, and reads adapters and checkpoints") {
  CHECK(json_of({"narrator"})["parameters"] == 7'757'056);
  const Workplace work;
  REQUIRE(run_quire(work.command("out", {"--max-steps", "2", "--save-steps", "2"})).exit_code == 0);
  const std::string out = work.folder / "out";
  REQUIRE(run_quire({"train", "--model", out, "--data", work.text, "--output-dir",
                     work.folder / "adapter", "--lora-r", "2", "--max-steps", "1"})
              .exit_code == 0);
  const Json checkpoint = json_of({out + "/checkpoint-2"});
  CHECK(checkpoint["gpt2"] == true);
  CHECK(checkpoint["trouble"].empty());
  CHECK(checkpoint["tokenizer"]["size"] == 300);
  const Json moments = json_of({out + "/checkpoint-2/optimizer.safetensors"});
  CHECK(moments["gpt2"] == false);
  CHECK(moments["why_not"] == "none of its tensors is one of a GPT-2's");
  CHECK(moments["parameters"] == 2 * checkpoint["parameters"].get<std::int64_t>());
  const Json adapter = json_of({work.folder / "adapter"});
  CHECK(adapter["adapter"]["r"] == 2);
  CHECK(adapter["adapter"]["base_model"] == out);
  CHECK(adapter["gpt2"] == false);
  CHECK(adapter["tensors"].size() == 2 * 2);
  const ProgramResult text = info({work.folder / "adapter"});
  CHECK(contains(text.out, "  adapter     LoRA of rank 2, alpha "));
}

TEST_CASE("info --check reads the values, and exits with 7 where one is not finite") {
  QUIRE_FIXTURE(models, "models/tiny-char");
  const Json good = json_of({path_of(kForms[4]).string(), "--check"});
  CHECK(good["check"] == parse_json<Json>(
                             R"({"passed": true, "trouble": [], "head_differs": 0,
                                 "head_difference": 0.0})"));
  CHECK(keys_of(good["tensors"][1]) ==
        Keys{"name", "shape", "type", "bytes", "kind", "nan", "inf", "min", "max", "mean", "std"});
  CHECK(contains(info({path_of(kForms[4]).string(), "--check"}).out,
                 "tied: lm_head.weight is equal to wte.weight"));

  const ScratchFolder folder;
  const std::string model_of_head = path_of(kForms[4]);
  const std::string bad =
      with_bytes(folder, kForms[1], "h.1.mlp.c_fc.weight", 515, nan_of("BF16")).string();
  CHECK(info({bad}).exit_code == 0);  // nothing was read
  const std::string trouble =
      "tensor 'transformer.h.1.mlp.c_fc.weight' holds nan at [1, 3]: 1 NaN, 0 infinite";
  const ProgramResult text = info({bad, "--check"});
  CHECK(contains(text.out, "\n  h.1.mlp.c_fc.weight "));
  check_fails(text, 7, "error: " + bad + " did not pass\n  " + trouble);
  const ProgramResult three = info({bad, model_of_head, bad, "--check", "--json"});
  check_fails(three, 7, "error: " + bad + ", " + bad + " did not pass\n");
  CHECK(json_lines(three.out).size() == 3);
  const Json json = json_of({bad, "--check", "--threads", "1"}, 7);
  CHECK(json["check"] == Json{{"passed", false}, {"trouble", {trouble}}});
  for (const Json& tensor : json["tensors"]) {
    CHECK(tensor.contains("first_bad") == (tensor["nan"] == 1));
    if (tensor["nan"] == 1) {
      CHECK(tensor["first_bad"] == parse_json<Json>(R"({"at": [1, 3], "value": "nan"})"));
    }
  }
  // A head that the config ties, and that is another one, is told: both are kept when it is loaded.
  const ScratchFolder other;
  const std::string head =
      with_bytes(other, kForms[4], "lm_head.weight", 130, std::string(4, '\0')).string();
  const ProgramResult apart = info({head, "--check"});
  CHECK(apart.exit_code == 0);
  CHECK(contains(apart.out, "the config ties it, but 2 elements of lm_head.weight differ"));
}

TEST_CASE("info --compare tells how far two models lie apart") {
  QUIRE_FIXTURE(model, "models/tiny-char");
  const std::string a = model.string(), f32 = path_of(kForms[7]).string(),
                    bf16 = path_of(kForms[1]).string();
  const ProgramResult equal = info({"--compare", a, f32, "--tolerance", "0"});
  INFO(equal.out + equal.err);
  CHECK(equal.exit_code == 0);
  CHECK(contains(equal.out, "  compared    40 tensors: 40 equal, 0 differ\n"));
  const ProgramResult apart = info({"--compare", a, bf16});
  CHECK(apart.exit_code == 0);
  CHECK(contains(apart.out, "  compared    40 tensors: 0 equal, 40 differ\n"));
  CHECK(contains(apart.out, "h.0.ln_2.weight at [26]: 1.0976535 and 1.09375\n"));
  CHECK(contains(apart.out, "  and 24 more: --tensors lists all\n"));
  CHECK(count_of(info({"--compare", a, bf16, "--tensors"}).out, "F32 BF16") == 40);

  const Json json = json_of({"--compare", a, bf16});
  CHECK(keys_of(json) ==
        Keys{"a", "b", "equal", "largest", "worst", "only_in_a", "only_in_b", "unlike", "tensors"});
  CHECK(json["equal"] == false);
  CHECK(json["worst"] == "h.0.ln_2.weight");
  const double largest = json["largest"];
  CHECK(std::abs(largest - (1.0976535 - 1.09375)) < 1e-7);
  CHECK(keys_of(json["tensors"][0]) ==
        Keys{"name", "shape", "types", "differing", "largest", "relative", "at", "a", "b"});
  // A tolerance makes a check of it.
  check_fails(info({"--compare", a, bf16, "--tolerance", "0.0039"}), 7,
              "differ by more than 0.0039\n  h.0.ln_2.weight at [26]: ");
  CHECK(info({"--compare", a, bf16, "--tolerance", "0.004"}).exit_code == 0);
  CHECK(json_of({"--compare", a, bf16, "--tolerance", "0"}, 7)["within"] == false);
  const std::string other = (model.parent_path() / "odd-untied").string();
  const std::string unlike = info({"--compare", a, other}).out;
  CHECK(count_of(unlike, "\n  unlike ") == 6);
  CHECK(contains(unlike, "\n              and 23 more: --tensors lists all\n"));
  CHECK(count_of(info({"--compare", a, other, "--tensors"}).out, "\n  unlike ") == 29);
  check_fails(info({"--compare", a, other, "--tolerance", "1e9"}), 7,
              "\n  12 tensors are only in " + a + "\n  29 tensors of other shapes");
}

TEST_CASE("what cannot be read is refused as loading would") {
  QUIRE_FIXTURE(model, "models/tiny-char");
  const ScratchFolder folder;
  const std::string whole = read_file(model / "model.safetensors");
  check_fails(info({folder.write("cut.safetensors", whole.substr(0, 5000))}), 3,
              "cut.safetensors is not a usable safetensors file");
  const std::string gguf = read_file(path_of(kForms[9]));
  check_fails(info({folder.write("cut.gguf", gguf.substr(0, gguf.size() - 1000))}), 3,
              "cut.gguf is not a usable GGUF file\n  tensor '");
  check_fails(info({folder / "none"}), 3, "there is no model '");
  check_fails(info({"--compare", model, folder / "none"}), 3, "there is no model '");
  check_fails(info({}), 2, "which model shall be looked into?");
  check_fails(info({"--compare", model}), 2, "--compare wants two models\n  1 PATH is named");
  check_fails(info({"--compare", "--check", model, model}), 2, "are two questions");
  check_fails(info({model, "--tolerance", "1"}), 2, "--tolerance goes with --compare");
}

TEST_CASE("what info prints fits on a terminal of 80 columns") {
  QUIRE_FIXTURE(model, "models/tiny-char");
  for (const std::vector<std::string>& arguments : {std::vector<std::string>{"--tensors"},
                                                    {"--check"},
                                                    {"--compare", path_of(kForms[9])},
                                                    {}}) {
    std::vector<std::string> all = arguments;
    all.insert(all.begin(), path_of(kForms[4]));
    const ProgramResult result = info(all, {.streams = Streams::terminal, .columns = 80});
    CHECK(result.exit_code == 0);
    for (std::string_view rest = result.out; !rest.empty();) {
      const std::string_view line = take_until('\n', rest);
      INFO(line);
      if (line.find("shared/") == line.npos) CHECK(display_width(line) <= 80);
    }
  }
}
