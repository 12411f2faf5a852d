// quire train: a fresh GPT-2, or one to go on from, and text in; a model folder out.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <optional>

#include "base/file.h"
#include "base/text.h"
#include "cli/command.h"
#include "cli/get_model.h"
#include "cli/model_path.h"
#include "cli/resources.h"
#include "cli/signals.h"
#include "cli/terminal.h"
#include "cli/train_data.h"
#include "cli/train_defaults.h"
#include "cli/train_memory.h"
#include "cli/train_options.h"
#include "cli/train_progress.h"
#include "cli/train_reports.h"
#include "cli/train_samples.h"
#include "distributed/launch.h"
#include "engine/formats/adapter_folder.h"
#include "engine/formats/adapter_merge.h"
#include "engine/formats/hub_folder.h"
#include "engine/model/vocabulary.h"
#include "engine/training/checkpoint.h"
#include "engine/training/cost.h"
#include "engine/training/output_folder.h"

namespace quire {
namespace {

namespace fs = std::filesystem;

/// What is trained, before any weight is read.
struct Start {
  Gpt2Config config;
  fs::path weights;  ///< folder or file of --model; empty: fresh weights, or those of a checkpoint
  fs::path tables;   ///< the adapter's checkpoint that brings embeddings with more rows; or empty
  std::optional<Tokenizer> tokenizer;
};

void refuse_adapter_on_adapter(const TrainOptions& options, const fs::path& model) {
  if (options.training.lora.r == 0 || !is_adapter(model)) return;
  throw Error(Fault::usage, "--lora-r adapts a model, and " + model.string() + " is an adapter",
              {"a second adapter would have no model of its own to be used with"},
              "--model " + in_shell(base_model(model).string()) +
                  ", or without --lora-r to train the merged model as a whole");
}

/// A folder holds a model or an adapter: writing the one would remove the other, which is in use.
void refuse_same_folder(const TrainOptions& options, const fs::path& model) {
  const TrainingConfig& training = options.training;
  const fs::path folder = is_adapter(model) ? model : config_folder(model);
  std::error_code not_there;
  if (training.lora.r == 0 && !is_adapter(model)) return;
  if (!fs::equivalent(folder, training.output_dir, not_there)) return;
  throw Error(
      Fault::usage, "--output-dir " + training.output_dir.string() + " is the folder of --model",
      {"an adapter and the model that it adapts lie in two folders"}, "another --output-dir");
}

/// The model gets a row for each id that its tokenizer has beyond them, where that is asked for.
void grow(TrainOptions& options, Start& start) {
  const int ids = start.tokenizer->vocab_size();
  // A checkpoint that is gone on from without --model has the rows that its run gave it.
  if (!options.resize_vocab || options.model.empty()) {
    throw Error(
        Fault::bad_data, "the tokenizer has more ids than the model",
        {fmt::format("the tokenizer has {} ids, the model {}", ids, start.config.vocab_size)},
        options.model.empty() ? "the --tokenizer of the run that is resumed"
                              : "the --tokenizer that the model was trained with, or "
                                "--resize-vocab for a model with more rows");
  }
  start.config.vocab_size = ids;
  options.training.save_tables = options.training.lora.r > 0;
}

Start find_start(TrainOptions& options) {
  Start start;
  fs::path folder;  // whose tokenizer is used when none is named
  TrainingConfig& training = options.training;
  if (!options.model.empty()) {
    start.weights = resolve_model(options.model);
    refuse_adapter_on_adapter(options, start.weights);
    refuse_same_folder(options, start.weights);
    folder = tokenizer_folder(start.weights);
    start.config = resolved_config(start.weights);
    if (training.lora.r > 0) training.base_model = name_for_peft(options.model);
  } else if (!options.config.empty()) {
    const std::optional<Gpt2Config> preset = Gpt2Config::preset(options.config);
    if (!preset && !fs::exists(options.config)) {
      throw Error(Fault::usage, "--config " + options.config + " is neither a preset nor a file",
                  {"presets: tiny, gpt2, gpt2-medium, gpt2-large, gpt2-xl"}, "--config tiny");
    }
    start.config = preset ? *preset : read_config(options.config);
  } else {
    folder = find_checkpoint(training.output_dir, training.resume_from_checkpoint);
    start.config = resolved_config(folder);
    if (is_adapter(folder)) {  // which holds no model: the base is read again
      start.weights = base_model(folder);
      training.save_tables = adapted_vocab_size(folder) > 0;
      if (training.save_tables) start.tables = folder;
      training.base_model = read_adapter_config(folder).base_model_name_or_path;
    }
    folder = tokenizer_folder(folder);
  }
  if (!options.tokenizer.empty()) folder = resolve_tokenizer(options.tokenizer);
  if (!folder.empty() && Tokenizer::exists(folder)) {
    start.tokenizer = Tokenizer::load(folder);
  } else {
    options.get_tokenizer =
        folder.empty() ? how_to_get(std::string(kUsualModel)) : how_to_get(folder);
    options.get_tokenizer.insert(options.get_tokenizer.begin(),
                                 folder.empty() ? "a fresh model has no vocabulary of its own"
                                                : "the model's folder has none");
  }

  if (start.tokenizer && !options.config.empty()) {  // a fresh model takes the tokenizer's sizes
    start.config.vocab_size = start.tokenizer->vocab_size();
    start.config.bos_token_id = start.config.eos_token_id = start.tokenizer->end_of_text();
  }
  if (start.tokenizer && start.tokenizer->vocab_size() > start.config.vocab_size) {
    grow(options, start);
  }
  if (options.dropout >= 0) {
    start.config.resid_pdrop = start.config.embd_pdrop = start.config.attn_pdrop = options.dropout;
  }
  start.config.check();
  return start;
}

Parameters make_parameters(Device& device, Start& start, const TrainOptions& options) {
  if (!start.weights.empty()) {
    LoadedModel loaded = load_resolved(device, start.weights, WeightStorage::f32);
    if (!start.tables.empty()) {
      loaded = with_adapter_tables(device, start.tables, std::move(loaded));
    }
    for (const std::string& line : loaded.notes) note(line);
    start.config.tie_word_embeddings = loaded.config.tie_word_embeddings;
    if (loaded.config.vocab_size < start.config.vocab_size) {
      note(fmt::format("the vocabulary grows from {} to {} rows, the new ones around their mean",
                       loaded.config.vocab_size, start.config.vocab_size));
      return grow_vocabulary(device, start.config, loaded.parameters, options.training.seed);
    }
    return std::move(loaded.parameters);
  }
  if (!options.training.resume_from_checkpoint.empty()) return Parameters(device, start.config);
  return initialize_parameters(device, start.config, options.training.seed);
}

/// What the run will hold in memory: rows as long as the longest one there is, which may be far
/// shorter than the context.
TrainingConfig as_planned(TrainingConfig config, const Rows& rows, const Rows& validation) {
  const int longest = std::max(rows.longest(), validation.longest());
  if (longest > 0) config.block_size = std::min(config.block_size, longest);
  return config;
}

void describe(const Start& start, const TrainOptions& options, const TrainData& data,
              const Rows& rows, const Device& device) {
  const Gpt2Config& c = start.config;
  const TrainingConfig& t = options.training;
  const std::int64_t steps = total_steps(t, rows.size());
  const Schedule schedule = schedule_of(t, steps);
  note(fmt::format("  device      {}", device.description()));
  if (t.ranks > 1) {
    note(fmt::format("  processes   {}, each {} of a batch{}", t.ranks,
                     counted(t.per_device_train_batch_size, "row"),
                     t.zero ? " and its part of the AdamW moments" : ""));
  } else if (t.zero) {
    note("  processes   one, which keeps all AdamW moments: --zero 1 is for mpirun -np N");
  }
  note(fmt::format("  model       {}: {} of {}, {}, context {}, vocabulary {}: {} parameters",
                   !start.weights.empty()             ? start.weights.string()
                   : t.resume_from_checkpoint.empty() ? "fresh"
                                                      : "of the checkpoint",
                   counted(c.n_layer, "layer"), c.n_embd, counted(c.n_head, "head"),
                   with_commas(c.n_positions), with_commas(c.vocab_size),
                   human_count(static_cast<double>(c.parameter_count()))));
  if (const LoraConfig lora = adapter_of(t, c); lora.r > 0) {
    std::int64_t count = 0;
    for (const NamedParameter& parameter : adapter_list(c, lora)) count += parameter.shape.count();
    note(fmt::format("  adapter     rank {}, alpha {}, dropout {} on {}: {} parameters", lora.r,
                     compact_number(lora.lora_alpha), compact_number(lora.lora_dropout),
                     fmt::join(lora.target_modules, ", "),
                     human_count(static_cast<double>(count))));
  }
  note(fmt::format("  data        {}, {}; {} {}, {}", counted(data.train.size(), "record"),
                   counted(data.train.ids.size(), "token"),
                   options.validation_paths.empty() ? "held out" : "to validate on",
                   counted(data.validation.size(), "record"),
                   counted(data.validation.ids.size(), "token")));
  const double epochs = t.max_steps > 0
                            ? static_cast<double>(steps) * t.micro_batch_rows() *
                                  t.gradient_accumulation_steps / static_cast<double>(rows.size())
                            : t.num_train_epochs;
  note(fmt::format("  steps       {} of {} × {} of up to {}, {} epoch{}", with_commas(steps),
                   t.gradient_accumulation_steps, counted(t.micro_batch_rows(), "row"),
                   counted(rows.longest(), "token"), rounded_number(epochs, 4),
                   epochs == 1 ? "" : "s"));
  note(fmt::format(
      "  AdamW       lr {} {}, warm-up {}, betas {} {}, decay {}, clipping {}, dropout {}",
      compact_number(t.learning_rate), t.lr_scheduler_type, schedule.warmup_steps,
      compact_number(t.adam_beta1), compact_number(t.adam_beta2), compact_number(t.weight_decay),
      compact_number(t.max_grad_norm), compact_number(c.resid_pdrop)));
  note(fmt::format("  output      {}, all options in quire_config.json\n", t.output_dir.string()));
}

void report_end(const TrainingResult& result, const TrainOptions& options, double seconds) {
  const std::string folder = options.training.output_dir.string();
  if (options.json) {
    print_end(result, interrupted(), seconds, folder);
    return;
  }
  if (result.interrupted && !interrupted()) {
    note(
        fmt::format("stopped after step {}, as --stop-at-step has it\n"
                    "  try: the same command without it and with --resume-from-checkpoint latest",
                    with_commas(result.steps)));
    return;
  }
  if (result.interrupted) {
    note(result.steps == 0
             ? "interrupted before the first step: there was nothing to save\n"
               "  try: the same command again"
             : fmt::format("interrupted after step {}\n"
                           "  try: the same command with --resume-from-checkpoint latest",
                           with_commas(result.steps)));
    return;
  }
  std::string line =
      fmt::format("{} in {}", counted(result.steps, "step"), human_duration(seconds));
  if (!std::isnan(result.final_eval_loss)) {
    line +=
        fmt::format(": validation loss {:.4f} → {:.4f}, perplexity {}", result.first_eval_loss,
                    result.final_eval_loss, rounded_number(std::exp(result.final_eval_loss), 4));
  }
  note(line);
  if (result.final_eval_loss > result.first_eval_loss) {
    note("  it is worse than before: a lower --learning-rate, fewer steps or other data may help");
  }
  note(result.out_of_time
           ? "  try: the same command with --resume-from-checkpoint latest"
           : fmt::format("  try: quire generate --model {} --prompt \"...\"", in_shell(folder)));
}

/// All that is there before the first step.
struct Prepared {
  TrainOptions options;
  std::string resolved;
  std::vector<std::shared_ptr<RunLog>> reports;
  Start start;
  TrainData data;
  std::optional<Rows> rows, validation_rows;
  std::unique_ptr<Device> device;
  std::optional<Parameters> parameters;
  std::optional<TrainSamples> samples;
};

void make_samples(Prepared& run) {
  if (!run.start.tokenizer) {
    throw Error(Fault::usage, "--sample-every makes text, and there is no tokenizer to read it", {},
                "--tokenizer DIR");
  }
  run.samples.emplace(*run.device, run.start.config, *run.start.tokenizer,
                      run.options.sample_prompts, run.options.training.seed);
}

/// False: only help was asked for.
bool prepare(const std::vector<std::string>& arguments, const Ranks& ranks, Prepared& run) {
  TrainOptions& options = run.options;
  Flags flags("train", "--data PATH... --output-dir DIR [--model DIR | --config NAME] [OPTION...]",
              "Trains a GPT-2 on text: from scratch, or on from a model.");
  options.add_to(flags);
  flags.example(
      fmt::format("quire train --model {} --data quotes.csv --text-column quote --output-dir out",
                  kBundledModel));
  flags.example(fmt::format(
      "quire train --config tiny --tokenizer {} --data books/ --output-dir out", kBundledModel));
  flags.example("quire train --data books/ --output-dir out");
  flags.example("  without --model and --config: gpt2 if it is there, else " +
                std::string(kBundledModel));
  flags.example("quire train ... --resume-from-checkpoint latest");
  if (mpi_version() != "") flags.example("mpirun -np 4 quire train ... --zero 1");
  flags.example(where_models_come_from());
  if (!flags.parse(arguments)) return false;
  options.finish(flags);
  options.training.ranks = ranks.size();
  options.training.eval_share = 0.1;
  if (ranks.first()) check_writable(options.training.output_dir);
  OutputFolder::check_unused(options.training);
  const nlohmann::ordered_json earlier = earlier_options(options.training);
  keep_validation(earlier, flags, options);
  if (const std::string line = choose_model(options); !line.empty()) note(line);
  run.resolved = saved_options(flags, options, earlier);
  if (ranks.first()) run.reports = train_reports(options, flags, run.resolved);

  run.start = find_start(options);
  // What the card names: the checkpoint of a run that is gone on from has its weights.
  if (options.model.empty()) options.model = earlier.value("model", "");
  run.data = load_train_data(options, run.start.tokenizer);
  run.device = options.device.open(ranks.local_rank(), ranks.local_size());
  check_trains_in(*run.device, options.training.activations());
  MemoryRoom room = memory_room(*run.device);
  if (run.device->shares_host_memory()) room.available /= ranks.local_size();
  const TrainingConfig config = with_block_size(options.training, run.start.config);
  const Rows& rows = run.rows.emplace(rows_of(run.data.train, config));
  const Rows& validation = run.validation_rows.emplace(rows_of(run.data.validation, config));
  tell_unused(options, rows, validation);
  TrainingConfig planned = as_planned(config, rows, validation);
  check_memory(run.start.config, planned, *run.device, room);
  planned.keep_outputs = options.training.keep_outputs =
      keeps_outputs(run.start.config, planned, *run.device, room.available);
  // Before the plan's memory is taken.
  options.training.peak_flops = measure_matmul(*run.device, options.training.activations());
  run.parameters.emplace(make_parameters(*run.device, run.start, options));
  if (!options.json) {
    describe(run.start, options, run.data, rows, *run.device);
    note(format_memory_plan(training_memory_plan(run.start.config, planned, *run.device),
                            room.available));
  }
  if (ranks.first() && options.training.sample_every > 0) make_samples(run);
  return true;
}

int train_together(const std::vector<std::string>& arguments, const std::shared_ptr<Ranks>& ranks) {
  Prepared run;
  bool wanted = false;
  ranks->agree([&] { wanted = prepare(arguments, *ranks, run); });
  if (!wanted) return 0;
  const TrainOptions& options = run.options;
  TrainingConfig training = options.training;
  // Of all ranks, of which the first alone is one that somebody may look at.
  std::array<double, 2> sums = {training.peak_flops, options.json || !is_quiet() ? 1.0 : 0.0};
  ranks->sum(sums);
  training.peak_flops = sums[0];
  training.estimate = sums[1] > 0;

  TrainProgress progress(options.json, training.max_seconds);
  TrainingCallbacks callbacks = progress.callbacks();
  callbacks.logs = run.reports;
  callbacks.ranks = ranks;
  if (run.samples) {
    callbacks.sample = [&](std::int64_t step, const Parameters& now) {
      std::vector<TextSample> texts = run.samples->make(now);
      for (const TextSample& text : texts) progress.show(step, text);
      return texts;
    };
  }
  callbacks.stop_requested = [] { return interrupted(); };
  callbacks.write_companions = [&](const fs::path& folder) {
    if (run.start.tokenizer) run.start.tokenizer->save(folder, run.start.config.n_positions);
    write_file(folder / "quire_config.json", run.resolved);
    if (folder == training.output_dir) {
      write_file(folder / "README.md", card_of(options, run.start.config));
    }
  };
  go_on_without_output();
  const InterruptGuard interrupts("finishing this step");
  const auto begin = std::chrono::steady_clock::now();
  const TrainingResult result = train(*run.device, run.start.config, *run.parameters, *run.rows,
                                      *run.validation_rows, training, callbacks);
  progress.finish();
  report_end(result, options,
             std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  return result.interrupted ? interrupt_exit_code() : lost_output_exit_code();
}

int run(const std::vector<std::string>& arguments) {
  // What is done before the first step needs no saving: Ctrl-C ends it at once.
  if (!is_launched()) return train_together(arguments, std::make_shared<OneRank>());
  const InterruptGuard interrupts;  // other processes wait for this one
  const std::shared_ptr<Ranks> ranks = join_ranks([] { return interrupted(); });
  if (!ranks->first()) set_silent();
  try {
    return train_together(arguments, ranks);
  } catch (const PeerFailed& failed) {
    return static_cast<int>(failed.fault());
  } catch (const PeerLost& lost) {
    if (lost.speaker() == ranks->rank()) throw;
    return static_cast<int>(lost.fault());
  } catch (const Error& error) {
    if (ranks->first()) throw;
    std::vector<std::string> details = error.details();
    details.push_back(fmt::format("on rank {} of {}", ranks->rank(), ranks->size()));
    throw Error(error.fault(), error.what(), std::move(details), error.next());
  }
}

}  // namespace

const Command kTrainCommand = {"train", "from scratch, or on from a model", run};

}  // namespace quire
