// A model folder with a tokenizer for tests of the program: the small model of tests/data with the
// vocabulary of letters.
#pragma once

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "base/file.h"
#include "tests/cli/program.h"
#include "tests/support/fixtures.h"
#include "tests/support/letter_tokenizer.h"

namespace quire::test {

/// The model folder, made anew in the scratch folder.
inline std::string make_letter_model(const ScratchFolder& scratch) {
  const std::filesystem::path folder = scratch.path() / "model";
  std::filesystem::create_directories(folder);
  for (const char* name : {"config.json", "model.safetensors"}) {
    std::filesystem::copy_file(test_data("tied") / name, folder / name);
  }
  letter_tokenizer().save(folder, 16);
  return folder.string();
}

}  // namespace quire::test
