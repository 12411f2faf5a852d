#include "engine/generation/config.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <nlohmann/json.hpp>
#include <optional>
#include <type_traits>

#include "base/file.h"
#include "base/foreign_file.h"
#include "base/json.h"

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

template <class T>
bool set_option(const Json& value, T& into) {
  return read_json(value, into);
}

bool set_option(const Json& value, std::optional<std::pair<int, float>>& into) {
  return read_json(value, into.emplace());
}

/// transformers' field is true, false or "never".
bool set_option(const Json& value, GenerationConfig::EarlyStopping& into) {
  using EarlyStopping = GenerationConfig::EarlyStopping;
  bool stops = false;
  const bool is_bool = read_json(value, stops);
  into = !is_bool ? EarlyStopping::never : stops ? EarlyStopping::yes : EarlyStopping::no;
  return is_bool || value == "never";
}

template <class T>
void set_field(const std::string& name, const Json& value, T& into) {
  // Where a list of ids is wanted, one may stand for a list of one; not so in lists of lists.
  const bool one = std::is_same_v<T, GenerationConfig::Tokens> && value.is_number();
  if (set_option(one ? Json::array({value}) : value, into)) return;
  throw Error(Fault::usage, fmt::format("{} cannot be {}", name, json_text(value)));
}

/// Whether a field that is no option of ours would change a text in transformers 5. Its fields that
/// say how a text is computed or returned do not; of the others the value
/// that turns them off does not.
bool changes_text(std::string_view name, const Json& value) {
  constexpr std::string_view kNoEffect[] = {
      "transformers_version", "_from_model_config", "_commit_hash", "use_cache",
      "cache_implementation", "cache_config", "return_legacy_cache", "return_dict_in_generate",
      "output_attentions", "output_hidden_states", "output_scores", "output_logits",
      "output_router_logits", "low_memory", "prefill_chunk_size", "compile_config",
      "disable_compile", "continuous_batching_config", "trust_remote_code",
      // of encoders and decoders
      "decoder_start_token_id", "encoder_no_repeat_ngram_size",
      // of an assistant model, which a folder does not bring along
      "is_assistant", "num_assistant_tokens", "num_assistant_tokens_schedule",
      "assistant_confidence_threshold", "assistant_lookbehind", "target_lookbehind",
      "assistant_early_exit", "assistant_temperature", "assistant_top_p", "assistant_top_k",
      "speculative_eta"};
  constexpr std::string_view kOffAtOne[] = {"typical_p",       "guidance_scale",
                                            "top_h",           "encoder_repetition_penalty",
                                            "num_beam_groups", "min_tokens_to_keep"};
  constexpr std::string_view kOffAtZero[] = {"epsilon_cutoff", "eta_cutoff", "diversity_penalty",
                                             "penalty_alpha", "prompt_lookup_num_tokens"};
  const auto is_one_of = [&](const auto& names) {
    return std::ranges::find(names, name) != std::end(names);
  };
  if (is_one_of(kNoEffect) || value == false || (value.is_structured() && value.empty())) {
    return false;
  }
  return !(value == 1 && is_one_of(kOffAtOne)) && !(value == 0 && is_one_of(kOffAtZero));
}

// What is allowed; NaN fails each.
template <class T>
auto at_least(T least) {
  return [least](auto value) { return value >= least; };
}
bool above_0(float value) {
  return value > 0 && value < 1e30f;
}
constexpr auto kAny = [](const auto&) { return true; };

/// Calls visit(name, field, ok, allowed) for every option: a value of it is allowed where ok(value).
template <class Config, class Visitor>
void each_option(Config& c, const Visitor& visit) {
  visit("max_new_tokens", c.max_new_tokens, at_least(-1), "1 or more, -1 to fill the context");
  visit("max_length", c.max_length, at_least(0), "1 or more");
  visit("eos_token_id", c.eos_token_ids, kAny, "");
  visit("pad_token_id", c.pad_token_id, at_least(-1), "0 or more; -1 for none");
  visit("sequence_bias", c.sequence_bias, kAny, "");
  visit("repetition_penalty", c.repetition_penalty, above_0, "above 0; 1 turns it off");
  visit("no_repeat_ngram_size", c.no_repeat_ngram_size, at_least(0), "1 or more; 0 turns it off");
  visit("bad_words_ids", c.bad_words_ids, kAny, "");
  visit("min_length", c.min_length, at_least(0), "0 or more");
  visit("min_new_tokens", c.min_new_tokens, at_least(-1), "0 or more");
  visit("forced_eos_token_id", c.forced_eos_token_id, kAny, "");
  visit("exponential_decay_length_penalty", c.exponential_decay_length_penalty, kAny, "");
  visit("suppress_tokens", c.suppress_tokens, kAny, "");
  visit("begin_suppress_tokens", c.begin_suppress_tokens, kAny, "");
  visit("do_sample", c.do_sample, kAny, "");
  visit("temperature", c.temperature, above_0, "above 0; greedy decoding is do_sample false");
  visit("top_k", c.top_k, at_least(0), "1 or more; 0 turns it off");
  visit(
      "top_p", c.top_p, [](float p) { return p > 0 && p <= 1; },
      "above 0, at most 1; 1 turns it off");
  visit(
      "min_p", c.min_p, [](float p) { return p >= 0 && p <= 1; }, "0 to 1; 0 turns it off");
  visit("seed", c.seed, kAny, "");
  visit("num_beams", c.num_beams, at_least(1), "1 or more; 1 is no beam search");
  visit(
      "length_penalty", c.length_penalty, [](float x) { return std::isfinite(x); }, "a number");
  visit("early_stopping", c.early_stopping, kAny, "");
  visit("logprobs", c.top_logprobs, kAny, "");
}

}  // namespace

