// Checkpoints: everything a run needs to go on as if it had never stopped.
//
// OUTPUT_DIR/checkpoint-STEP/ is a Hugging Face model folder with two files more:
//   config.json, generation_config.json, model.safetensors (f32), the tokenizer's files
//   optimizer.safetensors   AdamW's moments: "m.NAME" and "v.NAME" for every NAME that trains
//   trainer_state.json      TrainerState
// Where an adapter trains, it stands in place of the model: PEFT's adapter_config.json and
// adapter_model.safetensors.
//
// A checkpoint appears whole or not at all: its files are written and flushed in a folder beside,
// ".saving-checkpoint-STEP", which is then renamed. An old one disappears the same way, renamed to
// ".removing-checkpoint-STEP" first. So a folder called checkpoint-STEP is always complete, and
// what a killed process leaves behind has another name.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/model/lora.h"
#include "engine/training/optimizer.h"
#include "engine/training/run_plan.h"
#include "engine/training/spike_watch.h"
#include "tokens/batches.h"

namespace quire {

/// Names and values of what must not change between a run and its continuation.
using Fingerprint = std::map<std::string, std::string>;

/// Where a run stands, apart from parameters and moments.
struct TrainerState {
  static constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

  std::int64_t step = 0;     ///< windows of batches taken
  std::int64_t updates = 0;  ///< steps less those that were skipped: AdamW's t
  double epoch = 0;
  DataPosition data;
  std::int64_t tokens = 0;
  int skipped_in_a_row = 0;
  double loss = kNone;  ///< of the last step
  double loss_sum = 0;  ///< of the steps since the last line of the log
  std::int64_t loss_steps = 0;
  double first_eval_loss = kNone;
  double eval_loss = kNone;  ///< the latest
  std::int64_t eval_step = -1;
  double best_eval_loss = kNone;
  std::int64_t best_step = -1;
  int evals_since_best = 0;
  SpikeWatch loss_watch, norm_watch;
  bool sample_cut = false;  ///< the texts of this step are still to be made
  StepPlan plan;            ///< where a time shortened the run
  EvalPlan eval_plan;       ///< where a share bounds validation
  Fingerprint fixed;        ///< must agree on resuming: data, model, batch shape, seed
  Fingerprint options;      ///< may change on resuming, with a note
};

/// "checkpoint-120".
std::string checkpoint_name(std::int64_t step);

/// The steps of the complete checkpoints in a folder, rising. A folder that is not there has none.
std::vector<std::int64_t> checkpoint_steps(const std::filesystem::path& output_dir);

/// Removes what killed saves and removals left in a folder, files that were being replaced
/// included. Call it only with the folder locked.
void remove_leftovers(const std::filesystem::path& output_dir);

/// A model in training: its parameters, or an adapter beside them.
struct TrainedModel {
  Device& device;
  const Gpt2Config& config;
  const Parameters& parameters;
  std::string base_model = {};  ///< what the adapter's config calls the model it adapts
  bool save_tables = false;     ///< with the adapter, the embeddings of `parameters`
  std::optional<LoraAdapter> adapter = {};

  /// What the optimizer changes.
  const NamedTensors& trained() const {
    if (adapter) return *adapter;
    return parameters;
  }
  /// The model with its adapter as it is now.
  Parameters merged() const {
    const std::shared_ptr<const Parameters> base(std::shared_ptr<void>(), &parameters);
    return merge_adapter(device, config, base, *adapter);
  }
  /// Into a folder: the adapter, or the parameters as `dtype`.
  void save(const std::filesystem::path& folder, DType dtype) const;
  /// Overwrites what trains with that of the checkpoint. Throws Error(bad_data) naming file, tensor
  /// and shapes.
  void load(const std::filesystem::path& checkpoint) const;
};

struct CheckpointToSave {
  const TrainedModel& model;
  const AdamwOptimizer::HostMoments& moments;
  const TrainerState& state;
  /// Adds to the folder what belongs beside the weights (the tokenizer's files); may be empty.
  std::function<void(const std::filesystem::path&)> write_companions;
};

/// Writes OUTPUT_DIR/checkpoint-STEP and returns it. On failure the older checkpoints are
/// untouched, and a full disk throws Error(no_space) that names what is still there.
std::filesystem::path save_checkpoint(const std::filesystem::path& output_dir,
                                      const CheckpointToSave& checkpoint);

struct Rotation {
  int limit = 0;                ///< checkpoints that stay; 0 = all
  std::int64_t best_step = -1;  ///< never removed; counts towards the limit
  /// Where the run stands: later checkpoints, left by one that went further, do not count.
  std::int64_t step = std::numeric_limits<std::int64_t>::max();
};
/// Removes the oldest checkpoints beyond the limit, but never the last one.
void rotate_checkpoints(const std::filesystem::path& output_dir, const Rotation& rotation);

/// The folder that "latest" or a path names. Throws Error(bad_data) when there is none.
std::filesystem::path find_checkpoint(const std::filesystem::path& output_dir,
                                      const std::string& latest_or_folder);

/// Throws Error(bad_data) naming file and field.
TrainerState read_trainer_state(const std::filesystem::path& checkpoint);

/// One line for each entry that differs: "block_size: the checkpoint has 64, now 128".
std::vector<std::string> differences(const Fingerprint& checkpoint, const Fingerprint& now);

/// Overwrites the moments that the optimizer holds with those of the checkpoint. Throws as
/// TrainedModel::load() does.
void load_moments(Device& device, const std::filesystem::path& checkpoint,
                  const AdamwOptimizer& optimizer);

}  // namespace quire
