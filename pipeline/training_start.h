// What a training run begins with: shapes, tokenizer, and where the weights come from.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>

#include "engine/model/config.h"
#include "engine/model/parameters.h"
#include "kernels/ops.h"
#include "pipeline/train_options.h"
#include "tokenizer/tokenizer.h"

namespace quire {

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
