// What quire info has found, for people and as JSON.
#pragma once

#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "pipeline/compare_models.h"
#include "pipeline/model_info.h"
#include "pipeline/tensor_values.h"

namespace quire {

/// What reading all values told.
struct ModelCheck {
  std::vector<std::optional<TensorStatistics>> statistics;  ///< of the source's tensors
  /// A head that the config ties to the table, beside it; nullopt: none is stored.
  std::optional<TensorDifference> head;
  std::vector<std::string> trouble;  ///< a line each: what is not finite, why it cannot be loaded
};

struct ShownModel {
  std::string name;  ///< as it was asked for
  const ModelInfo& info;
  const ModelCheck* check = nullptr;  ///< nullptr: no value was read
  bool all_tensors = false;           ///< a line each, else alike ones of all blocks together
};
void print_model(const ShownModel& shown);
nlohmann::ordered_json to_json(const ShownModel& shown);

struct ShownComparison {
  std::string a, b;
  const Comparison& comparison;
  std::optional<double> tolerance;
  bool all_tensors = false;
};
void print_comparison(const ShownComparison& shown);
nlohmann::ordered_json to_json(const ShownComparison& shown);

/// "h.0.ln_1.bias at [7]: 0.25 and 0.5".
std::string described(const Comparison::Pair& pair);

}  // namespace quire
