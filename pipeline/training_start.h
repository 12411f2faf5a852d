// What a training run begins with: which model is trained, of a run that is gone on from what it was
// told when it began, shapes, tokenizer, and where the weights come from.
#pragma once

#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "engine/model/config.h"
#include "engine/model/parameters.h"
#include "kernels/device.h"
#include "pipeline/train_options.h"
#include "tokenizer/tokenizer.h"

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

/// What is trained, before any weight is read.
struct TrainingStart {
  Gpt2Config config;
  std::filesystem::path
      weights;  ///< folder or file of --model; empty: fresh weights, or those of a checkpoint
  std::filesystem::path
      tables;  ///< the adapter's checkpoint that brings embeddings with more rows; or empty
  std::optional<Tokenizer> tokenizer;
};

/// Of the model, config or checkpoint that `options` name. Into these goes what follows from it: the
/// base of an adapter, whether tables are saved, and where there is no tokenizer how to get one. Throws
/// Error(usage) for options that contradict each other or what is there, Error(bad_data) for files.
TrainingStart find_start(TrainOptions& options);

/// Its weights, or fresh ones; space alone where a checkpoint will bring them. `note` gets what is to
/// be said of them.
Parameters make_parameters(Device& device, TrainingStart& start, const TrainOptions& options,
                           const std::function<void(const std::string&)>& note);

}  // namespace quire
