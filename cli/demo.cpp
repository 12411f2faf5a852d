// quire demo: the main job in about a minute, with no download. Fine-tunes the bundled model on the
// bundled quotes, and shows text from the same prompts before and after.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>

#include "base/file.h"
#include "base/text.h"
#include "bench/ceilings.h"
#include "cli/command.h"
#include "cli/device_flags.h"
#include "cli/model_path.h"
#include "cli/resources.h"
#include "cli/signals.h"
#include "cli/terminal.h"
#include "corpus/records.h"
#include "engine/formats/hub_folder.h"
#include "engine/generation/generator.h"
#include "engine/training/trainer.h"

namespace quire {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

// A folder with this file in it was made by the demo, and may be made again.
const char* const kMarker = "quire-demo.json";

const char* const kPrompts[] = {"The wind", "I will", "My friend,"};

// On slow machines the run is shortened to about this long.
constexpr double kTrainingSeconds = 35;

struct DemoOptions {
  std::string model = "narrator";
  fs::path output_dir = "quire-demo";
  std::uint64_t seed = 42;
  std::int64_t max_steps = 0;
  DeviceFlags device;
};

struct Work {
  std::unique_ptr<Device> device;
  LoadedModel model;
  Tokenizer tokenizer;
};

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

fs::path find_quotes() {
  const fs::path quotes = find_resource("samples/quotes.csv");
  if (!quotes.empty()) return quotes;
  std::vector<std::string> looked;
  for (const fs::path& folder : resource_folders()) {
    looked.push_back("not in " + (folder / "samples").string());
  }
  throw Error(Fault::bad_data, "samples/quotes.csv, which comes with Quire, is not there",
              std::move(looked), "QUIRE_DATA=FOLDER quire demo, where FOLDER holds samples/");
}

void refuse_foreign_folder(const fs::path& folder) {
  std::error_code trouble;
  if (!fs::exists(folder, trouble) || fs::exists(folder / kMarker, trouble)) return;
  if (!fs::is_directory(folder, trouble)) {
    throw Error(Fault::usage, folder.string() + " is a file", {}, "another --output-dir");
  }
  if (!fs::is_empty(folder, trouble)) {
    throw Error(Fault::usage, folder.string() + " is not empty and was not made by quire demo", {},
                "another --output-dir");
  }
}

// Words broken into lines that fit the terminal, each after two spaces.
std::string wrapped(const std::string& text) {
  const int width = std::min(stdout_is_terminal() ? terminal_width() : 100, 100) - 2;
  std::string out, line;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find_first_of(" \n\r\t", at), text.size());
    const std::string word = text.substr(at, end - at);
    at = end + 1;
    if (word.empty()) continue;
    if (!line.empty() && display_width(line) + 1 + display_width(word) > width) {
      out += "  " + line + "\n";
      line.clear();
    }
    line += (line.empty() ? "" : " ") + word;
  }
  return out + "  " + line + "\n";
}

void show_texts(Work& work, std::uint64_t seed) {
  std::vector<std::vector<std::int32_t>> prompts;
  std::vector<std::uint64_t> streams;
  for (const char* prompt : kPrompts) {
    prompts.push_back(work.tokenizer.encode(prompt));
    streams.push_back(streams.size());
  }
  GenerationConfig options;
  options.max_new_tokens = 40;
  options.do_sample = true;
  options.temperature = 0.8f;
  options.top_p = 0.95f;
  options.seed = seed;
  if (const auto end = work.tokenizer.end_of_text()) options.eos_token_ids = {*end};
  const auto rows = generate(*work.device, work.model.config, work.model.parameters, prompts,
                             options, streams, [](int, std::int32_t) { return interrupted(); });
  for (std::size_t row = 0; row < rows.size(); ++row) {
    print(wrapped(kPrompts[row] +
                  work.tokenizer.decode(rows[row].output_ids, /*skip_special_tokens=*/true)));
  }
}

