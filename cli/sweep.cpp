// quire sweep: quire train with many options, one set after the other or some
// at a time, and which was best.
//
// The plan is in sweep_space.h, the runs in sweep_runs.h, what is told in sweep_report.h. The
// folder remembers everything: the same command again goes on where it stopped.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <optional>

#include "base/file.h"
#include "base/json.h"
#include "base/parallel.h"
#include "base/text.h"
#include "cli/command.h"
#include "cli/flags.h"
#include "cli/option_names.h"
#include "cli/signals.h"
#include "cli/sweep_report.h"
#include "cli/sweep_runs.h"
#include "cli/sweep_space.h"
#include "cli/terminal.h"
#include "engine/training/output_folder.h"
#include "pipeline/resources.h"

namespace quire {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;
using Json = nlohmann::ordered_json;

constexpr const char* kSweepFile = "sweep.json";

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

/// "learning_rate 0.001, packing stream"
std::string in_words(const Configuration& configuration) {
  std::string text;
  for (const auto& [name, value] : configuration.items()) {
    text += (text.empty() ? "" : ", ") + name + " " +
            (value.is_number_float() ? compact_number(value.get<double>())
             : value.is_string()     ? value.get<std::string>()
                                     : json_text(value));
  }
  return text;
}

/// Throws unless the folder is new, empty, or that of the same sweep.
void check_folder(const SweepCommand& c, const std::string& description) {
  const fs::path& folder = c.output_dir;
  check_writable(folder);
  if (!fs::exists(folder)) return;
  if (fs::is_empty(folder)) return;
  if (!fs::exists(folder / kSweepFile)) {
    throw Error(Fault::usage, "the output folder " + folder.string() + " is not empty",
                {"there is no sweep in it to go on with"}, "another --output-dir");
  }
  if (c.overwrite || read_file(folder / kSweepFile) == description) return;
  throw Error(Fault::usage, folder.string() + " has another sweep",
              {"what it was asked for is in " + (folder / kSweepFile).string()},
              "another --output-dir, or --overwrite-output-dir to begin anew");
}

/// Removes what an earlier sweep made, and nothing else.
void clear_folder(const fs::path& folder) {
  if (!fs::exists(folder / kSweepFile)) return;
  std::vector<fs::path> runs;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    if (fs::exists(entry.path() / "options.json")) runs.push_back(entry.path());
  }
  for (const fs::path& run : runs) fs::remove_all(run);
  for (const char* name : {kSweepFile, "sweep.csv", "sweep.svg", "best.json"}) {
    fs::remove(folder / name);
  }
}

/// The runs, where each stands, and what it takes to bring them further.
class Course {
 public:
  Course(const Sweep& sweep, const fs::path& folder) : sweep_(sweep), folder_(folder) {
    for (Configuration& configuration : configurations(sweep)) {
      rows_.push_back({.name = run_name(rows_.size()),
                       .configuration = std::move(configuration),
                       .result = {},
                       .curve = {}});
    }
  }

  const std::vector<SweepRow>& rows() const { return rows_; }

  void prepare() {
    for (SweepRow& row : rows_) {
      make_folder(folder_ / row.name);
      write_file(folder_ / row.name / "options.json",
                 json_text(train_options(sweep_, row.configuration), 2) + "\n");
      row.result = read_result(folder_ / row.name);
    }
  }

  /// All rounds. False: interrupted.
  bool run(int parallel) {
    std::vector<std::size_t> left(rows_.size());
    for (std::size_t i = 0; i < left.size(); ++i) left[i] = i;
    const std::vector<std::int64_t> ends = round_ends(sweep_);
    for (std::size_t round = 0; round < ends.size() && !left.empty(); ++round) {
      const bool last = round + 1 == ends.size();
      if (!run_round(static_cast<int>(round) + 1, last ? 0 : ends[round], left, parallel)) {
        return false;
      }
      if (last) break;
      std::vector<double> values;
      values.reserve(left.size());
      for (const std::size_t i : left) values.push_back(value_in(i, static_cast<int>(round) + 1));
      std::vector<std::size_t> next;
      for (const std::size_t i : survivors(values, sweep_.factor)) next.push_back(left[i]);
      left = std::move(next);
      note(fmt::format("round {} of {}, up to step {}: {} of {} go on", round + 1, ends.size(),
                       ends[round], left.size(), values.size()));
    }
    return true;
  }

  void read_curves() {
    for (SweepRow& row : rows_) row.curve = read_curve(folder_ / row.name);
  }
  std::size_t finished() const {
    return static_cast<std::size_t>(std::count_if(rows_.begin(), rows_.end(), [](const auto& row) {
      return row.result.status != RunStatus::open;
    }));
  }

 private:
  /// What a run was worth at the end of a round, though it may be further by now.
  double value_in(std::size_t place, int round) const {
    const RunResult& result = rows_[place].result;
    if (result.round == round) return result.value;
    return metric_of(curve_up_to(place, round_ends(sweep_)[static_cast<std::size_t>(round) - 1]),
                     sweep_.metric);
  }
  LossCurve curve_up_to(std::size_t place, std::int64_t step) const {
    LossCurve curve = read_curve(folder_ / rows_[place].name);
    const auto later = [&](const auto& point) { return point.first > step; };
    std::erase_if(curve.training, later);
    std::erase_if(curve.validation, later);
    return curve;
  }

