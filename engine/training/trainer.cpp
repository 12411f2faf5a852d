#include "engine/training/trainer.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <optional>
#include <utility>

#include "engine/formats/adapter_folder.h"
#include "engine/formats/hub_folder.h"
#include "engine/training/checkpoint.h"
#include "engine/training/fingerprint.h"
#include "engine/training/log_csv.h"
#include "engine/training/log_jsonl.h"
#include "engine/training/optimizer.h"
#include "engine/training/output_folder.h"
#include "kernels/random.h"

namespace quire {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr int kMaxSkippedInARow = 3;
constexpr std::uint64_t kDropoutStream = 0x64726F70;  // "drop", apart from the shuffle's streams

void check_records(const char* what, const TokenView& records, int vocab_size) {
  const std::int64_t count = records.ids.size();
  if ((records.offsets.empty() ? 0 : records.offsets.back()) != count ||
      (records.labels.size() > 0 && records.labels.size() != count)) {
    throw Error(Fault::internal, fmt::format("{} records: ids, labels and offsets disagree", what));
  }
  const auto check = [&](const TokenStream& ids, bool label) {
    ids.for_each([&](std::span<const std::int32_t> stretch, std::int64_t first) {
      for (std::size_t i = 0; i < stretch.size(); ++i) {
        const std::int32_t id = stretch[i];
        if ((id >= 0 && id < vocab_size) || (label && id == kIgnoredTarget)) continue;
        const std::int64_t place = first + static_cast<std::int64_t>(i);
        const auto next = std::upper_bound(records.offsets.begin(), records.offsets.end(), place);
        throw Error(
            Fault::bad_data,
            fmt::format("{} {} {} is outside the vocabulary", what, label ? "label" : "id", id),
            {fmt::format("record {}, place {}; the model has ids 0 to {}",
                         next - records.offsets.begin() - 1, place, vocab_size - 1)},
            "a tokenizer that belongs to the model");
      }
    });
  };
  check(records.ids, false);
  check(records.labels, true);
}

/// Seconds of steps and the tokens in them; what happens between steps is not counted.
struct Pace {
  double seconds = 0, flops = 0;
  std::int64_t tokens = 0;
  double tokens_per_second() const { return static_cast<double>(tokens) / seconds; }
  void add(const Pace& other) {
    seconds += other.seconds;
    flops += other.flops;
    tokens += other.tokens;
  }
};

class Run {
 public:
  Run(Device& device, const Gpt2Config& model, const Parameters& parameters,
      const TokenView& records, const TokenView& validation, const TrainingConfig& config,
      const TrainingCallbacks& callbacks)
      : device_(device),
        model_(model),
        parameters_(parameters),
        config_(with_block_size(config, model)),
        callbacks_(callbacks),
        rows_(records, config_.packing, config_.block_size),
        eval_rows_(validation, config_.packing, config_.block_size),
        total_steps_(total_steps(config_, rows_.size())),
        schedule_(schedule_of(config_, total_steps_)) {
    check_records("training", records, model.vocab_size);
    check_records("validation", validation, model.vocab_size);
    if (rows_.size() == 0) {
      throw Error(Fault::bad_data, "there is nothing to train on",
                  {fmt::format("{} records with {} tokens give no row with a target",
                               records.size(), records.ids.size())});
    }
    state_.data.seed = config_.data_seed.value_or(config_.seed);
    state_.fixed = fixed_facts(model, config_, records, validation);
    state_.options = option_facts(config_);
    if (config_.write_jsonl) logs_.push_back(std::make_shared<JsonlLog>());
    if (config_.write_csv) logs_.push_back(std::make_shared<CsvLog>());
    logs_.insert(logs_.end(), callbacks.logs.begin(), callbacks.logs.end());
    peak_flops_ = config_.peak_flops;
  }

  TrainingResult run();

 private:
  void restore(const fs::path& checkpoint);
  void check_early_stopping() const;
  /// Evaluation and checkpoint where the current step asks for them. False: to be stopped.
  bool settle();
  /// All of them, evaluations and checkpoints between. False: it was asked to stop.
  bool take_steps();
  void step();
  void skip(double loss, double norm);
  void watch(double loss, double norm);
  void report(double loss, double norm, double learning_rate);
  bool evaluate();
  void sample();
  void save();
  void save_result();
  void rotate();
  /// A checkpoint of the current step, unless it has one.
  void save_once();
  void finish();

