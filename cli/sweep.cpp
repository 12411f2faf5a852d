// quire sweep: quire train with many options, one set after the other or some
// at a time, and which was best.
//
// The plan and the runs are in pipeline/sweep, what is told in report/sweep_report.h. The
// folder remembers everything: the same command again goes on where it stopped.
#include <fmt/format.h>

#include <algorithm>

#include "base/file.h"
#include "base/json.h"
#include "base/parallel.h"
#include "base/text.h"
#include "cli/command.h"
#include "cli/flags.h"
#include "cli/option_names.h"
#include "cli/signals.h"
#include "cli/terminal.h"
#include "cli/train_flags.h"
#include "engine/training/output_folder.h"
#include "pipeline/resources.h"
#include "pipeline/sweep/course.h"
#include "pipeline/sweep/runs.h"
#include "pipeline/sweep/space.h"
#include "report/sweep_report.h"

namespace quire {
namespace {

namespace fs = std::filesystem;

struct SweepCommand {
  std::vector<std::string> files;
  fs::path output_dir;
  int parallel = 0;
  bool overwrite = false, dry_run = false, json = false;
};

void add_flags(Flags& flags, SweepCommand& c) {
  flags.positional("SWEEP.json", c.files);
  flags.group("Sweep");
  flags.add(kOutputFolderNames, c.output_dir, "DIR",
            "gets a folder for each run, sweep.csv, sweep.svg and best.json; where a sweep of the "
            "same file was stopped in it, that goes on");
  flags.add(kOverwriteFolderNames, c.overwrite, "begin anew: the runs of an earlier sweep go");
  flags.add("parallel", c.parallel, "N",
            "runs at a time, which share the threads; 0 is what the file says", between(0, 256));
  flags.add("dry-run", c.dry_run, "print the runs and make none");
  flags.add("json", c.json, "one JSON line for each run instead of the table, best first");
  flags.add_quiet();
  flags.example("quire sweep samples/sweep.json --output-dir sweep");
  flags.example("quire train --config-file sweep/best.json --output-dir best");
}

constexpr const char* kAbout =
    R"(Trains with many sets of options and tells which is best. SWEEP.json:

  {"method": "random",
   "train": {"config": "tiny", "data": "books/"},
   "search": {"packing": ["stream", "records"],
              "dropout": {"min": 0, "max": 0.2},
              "learning_rate": {"log_min": 1e-4,
                                "log_max": 1e-2}},
   "runs": 8, "metric": "eval_loss",
   "parallel": 1, "seed": 42}

  method   random, grid or halving
  train    options of quire train
  search   the values to try of each option: a list or a range
  metric   eval_loss (the last), best_eval_loss (the lowest) or loss (of training); lower is better
  grid     makes every combination, without "runs"; a range has "steps": N, its number of values
)"
    R"(  halving  trains all runs for a while; the best third ("factor": 3) go on from their checkpoints to )"
    R"(three times as many steps, and so on for "rounds" rounds, the last of which ends at max_steps. )"
    R"(Learning-rate schedules are those of the whole run: a round only stops it earlier

Paths are those of the folder that the command is given in.)";

/// The command line of a run. Runs at one time share the threads, unless the sweep says otherwise.
std::vector<std::string> command_of(const RunTask& task, bool resume, int threads) {
  std::vector<std::string> arguments = {"quire",         "train",
                                        "--config-file", (task.folder / "options.json").string(),
                                        "--output-dir",  (task.folder / "model").string()};
  const auto add = [&](const char* option, const std::string& value) {
    arguments.insert(arguments.end(), {option, value});
  };
  if (threads > 0) add("--threads", std::to_string(threads));
  if (task.stop_at > 0) add("--stop-at-step", std::to_string(task.stop_at));
  if (resume) {
    add("--resume-from-checkpoint", "latest");
  } else {
    arguments.emplace_back("--overwrite-output-dir");
  }
  return arguments;
}

std::vector<LinePart> parts_of(const RoundState& state, const std::string& metric) {
  std::vector<LinePart> parts;
  if (state.rounds > 1) parts.push_back({fmt::format("round {}:", state.round), 2});
  parts.push_back({fmt::format("{}/{} runs", state.ended, state.runs)});
  parts.push_back({fmt::format("in {}", human_duration(state.seconds)), 3});
  if (const SweepRow* best = state.best; best != nullptr) {
    parts.push_back(
        {fmt::format("best {} {:.4f} ({})", metric, best->result.value, best->name), 1});
  }
  if (state.ended > 0) {
    parts.push_back({human_duration(state.seconds / static_cast<double>(state.ended) *
                                    static_cast<double>(state.runs - state.ended)) +
                     " left"});
  }
  return parts;
}

