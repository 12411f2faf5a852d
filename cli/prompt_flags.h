// The options of `quire generate` that say where prompts come from.
#pragma once

#include <filesystem>
#include <string>

#include "cli/corpus_flags.h"
#include "cli/flags.h"
#include "cli/train_flags.h"
#include "pipeline/prompts.h"

namespace quire {

struct PromptFlags : PromptOptions {
  void add_to(Flags& flags);
  /// After parsing: words into types. `model_folder` holds the run that --split is of.
  void finish(const std::filesystem::path& model_folder);

 private:
  SplitFlags split_;
  TextFormatFlags format_;
};

/// What standard input holds; on a terminal one line, which is asked for. Throws Error(usage) where
/// that is nothing.
std::string read_prompt();

}  // namespace quire
