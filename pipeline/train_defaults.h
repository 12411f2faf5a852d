// What a command line of `quire train` leaves open: which model is trained,
// and of a run that is gone on from what it was told when it began.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "pipeline/train_options.h"

namespace quire {

/// Where neither a model nor a config nor a checkpoint is named: gpt2, where a folder or the Hub's
/// cache has it, else the model that comes with the program. Returns the line that says so, or "".
std::string choose_model(TrainOptions& options);

/// The options in snake case that the run had which is gone on from; an empty object for a new run.
/// Throws Error(bad_data) where there is no checkpoint, or one whose options cannot be read.
nlohmann::ordered_json earlier_options(const TrainingConfig& training);

/// A run that is gone on from validates on the files that it had.
void keep_validation(const nlohmann::ordered_json& earlier, TrainOptions& options);

/// The options that describe the model's making, fit for --config-file, of `resolved`, which has all
/// of them by their names in snake case: those of the place it was made in are left out, so that a resumed run saves the same file. Two words for one thing (a
/// warm-up's share, a seed that follows another) are saved as what they came to.
std::string saved_options(const std::string& resolved, const TrainOptions& options,
                          const nlohmann::ordered_json& earlier);

}  // namespace quire
