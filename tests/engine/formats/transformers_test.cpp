// What we save, transformers loads: the same weights, logits and greedy text as the original.
#include "engine/formats/hub_folder.h"
#include "kernels/reference/reference_device.h"
#include "tests/support/catch.h"
#include "tests/support/fixtures.h"
#include "tests/support/python.h"
#include "tests/support/scratch.h"

TEST_CASE("transformers loads what we save") {
  QUIRE_FIXTURE(models, "models");
  QUIRE_FIXTURE(check, "tools/hf_check.py");
  const std::string python = quire::test::python_with({"torch", "transformers", "safetensors"});
  if (python.empty()) {
    QUIRE_SKIP("no Python with transformers (set QUIRE_PYTHON)");
  }
  quire::ReferenceDevice device;
  const quire::test::ScratchFolder folder;
  struct Case {
    std::string original, tokenizer;
    quire::DType dtype;
  };
  const std::vector<Case> cases = {{"odd-untied", "odd-untied", quire::DType::f32},
                                   {"tiny-char-formats/bf16", "tiny-char", quire::DType::bf16}};
  std::string folders;
  for (std::size_t i = 0; i < cases.size(); ++i) {
    const quire::LoadedModel model =
        quire::load_model(device, models / cases[i].original, quire::WeightStorage::as_stored);
    const auto saved = folder / std::to_string(i);
    quire::save_model(device, saved, model.config, model.parameters, cases[i].dtype);
    const std::string tokenizer = " '" + (models / cases[i].tokenizer).string() + "'";
    folders += " '" + (models / cases[i].original).string() + "'" + tokenizer;
    folders += " '" + saved.string() + "'" + tokenizer;
  }
  // One process runs the script on all folders: importing transformers takes most of the time.
  const auto [text, well] =
      quire::test::output_of("'" + python +
                             "' -c '\n"
                             "import runpy, sys\n"
                             "script, folders = sys.argv[1], sys.argv[2:]\n"
                             "while folders:\n"
                             "  sys.argv = [script, folders[0], \"--tokenizer\", folders[1]]\n"
                             "  runpy.run_path(script)\n"
                             "  print(\"####\")\n"
                             "  folders = folders[2:]\n' '" +
                             check.string() + "'" + folders);
  REQUIRE(well);
  CHECK(text.find("_keys:") == std::string::npos);  // nothing missing, unexpected or mismatched
  std::vector<std::string> reports;
  for (std::size_t at = 0, end; (end = text.find("####\n", at)) != std::string::npos;
       at = end + 5) {
    reports.push_back(text.substr(at, end - at));
  }
  REQUIRE(reports.size() == 2 * cases.size());
  for (std::size_t i = 0; i < reports.size(); i += 2) {
    CHECK(reports[i].find("greedy ids [") != std::string::npos);
    CHECK(reports[i + 1] == reports[i]);
  }
}
