#include "engine/training/run.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "base/random.h"
#include "base/text.h"
#include "engine/training/fingerprint.h"

namespace quire {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

namespace {

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
        const std::int64_t place = first + i;
        std::int64_t record = -1;  // the last that begins there or before
        records.offsets.for_each([&](std::int64_t begin) { record += begin <= place; });
        throw Error(
            Fault::bad_data,
            fmt::format("{} {} {} is outside the vocabulary", what, label ? "label" : "id", id),
            {fmt::format("record {}, place {}; the model has ids 0 to {}", record, place,
                         vocab_size - 1)},
            "a tokenizer that belongs to the model");
      }
    });
  };
  check(records.ids, false);
  check(records.labels, true);
}

}  // namespace

Run::Run(TrainedModel model, const Rows& rows, const Rows& validation, const TrainingConfig& config,
         const TrainingCallbacks& callbacks)
    : config_(with_block_size(config, model.config)),
      ranks_(callbacks.ranks_or_one()),
      callbacks_(ranks_.first()
                     ? callbacks
                     : TrainingCallbacks{.stop_requested = callbacks.stop_requested,
                                         .write_companions = callbacks.write_companions}),
      model_(std::move(model)),
      rows_(rows),
      eval_rows_(validation),
      asked_steps_(total_steps(config_, rows_.size())),
      schedule_(schedule_of(config_, asked_steps_)),
      total_steps_(asked_steps_),
      reporter_(config_, callbacks_, ranks_.first()),
      saver_(model_, config_, callbacks_, ranks_) {
  if (config_.load_best_model_at_end || config_.early_stopping_patience > 0) check_early_stopping();
  for (const Rows* cut : {&rows_, &eval_rows_}) {
    if (cut->packing() == config_.packing && cut->block_size() == config_.block_size &&
        cut->overflow() == config_.overflow) {
      continue;
    }
    throw Error(Fault::internal, "rows are not cut as the config of the run has it");
  }
  const TokenView& records = rows_.records();
  check_records("training", records, model_.config.vocab_size);
  check_records("validation", eval_rows_.records(), model_.config.vocab_size);
  if (rows_.size() == 0) {
    throw Error(
        Fault::bad_data, "there is nothing to train on",
        {fmt::format("{} with {} give no row with a target", counted(records.size(), "record"),
                     counted(records.ids.size(), "token"))});
  }
  state_.data.seed = config_.data_seed.value_or(config_.seed);
  state_.fixed = fixed_facts(model_.config, config_, records, eval_rows_.records());
  state_.options = option_facts(config_);
  saver_.note_tuning(state_);
}

void Run::check_ranks() const {
  if (ranks_.size() != config_.ranks) {
    throw Error(Fault::internal, fmt::format("training is set up for {} ranks, and there are {}",
                                             config_.ranks, ranks_.size()));
  }
  std::uint64_t facts = 0;
  for (const auto& [name, value] : state_.fixed) {
    for (const char c : name + "=" + value) facts = mix(facts, static_cast<unsigned char>(c));
  }
  const std::array<double, 1> mine = {static_cast<double>(facts >> 12)};  // exact in a double
  const std::vector<double> all = ranks_.collect(mine);
  const auto other = std::find_if(all.begin(), all.end(), [&](double f) { return f != all[0]; });
  if (other == all.end()) return;
  ranks_.agree([&] {
    throw Error(Fault::usage,
                fmt::format("rank {} does not train what rank 0 trains", other - all.begin()),
                {"data, model or options differ"}, "the same command and the same files on each");
  });
}

void Run::restore(const fs::path& checkpoint) {
  TrainerState saved = read_trainer_state(checkpoint);
  const std::vector<std::string> refused = differences(saved.fixed, state_.fixed);
  if (!refused.empty()) {
    throw Error(Fault::usage, checkpoint.string() + " was made by another run", refused,
                "the options of that run, or another `output_dir` with `model` "_named +
                    checkpoint.string());
  }
  for (const std::string& line : differences(saved.options, state_.options)) reporter_.note(line);
  saved.options = state_.options;
  state_ = std::move(saved);
  total_steps_ = state_.plan.total(asked_steps_);
  saver_.resumed(checkpoint, state_);
  const std::vector<std::int64_t> there = checkpoint_steps(config_.output_dir);
  if (config_.load_best_model_at_end && state_.best_step > 0 &&
      !std::binary_search(there.begin(), there.end(), state_.best_step)) {
    reporter_.note(
        fmt::format("checkpoint-{}, the best so far, is not in {}: the best is looked for anew",
                    state_.best_step, config_.output_dir.string()));
    state_.best_eval_loss = TrainerState::kNone;
    state_.best_step = -1;
    state_.evals_since_best = 0;
  }
  if (!there.empty() && there.back() > state_.step) {
    reporter_.note(
        fmt::format("{} is there too, of a run that went further; this one writes it anew",
                    checkpoint_name(there.back())));
  }
  reporter_.note(fmt::format("going on from {} at step {} of {}", checkpoint.string(), state_.step,
                             total_steps_));
}

