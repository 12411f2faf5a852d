// Models in the formats of other programs, as a user opens them.
#include <nlohmann/json.hpp>
#include <tuple>

#include "base/json.h"
#include "tests/cli/program.h"
#include "tests/engine/formats/checkpoints.h"
#include "tests/support/catch.h"
#include "tests/support/fixtures.h"

using namespace quire;
using namespace quire::test;
using Json = nlohmann::json;

namespace {

ProgramResult generate(const std::filesystem::path& model) {
  return run_quire({"generate", "--model", model.string(), "--prompt-ids", "1 2 3 40",
                    "--max-new-tokens", "12", "--json"});
}

}  // namespace

TEST_CASE("a model is taken in any format, and the same weights generate the same") {
  QUIRE_FIXTURE(models, "models");
  const ProgramResult original = generate(models / "tiny-char");
  REQUIRE(original.exit_code == 0);
  const Json expected = parse_json<Json>(original.out);
  std::vector<std::string> forms = {
      "tiny-char-formats/bin-zip", "tiny-char-formats/bin-zip/pytorch_model.bin",
      "tiny-char-gguf/tiny-char-f32.gguf", "tiny-char-llmc/model_fp32.bin"};
#ifdef QUIRE_WITH_TENSORFLOW
  forms.insert(forms.end(), {"tiny-char-tf", "tiny-char-tf/model.ckpt.index"});
#endif
  for (const std::string& form : forms) {
    INFO(form);
    const ProgramResult result = generate(models / form);
    INFO(result.err);
    REQUIRE(result.exit_code == 0);
    const Json line = parse_json<Json>(result.out);
    CHECK(line["output_ids"] == expected["output_ids"]);
    CHECK(line["logprobs"] == expected["logprobs"]);
  }
}

TEST_CASE("a model file that is damaged, hostile or of another architecture ends with code 3") {
  const ScratchFolder folder;
  const std::filesystem::path ran = folder / "ran";
  const std::string code =
      torch_zip(p_call(p_global("os", "system"), {p_text("touch " + ran.string())}), {});
  std::vector<std::string> llama = gguf_metadata(4);
  llama[0] = g_entry("general.architecture", 8, g_text("llama"));
  const std::string whole = gguf_file(gguf_metadata(4), {});
  for (const auto& [name, bytes, what] :
       {std::tuple("code.bin", code,
                   "it names os.system, which the weights of a model do not need"),
        std::tuple("cut.gguf", whole.substr(0, 60), "it ends at byte 60, where"),
        std::tuple("cut.bin", llmc_file().substr(0, 1100), "lies behind its end at byte 1100"),
        std::tuple("llama.gguf", gguf_file(llama, {}),
                   "it is a model of the architecture 'llama', not a GPT-2")}) {
    const std::string path = folder.write(name, bytes);
    const ProgramResult result = generate(path);
    CHECK(result.exit_code == 3);
    CHECK(result.out.empty());
    CHECK(contains(result.err, "error: " + path + " is not a usable "));
    CHECK(contains(result.err, what));
  }
  CHECK_FALSE(std::filesystem::exists(ran));
}
