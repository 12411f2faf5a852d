// What the tests of quire train begin with.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "base/file.h"
#include "tests/cli/program.h"
#include "tokenizer/tokenizer.h"

namespace quire::test {

/// A folder with a tokenizer of 300 ids, some text, and a config of a model of 20,000 parameters.
struct Workplace {
  ScratchFolder folder;
  std::string text, config, tokenizer;

  Workplace() {
    std::string lines;
    for (int i = 0; i < 300; ++i) {
      lines += "The fox number " + std::to_string(i * 37 % 101) + " jumps over " +
               (i % 3 == 0 ? "the lazy dog.\n" : "a quick brown hen, and sleeps.\n");
    }
    text = folder.write("text.txt", lines);
    config = folder.write("config.json",
                          R"({"n_layer": 2, "n_head": 2, "n_embd": 24, "n_positions": 32})");
    tokenizer = folder / "tokenizer";
    const std::filesystem::path file = text;
    train_bpe({&file, 1}, {.vocab_size = 300}).save(tokenizer, 32);
  }

  std::vector<std::string> command(const std::string& output,
                                   std::vector<std::string> more = {}) const {
    std::vector<std::string> arguments = {"train",
                                          "--config",
                                          config,
                                          "--tokenizer",
                                          tokenizer,
                                          "--data",
                                          text,
                                          "--output-dir",
                                          folder / output,
                                          "--line-by-line",
                                          "--batch-size",
                                          "4",
                                          "--gradient-accumulation-steps",
                                          "2",
                                          "--lr",
                                          "1e-2",
                                          "--logging-steps",
                                          "5",
                                          "--threads",
                                          "2"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }
};

inline std::string file(const std::string& folder, const std::string& name) {
  return read_file(std::filesystem::path(folder) / name);
}

}  // namespace quire::test
