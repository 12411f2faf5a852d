// quire train: a fresh GPT-2, or one to go on from, and text in; a model folder out.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <array>
#include <cmath>
#include <optional>

#include "base/file.h"
#include "base/json.h"
#include "base/text.h"
#include "cli/command.h"
#include "cli/corpus_flags.h"
#include "cli/help_text.h"
#include "cli/signals.h"
#include "cli/terminal.h"
#include "cli/train_flags.h"
#include "cli/train_progress.h"
#include "distributed/launch.h"
#include "engine/training/cost.h"
#include "engine/training/output_folder.h"
#include "pipeline/get_model.h"
#include "pipeline/resources.h"
#include "pipeline/train_samples.h"
#include "pipeline/training_data.h"
#include "pipeline/training_memory.h"
#include "pipeline/training_start.h"
#include "report/model_card.h"

namespace quire {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

/// Says what of the data is not learnt from, or not validated on: records that are cut, and a
/// held-out part that is empty or has nothing to score.
void tell_unused(const TrainOptions& options, const Rows& rows, const Rows& validation_rows) {
  const bool separate = !options.validation_paths.empty();
  const std::string next = "\n  try: --overflow split, or a larger --block-size";
  if (rows.unused_tokens() > 0) warn(unused_text(rows) + next);
  if (separate && validation_rows.unused_tokens() > 0) {
    warn("of --validation-file " + unused_text(validation_rows) + next);
  }
  if (rows.packing() == Packing::stream && rows.overflow() != Overflow::truncate) {
    note(fmt::format("--overflow {} changes nothing: --packing stream uses every token",
                     name_of(rows.overflow())));
  }
  if (options.validation_split <= 0 && !separate) return;
  if (validation_rows.records().size() == 0) {
    note("nothing is held out: there is no second record, so there will be no validation loss");
  } else if (validation_rows.targets() == 0) {
    warn(
        fmt::format("nothing of what is held out can be scored ({} without a target): there will "
                    "be no validation loss\n  try: {}",
                    counted(validation_rows.records().size(), "record"),
                    separate ? "another --validation-file"
                             : "another --data-seed, or a larger --validation-split"));
  }
}

void describe(const TrainingStart& start, const TrainFlags& options, const TrainData& data,
              const Rows& rows, const Device& device) {
  const Gpt2Config& c = start.config;
  const TrainingConfig& t = options.training;
  const std::int64_t steps = total_steps(t, rows.size());
  const Schedule schedule = schedule_of(t, steps);
  note(fmt::format("  device      {}", device.description()));
  note(fmt::format("  products    in {}, parameters in float32", name_of(t.activations())));
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

/// The plan as a table for people, with its sum and what is available.
std::string format_memory_plan(const std::vector<MemoryItem>& plan, std::int64_t available) {
  std::vector<std::vector<std::string>> table = {{"memory", "bytes"}};
  const auto add = [&](const std::string& name, std::int64_t bytes) {
    table.push_back({name, human_bytes(static_cast<double>(bytes))});
  };
  std::int64_t rest = 0;  // parts below a fiftieth of the whole say nothing one by one
  for (const MemoryItem& item : plan) {
    const auto bytes = static_cast<std::int64_t>(item.bytes);
    if (bytes < bytes_of(plan) / 50) {
      rest += bytes;
    } else {
      add(item.name, bytes);
    }
  }
  if (rest > 0) add("all else", rest);
  add("in all", bytes_of(plan));
  add("available", available);
  return format_table(table);
}

void report_end(const TrainingResult& result, const TrainFlags& options, double seconds) {
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

/// Those of `saved_options` that were given, or are not what train takes where nothing is said: a
/// run that is gone on from has them from its checkpoint.
std::string set_options(const Flags& flags, const std::string& saved_options) {
  const Json defaults = parse_json<Json>(ParsedTrain().flags.resolved_json());
  Json set = Json::object();
  const Json saved = parse_json<Json>(saved_options);
  for (const auto& [name, value] : saved.items()) {
    const bool follows = name == "data_seed" && value == saved.value("seed", Json());
    const bool differs = !follows && value != defaults.value(name, Json());
    if (differs || flags.given(name)) set[name] = value;
  }
  return json_text(set);
}

/// All that is there before the first step.
struct Prepared {
  TrainFlags options;
  std::string resolved;
  std::vector<std::shared_ptr<RunLog>> reports;
  TrainingStart start;
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

/// What --dtype auto stands for: the type of the run that is gone on from, or the best that the
/// device has, which is opened for it.
void choose_type(const nlohmann::ordered_json& earlier, const Ranks& ranks, Prepared& run) {
  TrainFlags& options = run.options;
  if (!options.products.automatic()) return;
  if (const auto before = earlier.find("bf16"); before != earlier.end() && before->is_boolean()) {
    options.products.dtype = *before ? DType::bf16 : DType::f32;
  } else if (ranks.size() > 1) {
    throw Error(Fault::usage, "--dtype auto is for one process",
                {"the machines of several might choose different types"},
                "--dtype bfloat16 or --dtype float32");
  } else {
    run.device = options.device.open();
    options.products.choose(*run.device);
  }
  options.training.bf16 = options.products.dtype == DType::bf16;
}

/// False: only help was asked for, or it was stopped.
bool prepare(const std::vector<std::string>& arguments, const Ranks& ranks, Prepared& run) {
  TrainFlags& options = run.options;
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
  if (!flags.given("validation-file") && !flags.given("validation-split")) {
    keep_validation(earlier, options);
    if (!options.validation_paths.empty()) {
      note(fmt::format("as the run began: --validation-file {}",
                       fmt::join(options.validation_paths, " ")));
    }
  }
  if (const std::string line = choose_model(options); !line.empty()) note(line);
  choose_type(earlier, ranks, run);
  run.resolved = saved_options(flags.resolved_json(), options, earlier);
  if (ranks.first())
    run.reports = options.reports.make(run.resolved, set_options(flags, run.resolved));

  if (!options.download.get(options.model)) return false;
  run.start = find_start(options);
  // What the card names: the checkpoint of a run that is gone on from has its weights.
  if (options.model.empty()) options.model = earlier.value("model", "");
  run.data = load_train_data(options, run.start.tokenizer, data_callbacks(!options.json));
  if (!run.device) run.device = options.device.open(ranks.local_rank(), ranks.local_size());
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
  run.parameters.emplace(make_parameters(*run.device, run.start, options, note));
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
  if (!wanted) return interrupt_exit_code();
  const TrainFlags& options = run.options;
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
      std::vector<TextSample> texts = run.samples->make(now, interrupted);
      for (const TextSample& text : texts) progress.show(step, text);
      return texts;
    };
  }
  callbacks.stop_requested = [] { return interrupted(); };
  callbacks.write_companions = [&](const fs::path& folder) {
    if (run.start.tokenizer) run.start.tokenizer->save(folder, run.start.config.n_positions);
    if (!write_about_run(folder, run.resolved, options, run.start.config)) note_left_readme(folder);
  };
  go_on_without_output();
  const InterruptGuard interrupts("finishing this step");
  const Stopwatch watch;
  const TrainingResult result = train(*run.device, run.start.config, *run.parameters, *run.rows,
                                      *run.validation_rows, training, callbacks);
  progress.finish();
  report_end(result, options, watch.seconds());
  return result.interrupted ? interrupt_exit_code() : lost_output_exit_code();
}

int run_training(const std::vector<std::string>& arguments) {
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
  } catch (Error& error) {
    if (!ranks->first()) {
      error.add_detail(fmt::format("on rank {} of {}", ranks->rank(), ranks->size()));
    }
    throw;
  }
}

}  // namespace

const Command kTrainCommand = {"train", "from scratch, or on from a model", run_training};

}  // namespace quire
