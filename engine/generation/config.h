// What to generate: the options of transformers' GenerationConfig, under their names.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/model/config.h"

namespace quire {

/// Names, defaults and meanings are transformers' GenerationConfig. The order in which the options
/// work on the scores is that of the fields from sequence_bias on.
struct GenerationConfig {
  using Tokens = std::vector<std::int32_t>;

  /// New tokens of each row; -1: until the context is full. Beats max_length when positive.
  int max_new_tokens = 20;
  int max_length = 0;  ///< prompt included; used when max_new_tokens is 0
  /// Generation ends with any of these, which stays in the output. Empty: it ends by length alone.
  Tokens eos_token_ids;
  /// What transformers fills finished rows of a batch with; -1: none. Rows here end with their text
  /// and hold no filling, so the id is taken and changes nothing.
  int pad_token_id = -1;

  // Processors: they work in greedy decoding too.
  std::vector<std::pair<Tokens, float>>
      sequence_bias;                  ///< added to the last token of each sequence
  float repetition_penalty = 1.0f;    ///< above 1 discourages what is already there
  int no_repeat_ngram_size = 0;       ///< 0 = off
  std::vector<Tokens> bad_words_ids;  ///< sequences that never appear
  int min_length = 0;                 ///< no eos before, prompt included
  int min_new_tokens = -1;     ///< the same, prompt excluded, in min_length's place; -1: unset
  Tokens forced_eos_token_id;  ///< the last token when the length runs out
  std::optional<std::pair<int, float>>
      exponential_decay_length_penalty;  ///< {start, factor} for eos
  Tokens suppress_tokens;                ///< never drawn
  Tokens begin_suppress_tokens;          ///< not drawn as the first new token

  // Warpers: they work when do_sample is set.
  bool do_sample = false;
  float temperature = 1.0f;
  int top_k = 50;  ///< 0 = off
  float top_p = 1.0f;
  float min_p = 0.0f;
  std::uint64_t seed = 42;

  // Beam search: beam_search.h.
  enum class EarlyStopping : std::uint8_t {
    no,     ///< end when no beam of its present length can beat the worst finished text
    yes,    ///< end when num_beams texts are finished
    never,  ///< as `no`, for beams that grow to the full length
  };
  int num_beams = 1;
  float length_penalty = 1.0f;  ///< above 0 favours longer texts: score / new tokens^length_penalty
  EarlyStopping early_stopping = EarlyStopping::no;

  int top_logprobs = 0;  ///< report the log probabilities of this many best tokens of each step

  bool operator==(const GenerationConfig&) const = default;
  void check() const;  ///< throws Error(usage) naming option and value
};

/// Sets the options that stand in a JSON object, in snake case; null means "not set". An id may
/// stand for a list of one; max_length without max_new_tokens takes its place. Returns the names it
/// does not know. Throws Error(usage) where a value does not fit its option.
std::vector<std::string> apply_options(std::string_view json_object, GenerationConfig& config);

/// The names that apply_options() knows.
std::vector<std::string> generation_option_names();

/// The defaults of a model folder.
struct GenerationDefaults {
  GenerationConfig config;
  int num_return_sequences = 1;
  std::optional<int> bos_token_id;  ///< begins a text without a prompt
  /// Fields of the file that would change a text in transformers and do not here, by name.
  std::vector<std::string> not_honoured;
};

/// generation_config.json over config.json's eos and bos over GenerationConfig's own.
/// A file that is not there is no error; one that is damaged throws Error(bad_data)
/// naming the file and the field.
GenerationDefaults read_generation_defaults(const std::filesystem::path& folder,
                                            const Gpt2Config& model);
/// Their `config` alone.
GenerationConfig read_generation_config(const std::filesystem::path& folder,
                                        const Gpt2Config& model);

}  // namespace quire