  /// What the optimizer changes.
  const NamedTensors& trained() const {
    if (adapter_) return *adapter_;
    return parameters_;
  }
  /// The model with its adapter as it is now.
  Parameters merged() const {
    const std::shared_ptr<const Parameters> base(std::shared_ptr<void>(), &parameters_);
    return merge_adapter(device_, model_, base, *adapter_);
  }
  void load_trained(const fs::path& checkpoint) {
    if (adapter_) return load_weights(device_, checkpoint, *adapter_);
    load_weights(device_, checkpoint, parameters_);
  }

  bool stop_requested() const { return callbacks_.stop_requested && callbacks_.stop_requested(); }
  void note(const std::string& line) const {
    if (callbacks_.on_note) callbacks_.on_note(line);
  }
  void warn(const std::string& line) {
    for (const auto& log : logs_) log->warning(state_.step, line);
    if (callbacks_.on_warning) callbacks_.on_warning(line);
  }
  bool time_is_up() const {
    return config_.max_seconds > 0 &&
           std::chrono::duration<double>(Clock::now() - begun_).count() >= config_.max_seconds;
  }
  bool has_validation() const { return eval_rows_.size() > 0; }
  bool stopped_early() const {
    return config_.early_stopping_patience > 0 &&
           state_.evals_since_best >= config_.early_stopping_patience;
  }
  bool stop_step_reached() const {
    return config_.stop_at_step > 0 && state_.step >= config_.stop_at_step;
  }
  bool finished() const { return state_.step >= total_steps_ || stopped_early(); }
  bool eval_due() const {
    if (!has_validation() || state_.eval_step == state_.step) return false;
    if (state_.step == 0 || state_.step >= total_steps_) return true;
    return config_.eval_steps > 0 ? state_.step % config_.eval_steps == 0
                                  : batches_->at_epoch_end();
  }
  bool save_due() const {
    if (state_.step == 0 || saved_step_ == state_.step) return false;
    if (config_.load_best_model_at_end && state_.best_step == state_.step) return true;
    if (state_.skipped_in_a_row > 0) return false;
    return config_.save_steps > 0 && (state_.step % config_.save_steps == 0 || finished());
  }

  Device& device_;
  const Gpt2Config& model_;
  const Parameters& parameters_;
  const TrainingConfig config_;
  const TrainingCallbacks& callbacks_;
  const Rows rows_, eval_rows_;
  const std::int64_t total_steps_;
  const Schedule schedule_;

  TrainerState state_;
  std::int64_t saved_step_ = -1;
  fs::path last_checkpoint_;
  bool rotation_due_ = false, out_of_time_ = false;
  const Clock::time_point begun_ = Clock::now();
  Pace since_log_;
  double recent_step_seconds_ = 0;  // moving average, for the time left
  Pace recent_;                     // of the last step
  double peak_flops_ = 0;

