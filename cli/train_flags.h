// The options of `quire train` on its command line.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cli/corpus_flags.h"
#include "cli/device_flags.h"
#include "cli/flags.h"
#include "cli/hub_model.h"
#include "pipeline/sweep/space.h"
#include "pipeline/train_options.h"
#include "pipeline/trained_run.h"
#include "report/run_reports.h"

namespace quire {

/// --packing and --overflow, for every command that makes rows of records.
void add_packing(Flags& flags, Packing& packing, const std::string& help);
void add_overflow(Flags& flags, Overflow& overflow,
                  const std::string& help =
                      "a record longer than a row, with --packing none or records: cut, with a "
                      "warning; gone on with in further rows; or refused");

struct TrainFlags : TrainOptions {
  DeviceFlags device;
  ProductFlags products;
  bool json = false;
  DownloadFlag download;
  RunReports reports;  ///< beside what `training` writes itself

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

  CorpusFlags corpus_;
  std::string report_to_ = "jsonl";
  std::string max_time_;
  double warmup_ratio_ = 0;
  std::uint64_t data_seed_ = 0;
};

/// The options of arguments that nobody typed, and what they are bound to.
struct ParsedTrain {
  TrainFlags options;
  Flags flags{"train", "", ""};
  /// Unparsed: every option has its default.
  ParsedTrain() { options.add_to(flags); }
  explicit ParsedTrain(const std::vector<std::string>& arguments);
};

/// --split and --run, for every command that works on a part of a run's data.
struct SplitFlags {
  std::string split = "none";  ///< "validation", "train", or "none": not asked for
  std::string run;             ///< empty: that of --model

  void add_to(Flags& flags, const std::string& help);
  bool asked() const { return split != "none"; }
  /// The part that is asked for, of `data` instead of the paths that the run names where there are any.
  /// Throws Error(usage) for what is no run's folder, and what TrainedRun does.
  TrainedRun read(const std::string& model, const std::vector<std::string>& data) const;
};

/// As the command line has them, for a sweep.
TrainVocabulary train_vocabulary();

}  // namespace quire