TokenRecords to_records(TokenizedCorpus corpus) {
  return {.ids = std::move(corpus.ids),
          .labels = std::move(corpus.labels),
          .offsets = std::move(corpus.offsets)};
}

TrainingConfig training_config(const DemoOptions& options, const Gpt2Config& model,
                               const TokenRecords& records, Device& device) {
  TrainingConfig config;
  config.output_dir = options.output_dir;
  config.overwrite_output_dir = true;
  config.packing = Packing::none;  // a quote a row: the model learns where quotes end
  config.num_train_epochs = 3;
  config.per_device_train_batch_size = 16;
  config.learning_rate = 3e-4f;  // 5e-4 ends 0.1 above its best held-out loss
  config.lr_scheduler_type = "cosine";
  config.warmup_steps = 0.1;
  config.save_steps = 0;
  config.seed = options.seed;
  config.max_steps = options.max_steps;
  if (config.max_steps <= 0) {
    // Half of the matrix products' speed is what a whole step reaches at the least.
    const std::int64_t all = total_steps(config, records.size());
    const double tokens = static_cast<double>(records.ids.size()) * config.num_train_epochs /
                          static_cast<double>(all);
    const double flops = training_flops(model, std::llround(tokens), model.n_positions);
    const double step = flops / (0.5 * measure_matmul(device));
    config.max_steps = std::clamp<std::int64_t>(std::llround(kTrainingSeconds / step), 8, all);
  }
  config.logging_steps = std::max<std::int64_t>(config.max_steps / 8, 1);
  config.eval_steps = (config.max_steps + 3) / 4;  // rounded up: none just before the last
  return config;
}

TrainingResult fine_tune(Work& work, const DemoOptions& options, const TokenRecords& train_records,
                         const TokenRecords& held_out) {
  const TrainingConfig config =
      training_config(options, work.model.config, train_records, *work.device);
  fs::create_directories(options.output_dir);
  write_file(options.output_dir / kMarker,
             fmt::format("{{\"made_by\": \"quire demo\", \"steps\": {}, \"seed\": {}}}\n",
                         config.max_steps, config.seed));
  ProgressLine line;
  const auto text = [](const TrainingProgress& p) {
    constexpr int kCells = 20;
    const auto done = static_cast<std::size_t>(kCells * p.step / p.total_steps);
    std::string bar;
    for (std::size_t cell = 0; cell < kCells; ++cell) bar += cell < done ? "█" : "░";
    return fmt::format("  {} step {}/{} · loss {:.3f} · {} tokens/s · {} left", bar, p.step,
                       p.total_steps, p.loss, with_commas(std::llround(p.tokens_per_second)),
                       human_duration(p.seconds_left));
  };
  TrainingCallbacks callbacks;
  callbacks.stop_requested = [] { return interrupted(); };
  callbacks.write_companions = [&](const fs::path& folder) {
    work.tokenizer.save(folder, work.model.config.n_positions);
  };
  callbacks.on_warning = [&](const std::string& warning) {
    line.clear();
    warn(warning);
  };
  callbacks.on_eval = [&](std::int64_t step, double loss) {
    line.clear();
    print(fmt::format("  step {:4}: loss {:.3f} on held-out quotes\n", step, loss));
  };
  if (stderr_is_terminal()) {
    callbacks.on_step = [&](const TrainingProgress& p) {
      if (line.due()) line.show(text(p));
    };
    callbacks.on_eval_batch = [&](std::int64_t rows_done, std::int64_t rows) {
      if (line.due()) line.show(fmt::format("  evaluating: quote {} of {}", rows_done, rows));
    };
  } else {
    callbacks.on_log = [&](const TrainingProgress& p) { note(text(p)); };
  }
  return train(*work.device, work.model.config, work.model.parameters, train_records, held_out,
               config, callbacks);
}

