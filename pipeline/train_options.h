// What a training run is told.
#pragma once

#include <string>
#include <vector>

#include "corpus/records.h"
#include "engine/training/training_config.h"

namespace quire {

struct TrainOptions {
  std::string model;          ///< folder, file or Hub name to go on from
  std::string config;         ///< preset or config.json of a fresh model
  std::string tokenizer;      ///< folder or Hub name; empty: the model's own
  bool resize_vocab = false;  ///< rows for the ids that the tokenizer has beyond the model's
  std::vector<std::string> get_tokenizer;  ///< where there is none: why, and how to get one
  CorpusOptions corpus;
  double validation_split = 0.05;
  std::vector<std::string>
      validation_paths;  ///< read as `corpus` is; where named, nothing is split
  float dropout = -1;    ///< for all three sites; negative: what the model's config says
  TrainingConfig training;
  std::vector<std::string> sample_prompts;
  int threads = 0;  ///< of tokenizing; 0: one per core
};

}  // namespace quire
