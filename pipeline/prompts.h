// Where prompts come from: texts, files, standard input, requests of a JSONL file, and columns of a
// table through a template.
#pragma once

#include <filesystem>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include "corpus/reading_report.h"
#include "corpus/records.h"
#include "pipeline/requests.h"

namespace quire {

struct PromptOptions {
  std::vector<std::string> prompts, positional_prompts, prompt_files, prompt_ids;
  bool line_by_line = false;          ///< every line of a file or of standard input is a prompt
  std::string requests;               ///< a .jsonl of requests, or a .csv or .tsv for the template
  std::vector<std::string> keywords;  ///< each fills the template
  std::string template_text;          ///< empty: what the model's folder says it was trained on
  int limit = 0;                      ///< only so many of the requests' prompts; 0: all
  /// Of a table, the lines at which the rows begin that are taken; where it is empty, all.
  std::function<std::set<std::size_t>(const std::filesystem::path& table)> lines_of;
  TextFormat format;  ///< of files and standard input
};

struct PromptCallbacks {
  std::function<void(const ReadingReport&)> on_read;  ///< what reading came upon
  std::function<std::string()> read_prompt;           ///< where no other source is named
};

/// All requests, in order. A template's prompt is what comes before its last field. Throws
/// Error(usage) where there is none, or where two sources exclude each other.
std::vector<GenerateRequest> collect_requests(const PromptOptions& prompts,
                                              const RequestReader& reader,
                                              const RequestOptions& options,
                                              const std::filesystem::path& model_folder,
                                              const PromptCallbacks& callbacks);

std::string without_last_line_break(std::string text);

}  // namespace quire
