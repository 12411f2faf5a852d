// What a training run leaves on the disk: checkpoints on the way, and the final model.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>

#include "engine/training/checkpoint.h"
#include "engine/training/optimizer.h"
#include "engine/training/output_folder.h"
#include "engine/training/reporter.h"

namespace quire {

/// All ranks have one and call it together; rank 0 writes.
class Saver {
 public:
  /// All of them outlive it.
  Saver(const TrainedModel& model, const TrainingConfig& config, const TrainingCallbacks& callbacks,
        Ranks& ranks)
      : model_(model), config_(config), callbacks_(callbacks), ranks_(ranks) {}

  /// Locks the folder and finds what to go on from; that is empty for a fresh run. `restore` takes
  /// it over, before what an earlier run left goes.
  std::filesystem::path prepare(const std::function<void(const std::filesystem::path&)>& restore);

  /// A checkpoint of the state's step, unless there is one.
  void save_once(TrainerState& state, const AdamwOptimizer& optimizer);
  /// The same by one rank that others have left, be it the first or not.
  void save_alone(TrainerState& state, const AdamwOptimizer& optimizer);
  /// Whether the state as it is has a checkpoint.
  bool has(const TrainerState& state) const { return saved_step_ == state.step; }
  /// The state has changed, though its step has not.
  void forget() { saved_step_ = -1; }
  /// The state comes from this checkpoint.
  void resumed(const std::filesystem::path& checkpoint, const TrainerState& state);
  /// Removes checkpoints beyond the limit, where one was saved since.
  void rotate(const TrainerState& state);
  /// The model that is kept, in the output folder: rank 0's work.
  void save_result(const TrainerState& state, const Reporter& reporter) const;

  /// With other algorithms or kernels a continuation may have other bits, which it then says.
  void note_tuning(TrainerState& state) const;
  /// "the last good checkpoint is …", or that there is none.
  std::string last_good() const;
  const std::filesystem::path& last_checkpoint() const { return last_checkpoint_; }

 private:
  void write(TrainerState& state, const AdamwOptimizer::HostMoments& moments) const;

  const TrainedModel& model_;
  const TrainingConfig& config_;
  const TrainingCallbacks& callbacks_;
  Ranks& ranks_;
  std::optional<OutputFolder> folder_;
  std::int64_t saved_step_ = -1;
  std::filesystem::path last_checkpoint_;
  bool rotation_due_ = false;
};

}  // namespace quire
