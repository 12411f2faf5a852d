// What `quire generate` is asked for: prompts from the command line, files and standard input, or
// requests from a JSONL file, all as one list.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "corpus/reading_report.h"
#include "engine/generation/generator.h"
#include "tokenizer/tokenizer.h"

namespace quire {

/// How a request differs from its prompt alone.
struct RequestOptions {
  GenerationConfig generation;
  std::vector<std::string> stop;
  int num_return_sequences = 1;
};

struct GenerateRequest {
  std::string name;  ///< for errors: "the prompt", "requests.jsonl:3"
  std::vector<std::int32_t> prompt_ids;
  RequestOptions options;
  /// What filled the template, by field: it stands in the answer's JSON line too.
  std::vector<std::pair<std::string, std::string>> fields = {};
  /// Why this request is not answered, where others are.
  std::optional<Error> error = std::nullopt;
};

/// Turns prompts into requests that the model can take, or throws Error(usage) naming the prompt.
class RequestReader {
 public:
  /// `get_tokenizer`: where there is none, lines on how to get one. `warn` is told of options of a
  /// line that have no effect.
  RequestReader(const Gpt2Config& model, std::optional<Tokenizer> tokenizer,
                std::vector<std::string> get_tokenizer,
                std::function<void(const std::string&)> warn)
      : model_(model),
        tokenizer_(std::move(tokenizer)),
        get_tokenizer_(std::move(get_tokenizer)),
        warn_(std::move(warn)) {}

  /// An empty text becomes the model's beginning-of-text token.
  GenerateRequest from_text(std::string name, std::string_view text,
                            const RequestOptions& options) const;
  /// As from_text(), one of many: what cannot be answered is a request with its error.
  GenerateRequest from_row(std::string name, std::string_view text,
                           const RequestOptions& options) const;
  /// "1 2 3" or "1,2,3".
  GenerateRequest from_ids(std::string name, std::string_view ids,
                           const RequestOptions& options) const;
  /// A JSONL file, "-" for standard input: {"prompt"} or {"prompt_ids"} and options over
  /// `defaults`. A line that cannot be answered is a request with an `error`; throws the first of
  /// these where no line can. `report` gets the bytes that are not UTF-8 and the lone surrogates.
  std::vector<GenerateRequest> from_jsonl(const std::string& path, const std::string& encoding,
                                          const RequestOptions& defaults,
                                          ReadingReport& report) const;

 private:
  std::vector<std::int32_t> encode(const std::string& name, std::string_view text) const;
  GenerateRequest from_json(std::string name, const std::string& line,
                            const RequestOptions& defaults) const;
  GenerateRequest checked(GenerateRequest request) const;

  Gpt2Config model_;
  std::optional<Tokenizer> tokenizer_;
  std::vector<std::string> get_tokenizer_;
  std::function<void(const std::string&)> warn_;
};

/// Throws the first request's error where all of them have one.
void refuse_if_all_failed(const std::vector<GenerateRequest>& requests);

/// The given options that nothing reads with these settings, each with the option that would change
/// that.
std::vector<std::pair<const char*, const char*>> options_without_effect(
    const std::function<bool(const char* option)>& is_given, const GenerationConfig& generation);

/// All of standard input.
std::string read_standard_input();

/// "a\nb\r\n" -> a, b. A text that ends with a line break has no empty last line.
std::vector<std::string> split_lines(std::string_view text);

/// Takes the first word off the front of a list, in which white space and commas separate; "" at its
/// end.
std::string_view take_item(std::string_view& list);

/// Whole numbers separated by spaces or commas; throws Error(usage) naming `what`.
std::vector<std::int32_t> parse_ids(const std::string& what, std::string_view text);

}  // namespace quire
