// What is known of a model, for its card: of a run, or from what lies in its folder.
#pragma once

#include <cmath>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/model/config.h"

namespace quire {

/// What the log of a run tells of its losses; NaN where it does not.
struct CardLosses {
  double first_eval = NAN, last_eval = NAN, best_eval = NAN;
  std::int64_t first_step = 0, last_step = 0, best_step = 0;  ///< of these
  double last_loss = NAN;
  std::int64_t steps = 0, tokens = 0;  ///< 0: unknown
};

struct CardFacts {
  std::string title;                      ///< the folder's name
  std::string format = "safetensors";     ///< as ModelInfo has it
  std::string file = {};                  ///< the weights' file, where a folder has but that
  std::optional<Gpt2Config> config = {};  ///< of an adapter, the model's that it adapts
  int lora_r = 0;                         ///< 0: no adapter
  std::string base = {};     ///< what it was trained on from; empty: nothing, or nobody knows
  bool base_on_hub = false;  ///< under that name
  /// Those of quire_config.json, each with its value as text, or several of a list; empty: no run is
  /// known.
  std::map<std::string, std::vector<std::string>> options = {};
  CardLosses losses = {};

  std::string option(const std::string& name) const;  ///< its first value; "": it has none
};

/// Of a run whose model is not saved yet: `options` is what quire_config.json will be, the log lies
/// in the folder. `adapted`: what adapter_config.json will call the model, where an adapter trains.
CardFacts facts_of_run(const std::filesystem::path& folder, std::string_view options,
                       const Gpt2Config& config, const std::string& adapted);

/// Of a folder that holds a model or an adapter, in any format that is read: headers, config,
/// quire_config.json, log.jsonl or, of a checkpoint, trainer_state.json. Throws Error(bad_data) where
/// no model can be read, or what it is cannot.
CardFacts facts_of_folder(const std::filesystem::path& folder);

}  // namespace quire
