// The folder a run writes into: refused when it holds something else, locked while the run lives.
#pragma once

#include <filesystem>
#include <string>

#include "base/file.h"
#include "engine/training/training_config.h"

namespace quire {

/// Holds OUTPUT_DIR for one run. The lock is the kernel's (flock on the folder itself), so it
/// leaves no file behind and ends with the process, however that ends.
class OutputFolder {
 public:
  /// Creates the folder and locks it. Throws Error(usage) when another run holds it, or when it is
  /// not empty and the run neither resumes nor overwrites; and what make_folder() throws.
  explicit OutputFolder(const TrainingConfig& config);

  /// The second of these refusals alone, before anything costly is done. Creates nothing.
  static void check_unused(const TrainingConfig& config);
  /// Removes checkpoints and logs of an earlier run, and its model where this run leaves an adapter
  /// or the other way round: what overwriting means.
  void clear_earlier_run(const TrainingConfig& config);

 private:
  std::filesystem::path path_;
  Descriptor descriptor_;
};

}  // namespace quire
