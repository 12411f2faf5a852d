// Where the texts of `quire generate` go: standard output,
// whole or as their tokens come, or a folder.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/file.h"
#include "cli/flags.h"
#include "pipeline/run_requests.h"

namespace quire {

struct OutputOptions {
  bool display_prompt = true;
  bool json = false;
  std::filesystem::path output_dir;
  bool overwrite_output_dir = false;

  void add_to(Flags& flags);
};

class TextWriter {
 public:
  /// Throws Error(usage) when the output folder already holds texts and may not be overwritten.
  TextWriter(const std::vector<GenerateRequest>& requests,
             const std::optional<Tokenizer>& tokenizer, const OutputOptions& options);

  /// A token of the text that is written as it comes.
  void token(std::size_t request, std::int32_t id);
  /// The end of that text, or another one as a whole.
  void text(std::size_t request, const GeneratedSequence& text);
  /// Completes the output folder, and says so.
  void finish();

 private:
  std::string separator() { return written_ == 0 ? "" : "---\n"; }
  std::string whole(std::size_t request, const GeneratedSequence& text) const;
  void begin(std::size_t request);
  void write_token(std::int32_t id);
  /// A JSON line for each request before `request` that has none yet and has an error.
  void errors_before(std::size_t request);

  const std::vector<GenerateRequest>& requests_;
  const std::optional<Tokenizer>& tokenizer_;
  OutputOptions options_;
  std::optional<AtomicFile> lines_;  // of the output folder
  std::optional<StreamDecoder> decoder_;
  std::size_t next_request_ = 0;  // whose error may still be due
  bool open_ = false;
  bool first_id_ = true;
  std::size_t written_ = 0;
};

}  // namespace quire
