// Where the prompts of `quire generate` come from: the command line, files, standard input,
// requests of a JSONL file, and columns of a table through a template.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "cli/corpus_flags.h"
#include "cli/flags.h"
#include "cli/generate_requests.h"
#include "cli/split_flags.h"

namespace quire {

struct PromptOptions {
  std::vector<std::string> prompts, positional_prompts, prompt_files, prompt_ids;
  bool line_by_line = false;          ///< every line of a file or of standard input is a prompt
  std::string requests;               ///< a .jsonl of requests, or a .csv or .tsv for the template
  std::vector<std::string> keywords;  ///< each fills the template
  std::string template_text;          ///< empty: what the model's folder says it was trained on
  int limit = 0;                      ///< only so many of the requests' prompts; 0: all
  SplitFlags split;                   ///< of a table's rows those of a run's part
  TextFormatFlags format;             ///< of files and standard input

  void add_to(Flags& flags);
};

/// All requests, in order. A template's prompt is what comes before its last field. Throws
/// Error(usage) where there is none, or where two sources exclude each other.
std::vector<GenerateRequest> collect_requests(const PromptOptions& prompts,
                                              const RequestReader& reader,
                                              const RequestOptions& options,
                                              const std::filesystem::path& model_folder);

}  // namespace quire
