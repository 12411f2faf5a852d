// The training loop: records in, checkpoints, a log and a model folder out.
//
// A step takes a window of gradient_accumulation_steps micro-batches, counts its valid targets,
// adds up the gradients of their mean loss, clips, and makes one AdamW update. Everything random is
// a function of (seed, step), everything else of the parameters, so a run that is stopped and
// resumed from any checkpoint writes the same bytes as one that never stopped,
// on any number of threads.
//
// What goes wrong is caught early: a step whose loss or gradient is not finite is skipped, and
// three of them in a row end the run with the last checkpoint that is known to be good; a loss or
// norm far above those before it is a warning (spike_watch.h), but where an epoch's
// last step has fewer rows.
//
// The trainer never prints: it reports through callbacks and logs.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/model/gpt2.h"
#include "engine/training/cost.h"
#include "engine/training/progress.h"
#include "engine/training/ranks.h"
#include "engine/training/run_log.h"
#include "engine/training/training_config.h"
#include "tokens/batches.h"

namespace quire {

struct TrainingCallbacks {
  /// Before every micro-batch of a step: how many of them are done.
  std::function<void(const StepProgress&)> on_batch;
  /// Before the first step, where TrainingConfig::estimate asks for it.
  std::function<void(const TrainingEstimate&)> on_estimate;
  std::function<void(const TrainingProgress&)> on_step;  ///< after every step
  std::function<void(const TrainingProgress&)> on_log;   ///< every logging_steps, and at the end
  /// While the validation rows are computed: how many of them are done.
  std::function<void(std::int64_t rows_done, std::int64_t rows)> on_eval_batch;
  std::function<void(std::int64_t step, double eval_loss)> on_eval;
  std::function<void(const std::filesystem::path&)> on_save;  ///< after a checkpoint or the model
  std::function<void(const std::string&)> on_note;            ///< a line for people
  std::function<void(const std::string&)> on_warning;         ///< one that they should not miss
  /// Every sample_every steps, and before the first: texts made with the parameters as they are, an
  /// adapter merged into them, which it must not change. They go into the logs. None, where it was
  /// asked to stop: then the run that goes on makes them.
  std::function<std::vector<TextSample>(std::int64_t step, const Parameters& parameters)> sample;
  /// Told of the run after its own logs, see TrainingConfig.
  std::vector<std::shared_ptr<RunLog>> logs;
  /// Ctrl-C: asked between steps; when true the step in hand is finished, saved, and the run ends.
  std::function<bool()> stop_requested;
  /// Adds to a model folder what belongs beside the weights: the tokenizer's files.
  std::function<void(const std::filesystem::path& folder)> write_companions;
  /// The processes that train together, as many as config.ranks; null: this one alone. All of them
  /// have the same model, records and options. Rank 0 saves, logs and calls back; of the others'
  /// callbacks stop_requested is asked, and where it is true for one of them all stop.
  std::shared_ptr<Ranks> ranks;
  Ranks& ranks_or_one() const { return ranks ? *ranks : one_rank(); }
};

struct TrainingResult {
  std::int64_t steps = 0;
  std::int64_t tokens = 0;
  double final_loss = 0;  ///< of the last step
  /// Before the first step, and of the model that was saved. NaN without validation data.
  double first_eval_loss = 0, final_eval_loss = 0;
  bool interrupted = false;               ///< asked to stop, or stop_at_step
  bool out_of_time = false;               ///< ended by max_seconds before its last step
  std::filesystem::path last_checkpoint;  ///< empty: none was saved
};

/// Trains `parameters` in place, or an adapter beside them, and leaves the final model, or the
/// adapter, in config.output_dir. `validation` may hold no records. When the run is interrupted, or
/// stops at config.stop_at_step, a checkpoint is saved instead of the final model.
/// With config.fit_to_time it plans as many steps as fit into max_seconds, and plans anew when a tenth
/// of that time is over and the pace was another one.
/// When its time is up all the same, a checkpoint is saved, and then the run ends like one that is done: with an
/// evaluation and the final model. Going on from that checkpoint writes the bytes of a run without
/// a limit; the log keeps the evaluation that was made at it.
/// When another rank is lost, the first of those that are left saves a checkpoint of the last step,
/// unless the moments are sharded: then some are lost, and the checkpoint before has to do.
///
/// Throws Error: usage (an option, a folder in use, a resumed run that does not fit), bad_data (ids
/// outside the vocabulary, no rows, a damaged checkpoint), no_space (the older checkpoints stay),
/// diverged (three steps in a row whose loss or gradient is not finite; each was skipped), device
/// (the card failed; what was saved before can be gone on from). With several ranks
/// PeerFailed and PeerLost, too.
TrainingResult train(Device& device, const Gpt2Config& model, const Parameters& parameters,
                     const TokenView& records, const TokenView& validation,
                     const TrainingConfig& config, const TrainingCallbacks& callbacks = {});

/// The same with rows that are there: those of with_block_size(config, model).
TrainingResult train(Device& device, const Gpt2Config& model, const Parameters& parameters,
                     const Rows& rows, const Rows& validation, const TrainingConfig& config,
                     const TrainingCallbacks& callbacks = {});

}  // namespace quire
