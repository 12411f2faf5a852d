#include "pipeline/requests.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <iostream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/nearest.h"
#include "base/text.h"
#include "base/text_width.h"
#include "corpus/encoding.h"
#include "corpus/json_text.h"

namespace quire {

namespace {

constexpr const char* kRequestFields[] = {"prompt", "prompt_ids", "stop", "num_return_sequences"};

Error unknown_option(const std::string& option) {
  std::vector<std::string> names = generation_option_names();
  names.insert(names.end(), std::begin(kRequestFields), std::end(kRequestFields));
  const std::string near = nearest(option, names);
  std::vector<std::string> details;
  if (!near.empty()) details.push_back(fmt::format("did you mean {}?", near));
  return {Fault::usage, fmt::format("there is no option '{}'", option), std::move(details),
          "quire generate `help`"_named};
}

/// The error of a request.
Error named(const std::string& request, const Error& error) {
  return {error.fault(), fmt::format("{}: {}", request, error.what()), error.details(),
          error.next()};
}

std::int32_t whole_number(const nlohmann::json& value) {
  if (const std::optional<std::int32_t> number = int32_of(value)) return *number;
  throw nlohmann::json::type_error::create(302, "not a whole number: " + json_text(value), &value);
}

GenerateRequest failed(std::string name, const Error& error) {
  return {.name = std::move(name), .prompt_ids = {}, .options = {}, .fields = {}, .error = error};
}

}  // namespace

void refuse_if_all_failed(const std::vector<GenerateRequest>& requests) {
  const bool all = std::ranges::all_of(
      requests, [](const GenerateRequest& request) { return request.error.has_value(); });
  if (all && !requests.empty()) throw *requests[0].error;
}

std::vector<std::pair<const char*, const char*>> options_without_effect(
    const std::function<bool(const char* option)>& is_given, const GenerationConfig& generation) {
  constexpr std::pair<const char*, const char*> kWanted[] = {
      {"temperature", "do_sample"},    {"top_k", "do_sample"},
      {"top_p", "do_sample"},          {"min_p", "do_sample"},
      {"length_penalty", "num_beams"}, {"early_stopping", "num_beams"}};
  std::vector<std::pair<const char*, const char*>> found;
  for (const auto& [option, wanted] : kWanted) {
    const bool of_sampling = wanted == std::string_view("do_sample");
    const bool works = of_sampling ? generation.do_sample : generation.num_beams > 1;
    if (!works && is_given(option)) found.emplace_back(option, wanted);
  }
  return found;
}

std::string read_standard_input() {
  std::string text;
  std::size_t size = 0;
  for (std::streamsize got = 1; got > 0; size += static_cast<std::size_t>(got)) {
    text.resize(std::max(2 * size, std::size_t{1} << 16));
    got = std::cin.rdbuf()->sgetn(text.data() + size,
                                  static_cast<std::streamsize>(text.size() - size));
  }
  text.resize(size);
  return text;
}

std::vector<std::string> split_lines(std::string_view text) {
  std::vector<std::string> lines;
  while (!text.empty()) {
    std::string_view line = take_until('\n', text);
    if (line.ends_with('\r')) line.remove_suffix(1);
    lines.emplace_back(line);
  }
  return lines;
}

std::string_view take_item(std::string_view& list) {
  constexpr std::string_view kSeparators = " ,\t\r\n";
  list.remove_prefix(std::min(list.find_first_not_of(kSeparators), list.size()));
  const std::string_view item = list.substr(0, list.find_first_of(kSeparators));
  list.remove_prefix(item.size());
  return item;
}

std::vector<std::int32_t> parse_ids(const std::string& what, std::string_view text) {
  std::vector<std::int32_t> ids;
  for (std::string_view item; !(item = take_item(text)).empty();) {
    const auto [stop, trouble] =
        std::from_chars(item.data(), item.data() + item.size(), ids.emplace_back());
    if (trouble != std::errc() || stop != item.data() + item.size()) {
      throw Error(Fault::usage, fmt::format("{} has '{}', which is no token id", what, item),
                  {"token ids are whole numbers, separated by spaces or commas"});
    }
  }
  return ids;
}

std::vector<std::int32_t> RequestReader::encode(const std::string& name,
                                                std::string_view text) const {
  if (!tokenizer_) {
    std::vector<std::string> details = {"looked for tokenizer.json, vocab.json and merges.txt"};
    details.insert(details.end(), get_tokenizer_.begin(), get_tokenizer_.end());
    throw Error(Fault::bad_data, fmt::format("{} is text, and the model has no tokenizer", name),
                std::move(details), "`tokenizer` DIR, or the prompt as `prompt_ids`"_named);
  }
  std::vector<std::int32_t> ids = tokenizer_->encode(text);
  if (ids.empty()) {
    const std::optional<int> start =
        model_.bos_token_id ? model_.bos_token_id : tokenizer_->end_of_text();
    if (start && *start < model_.vocab_size) ids.push_back(*start);
  }
  return ids;
}

GenerateRequest RequestReader::checked(GenerateRequest request) const {
  const RequestOptions& options = request.options;
  try {
    options.generation.check();
    check_prompt(model_, options.generation, request.prompt_ids, "the prompt");
    if (options.num_return_sequences < 1) {
      throw Error(Fault::usage,
                  fmt::format("num_return_sequences is {}", options.num_return_sequences),
                  {"allowed: 1 or more"});
    }
    const int beams = options.generation.num_beams;
    if (beams > 1 && options.num_return_sequences > beams) {
      throw Error(Fault::usage,
                  fmt::format("num_return_sequences is {}, num_beams {}",
                              options.num_return_sequences, beams),
                  {"a search has no more texts than beams"},
                  fmt::format("num_beams {}", options.num_return_sequences));
    }
    if (options.num_return_sequences > 1 && !options.generation.do_sample && beams == 1) {
      throw Error(Fault::usage,
                  fmt::format("num_return_sequences is {} in greedy decoding",
                              options.num_return_sequences),
                  {"all of them would be the same"}, "do_sample, or num_beams");
    }
    if (!options.stop.empty() && !tokenizer_) {
      throw Error(Fault::usage, "a stop string needs a tokenizer", {}, "`tokenizer` DIR"_named);
    }
    for (const std::string& stop : options.stop) {
      if (stop.empty()) throw Error(Fault::usage, "a stop string is empty");
    }
  } catch (const Error& error) {
    if (request.name == "the prompt") throw;
    throw named(request.name, error);
  }
  return request;
}

GenerateRequest RequestReader::from_text(std::string name, std::string_view text,
                                         const RequestOptions& options) const {
  std::vector<std::int32_t> ids = encode(name, text);
  return checked({std::move(name), std::move(ids), options});
}

GenerateRequest RequestReader::from_row(std::string name, std::string_view text,
                                        const RequestOptions& options) const {
  try {
    return from_text(name, text, options);
  } catch (const Error& error) {
    return failed(std::move(name), error);
  }
}

GenerateRequest RequestReader::from_ids(std::string name, std::string_view ids,
                                        const RequestOptions& options) const {
  std::vector<std::int32_t> parsed = parse_ids(name, ids);
  return checked({std::move(name), std::move(parsed), options});
}

GenerateRequest RequestReader::from_json(std::string name, const std::string& line,
                                         const RequestOptions& defaults) const {
  GenerateRequest request{std::move(name), {}, defaults};
  nlohmann::json json;
  std::string why;
  try {
    // As null they would pass for an option that is not given.
    if (strict_json(line).not_a_number) {
      why = "NaN and Infinity are no values of an option";
    } else if (json = parse_json<nlohmann::json>(line); !json.is_object()) {
      why = fmt::format("it holds a JSON {}", json.type_name());
    }
  } catch (const nlohmann::json::exception& error) {
    why = json_line_trouble(error);
  }
  if (!why.empty()) {
    throw Error(Fault::bad_data, fmt::format("{} is not a JSON object", request.name),
                {fmt::format("the line: {}", cut_to_width(line, 70)), std::move(why)},
                R"(a line like {"prompt": "Once upon a time", "max_new_tokens": 30})");
  }
  if (const auto twice = repeated_json_name(line)) {
    throw Error(Fault::bad_data, fmt::format("{} names '{}' twice", request.name, *twice));
  }
  const auto is_given = [&](const char* field) {
    return json.contains(field) && !json[field].is_null();
  };
  RequestOptions& options = request.options;
  try {
    for (const std::string& key : apply_options(line, options.generation)) {
      if (std::ranges::find(kRequestFields, key) == std::end(kRequestFields)) {
        throw unknown_option(key);
      }
    }
  } catch (const Error& error) {
    throw named(request.name, error);
  }
  try {
    if (is_given("stop")) {
      options.stop = json["stop"].is_string()
                         ? std::vector<std::string>{json["stop"].get<std::string>()}
                         : json["stop"].get<std::vector<std::string>>();
    }
    if (is_given("num_return_sequences")) {
      options.num_return_sequences = whole_number(json["num_return_sequences"]);
    }
    if (json.contains("prompt") == json.contains("prompt_ids")) {
      throw Error(Fault::bad_data,
                  fmt::format("{} must have either prompt or prompt_ids", request.name));
    }
    if (json.contains("prompt_ids")) {
      const auto list = json["prompt_ids"].get<std::vector<nlohmann::json>>();
      for (const nlohmann::json& id : list) request.prompt_ids.push_back(whole_number(id));
    } else {
      request.prompt_ids = encode(request.name, json["prompt"].get<std::string>());
    }
  } catch (const nlohmann::json::exception& error) {
    throw Error(Fault::bad_data, fmt::format("{} has a field of the wrong type", request.name),
                {json_trouble(error),
                 "prompt is a text, prompt_ids a list of whole numbers, stop a text "
                 "or a list of texts"});
  }
  for (const auto& [option, wanted] : options_without_effect(is_given, options.generation)) {
    warn_(fmt::format("{}: {} has no effect without {}", request.name, option, wanted));
  }
  return checked(std::move(request));
}

std::vector<GenerateRequest> RequestReader::from_jsonl(const std::string& path,
                                                       const std::string& encoding,
                                                       const RequestOptions& defaults,
                                                       ReadingReport& report) const {
  const std::string bytes = path == "-" ? read_standard_input() : read_file(path);
  const std::string shown = path == "-" ? "standard input" : path;
  const bool marked = bytes.starts_with("\xEF\xBB\xBF");  // UTF-8, whatever is asked for
  const std::string text = marked ? bytes.substr(3) : to_utf8(bytes, encoding, shown);
  std::vector<GenerateRequest> requests;
  std::size_t number = 0;
  for (std::string line : split_lines(without_byte_order_mark(text, shown))) {
    ++number;
    if (line.find_first_not_of(" \t") == std::string::npos) continue;
    std::string name = fmt::format("{}:{}", shown, number);
    report.look(shown, number, line);
    if (!is_utf8(line)) line = replace_invalid_utf8(line);
    // NaN stays, and is refused: as null it would pass for an option that is not given.
    if (StrictJson strict = strict_json(line); strict.lone_surrogate && !strict.not_a_number) {
      report.surrogates.add(shown, number);
      line = std::move(strict.text);
    }
    try {
      requests.push_back(from_json(name, line, defaults));
    } catch (const Error& error) {
      requests.push_back(failed(std::move(name), error));
    }
  }
  if (requests.empty()) throw Error(Fault::bad_data, fmt::format("{} holds no request", shown));
  refuse_if_all_failed(requests);
  return requests;
}

}  // namespace quire
