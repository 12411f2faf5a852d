// The options of `quire train` on its command line.
#pragma once

#include <cstdint>
#include <string>

#include "cli/corpus_flags.h"
#include "cli/device_flags.h"
#include "cli/flags.h"
#include "pipeline/sweep/space.h"
#include "pipeline/train_options.h"

namespace quire {

/// Of the word that --packing takes.
Packing packing_of(const std::string& name);
/// Of the word that --overflow takes.
Overflow overflow_of(const std::string& name);
/// --overflow, for every command that makes rows of records.
void add_overflow(Flags& flags, std::string& word);

struct TrainFlags : TrainOptions {
  DeviceFlags device;
  bool json = false;
  bool report_tensorboard = false, report_html = false;  ///< beside what `training` writes itself

  void add_to(Flags& flags);
  /// After parsing: words into types, and the checks that need more than one option.
  void finish(const Flags& flags);

 private:
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

/// As the command line has them, for a sweep.
TrainVocabulary train_vocabulary();

}  // namespace quire