  /// Among those that have ended in a round; null where none has.
  const SweepRow* best_so_far(int round) const {
    const SweepRow* best = nullptr;
    for (const SweepRow& row : rows_) {
      if (row.result.status != RunStatus::done || row.result.round != round) continue;
      if (best == nullptr || row.result.value < best->result.value) best = &row;
    }
    return best;
  }

  bool is_over(const RunResult& result, int round) const {
    if (result.status == RunStatus::diverged) return true;
    return result.status == RunStatus::done && result.round >= round;
  }

  bool run_round(int round, std::int64_t end, const std::vector<std::size_t>& left, int parallel) {
    std::vector<std::size_t> places;
    std::vector<RunTask> tasks;
    for (const std::size_t i : left) {
      if (is_over(rows_[i].result, round)) continue;
      places.push_back(i);
      tasks.push_back({.folder = folder_ / rows_[i].name,
                       .round = round,
                       .stop_at = end,
                       .before = rows_[i].result});
    }
    if (tasks.empty()) return !interrupted();
    RunOptions options{.parallel = parallel, .metric = sweep_.metric};
    if (!sweep_.train.contains("threads")) {
      options.threads = std::max(1, available_threads() / parallel);
    }
    ProgressLine line;
    std::size_t ended = 0;
    const Clock::time_point start = Clock::now();
    const auto on_end = [&](std::size_t task, const RunResult& result) {
      ++ended;
      SweepRow& row = rows_[places[task]];
      row.result = result;
      std::string how = name_of(result.status);
      if (result.status == RunStatus::done) {
        how = fmt::format("{} {:.4f} after step {}", sweep_.metric, result.value, result.step);
      } else if (result.status == RunStatus::failed) {
        how += ": " + result.error;
      }
      line.print(fmt::format("{}  {}  ({})", row.name, how, in_words(row.configuration)));
    };
    const auto on_wait = [&] {
      if (!line.due()) return;
      const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
      std::vector<LinePart> parts;
      if (round_ends(sweep_).size() > 1) parts.push_back({fmt::format("round {}:", round), 2});
      parts.push_back({fmt::format("{}/{} runs", ended, tasks.size())});
      parts.push_back({fmt::format("in {}", human_duration(seconds)), 3});
      if (const SweepRow* best = best_so_far(round); best != nullptr) {
        parts.push_back(
            {fmt::format("best {} {:.4f} ({})", sweep_.metric, best->result.value, best->name), 1});
      }
      if (ended > 0) {
        parts.push_back({human_duration(seconds / static_cast<double>(ended) *
                                        static_cast<double>(tasks.size() - ended)) +
                         " left"});
      }
      line.show(std::move(parts));
    };
    make_runs(tasks, options, on_end, on_wait);
    return !interrupted();
  }

  const Sweep& sweep_;
  const fs::path folder_;
  std::vector<SweepRow> rows_;
};

std::string json_line(std::size_t rank, const SweepRow& row, const Sweep& sweep,
                      const fs::path& folder) {
  const Json line = {{"rank", rank},
                     {"run", row.name},
                     {"status", name_of(row.result.status)},
                     {"round", row.result.round},
                     {"step", row.result.step},
                     {sweep.metric, row.result.value},
                     {"seconds", row.result.seconds},
                     {"options", row.configuration},
                     {"folder", (folder / row.name).string()}};
  return json_text(line) + "\n";
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
      print(json_line(i + 1, rows[i], sweep, c.output_dir));
    }
  } else {
    print(sweep_table(sweep, rows, output_columns()));
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

int run(const std::vector<std::string>& arguments) {
  SweepCommand command;
  Flags flags("sweep", "SWEEP.json --output-dir DIR [OPTION...]", kAbout);
  add_flags(flags, command);
  if (!flags.parse(arguments)) return 0;
  if (command.files.size() != 1) {
    throw Error(Fault::usage,
                command.files.empty() ? "there is no SWEEP.json to read" : "one sweep at a time",
                {}, flags.help_command());
  }
  if (command.output_dir.empty() && !command.dry_run) {
    throw Error(Fault::usage, "--output-dir is missing: where shall the runs go?", {},
                flags.help_command());
  }
  const fs::path file = command.files[0];
  const Sweep sweep = read_sweep(file);
  Course course(sweep, command.output_dir);
  for (const SweepRow& row : course.rows()) check_configuration(sweep, row.configuration, file);
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

  const std::string description = canonical_json(sweep);
  check_folder(command, description);
  const InterruptGuard interrupts("the runs finish their steps");
  // The lock that quire train takes on its folder; what may be in it was looked at above.
  const OutputFolder lock({.output_dir = command.output_dir, .overwrite_output_dir = true});
  if (command.overwrite) clear_folder(command.output_dir);
  write_file(command.output_dir / kSweepFile, description);
  course.prepare();
  if (const std::size_t done = course.finished(); done > 0) {
    note(fmt::format("going on: {} of {} have a result", done,
                     counted(course.rows().size(), "run")));
  }
  if (!course.run(command.parallel > 0 ? command.parallel : sweep.parallel)) {
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

const Command kSweepCommand = {"sweep", "search for the best options of train", run};

}  // namespace quire
