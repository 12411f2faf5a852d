// README.md of a model folder: what the Hugging Face Hub shows of it.
#pragma once

#include <string>
#include <vector>

#include "corpus/records.h"
#include "engine/model/config.h"
#include "engine/training/training_config.h"

namespace quire {

/// What a run trained, and what it was made from.
struct CardSubject {
  const TrainingConfig& training;
  const Gpt2Config& model;
  const CorpusOptions& corpus;
  const std::vector<std::string>& validation_paths;
  std::string base;          ///< path or Hub name of what was gone on from; empty: a fresh model
  bool base_on_hub = false;  ///< the Hub has it under that name
};

/// The model card: the Hub's fields as YAML, then what it is, what it was made from, how to write
/// with it, and that whoever publishes it should say more. An adapter's names its base as the Hub
/// has it, or says where that is to be written. The same run gives the same text.
std::string model_card(const CardSubject& subject);

}  // namespace quire
