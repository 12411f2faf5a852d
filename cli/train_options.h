// The options of `quire train`.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "cli/corpus_flags.h"
#include "cli/device_flags.h"
#include "cli/flags.h"
#include "corpus/records.h"
#include "engine/training/training_config.h"

namespace quire {

/// Of the word that --packing takes.
Packing packing_of(const std::string& name);
/// Of the word that --overflow takes.
Overflow overflow_of(const std::string& name);
/// --overflow, for every command that makes rows of records.
void add_overflow(Flags& flags, std::string& word);

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
  DeviceFlags device;
  bool json = false;
  std::vector<std::string> sample_prompts;
  bool report_tensorboard = false, report_html = false;  ///< beside what `training` writes itself

  void add_to(Flags& flags);
  /// After parsing: words into types, and the checks that need more than one option.
  void finish(const Flags& flags);

 private:
  // Groups of add_to().
  void add_model(Flags& flags);
  void add_data(Flags& flags);
  void add_run(Flags& flags);
  void add_optimizer(Flags& flags);
  void add_watching(Flags& flags);
  void choose_reports();

  std::string packing_ = "stream", overflow_ = "truncate";
  std::string zero_ = "0";
  CorpusFlags corpus_;
  std::string dtype_ = "auto";
  std::string report_to_ = "jsonl";
  std::string max_time_;
  double warmup_ratio_ = 0;
  std::uint64_t data_seed_ = 0;
};

}  // namespace quire