std::string in_shell(const fs::path& path) {
  const std::string text = path.string();
  return text.find_first_of(" '\"$&;()") == std::string::npos ? text : "'" + text + "'";
}

int run(const std::vector<std::string>& arguments) {
  DemoOptions options;
  Flags flags("demo", "[OPTION...]",
              "Fine-tunes the bundled model on the bundled quotes, in about a minute, and shows "
              "text before\nand after.");
  flags.group("Demo");
  flags.add("output-dir,o", options.output_dir, "DIR", "gets the fine-tuned model");
  flags.add("model,m", options.model, "NAME", "a folder, or a bundled model's name");
  flags.add("max-steps", options.max_steps, "N", "training steps; 0 is what fits in half a minute",
            at_least(0));
  flags.add("seed", options.seed, "N", "of the split, the training and the texts");
  flags.group("Machine");
  options.device.add_to(flags);
  if (!flags.parse(arguments)) return 0;

  const Clock::time_point start = Clock::now();
  const fs::path quotes = find_quotes();
  const fs::path model_path = resolve_model(options.model);
  refuse_foreign_folder(options.output_dir);
  const InterruptGuard interrupts;

  std::unique_ptr<Device> device = options.device.open();
  LoadedModel model = load_resolved(*device, model_path, WeightStorage::f32);
  Work work{std::move(device), std::move(model), Tokenizer::load(tokenizer_folder(model_path))};
  const TokenizedCorpus corpus =
      tokenize(read_records({.paths = {quotes.string()}, .text_column = "quote"}), work.tokenizer,
               options.device.threads);
  TokenizedCorpus train_part, held_out_part;
  split(corpus, 0.1, options.seed, train_part, held_out_part);

  print(fmt::format("{}\n", bold("Quire: fine-tuning a GPT-2 on this machine")));
  print(fmt::format("  model   {}, {} parameters\n", shown_path(model_path),
                    human_count(static_cast<double>(work.model.config.parameter_count()))));
  print(fmt::format("  data    {}, {} quotes and {} held out\n", shown_path(quotes),
                    train_part.size(), held_out_part.size()));
  print(fmt::format("  device  {}\n\n", work.device->description()));

  print(bold("Before") + "\n");
  show_texts(work, options.seed);
  if (interrupted()) return interrupt_exit_code();

  print("\n" + bold("Fine-tuning") + "\n");
  const TrainingResult result = fine_tune(work, options, to_records(std::move(train_part)),
                                          to_records(std::move(held_out_part)));
  if (result.interrupted) {
    note(result.last_checkpoint.empty()
             ? "interrupted before the first step"
             : fmt::format("interrupted after step {}; saved {}", result.steps,
                           shown_path(result.last_checkpoint)));
    return interrupt_exit_code();
  }
  print(fmt::format("  perplexity on held-out quotes: {:.1f} before, {:.1f} now\n",
                    std::exp(result.first_eval_loss), std::exp(result.final_eval_loss)));

  print("\n" + bold("After") + "\n");
  show_texts(work, options.seed);
  if (interrupted()) return interrupt_exit_code();

  const std::string program = program_as_typed();
  const std::string folder = in_shell(options.output_dir);
  print(fmt::format("\nSaved in {}, in {}. Go on with:\n", options.output_dir.string(),
                    human_duration(seconds_since(start))));
  print(fmt::format("  {} generate --model {} --do-sample --prompt \"The stars\"\n", program,
                    folder));
  print(fmt::format("  {} eval --model {} --data {} --text-column quote\n", program, folder,
                    in_shell(shown_path(quotes))));
  print(fmt::format("  {} train --model {} --data YOUR.txt --output-dir my-model\n", program,
                    in_shell(shown_path(model_path))));
  return 0;
}

}  // namespace

const Command kDemoCommand = {"demo", "fine-tune a small model and see what changes: a minute",
                              run};

}  // namespace quire