/// All rounds of the course, watched. False: interrupted.
bool run_course(Course& course, const Sweep& sweep, int parallel) {
  const int threads =
      sweep.train.contains("threads") ? 0 : std::max(1, available_threads() / parallel);
  const RunOptions options{
      .parallel = parallel,
      .metric = sweep.metric,
      .command = [&](const RunTask& task,
                     bool resume) { return command_of(task, resume, threads); },
      .stop_signal = [] { return interrupted() ? interrupt_exit_code() - 128 : 0; }};
  ProgressLine line;
  CourseCallbacks callbacks;
  callbacks.on_end = [&](const SweepRow& row) {
    std::string how = name_of(row.result.status);
    if (row.result.status == RunStatus::done) {
      how = fmt::format("{} {:.4f} after step {}", sweep.metric, row.result.value, row.result.step);
    } else if (row.result.status == RunStatus::failed) {
      how += ": " + row.result.error;
    }
    line.print(fmt::format("{}  {}  ({})", row.name, how, in_words(row.configuration)));
  };
  callbacks.on_wait = [&](const RoundState& state) {
    if (line.due()) line.show(parts_of(state, sweep.metric));
  };
  callbacks.on_round = [&](const RoundState& state, std::size_t going_on, std::size_t of) {
    line.print(fmt::format("round {} of {}, up to step {}: {} of {} go on", state.round,
                           state.rounds, state.end, going_on, of));
  };
  const bool whole = course.run(options, callbacks);
  line.clear();
  return whole;
}

/// Where no run came to its end: why not.
[[noreturn]] void throw_none(const std::vector<SweepRow>& rows, const fs::path& folder) {
  for (const SweepRow& row : rows) {
    if (row.result.status != RunStatus::failed) continue;
    const int code = row.result.exit_code;
    throw Error(code >= 1 && code <= static_cast<int>(Fault::check) ? static_cast<Fault>(code)
                                                                    : Fault::check,
                "no run came to its end",
                {fmt::format("{}: {}", row.name, row.result.error),
                 "what it printed is in " + (folder / row.name / "train.log").string()},
                "the same command again, when the cause is gone");
  }
  throw Error(Fault::diverged, fmt::format("all {} runs diverged", rows.size()), {},
              "a search among lower values of learning_rate");
}

void report(const Sweep& sweep, const std::vector<SweepRow>& all, const SweepCommand& c) {
  const std::vector<SweepRow> rows = ranked(all);
  write_file(c.output_dir / "sweep.csv", sweep_csv(sweep, rows));
  if (c.json) {
    for (std::size_t i = 0; i < rows.size(); ++i) {
      print(sweep_json(sweep, i + 1, rows[i], c.output_dir));
    }
  } else {
    print(format_table(sweep_table(sweep, rows), output_columns()));
  }
  for (const SweepRow& row : rows) {
    if (row.result.status != RunStatus::failed) continue;
    warn(fmt::format("{} failed: {}\n  all it printed: {}", row.name, row.result.error,
                     (c.output_dir / row.name / "train.log").string()));
  }
  const SweepRow& best = rows.front();
  if (best.result.status != RunStatus::done) throw_none(rows, c.output_dir);
  write_file(c.output_dir / "sweep.svg", sweep_svg(sweep, rows));
  write_file(c.output_dir / "best.json",
             json_text(train_options(sweep, best.configuration), 2) + "\n");
  const std::string program = program_as_typed();
  note(fmt::format("best: {} with {} {:.4f}: {}", best.name, sweep.metric, best.result.value,
                   in_words(best.configuration)));
  note(fmt::format("its model: {}", (c.output_dir / best.name / "model").string()));
  note(fmt::format("  try: {} train --config-file {} --output-dir DIR", program,
                   in_shell((c.output_dir / "best.json").string())));
}

int run_sweep(const std::vector<std::string>& arguments) {
  SweepCommand command;
  Flags flags("sweep", "SWEEP.json --output-dir DIR [OPTION...]", kAbout);
  add_flags(flags, command);
  if (!flags.parse(arguments)) return 0;
  if (command.files.size() != 1) {
    flags.refuse(command.files.empty() ? "there is no SWEEP.json to read" : "one sweep at a time");
  }
  if (command.output_dir.empty() && !command.dry_run) {
    flags.refuse("--output-dir is missing: where shall the runs go?");
  }
  const fs::path file = command.files[0];
  const TrainVocabulary vocabulary = train_vocabulary();
  const Sweep sweep = read_sweep(file, vocabulary);
  Course course(sweep, command.output_dir);
  for (const SweepRow& row : course.rows())
    check_configuration(sweep, row.configuration, file, vocabulary);
  if (std::ssize(course.rows()) < sweep.runs) {
    note(fmt::format("note: the search has {} different runs, not {}", course.rows().size(),
                     sweep.runs));
  }
  if (command.dry_run) {
    for (const SweepRow& row : course.rows()) {
      print_lines(fmt::format("{}  {}\n", row.name, in_words(row.configuration)));
    }
    return 0;
  }

  course.check_folder(command.overwrite);
  const InterruptGuard interrupts("the runs finish their steps");
  // The lock that quire train takes on its folder; what may be in it was looked at above.
  const OutputFolder lock({.output_dir = command.output_dir, .overwrite_output_dir = true});
  course.prepare(command.overwrite);
  if (const std::size_t done = course.finished(); done > 0) {
    note(fmt::format("going on: {} of {} have a result", done,
                     counted(course.rows().size(), "run")));
  }
  if (!run_course(course, sweep, command.parallel > 0 ? command.parallel : sweep.parallel)) {
    note(
        fmt::format("interrupted: {} of {} have a result, and what was begun is saved\n"
                    "  try: the same command again, which goes on",
                    course.finished(), counted(course.rows().size(), "run")));
    return interrupt_exit_code();
  }
  course.read_curves();
  report(sweep, course.rows(), command);
  return 0;
}

}  // namespace

const Command kSweepCommand = {"sweep", "search for the best options of train", run_sweep};

}  // namespace quire