  std::optional<OutputFolder> folder_;
  std::vector<std::shared_ptr<RunLog>> logs_;
  std::optional<LoraAdapter> adapter_;
  std::optional<Gpt2Training> network_;
  std::optional<AdamwOptimizer> optimizer_;
  std::optional<Batches> batches_;
};

TrainingResult Run::run() {
  if (config_.load_best_model_at_end || config_.early_stopping_patience > 0) check_early_stopping();
  folder_.emplace(config_);
  fs::path checkpoint;
  if (!config_.resume_from_checkpoint.empty()) {
    checkpoint = find_checkpoint(folder_->path(), config_.resume_from_checkpoint);
    restore(checkpoint);
  } else if (config_.overwrite_output_dir) {
    folder_->clear_earlier_run(config_);
  }
  remove_leftovers(folder_->path());

  if (const LoraConfig lora = adapter_of(config_, model_); lora.r > 0) {
    adapter_ = initialize_adapter(device_, model_, lora, config_.seed);
  }
  network_.emplace(device_, model_, parameters_,
                   TrainingOptions{.batch = config_.per_device_train_batch_size,
                                   .length = std::max(rows_.longest(), eval_rows_.longest()),
                                   .activations = config_.activations(),
                                   .frozen_layers = config_.freeze_layers,
                                   .gradient_checkpointing = config_.gradient_checkpointing},
                   adapter_ ? &*adapter_ : nullptr);
  optimizer_.emplace(device_, trained(), network_->gradients(),
                     adapter_ ? nullptr : network_->copies(),
                     AdamwOptions{.beta1 = config_.adam_beta1,
                                  .beta2 = config_.adam_beta2,
                                  .epsilon = config_.adam_epsilon,
                                  .weight_decay = config_.weight_decay,
                                  .max_grad_norm = config_.max_grad_norm});
  if (!checkpoint.empty()) {
    load_trained(checkpoint);
    network_->parameters_changed();
    load_moments(device_, checkpoint, *optimizer_);
    optimizer_->set_updates(state_.updates);
  }
  batches_.emplace(rows_, config_.per_device_train_batch_size, state_.data);
  for (const auto& log : logs_) log->begin(folder_->path(), checkpoint.empty() ? -1 : state_.step);
  if (rows_.left_out() > 0) {
    note(fmt::format("{} rows without a target are left out", rows_.left_out()));
  }

  TrainingResult result;
  if (checkpoint.empty()) sample();
  const bool stopped = !take_steps();
  if (!stopped) {
    finish();
  } else if (state_.step == 0) {
    for (const auto& log : logs_) log->discard();
  } else {
    save_once();
  }
  rotate();
  if (state_.step > 0) {
    for (const auto& log : logs_) log->end(stopped ? RunEnd::interrupted : RunEnd::done);
  }
  result.interrupted = stopped;
  result.out_of_time = out_of_time_ && !stopped;
  result.steps = state_.step;
  result.tokens = state_.tokens;
  result.final_loss = state_.loss;
  result.first_eval_loss = state_.first_eval_loss;
  result.final_eval_loss = config_.load_best_model_at_end && !stopped && state_.best_step > 0
                               ? state_.best_eval_loss
                               : state_.eval_loss;
  result.last_checkpoint = last_checkpoint_;
  return result;
}

void Run::check_early_stopping() const {
  if (has_validation()) return;
  throw Error(Fault::usage,
              config_.load_best_model_at_end
                  ? "--load-best-model-at-end needs validation data to know the best by"
                  : "--early-stopping-patience needs validation data to watch",
              {}, "--validation-split 0.05");
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
  last_checkpoint_ = checkpoint;
  if (fs::equivalent(checkpoint.parent_path().empty() ? "." : checkpoint.parent_path(),
                     folder_->path())) {
    saved_step_ = state_.step;
  }
  const std::vector<std::int64_t> there = checkpoint_steps(folder_->path());
  if (config_.load_best_model_at_end && state_.best_step > 0 &&
      !std::binary_search(there.begin(), there.end(), state_.best_step)) {
    note(fmt::format("checkpoint-{}, the best so far, is not in {}: the best is looked for anew",
                     state_.best_step, folder_->path().string()));
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

bool Run::settle() {
  if (eval_due()) {
    if (!evaluate()) return false;
    saved_step_ = -1;  // a checkpoint from before a stop knows nothing of this evaluation
  }
  if (save_due()) save();
  return finished() || !(stop_requested() || stop_step_reached());
}

bool Run::take_steps() {
  try {
    bool goes_on = settle();
    while (goes_on && !finished() && !out_of_time_) {
      step();
      sample();
      goes_on = settle();
      out_of_time_ = goes_on && !finished() && time_is_up();
    }
    if (out_of_time_) {
      note(fmt::format("the time is up after step {} of {}", state_.step, total_steps_));
      save_once();  // before the evaluation, of which a run without a limit knows nothing
      if (has_validation() && state_.eval_step != state_.step) goes_on = evaluate();
    }
    return goes_on;
  } catch (const Error& error) {
    if (error.fault() != Fault::device) throw;
    std::vector<std::string> details = error.details();
    const std::vector<std::int64_t> saved = checkpoint_steps(folder_->path());
    details.push_back(saved.empty()
                          ? "no checkpoint was saved before"
                          : "the last good checkpoint is " +
                                (folder_->path() / checkpoint_name(saved.back())).string());
    throw Error(
        error.fault(), error.what(), std::move(details),
        saved.empty() ? error.next() : "the same command with --resume-from-checkpoint latest");
  }
}

void Run::step() {
  const Clock::time_point start = Clock::now();
  const std::vector<Batch> window = batches_->next_window(config_.gradient_accumulation_steps);
  std::int64_t targets = 0;
  for (const Batch& batch : window) targets += batch.valid_targets;

  network_->zero_gradients();
  double loss_sum = 0;
  recent_ = {};
  for (std::size_t i = 0; i < window.size(); ++i) {
    const std::uint64_t dropout_seed =
        mix(mix(mix(config_.seed, kDropoutStream), static_cast<std::uint64_t>(state_.step)), i);
    loss_sum += network_->forward_backward(window[i].view(), 1.0f / static_cast<float>(targets),
                                           dropout_seed);
    recent_.tokens += window[i].tokens;
    recent_.flops += training_flops(model_, config_, window[i].tokens, window[i].length);
  }
  const double loss = loss_sum / static_cast<double>(targets);
  const double norm = optimizer_->gradient_norm();
  const double learning_rate = config_.learning_rate * schedule_.factor(state_.step);

  ++state_.step;
  state_.data = batches_->position();
  state_.epoch = batches_->epoch();
  state_.tokens += recent_.tokens;
  state_.loss = loss;
  if (!std::isfinite(loss) || !std::isfinite(norm)) {
    skip(loss, norm);
  } else {
    watch(loss, norm);
    rotate();  // the parameters that were saved last have just shown to be good
    optimizer_->step(static_cast<float>(learning_rate), norm);
    state_.updates = optimizer_->updates();
    state_.skipped_in_a_row = 0;
    state_.loss_sum += loss;
    ++state_.loss_steps;
  }
  device_.synchronize();
  recent_.seconds = std::chrono::duration<double>(Clock::now() - start).count();
  report(loss, norm, learning_rate);
}

void Run::skip(double loss, double norm) {
  warn(fmt::format("step {} is skipped: its loss is {}, its gradient norm {}", state_.step, loss,
                   norm));
  if (++state_.skipped_in_a_row < kMaxSkippedInARow) return;
  for (const auto& log : logs_) log->end(RunEnd::diverged);
  // The parameters are those of the last step that was not skipped: a checkpoint of it holds the
  // trouble already. Those before it were followed by a step that went well.
  const std::int64_t trouble = state_.step - kMaxSkippedInARow;
  std::vector<std::int64_t> good = checkpoint_steps(folder_->path());
  const bool any = !good.empty(), newest_is_good = any && good.back() < trouble;
  std::erase_if(good, [&](std::int64_t step) { return step >= trouble; });
  const std::string checkpoint =
      good.empty() ? "" : (folder_->path() / checkpoint_name(good.back())).string();
  throw Error(
      Fault::diverged,
      fmt::format("training diverged: {} steps in a row were not finite", kMaxSkippedInARow),
      {fmt::format("step {}: loss {}, gradient norm {}", state_.step, loss, norm),
       !good.empty() ? "the last good checkpoint is " + checkpoint
       : any         ? "no checkpoint is known to be good"
                     : "no checkpoint was saved before"},
      good.empty() ? "a lower --learning-rate or a longer --warmup-steps"
                   : fmt::format("--resume-from-checkpoint {} with a lower --learning-rate",
                                 newest_is_good ? "latest" : checkpoint));
}

void Run::watch(double loss, double norm) {
  if (config_.spike_z <= 0) return;
  const auto observe = [&](const char* what, SpikeWatch& watch, double value) {
    const SpikeWatch before = watch;
    const double z = watch.observe(value, config_.spike_z);
    if (z <= config_.spike_z) return;
    warn(
        fmt::format("step {}: the {} is {:.4g}, {:.1f} deviations above the {:.4g} of the steps "
                    "before",
                    state_.step, what, value, z, before.mean));
  };
  observe("loss", state_.loss_watch, loss);
  observe("gradient norm", state_.norm_watch, norm);
}

void Run::report(double loss, double norm, double learning_rate) {
  since_log_.add(recent_);
  recent_step_seconds_ = recent_step_seconds_ == 0
                             ? recent_.seconds
                             : 0.9 * recent_step_seconds_ + 0.1 * recent_.seconds;
  const auto mfu = [&](const Pace& pace) {
    if (peak_flops_ <= 0) return TrainerState::kNone;
    peak_flops_ = std::max(peak_flops_, pace.flops / pace.seconds);
    return pace.flops / pace.seconds / peak_flops_;
  };
  TrainingProgress progress{
      .step = state_.step,
      .total_steps = total_steps_,
      .epoch = state_.epoch,
      .loss = loss,
      .grad_norm = norm,
      .learning_rate = learning_rate,
      .tokens = state_.tokens,
      .tokens_per_second = recent_.tokens_per_second(),
      .seconds_left = recent_step_seconds_ * static_cast<double>(total_steps_ - state_.step),
      .mfu = mfu(recent_),
      .eval_loss = state_.eval_loss};
  if (callbacks_.on_step) callbacks_.on_step(progress);
  if (state_.step % config_.logging_steps != 0 && state_.step != total_steps_) return;
  progress.loss = state_.loss_steps > 0 ? state_.loss_sum / static_cast<double>(state_.loss_steps)
                                        : TrainerState::kNone;
  progress.tokens_per_second = since_log_.tokens_per_second();
  progress.mfu = mfu(since_log_);
  for (const auto& log : logs_) log->train(progress);
  if (callbacks_.on_log) callbacks_.on_log(progress);
  state_.loss_sum = 0;
  state_.loss_steps = 0;
  since_log_ = {};
}

bool Run::evaluate() {
  double sum = 0;
  std::vector<std::int64_t> which;
  for (std::int64_t first = 0; first < eval_rows_.size();
       first += config_.per_device_train_batch_size) {
    if (stop_requested()) return false;
    const std::int64_t end =
        std::min<std::int64_t>(eval_rows_.size(), first + config_.per_device_train_batch_size);
    which.clear();
    for (std::int64_t row = first; row < end; ++row) which.push_back(row);
    if (callbacks_.on_eval_batch) callbacks_.on_eval_batch(first, eval_rows_.size());
    sum += network_->forward(eval_rows_.gather(which).view());
  }
  const double loss = sum / static_cast<double>(eval_rows_.targets());
  state_.eval_loss = loss;
  state_.eval_step = state_.step;
  if (state_.step == 0) {
    state_.first_eval_loss = loss;
  } else if (std::isfinite(loss) &&
             (std::isnan(state_.best_eval_loss) || loss < state_.best_eval_loss)) {
    state_.best_eval_loss = loss;
    state_.best_step = state_.step;
    state_.evals_since_best = 0;
  } else {
    ++state_.evals_since_best;
  }
  for (const auto& log : logs_) log->eval(state_.step, loss);
  if (callbacks_.on_eval) callbacks_.on_eval(state_.step, loss);
  if (!std::isfinite(loss)) {
    warn(fmt::format("step {}: the validation loss is {}, and counts as no better", state_.step,
                     loss));
  }
  return true;
}

void Run::sample() {
  if (config_.sample_every <= 0 || !callbacks_.sample) return;
  if (state_.step % config_.sample_every != 0 && state_.step != total_steps_) return;
  for (const TextSample& text : adapter_ ? callbacks_.sample(state_.step, merged())
                                         : callbacks_.sample(state_.step, parameters_)) {
    for (const auto& log : logs_) log->sample(state_.step, text);
  }
}

void Run::save() {
  last_checkpoint_ = save_checkpoint(device_, folder_->path(),
                                     {.config = model_,
                                      .parameters = parameters_,
                                      .optimizer = *optimizer_,
                                      .state = state_,
                                      .adapter = adapter_ ? &*adapter_ : nullptr,
                                      .base_model = config_.base_model,
                                      .write_companions = callbacks_.write_companions});
  saved_step_ = state_.step;
  rotation_due_ = true;
  if (callbacks_.on_save) callbacks_.on_save(last_checkpoint_);
}

/// The model, the adapter, or both as one.
void Run::save_result() {
  if (!adapter_) {
    save_model(device_, folder_->path(), model_, parameters_, config_.save_dtype);
  } else if (!config_.lora_merge) {
    save_adapter(device_, folder_->path(), *adapter_, config_.base_model);
  } else {
    save_model(device_, folder_->path(), model_, merged(), config_.save_dtype);
  }
}

void Run::save_once() {
  if (saved_step_ != state_.step) save();
}

void Run::rotate() {
  if (!std::exchange(rotation_due_, false)) return;
  rotate_checkpoints(
      folder_->path(),
      {.limit = config_.save_total_limit, .best_step = state_.best_step, .step = state_.step});
}

void Run::finish() {
  if (stopped_early() && !out_of_time_) {
    note(fmt::format(
        "stopped at step {}: no better validation loss than {:.4f} (step {}) in {} evaluations",
        state_.step, state_.best_eval_loss, state_.best_step, state_.evals_since_best));
  }
  if (config_.load_best_model_at_end && state_.best_step > 0 && state_.best_step != state_.step) {
    load_trained(folder_->path() / checkpoint_name(state_.best_step));
    note(fmt::format("the model of step {} is kept: validation loss {:.4f}", state_.best_step,
                     state_.best_eval_loss));
  }
  if (callbacks_.write_companions) callbacks_.write_companions(folder_->path());
  save_result();
  if (callbacks_.on_save) callbacks_.on_save(folder_->path());
}

}  // namespace

TrainingResult train(Device& device, const Gpt2Config& model, const Parameters& parameters,
                     const TokenView& records, const TokenView& validation,
                     const TrainingConfig& config, const TrainingCallbacks& callbacks) {
  config.check();
  model.check();
  try {
    return Run(device, model, parameters, records, validation, config, callbacks).run();
  } catch (const fs::filesystem_error& error) {
    const bool full = error.code() == std::errc::no_space_on_device;
    throw Error(full ? Fault::no_space : Fault::bad_data,
                "cannot work in " + config.output_dir.string(), {error.what()});
  }
}

}  // namespace quire
