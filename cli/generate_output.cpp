#include "cli/generate_output.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "base/json.h"
#include "base/text.h"
#include "cli/option_names.h"
#include "cli/terminal.h"

namespace quire {

namespace {

constexpr const char* kLines = "generated_texts.jsonl";

/// Token ids joined by spaces where there is no tokenizer.
std::string to_text(const std::optional<Tokenizer>& tokenizer, std::span<const std::int32_t> ids) {
  if (tokenizer) return tokenizer->decode(ids, /*skip_special_tokens=*/true);
  return fmt::format("{}", fmt::join(ids, " "));
}

/// The float itself, not the nearest double's seventeen digits.
double shortest(float value) {
  return std::isfinite(value) ? std::stod(compact_number(value)) : value;
}

std::string to_json(std::size_t index, const GeneratedSequence& generated,
                    const GenerateRequest& request, const std::optional<Tokenizer>& tokenizer) {
  nlohmann::ordered_json line;
  line["index"] = index;
  line["prompt_ids"] = request.prompt_ids;
  line["output_ids"] = generated.output_ids;
  line["text"] =
      tokenizer ? nlohmann::ordered_json(to_text(tokenizer, generated.output_ids)) : nullptr;
  line["finish_reason"] = name_of(generated.finish_reason);
  double sum = 0;
  line["logprobs"] = nlohmann::ordered_json::array();
  for (const float logprob : generated.logprobs) {
    sum += logprob;
    line["logprobs"].push_back(shortest(logprob));
  }
  for (const auto& [name, value] : request.fields) {
    if (!line.contains(name)) line[name] = value;
  }
  const bool searched = request.options.generation.num_beams > 1;
  line["score"] = searched ? shortest(generated.score) : sum;
  for (const auto& step : generated.top_logprobs) {
    auto best = nlohmann::ordered_json::array();
    for (const auto& [id, logprob] : step) {
      nlohmann::ordered_json entry = {{"id", id}, {"logprob", shortest(logprob)}};
      if (tokenizer) entry["token"] = tokenizer->decode(std::span(&id, 1));
      best.push_back(std::move(entry));
    }
    line["top_logprobs"].push_back(std::move(best));
  }
  return json_text(line) + "\n";
}

}  // namespace

void OutputOptions::add_to(Flags& flags) {
  flags.add("display-prompt", display_prompt,
            "begin each text with its prompt; --no-display-prompt writes new text only [true]");
  flags.add("json", json,
            "JSON lines: index, prompt_ids, output_ids, text (new tokens only), finish_reason, "
            "score, logprobs");
  flags.add(kOutputFolderNames, output_dir, "DIR",
            "a file for each text, 0001.txt, and all JSON lines in generated_texts.jsonl, instead "
            "of standard output");
  flags.add(kOverwriteFolderNames, overwrite_output_dir, "replace the texts that are there");
}

TextWriter::TextWriter(const std::vector<GenerateRequest>& requests,
                       const std::optional<Tokenizer>& tokenizer, const OutputOptions& options)
    : requests_(requests), tokenizer_(tokenizer), options_(options) {
  if (options_.output_dir.empty()) return;
  const std::filesystem::path lines = options_.output_dir / kLines;
  std::error_code error;
  if (!options_.overwrite_output_dir && std::filesystem::exists(lines, error)) {
    throw Error(Fault::usage, lines.string() + " is there already", {},
                "another --output-dir, or --overwrite-output-dir");
  }
  make_folder(options_.output_dir);
  lines_.emplace(lines);
}

void TextWriter::token(std::size_t request, std::int32_t id) {
  if (!open_) begin(request);
  write_token(id);
}

void TextWriter::errors_before(std::size_t request) {
  for (; next_request_ < request; ++next_request_) {
    const std::optional<Error>& error = requests_[next_request_].error;
    if (!error) continue;
    nlohmann::ordered_json line = {{"index", next_request_}, {"error", error->what()}};
    if (!error->details().empty()) line["details"] = error->details();
    if (lines_) {
      lines_->write(json_text(line) + "\n");
    } else if (options_.json) {
      print(json_text(line) + "\n");
    }
  }
}

void TextWriter::text(std::size_t request, const GeneratedSequence& text) {
  errors_before(request);
  if (lines_) {
    const std::string name = fmt::format("{:04}.txt", written_ + 1);
    write_file(options_.output_dir / name, whole(request, text) + "\n");
    lines_->write(to_json(request, text, requests_[request], tokenizer_));
  } else if (options_.json) {
    print(to_json(request, text, requests_[request], tokenizer_));
  } else if (open_) {
    print((decoder_ ? decoder_->finish() : "") + "\n");
    open_ = false;
    return;  // counted at its beginning
  } else {
    print(separator() + whole(request, text) + "\n");
  }
  ++written_;
}

void TextWriter::finish() {
  errors_before(requests_.size());
  if (!lines_) return;
  lines_->commit();
  note(fmt::format("{} in {}", counted(written_, "text"), options_.output_dir.string()));
}

std::string TextWriter::whole(std::size_t request, const GeneratedSequence& text) const {
  std::vector<std::int32_t> ids;
  if (options_.display_prompt) ids = requests_[request].prompt_ids;
  ids.insert(ids.end(), text.output_ids.begin(), text.output_ids.end());
  return to_text(tokenizer_, ids);
}

void TextWriter::begin(std::size_t request) {
  open_ = true;
  first_id_ = true;
  print(separator());
  ++written_;
  if (tokenizer_) decoder_.emplace(*tokenizer_, /*skip_special_tokens=*/true);
  if (!options_.display_prompt) return;
  for (const std::int32_t id : requests_[request].prompt_ids) write_token(id);
}

void TextWriter::write_token(std::int32_t id) {
  const std::string space = first_id_ ? "" : " ";
  first_id_ = false;
  print(decoder_ ? decoder_->push(id) : space + std::to_string(id));
}

}  // namespace quire
