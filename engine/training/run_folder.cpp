#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/text.h"
#include "engine/formats/adapter_folder.h"
#include "engine/formats/hub_folder.h"
#include "engine/training/run.h"

namespace quire {

namespace fs = std::filesystem;

fs::path Run::prepare_folder() {
  fs::path checkpoint;
  ranks_.agree([&] {
    if (ranks_.first()) folder_.emplace(config_);
  });
  ranks_.agree([&] {
    if (config_.resume_from_checkpoint.empty()) return;
    checkpoint = find_checkpoint(config_.output_dir, config_.resume_from_checkpoint);
    restore(checkpoint);
  });
  ranks_.agree([&] {
    if (!ranks_.first()) return;
    if (checkpoint.empty() && config_.overwrite_output_dir) folder_->clear_earlier_run(config_);
    remove_leftovers(config_.output_dir);
  });
  return checkpoint;
}

void Run::restore(const fs::path& checkpoint) {
  TrainerState saved = read_trainer_state(checkpoint);
  const std::vector<std::string> refused = differences(saved.fixed, state_.fixed);
  if (!refused.empty()) {
    throw Error(
        Fault::usage, checkpoint.string() + " was made by another run", refused,
        "the options of that run, or another --output-dir with --model " + checkpoint.string());
  }
  for (const std::string& line : differences(saved.options, state_.options)) note(line);
  saved.options = state_.options;
  state_ = std::move(saved);
  total_steps_ = state_.plan.total(asked_steps_);
  last_checkpoint_ = checkpoint;
  if (fs::equivalent(checkpoint.parent_path().empty() ? "." : checkpoint.parent_path(),
                     config_.output_dir)) {
    saved_step_ = state_.step;
    rotation_due_ = true;  // it may have been killed between saving and rotating
  }
  const std::vector<std::int64_t> there = checkpoint_steps(config_.output_dir);
  if (config_.load_best_model_at_end && state_.best_step > 0 &&
      !std::binary_search(there.begin(), there.end(), state_.best_step)) {
    note(fmt::format("checkpoint-{}, the best so far, is not in {}: the best is looked for anew",
                     state_.best_step, config_.output_dir.string()));
    state_.best_eval_loss = TrainerState::kNone;
    state_.best_step = -1;
    state_.evals_since_best = 0;
  }
  if (!there.empty() && there.back() > state_.step) {
    note(fmt::format("{} is there too, of a run that went further; this one writes it anew",
                     checkpoint_name(there.back())));
  }
  note(fmt::format("going on from {} at step {} of {}", checkpoint.string(), state_.step,
                   total_steps_));
}

void Run::go_without(const PeerLost& lost) {
  std::vector<std::string> details;
  if (config_.zero) {
    details.push_back("its part of the moments is lost with it (--zero 1)");
  } else if (state_.step > 0 && saved_step_ != state_.step && lost.speaker() == ranks_.rank()) {
    // All ranks have the same parameters, moments and state, so any of them can save.
    if (!folder_) {
      TrainingConfig again = config_;
      again.resume_from_checkpoint = "latest";
      folder_.emplace(again);
    }
    write_checkpoint(optimizer_->moments());
  }
  const std::vector<std::int64_t> saved = checkpoint_steps(config_.output_dir);
  details.push_back(saved.empty()
                        ? "no checkpoint was saved before"
                        : "the last good checkpoint is " +
                              (config_.output_dir / checkpoint_name(saved.back())).string());
  throw PeerLost(lost, std::move(details), saved.empty() ? "the same command again" : lost.next());
}

void Run::save() {
  const AdamwOptimizer::HostMoments moments = optimizer_->sharded() || ranks_.first()
                                                  ? optimizer_->moments()
                                                  : AdamwOptimizer::HostMoments{};
  ranks_.agree([&] {
    if (ranks_.first()) write_checkpoint(moments);
  });
  last_checkpoint_ = config_.output_dir / checkpoint_name(state_.step);
  saved_step_ = state_.step;
  rotation_due_ = true;
  if (callbacks_.on_save) callbacks_.on_save(last_checkpoint_);
}

void Run::note_tuning() {
  const std::string table = device_.tuned();
  if (!table.empty()) state_.options["autotune table"] = table;
  if (!device_.why_unproven().empty()) {
    state_.options["kernels that wait for doctor --verify"] = "some";
  }
  // A library may take an activation of what is not rounded yet, where computing it again cannot.
  if (config_.keep_outputs) state_.options["outputs of layernorms and activations"] = "kept";
}

void Run::write_checkpoint(const AdamwOptimizer::HostMoments& moments) {
  note_tuning();
  save_checkpoint(device_, config_.output_dir,
                  {.config = model_,
                   .parameters = parameters_,
                   .moments = moments,
                   .state = state_,
                   .adapter = adapter_ ? &*adapter_ : nullptr,
                   .base_model = config_.base_model,
                   .save_tables = config_.save_tables,
                   .write_companions = callbacks_.write_companions});
}

void Run::save_once() {
  if (saved_step_ != state_.step) save();
}

void Run::rotate() {
  if (!std::exchange(rotation_due_, false) || !ranks_.first()) return;
  rotate_checkpoints(
      config_.output_dir,
      {.limit = config_.save_total_limit, .best_step = state_.best_step, .step = state_.step});
}

void Run::finish() {
  if (stopped_early() && !out_of_time_) {
    note(fmt::format("stopped at step {}: no better validation loss than {:.4f} (step {}) in {}",
                     state_.step, state_.best_eval_loss, state_.best_step,
                     counted(state_.evals_since_best, "evaluation")));
  }
  ranks_.agree([&] {
    if (ranks_.first()) save_end();
  });
}

/// The model that is kept, in the output folder: rank 0's work.
void Run::save_end() {
  if (config_.load_best_model_at_end && state_.best_step > 0 && state_.best_step != state_.step) {
    load_trained(config_.output_dir / checkpoint_name(state_.best_step));
    note(fmt::format("the model of step {} is kept: validation loss {:.4f}", state_.best_step,
                     state_.best_eval_loss));
  }
  if (callbacks_.write_companions) callbacks_.write_companions(config_.output_dir);
  save_result();
  if (callbacks_.on_save) callbacks_.on_save(config_.output_dir);
}

/// The model, the adapter, or both as one.
void Run::save_result() {
  if (!adapter_) {
    save_model(device_, config_.output_dir, model_, parameters_, config_.save_dtype);
  } else if (!config_.lora_merge) {
    save_adapter(device_, config_.output_dir, *adapter_, config_.base_model,
                 config_.save_tables ? &parameters_ : nullptr);
  } else {
    save_model(device_, config_.output_dir, model_, merged(), config_.save_dtype);
  }
}

}  // namespace quire