void Run::build(const fs::path& checkpoint) {
  std::optional<LoraAdapter>& adapter = model_.adapter;
  if (const LoraConfig lora = adapter_of(config_, model_.config); lora.r > 0) {
    adapter = initialize_adapter(model_.device, model_.config, lora, config_.seed);
  }
  network_.emplace(model_.device, model_.config, model_.parameters,
                   network_options(config_, std::max(rows_.longest(), eval_rows_.longest())),
                   adapter ? &*adapter : nullptr);
  optimizer_.emplace(model_.device, model_.trained(), network_->gradients(),
                     adapter ? nullptr : network_->copies(),
                     AdamwOptions{.beta1 = config_.adam_beta1,
                                  .beta2 = config_.adam_beta2,
                                  .epsilon = config_.adam_epsilon,
                                  .weight_decay = config_.weight_decay,
                                  .max_grad_norm = config_.max_grad_norm,
                                  .sharded = config_.zero},
                     ranks_);
  if (!checkpoint.empty()) {
    model_.load(checkpoint);
    network_->parameters_changed();
    load_moments(model_.device, checkpoint, *optimizer_);
    optimizer_->set_updates(state_.updates);
  }
  batches_.emplace(rows_, config_.micro_batch_rows(), state_.data, ranks_.rank(), ranks_.size());
}

TrainingResult Run::run() {
  check_ranks();
  const fs::path checkpoint = saver_.prepare([&](const fs::path& found) { restore(found); });
  build(checkpoint);
  reporter_.begin(checkpoint.empty() ? -1 : state_.step);
  if (rows_.left_out() > 0) {
    reporter_.note(fmt::format("{} without a target {} left out", counted(rows_.left_out(), "row"),
                               rows_.left_out() == 1 ? "is" : "are"));
  }

  const bool stopped = !take_steps();
  if (!stopped) {
    finish();
  } else if (state_.step == 0) {
    reporter_.discard();
  } else {
    saver_.save_once(state_, *optimizer_);
  }
  saver_.rotate(state_);
  if (state_.step > 0) reporter_.end(stopped ? RunEnd::interrupted : RunEnd::done);
  return result(stopped);
}

TrainingResult Run::result(bool stopped) const {
  return {.steps = state_.step,
          .tokens = state_.tokens,
          .final_loss = state_.loss,
          .first_eval_loss = state_.first_eval_loss,
          .final_eval_loss = config_.load_best_model_at_end && !stopped && state_.best_step > 0
                                 ? state_.best_eval_loss
                                 : state_.eval_loss,
          .interrupted = stopped,
          .out_of_time = out_of_time_ && !stopped,
          .last_checkpoint = saver_.last_checkpoint()};
}

void Run::finish() {
  if (stopped_early() && !out_of_time_) {
    reporter_.note(fmt::format(
        "stopped at step {}: no better validation loss than {:.4f} (step {}) in {}", state_.step,
        state_.best_eval_loss, state_.best_step, counted(state_.evals_since_best, "evaluation")));
  }
  ranks_.agree([&] {
    if (ranks_.first()) saver_.save_result(state_, reporter_);
  });
}

// ---------------------------------------------------------------- what is due

bool Run::stop_requested() const {
  return ranks_.any(callbacks_.stop_requested && callbacks_.stop_requested());
}

bool Run::stopped_early() const {
  return config_.early_stopping_patience > 0 &&
         state_.evals_since_best >= config_.early_stopping_patience;
}

bool Run::eval_due() const {
  if (!has_validation() || state_.eval_step == state_.step) return false;
  if (state_.step == 0 || state_.step >= total_steps_) return true;
  const std::int64_t every = config_.eval_steps > 0 ? config_.eval_steps : state_.eval_plan.every;
  return every > 0 ? state_.step % every == 0 : batches_->at_epoch_end();
}

bool Run::save_due() const {
  if (state_.step == 0) return false;
  if (config_.load_best_model_at_end && state_.best_step == state_.step) return true;
  if (state_.skipped_in_a_row > 0) return false;
  return config_.save_steps > 0 && (state_.step % config_.save_steps == 0 || finished());
}

// ---------------------------------------------------------------- the loop

