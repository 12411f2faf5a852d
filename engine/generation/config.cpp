#include "engine/generation/config.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/file.h"

namespace quire {

namespace {

using Json = nlohmann::json;

[[noreturn]] void refuse(const char* option, const std::string& value, const char* allowed) {
  throw Error(Fault::usage, fmt::format("{} is {}", option, value),
              {fmt::format("allowed: {}", allowed)});
}

template <class T>
void require(bool ok, const char* option, T value, const char* allowed) {
  if (!ok) refuse(option, fmt::format("{}", value), allowed);
}

/// One field of generation_config.json into its place; null and missing leave it as it is.
template <class T>
void take(const Json& json, const char* name, T& into) {
  const auto field = json.find(name);
  if (field == json.end() || field->is_null()) return;
  field->get_to(into);
}

/// An id or a list of ids.
void take_ids(const Json& json, const char* name, GenerationConfig::Tokens& into) {
  const auto field = json.find(name);
  if (field == json.end() || field->is_null()) return;
  if (field->is_number_integer()) {
    into = {field->get<std::int32_t>()};
  } else {
    field->get_to(into);
  }
}

}  // namespace

void GenerationConfig::check() const {
  // The comparisons are written so that NaN fails them.
  require(max_new_tokens >= -1, "max_new_tokens", max_new_tokens,
          "1 or more, -1 to fill the context");
  require(max_new_tokens != 0 || max_length > 0, "max_new_tokens", max_new_tokens,
          "1 or more, or a max_length");
  require(max_length >= 0, "max_length", max_length, "1 or more");
  require(min_length >= 0, "min_length", min_length, "0 or more");
  require(min_new_tokens >= 0, "min_new_tokens", min_new_tokens, "0 or more");
  require(max_new_tokens <= 0 || min_new_tokens <= max_new_tokens, "min_new_tokens", min_new_tokens,
          "at most max_new_tokens");
  require(repetition_penalty > 0 && repetition_penalty < 1e30f, "repetition_penalty",
          repetition_penalty, "above 0; 1 turns it off");
  require(no_repeat_ngram_size >= 0, "no_repeat_ngram_size", no_repeat_ngram_size,
          "1 or more; 0 turns it off");
  require(temperature > 0 && temperature < 1e30f, "temperature", temperature,
          "above 0; greedy decoding is do_sample false");
  require(top_k >= 0, "top_k", top_k, "1 or more; 0 turns it off");
  require(top_p > 0 && top_p <= 1, "top_p", top_p, "above 0, at most 1; 1 turns it off");
  require(min_p >= 0 && min_p <= 1, "min_p", min_p, "0 to 1; 0 turns it off");
  require(top_logprobs >= 0, "top_logprobs", top_logprobs, "0 or more");
  for (const Tokens& word : bad_words_ids) {
    if (word.empty()) refuse("bad_words_ids", "[[]]", "lists of at least one id");
  }
  for (const auto& [sequence, bias] : sequence_bias) {
    if (sequence.empty()) refuse("sequence_bias", "[[[], …]]", "sequences of at least one id");
    require(bias == bias, "sequence_bias", bias, "a number");
  }
  if (exponential_decay_length_penalty) {
    const auto [start, factor] = *exponential_decay_length_penalty;
    require(start >= 0, "exponential_decay_length_penalty's start", start, "0 or more");
    require(factor > 0, "exponential_decay_length_penalty's factor", factor, "above 0");
  }
}

GenerationConfig read_generation_config(const std::filesystem::path& folder,
                                        const Gpt2Config& model) {
  GenerationConfig config;
  if (model.eos_token_id) config.eos_token_ids = {*model.eos_token_id};
  const std::filesystem::path path = folder / "generation_config.json";
  if (!std::filesystem::exists(path)) return config;
  try {
    const Json json = Json::parse(read_file(path));
    take_ids(json, "eos_token_id", config.eos_token_ids);
    take_ids(json, "forced_eos_token_id", config.forced_eos_token_id);
    take_ids(json, "suppress_tokens", config.suppress_tokens);
    take_ids(json, "begin_suppress_tokens", config.begin_suppress_tokens);
    take(json, "bad_words_ids", config.bad_words_ids);
    take(json, "sequence_bias", config.sequence_bias);
    take(json, "repetition_penalty", config.repetition_penalty);
    take(json, "no_repeat_ngram_size", config.no_repeat_ngram_size);
    take(json, "min_length", config.min_length);
    take(json, "do_sample", config.do_sample);
    take(json, "temperature", config.temperature);
    take(json, "top_k", config.top_k);
    take(json, "top_p", config.top_p);
    take(json, "min_p", config.min_p);
    int max_new_tokens = 0;
    int min_new_tokens = 0;
    int max_length = 0;
    take(json, "max_new_tokens", max_new_tokens);
    take(json, "min_new_tokens", min_new_tokens);
    take(json, "max_length", max_length);
    config.min_new_tokens = min_new_tokens;
    // transformers 4 wrote its default max_length 20 into every file: bare generate makes 20 new
    // tokens either way.
    if (max_new_tokens > 0) {
      config.max_new_tokens = max_new_tokens;
    } else if (max_length > 0 && max_length != 20) {
      config.max_new_tokens = 0;
      config.max_length = max_length;
    }
    config.check();
  } catch (const Json::exception& error) {
    throw Error(Fault::bad_data, fmt::format("{} cannot be read", path.string()), {error.what()});
  } catch (const Error& error) {
    if (error.fault() != Fault::usage) throw;
    throw Error(Fault::bad_data, fmt::format("{}: {}", path.string(), error.what()),
                error.details());
  }
  return config;
}

}  // namespace quire
