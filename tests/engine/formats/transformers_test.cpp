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
  const auto checked = [&](const std::filesystem::path& model, const std::string& tokenizer) {
    const auto [text, well] =
        output_of("'" + python + "' '" + check.string() + "' '" + model.string() +
                  "' --tokenizer '" + (models / tokenizer).string() + "'");
    CHECK(well);
    CHECK(text.find("greedy ids [") != std::string::npos);
    CHECK(text.find("_keys:") == std::string::npos);  // nothing missing, unexpected or mismatched
    return text;
  };
  quire::ReferenceDevice device;
  const quire::test::ScratchFolder folder;
  const auto saved = [&](const std::string& model, quire::DType dtype) {
    const quire::LoadedModel loaded =
        quire::load_model(device, models / model, quire::WeightStorage::as_stored);
    quire::save_model(device, folder.path(), loaded.config, loaded.parameters, dtype);
    return folder.path();
  };
  CHECK(checked(saved("odd-untied", quire::DType::f32), "odd-untied") ==
        checked(models / "odd-untied", "odd-untied"));
  CHECK(checked(saved("tiny-char-formats/bf16", quire::DType::bf16), "tiny-char") ==
        checked(models / "tiny-char-formats/bf16", "tiny-char"));
}