void Run::check_early_stopping() const {
  if (has_validation()) return;
  throw Error(Fault::usage,
              config_.load_best_model_at_end
                  ? "`load_best_model_at_end` needs validation data to know the best by"_named
                  : "`early_stopping_patience` needs validation data to watch"_named,
              {}, "`validation_share` 0.05"_named);
}

bool Run::settle() {
  if (eval_due()) {
    if (!evaluate()) return false;
    saver_.forget();  // a checkpoint from before a stop knows nothing of this evaluation
  }
  if (save_due()) saver_.save_once(state_, *optimizer_);
  const bool at_stop_step = config_.stop_at_step > 0 && state_.step >= config_.stop_at_step;
  return finished() || !(stop_requested() || at_stop_step);
}

bool Run::take_steps() {
  try {
    plan();
    if (std::exchange(state_.sample_cut, false)) {
      saver_.forget();  // as after an evaluation that was cut
      sample();
    } else if (state_.step == 0) {
      sample();
    }
    bool goes_on = settle();
    while (goes_on && !finished() && !out_of_time_) {
      step();
      sample();
      goes_on = settle();
      out_of_time_ = goes_on && !finished() && time_is_up();
      if (goes_on && !out_of_time_) plan_again();
    }
    if (out_of_time_) {
      reporter_.note(fmt::format("the time is up after step {} of {}", state_.step, total_steps_));
      saver_.save_once(
          state_,
          *optimizer_);  // before the evaluation, of which a run without a limit knows nothing
      if (has_validation() && state_.eval_step != state_.step) goes_on = evaluate();
    }
    return goes_on;
  } catch (const PeerFailed&) {
    throw;  // who failed says how to go on
  } catch (const PeerLost& lost) {
    go_without(lost);
  } catch (Error& error) {
    if (error.fault() != Fault::device) throw;
    const std::string saved = saver_.last_good();
    error.add_detail(saved.empty() ? "no checkpoint was saved before" : saved);
    if (!saved.empty()) {
      error.set_next("the same command with `resume_from_checkpoint` latest"_named);
    }
    throw;
  }
}

void Run::go_without(const PeerLost& lost) {
  std::vector<std::string> details;
  if (config_.zero) {
    details.push_back("its part of the moments is lost with it (`zero`)"_named);
  } else if (state_.step > 0 && !saver_.has(state_) && lost.speaker() == ranks_.rank()) {
    // All ranks have the same parameters, moments and state, so any of them can save.
    saver_.save_alone(state_, *optimizer_);
  }
  const std::string saved = saver_.last_good();
  details.push_back(saved.empty() ? "no checkpoint was saved before" : saved);
  throw PeerLost(lost, std::move(details), saved.empty() ? "the same command again" : lost.next());
}

void Run::step() {
  const Clock::time_point start = Clock::now();
  const std::vector<Batch> window = batches_->next_window(config_.gradient_accumulation_steps);
  std::array<double, 4> counts = {};  // targets, tokens, flops, rows
  for (const Batch& batch : window) {
    counts[0] += batch.valid_targets;
    counts[1] += batch.tokens;
    counts[2] += training_flops(model_.config, batch.tokens, batch.length, config_);
    counts[3] += batch.rows;
  }
  ranks_.sum(counts);
  const double targets = counts[0];

  // A single micro-batch begins with zeros by itself, but ranks may be left without one.
  if (config_.gradient_accumulation_steps > 1 || window.front().rows == 0) {
    network_->zero_gradients();
  }
  std::array<double, 2> sums = {};  // of losses, of the squares of gradients
  for (std::size_t i = 0; i < window.size(); ++i) {
    if (callbacks_.on_batch) {
      callbacks_.on_batch({.step = state_.step + 1,
                           .total_steps = total_steps_,
                           .batches_done = static_cast<std::int64_t>(i),
                           .batches = std::ssize(window)});
    }
    if (window[i].rows == 0) continue;
    const std::uint64_t dropout_seed = mix(mix(mix(config_.seed, kDropoutStream), state_.step), i);
    sums[0] += network_->forward_backward(window[i].view(), 1.0f / static_cast<float>(targets),
                                          dropout_seed);
  }
  optimizer_->reduce_gradients();
  sums[1] = optimizer_->squared_norm();
  ranks_.sum(sums);
  const double loss = sums[0] / targets;
  const double norm = std::sqrt(sums[1]);
  const double learning_rate =
      config_.learning_rate * schedule_.factor(state_.plan.place(state_.step, asked_steps_));
  Pace pace{.flops = counts[2], .tokens = static_cast<std::int64_t>(counts[1])};

  ++state_.step;
  state_.data = batches_->position();
  state_.epoch = batches_->epoch();
  state_.tokens += pace.tokens;
  state_.loss = loss;
  if (!std::isfinite(loss) || !std::isfinite(norm)) {
    skip(loss, norm);
  } else {
    // The last step of an epoch has what rows are left: fewer make a rougher gradient.
    const std::int64_t rows =
        std::int64_t{config_.gradient_accumulation_steps} * config_.micro_batch_rows();
    if (counts[3] >= std::min(rows, rows_.size())) {
      reporter_.watch(state_, loss, norm);
    }
    saver_.rotate(state_);  // the parameters that were saved last have just shown to be good
    optimizer_->step(static_cast<float>(learning_rate), norm);
    if (config_.zero) network_->parameters_changed();
    state_.updates = optimizer_->updates();
    state_.skipped_in_a_row = 0;
    state_.loss_sum += loss;
    ++state_.loss_steps;
  }
  model_.device.synchronize();
  pace.seconds = std::chrono::duration<double>(Clock::now() - start).count();
  reporter_.step(state_, total_steps_, {loss, norm, learning_rate, pace});
}

