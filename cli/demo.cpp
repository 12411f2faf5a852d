// quire demo: the main job in about a minute, with no download. Fine-tunes the bundled model on the
// bundled quotes, and shows text from the same prompts before and after.
//
// What it trains is what `quire train --config-file quire-demo/quire_config.json` trains, to the
// byte. The steps are as many on every machine, however busy: the same seed gives the same text.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <optional>

#include "base/text.h"
#include "cli/command.h"
#include "cli/corpus_flags.h"
#include "cli/option_names.h"
#include "cli/signals.h"
#include "cli/terminal.h"
#include "cli/train_flags.h"
#include "cli/train_progress.h"
#include "engine/training/trainer.h"
#include "pipeline/demo.h"
#include "pipeline/get_model.h"
#include "pipeline/model_path.h"
#include "pipeline/resources.h"
#include "pipeline/training_start.h"
#include "report/model_card.h"

namespace quire {
namespace {

namespace fs = std::filesystem;

// Between a prompt and what the model goes on with.
const char* const kPromptEnd = " ▸";

struct DemoOptions {
  std::string model = kBundledModel;
  fs::path output_dir = "quire-demo";
  std::uint64_t seed = 42;
  std::int64_t max_steps = 0;
  std::string max_time = "5m";
  bool overwrite_output_dir = false, json = false;
  std::optional<Quantisation> writes_in = {};
  DeviceFlags device;
};

/// The fine-tuning as quire train would be asked for it, and as it is saved beside the model.
struct DemoCourse {
  TrainFlags train;
  std::string saved;
};

/// All but what hangs on how much data there is.
std::vector<std::string> arguments_of(const DemoOptions& options, const fs::path& quotes) {
  std::vector<std::string> arguments = {
      "--model=" + options.model,
      "--data=" + shown_path(quotes),
      "--text-column=quote",
      "--packing=none",  // a quote a row: the model learns where quotes end
      "--validation-split=0.1",
      "--num-train-epochs=3",
      "--per-device-train-batch-size=16",
      "--learning-rate=3e-4",  // 5e-4 ends 0.1 above its best held-out loss
      "--lr-scheduler-type=cosine",
      "--warmup-steps=0.1",
      "--save-steps=0",
      "--seed=" + std::to_string(options.seed),
      "--max-time=" + options.max_time,
      "--output-dir=" + options.output_dir.string(),
      "--overwrite-output-dir"};
  if (options.max_steps > 0) {
    arguments.push_back("--max-steps=" + std::to_string(options.max_steps));
  }
  return arguments;
}

DemoCourse plan(const DemoOptions& options, const fs::path& quotes, Demo& demo) {
  ParsedTrain parsed(arguments_of(options, quotes));
  TrainFlags& train = parsed.options;
  train.device = options.device;
  train.threads = options.device.threads;
  train.json = options.json;
  demo.read(train, data_callbacks(!options.json));
  return {.train = train,
          .saved =
              saved_options(parsed.flags.resolved_json(), train, nlohmann::ordered_json::object())};
}

/// False where Ctrl-C came before all texts were whole; then none is shown.
bool show_texts(const Demo& demo, const DemoOptions& options, std::int64_t step,
                TrainProgress& progress) {
  for (const TextSample& sample : demo.texts(options.seed, interrupted)) {
    if (options.json) {
      progress.show(step, sample);
      continue;
    }
    const std::string text =
        flow(sample.prompt + kPromptEnd + sample.text, std::min(output_columns(100), 100), "  ");
    print("  " + bold(sample.prompt) + text.substr(2 + sample.prompt.size()) + "\n");
  }
  return !interrupted();
}

std::vector<LinePart> bar(std::int64_t steps_done, std::int64_t step, std::int64_t steps) {
  constexpr int kCells = 12;
  const std::int64_t done = kCells * steps_done / steps;
  return {{fmt::format("  {:█<{}}{:░<{}}", "", done, "", kCells - done), 2},
          {fmt::format("step {}/{}", step, steps)}};
}

std::vector<LinePart> bar(const TrainingProgress& p) {
  std::vector<LinePart> parts = bar(p.step, p.step, p.total_steps);
  parts.push_back({fmt::format("· loss {:.3f}", p.loss), 1});
  parts.push_back(
      {fmt::format("· {} tokens/s", with_commas(std::llround(p.tokens_per_second))), 3});
  if (p.step < p.total_steps) {
    parts.push_back({fmt::format("· {} left", human_duration(p.seconds_left))});
  }
  return parts;
}

/// What people are shown while it trains.
TrainingCallbacks callbacks_for_people(ProgressLine& line) {
  TrainingCallbacks callbacks;
  callbacks.on_warning = [&](const std::string& warning) {
    line.clear();
    warn(warning);
  };
  callbacks.on_eval = [&](std::int64_t step, double loss) {
    line.clear();
    print_lines(fmt::format("  step {:4}: loss {:.3f} on held-out quotes\n", step, loss));
  };
  callbacks.on_batch = [&](const StepProgress& p) {
    if (p.step == 1 && line.due()) line.show(bar(0, 1, p.total_steps));
  };
  callbacks.on_step = [&](const TrainingProgress& p) {
    if (line.due()) line.show(bar(p));
  };
  callbacks.on_eval_batch = [&](std::int64_t rows_done, std::int64_t rows) {
    if (line.due()) line.show(fmt::format("  evaluating: quote {} of {}", rows_done + 1, rows));
  };
  if (!stderr_is_terminal()) {
    callbacks.on_log = [&](const TrainingProgress& p) {
      line.print(fit_parts(bar(p), std::numeric_limits<int>::max()));
    };
  }
  return callbacks;
}

TrainingResult fine_tune(const Demo& demo, const DemoCourse& course, TrainProgress& progress) {
  const TrainingConfig& config = course.train.training;
  ProgressLine line;
  TrainingCallbacks callbacks =
      course.train.json ? progress.callbacks() : callbacks_for_people(line);
  callbacks.stop_requested = [] { return interrupted(); };
  callbacks.write_companions = [&](const fs::path& folder) {
    if (!write_about_run(folder, course.saved, course.train, demo.config())) {
      note_left_readme(folder);
    }
  };
  return demo.fine_tune(config, callbacks);
}

/// What there is to do after a run that Ctrl-C has ended; `model` is what it left, or empty.
int end_interrupted(const std::string& how, const fs::path& model) {
  note("interrupted " + how);
  const std::string again = "the same command again, which begins anew";
  if (model.empty()) {
    note("  try: " + again);
  } else {
    note(
        fmt::format("  try: {} generate --model {} --do-sample --prompt \"The stars\"\n"
                    "  or {}",
                    program_as_typed(), in_shell(model.string()), again));
  }
  return interrupt_exit_code();
}

void introduce(const Demo& demo, const DemoCourse& course, const fs::path& model,
               const Device& device) {
  print_lines(fmt::format("{}\n", bold("Quire: fine-tuning a GPT-2 on this machine")));
  print_lines(fmt::format("  model   {}, {} parameters\n", shown_path(model),
                          human_count(static_cast<double>(demo.config().parameter_count()))));
  print_lines(fmt::format("  data    {}, {} quotes and {} held out\n", course.train.corpus.paths[0],
                          demo.train_records(), demo.held_out_records()));
  note(fmt::format("  device  {}", device.description()));
  print_lines("\n" + bold("Before") + fmt::format(" ({} ends the prompt)\n", kPromptEnd + 1));
}

void say_how_to_go_on(const DemoOptions& options, const DemoCourse& course, const fs::path& model) {
  print_lines(fmt::format(
      "\nSaved in {0}. Go on with:\n"
      "  {1} generate --model {2} --do-sample --prompt \"The stars\"\n"
      "  {1} eval --model {2} --data {3} --text-column quote\n"
      "  {1} train --model {4} --data YOUR.txt --output-dir my-model\n",
      options.output_dir.string(), program_as_typed(), in_shell(options.output_dir.string()),
      in_shell(course.train.corpus.paths[0]), in_shell(shown_path(model))));
}

/// Before, fine-tuning, after.
int tune_and_show(const DemoOptions& options, const Demo& demo, const DemoCourse& course,
                  const fs::path& model, const Device& device) {
  const Stopwatch watch;
  go_on_without_output();
  const InterruptGuard interrupts("finishing this step");
  TrainProgress progress(options.json);
  if (!options.json) introduce(demo, course, model, device);
  if (!show_texts(demo, options, 0, progress)) {
    return end_interrupted("before the first step: there was nothing to save", {});
  }

  if (!options.json) print_lines("\n" + bold("Fine-tuning") + "\n");
  const TrainingResult result = fine_tune(demo, course, progress);
  const auto end_events = [&] {
    if (!options.json) return;
    print_end(result, interrupted(), watch.seconds(), options.output_dir.string());
  };
  if (result.interrupted) {
    end_events();
    return end_interrupted(result.steps == 0 ? "before the first step: there was nothing to save"
                                             : fmt::format("after step {}; saved {}", result.steps,
                                                           shown_path(result.last_checkpoint)),
                           result.last_checkpoint);
  }
  if (!options.json) {
    print_lines(fmt::format("  perplexity on held-out quotes: {} before, {} now\n",
                            rounded_number(std::exp(result.first_eval_loss), 4),
                            rounded_number(std::exp(result.final_eval_loss), 4)));
    print_lines("\n" + bold("After") + "\n");
  }
  if (!show_texts(demo, options, result.steps, progress)) {
    end_events();
    return end_interrupted(
        "after the last step; the model is saved in " + options.output_dir.string(),
        options.output_dir);
  }
  if (result.out_of_time) {
    warn(
        fmt::format("cut short after step {}, as --max-time {} was over: a run of all steps ends "
                    "in other texts",
                    result.steps, options.max_time));
  }
  end_events();
  if (!options.json) say_how_to_go_on(options, course, model);
  note(fmt::format("{} in {}", counted(result.steps, "step"), human_duration(watch.seconds())));
  return lost_output_exit_code();
}

int run_demo(const std::vector<std::string>& arguments) {
  DemoOptions options;
  Flags flags("demo", "[OPTION...]",
              "Fine-tunes the bundled model on the bundled quotes, in about a minute, and shows "
              "text before\nand after.");
  flags.group("Demo");
  flags.add(kOutputFolderNames, options.output_dir, "DIR", "gets the fine-tuned model");
  flags.add(kOverwriteFolderNames, options.overwrite_output_dir,
            "write into a folder that is not empty and that the demo did not make");
  flags.add(kModelNames, options.model, "NAME", "a folder, or a bundled model's name");
  flags.add("max-steps", options.max_steps, "N",
            "training steps; 0 is three passes over the quotes", at_least(0));
  flags.add("max-time", options.max_time, "TIME",
            "training that takes longer (90s, 5m) is cut short, and says so");
  flags.add("seed", options.seed, "N",
            "of the split, the training and the texts: the same seed gives the same text");
  using WritesIn = std::optional<Quantisation>;
  flags.add_choice("dtype", options.writes_in,
                   {{"float32", WritesIn()},
                    {"int8", WritesIn(Quantisation::int8)},
                    {"int4", WritesIn(Quantisation::int4)}},
                   "of the matrices while it writes; it trains and saves in float32");
  flags.add("json", options.json, "one JSON object a line on stdout for each text and event");
  flags.add_quiet();
  flags.group("Machine");
  options.device.add_to(flags);
  if (!flags.parse(arguments)) return 0;

  const fs::path quotes = find_quotes();
  const fs::path model_path = resolve_model(options.model);
  check_demo_folder(options.output_dir, options.overwrite_output_dir);
  const std::unique_ptr<Device> device = options.device.open();
  Demo demo(*device, model_path, options.writes_in);
  const DemoCourse course = plan(options, quotes, demo);
  return tune_and_show(options, demo, course, model_path, *device);
}

}  // namespace

const Command kDemoCommand = {"demo", "fine-tune a small model and see what changes: a minute",
                              run_demo};

}  // namespace quire
