// What we save, transformers loads: the same weights, logits and greedy text as the original.
#include <array>
#include <cstdio>
#include <cstdlib>

#include "engine/formats/hub_folder.h"
#include "kernels/reference/reference_device.h"
#include "tests/support/catch.h"
#include "tests/support/fixtures.h"
#include "tests/support/scratch.h"

namespace {

// Standard output and error of a command, and whether it ended well.
std::pair<std::string, bool> output_of(const std::string& command) {
  FILE* pipe = ::popen((command + " 2>/dev/null").c_str(), "r");
  if (pipe == nullptr) return {"", false};
  std::string text;
  std::array<char, 4096> part;
  while (const std::size_t count = std::fread(part.data(), 1, part.size(), pipe)) {
    text.append(part.data(), count);
  }
  return {text, ::pclose(pipe) == 0};
}

// A Python that has transformers: $QUIRE_PYTHON or python3; empty where there is none.
std::string python_with_transformers() {
  const char* variable = std::getenv("QUIRE_PYTHON");
  const std::string python = variable != nullptr ? variable : "python3";
  const std::string look =
      " -c \"from importlib.util import find_spec as f; import sys; "
      "sys.exit(not all(map(f, ['torch', 'transformers', 'safetensors'])))\"";
  return output_of("'" + python + "'" + look).second ? python : "";
}

}  // namespace

TEST_CASE("transformers loads what we save") {
  QUIRE_FIXTURE(models, "models");
  QUIRE_FIXTURE(check, "tools/hf_check.py");
  const std::string python = python_with_transformers();
  if (python.empty()) {
#ifdef QUIRE_CATCH2_V2
    WARN("SKIPPED: no Python with transformers (set QUIRE_PYTHON)");
    return;
#else
    SKIP("no Python with transformers (set QUIRE_PYTHON)");
#endif
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
      output_of("'" + python +
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
