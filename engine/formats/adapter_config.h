// adapter_config.json of a LoRA adapter, as PEFT's LoraConfig (peft/tuners/lora/config.py) has it.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "engine/model/lora.h"

namespace quire {

/// Which modules a field names: names that a module's own ends in, dot by dot, or a regular
/// expression for all of it.
struct ModuleRule {
  std::vector<std::string> names;
  std::string pattern;  ///< Python's re.fullmatch; empty: the names

  bool matches(const std::string& module) const;  ///< "transformer.h.0.attn.c_attn"
};

/// What adapter_config.json says. A field that would change a result and is not understood is
/// refused while reading.
struct AdapterConfig {
  LoraConfig lora;
  std::string base_model_name_or_path;  ///< the model it adapts: a path or a Hub name

  ModuleRule targets, excluded;
  std::vector<std::string> layers_pattern;  ///< names before a block's number; empty: any
  /// Ranks and alphas of single modules, by regular expressions for the end of their names; the
  /// first that matches counts.
  std::vector<std::pair<std::string, int>> rank_pattern;
  std::vector<std::pair<std::string, float>> alpha_pattern;
  std::string bias = "none";                 ///< none, all, lora_only: whose biases the file brings
  std::vector<std::string> modules_to_save;  ///< modules that the file brings as a whole
  bool use_dora = false;                     ///< Liu et al. (2024): magnitudes beside directions
  bool lora_bias = false;                    ///< B has a bias, too
  /// pissa (Meng et al., 2024) and olora (Büyükakyüz, 2024) take what A and B begin with out of the
  /// base's weights; empty: the base stays as it is.
  std::string init;

  /// What makes it more than pairs of matrices of one rank beside products of blocks, as the file
  /// has it: "rank_pattern" is {…}. Empty: LoraAdapter can be trained on.
  std::vector<std::string> beyond;

  bool is_target(const std::string& module) const;
  int rank_of(const std::string& module) const;
  float scale_of(const std::string& module) const;
};

/// Throws Error(bad_data) naming the file, the field and its value: for what is not a LoRA adapter,
/// for values of the wrong type, and for what is not understood.
AdapterConfig read_adapter_config(const std::filesystem::path& folder);

}  // namespace quire
