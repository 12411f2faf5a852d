// A folder to train in on a device that is slow: ten lines of text, a vocabulary of 270, and a
// model of 5,000 parameters.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "base/file.h"
#include "tests/cli/program.h"
#include "tokenizer/tokenizer.h"

namespace quire::test {

struct CudaWorkplace {
  ScratchFolder folder;
  std::string text, config, tokenizer;

  CudaWorkplace() {
    std::string lines;
    for (int i = 0; i < 10; ++i) {
      lines += "The fox number " + std::to_string(i * 37 % 11) + " jumps over " +
               (i % 3 == 0 ? "the lazy dog.\n" : "a hen.\n");
    }
    text = folder.write("text.txt", lines);
    config = folder.write("config.json",
                          R"({"n_layer": 1, "n_head": 2, "n_embd": 12, "n_positions": 16})");
    tokenizer = folder / "tokenizer";
    const std::filesystem::path file = text;
    train_bpe({&file, 1}, {.vocab_size = 270}).save(tokenizer, 16);
  }

  /// A program that can use CUDA, on a machine that QUIRE_CUDA_ON_HOST describes.
  static ProgramResult run(const std::vector<std::string>& arguments,
                           const std::string& machine = "") {
    ProgramOptions options;
    options.program = kCudaProgram;
    options.environment = {{"QUIRE_CUDA_ON_HOST", machine}};
    return run_quire(arguments, options);
  }

  std::vector<std::string> train_command(const std::string& output,
                                         const std::vector<std::string>& more) const {
    std::vector<std::string> arguments = {"train",
                                          "--data",
                                          text,
                                          "--output-dir",
                                          folder / output,
                                          "--tokenizer",
                                          tokenizer,
                                          "--line-by-line",
                                          "--batch-size",
                                          "2",
                                          "--lr",
                                          "1e-2",
                                          "--threads",
                                          "2",
                                          "--quiet",
                                          "--logging-steps",
                                          "1"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }
  /// Trains a fresh model; the run must succeed.
  void train(const std::string& output, const std::vector<std::string>& more) const {
    std::vector<std::string> command = train_command(output, {"--config", config});
    command.insert(command.end(), more.begin(), more.end());
    const ProgramResult result = run(command);
    INFO(result.err);
    REQUIRE(result.exit_code == 0);
  }
  std::string content(const std::string& path) const { return read_file(folder.path() / path); }
};

}  // namespace quire::test