void Run::skip(double loss, double norm) {
  reporter_.warn(state_.step,
                 fmt::format("step {} is skipped: its loss is {}, its gradient norm {}",
                             state_.step, loss, norm));
  if (++state_.skipped_in_a_row < kMaxSkippedInARow) return;
  reporter_.end(RunEnd::diverged);
  // The parameters are those of the last step that was not skipped: a checkpoint of it holds the
  // trouble already. Those before it were followed by a step that went well.
  const std::int64_t trouble = state_.step - kMaxSkippedInARow;
  std::vector<std::int64_t> good = checkpoint_steps(config_.output_dir);
  const bool any = !good.empty(), newest_is_good = any && good.back() < trouble;
  std::erase_if(good, [&](std::int64_t step) { return step >= trouble; });
  const std::string checkpoint =
      good.empty() ? "" : (config_.output_dir / checkpoint_name(good.back())).string();
  const Error diverged(
      Fault::diverged,
      fmt::format("training diverged: {} steps in a row were not finite", kMaxSkippedInARow),
      {fmt::format("step {}: loss {}, gradient norm {}", state_.step, loss, norm),
       !good.empty() ? "the last good checkpoint is " + checkpoint
       : any         ? "no checkpoint is known to be good"
                     : "no checkpoint was saved before"},
      good.empty() ? "a lower `learning_rate` or a longer `warmup_steps`"_named
                   : "`resume_from_checkpoint` "_named + (newest_is_good ? "latest" : checkpoint) +
                         " with a lower `learning_rate`"_named);
  ranks_.agree([&] { throw diverged; });
}

bool Run::evaluate() {
  const Clock::time_point start = Clock::now();
  std::array<double, 2> sums = {};  // of losses, of targets
  std::vector<std::int64_t> which;
  const std::int64_t batch_rows = config_.micro_batch_rows(), rows = eval_row_count();
  for (std::int64_t first = 0; first < rows; first += batch_rows) {
    if (stop_requested()) return false;
    which.resize(std::min(batch_rows, rows - first));
    for (std::size_t i = 0; i < which.size(); ++i) {
      which[i] = (first + i) * eval_rows_.size() / rows;
    }
    if (callbacks_.on_eval_batch) callbacks_.on_eval_batch(first, rows);
    const Batch batch = eval_rows_.gather(which, ranks_.rank(), ranks_.size());
    if (batch.rows == 0) continue;
    sums[0] += network_->forward(batch.view());
    sums[1] += batch.valid_targets;
  }
  ranks_.sum(sums);
  times_.last_evaluation = std::chrono::duration<double>(Clock::now() - start).count();
  times_.evaluated += times_.last_evaluation;
  const double loss = sums[0] / sums[1];
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
  reporter_.eval(state_.step, loss);
  if (!std::isfinite(loss)) {
    reporter_.warn(state_.step,
                   fmt::format("step {}: the validation loss is {}, and counts as no better",
                               state_.step, loss));
  }
  return true;
}

void Run::sample() {
  if (config_.sample_every <= 0 || !callbacks_.sample) return;
  if (state_.step % config_.sample_every != 0 && state_.step != total_steps_) return;
  const std::vector<TextSample> texts = model_.adapter
                                            ? callbacks_.sample(state_.step, model_.merged())
                                            : callbacks_.sample(state_.step, model_.parameters);
  state_.sample_cut = texts.empty();
  reporter_.samples(state_.step, texts);
}

}  // namespace quire