void GenerationConfig::check() const {
  each_option(*this, [](const char* name, const auto& field, const auto& ok, const char* allowed) {
    using Field = std::remove_cvref_t<decltype(field)>;
    if constexpr (std::is_arithmetic_v<Field>) require(ok(field), name, field, allowed);
  });
  require(max_new_tokens != 0 || max_length > 0, "max_new_tokens", max_new_tokens,
          "1 or more, or a max_length");
  require(max_new_tokens <= 0 || min_new_tokens <= max_new_tokens, "min_new_tokens", min_new_tokens,
          "at most max_new_tokens");
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

std::vector<std::string> apply_options(std::string_view json_object, GenerationConfig& config) {
  const Json object = parse_json<Json>(json_object);
  std::vector<std::string> unknown;
  for (const auto& [name, value] : object.items()) {
    bool known = false;
    each_option(config,
                [&, &key = name, &json = value](const char* option, auto& field, auto&&...) {
                  if (key != option) return;
                  known = true;
                  if (json.is_null()) return;
                  set_field(key, json, field);
                });
    if (!known) unknown.push_back(name);
  }
  const auto is_set = [&](const char* name) {
    return object.contains(name) && !object[name].is_null();
  };
  if (is_set("max_length") && !is_set("max_new_tokens")) config.max_new_tokens = 0;
  return unknown;
}

std::vector<std::string> generation_option_names() {
  GenerationConfig config;
  std::vector<std::string> names;
  each_option(config, [&](const char* name, auto&&...) { names.emplace_back(name); });
  return names;
}

GenerationDefaults read_generation_defaults(const std::filesystem::path& folder,
                                            const Gpt2Config& model) {
  GenerationDefaults defaults;
  GenerationConfig& config = defaults.config;
  defaults.bos_token_id = model.bos_token_id;
  if (model.eos_token_id) config.eos_token_ids = {*model.eos_token_id};
  const std::filesystem::path path = folder / "generation_config.json";
  if (!std::filesystem::exists(path)) return defaults;
  const std::string text = read_file(path);
  try {
    const Json object = parse_json<Json>(text);
    if (!object.is_object()) {
      throw Error(Fault::bad_data, fmt::format("{} is not a JSON object", path.string()));
    }
    for (const std::string& name : apply_options(text, config)) {
      const Json& value = object[name];
      if (value.is_null()) continue;
      if (name == "num_return_sequences") {
        set_field(name, value, defaults.num_return_sequences);
        require(defaults.num_return_sequences >= 1, "num_return_sequences",
                defaults.num_return_sequences, "1 or more");
      } else if (name == "bos_token_id") {
        set_field(name, value, defaults.bos_token_id.emplace());
      } else if (changes_text(name, value)) {
        defaults.not_honoured.push_back(name);
      }
    }
    // transformers 4 wrote its default max_length of 20 into every file: what bare generate makes,
    // 20 new tokens, is what it stands for.
    if (config.max_new_tokens == 0 && config.max_length == 20) {
      config.max_new_tokens = GenerationConfig().max_new_tokens;
      config.max_length = 0;
    }
    config.check();
  } catch (const Json::exception& error) {
    throw unusable_file(fmt::format("{} is not JSON", path.string()), text, json_trouble(error));
  } catch (const Error& error) {
    if (error.fault() != Fault::usage) throw;
    throw Error(Fault::bad_data, fmt::format("{}: {}", path.string(), error.what()),
                error.details());
  }
  return defaults;
}

GenerationConfig read_generation_config(const std::filesystem::path& folder,
                                        const Gpt2Config& model) {
  return read_generation_defaults(folder, model).config;
}

}  // namespace quire
