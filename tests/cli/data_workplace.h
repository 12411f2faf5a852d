// What the tests of quire data begin with.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/json.h"
#include "tests/cli/program.h"
#include "tests/support/catch.h"
#include "tokenizer/tokenizer.h"

namespace quire::test {

inline ProgramResult data(std::vector<std::string> arguments, const ProgramOptions& options = {}) {
  arguments.insert(arguments.begin(), "data");
  return run_quire(arguments, options);
}

/// A table of 60 rows, 9 of them twice, a tokenizer learnt from it, and the config of a small model.
struct DataWorkplace {
  ScratchFolder folder;
  std::string table, tokenizer, config;

  DataWorkplace() {
    std::string rows = "name,text\n";
    for (int i = 0; i < 60; ++i) {
      rows += "fox " + std::to_string(i * 37 % 51) + ",it jumps over " +
              (i % 3 == 0 ? "the lazy dog" : "a quick brown hen and sleeps") + ".\n";
    }
    table = folder.write("table.csv", rows);
    tokenizer = folder / "tokenizer";
    const std::filesystem::path file = table;
    train_bpe({&file, 1}, {.vocab_size = 300}).save(tokenizer, 32);
    config = folder.write("config.json",
                          R"({"n_layer": 1, "n_head": 2, "n_embd": 16, "n_positions": 24})");
  }

  ProgramResult prepare(const std::string& output, std::vector<std::string> more = {}) const {
    std::vector<std::string> arguments = {"prepare", table,           "--tokenizer",    tokenizer,
                                          "-o",      folder / output, "--shard-tokens", "20"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return data(arguments);
  }

  ProgramResult train(const std::string& source, const std::string& output,
                      std::vector<std::string> more = {}) const {
    std::vector<std::string> arguments = {"train",
                                          "--config",
                                          config,
                                          "--tokenizer",
                                          tokenizer,
                                          "--data",
                                          source,
                                          "--output-dir",
                                          folder / output,
                                          "--validation-split",
                                          "0.1",
                                          "--max-steps",
                                          "12",
                                          "--batch-size",
                                          "4",
                                          "--save-steps",
                                          "6",
                                          "--logging-steps",
                                          "1",
                                          "--lr",
                                          "1e-2"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run_quire(arguments);
  }

  std::string read(const std::string& name) const { return read_file(folder / name); }

  /// The log without what depends on the clock.
  std::string losses(const std::string& output) const {
    std::istringstream log(read(output + "/log.jsonl"));
    std::string losses, line;
    while (std::getline(log, line)) {
      auto entry = parse_json<nlohmann::json>(line);
      entry.erase("tokens_per_second");
      entry.erase("mfu");
      losses += json_text(entry) + "\n";
    }
    return losses;
  }
};

}  // namespace quire::test
