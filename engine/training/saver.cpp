#include "engine/training/saver.h"

#include <fmt/format.h>

#include <utility>

#include "engine/formats/hub_folder.h"

namespace quire {

namespace fs = std::filesystem;

fs::path Saver::prepare(const std::function<void(const fs::path&)>& restore) {
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

void Saver::resumed(const fs::path& checkpoint, const TrainerState& state) {
  last_checkpoint_ = checkpoint;
  if (fs::equivalent(checkpoint.parent_path().empty() ? "." : checkpoint.parent_path(),
                     config_.output_dir)) {
    saved_step_ = state.step;
    rotation_due_ = true;  // it may have been killed between saving and rotating
  }
}

void Saver::save_once(TrainerState& state, const AdamwOptimizer& optimizer) {
  if (has(state)) return;
  const AdamwOptimizer::HostMoments moments =
      optimizer.sharded() || ranks_.first() ? optimizer.moments() : AdamwOptimizer::HostMoments{};
  ranks_.agree([&] {
    if (ranks_.first()) write(state, moments);
  });
  last_checkpoint_ = config_.output_dir / checkpoint_name(state.step);
  saved_step_ = state.step;
  rotation_due_ = true;
  if (callbacks_.on_save) callbacks_.on_save(last_checkpoint_);
}

void Saver::save_alone(TrainerState& state, const AdamwOptimizer& optimizer) {
  if (!folder_) {
    TrainingConfig again = config_;
    again.resume_from_checkpoint = "latest";
    folder_.emplace(again);
  }
  write(state, optimizer.moments());
}

void Saver::note_tuning(TrainerState& state) const {
  const std::string table = model_.device.tuned();
  if (!table.empty()) state.options["autotune table"] = table;
  if (!model_.device.why_unproven().empty()) {
    state.options["kernels that wait for doctor --verify"] = "some";
  }
  // A library may take an activation of what is not rounded yet, where computing it again cannot.
  if (config_.keep_outputs) state.options["outputs of layernorms and activations"] = "kept";
}

void Saver::write(TrainerState& state, const AdamwOptimizer::HostMoments& moments) const {
  note_tuning(state);
  save_checkpoint(config_.output_dir, {.model = model_,
                                       .moments = moments,
                                       .state = state,
                                       .write_companions = callbacks_.write_companions});
}

void Saver::rotate(const TrainerState& state) {
  if (!std::exchange(rotation_due_, false) || !ranks_.first()) return;
  rotate_checkpoints(
      config_.output_dir,
      {.limit = config_.save_total_limit, .best_step = state.best_step, .step = state.step});
}

void Saver::save_result(const TrainerState& state, const Reporter& reporter) const {
  if (config_.load_best_model_at_end && state.best_step > 0 && state.best_step != state.step) {
    model_.load(config_.output_dir / checkpoint_name(state.best_step));
    reporter.note(fmt::format("the model of step {} is kept: validation loss {:.4f}",
                              state.best_step, state.best_eval_loss));
  }
  if (callbacks_.write_companions) callbacks_.write_companions(config_.output_dir);
  if (model_.adapter && config_.lora_merge) {
    save_model(model_.device, config_.output_dir, model_.config, model_.merged(),
               config_.save_dtype);
  } else {
    model_.save(config_.output_dir, config_.save_dtype);
  }
  if (callbacks_.on_save) callbacks_.on_save(config_.output_dir);
}

std::string Saver::last_good() const {
  const std::vector<std::int64_t> saved = checkpoint_steps(config_.output_dir);
  if (saved.empty()) return {};
  return "the last good checkpoint is " +
         (config_.output_dir / checkpoint_name(saved.back())).string();
}

}  // namespace quire
