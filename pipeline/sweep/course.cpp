#include "pipeline/sweep/course.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"

namespace quire {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

namespace {

constexpr const char* kSweepFile = "sweep.json";

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

}  // namespace

Course::Course(const Sweep& sweep, const fs::path& folder) : sweep_(sweep), folder_(folder) {
  for (Configuration& configuration : configurations(sweep)) {
    rows_.push_back({.name = run_name(rows_.size()),
                     .configuration = std::move(configuration),
                     .result = {},
                     .curve = {}});
  }
}

void Course::check_folder(bool overwrite) const {
  check_writable(folder_);
  if (!fs::exists(folder_)) return;
  if (fs::is_empty(folder_)) return;
  if (!fs::exists(folder_ / kSweepFile)) {
    throw Error(Fault::usage, "the output folder " + folder_.string() + " is not empty",
                {"there is no sweep in it to go on with"}, "another `output_dir`"_named);
  }
  if (overwrite || read_file(folder_ / kSweepFile) == canonical_json(sweep_)) return;
  throw Error(Fault::usage, folder_.string() + " has another sweep",
              {"what it was asked for is in " + (folder_ / kSweepFile).string()},
              "another `output_dir`, or `overwrite_output_dir` to begin anew"_named);
}

void Course::prepare(bool overwrite) {
  if (overwrite) clear_folder(folder_);
  write_file(folder_ / kSweepFile, canonical_json(sweep_));
  for (SweepRow& row : rows_) {
    make_folder(folder_ / row.name);
    write_file(folder_ / row.name / "options.json",
               json_text(train_options(sweep_, row.configuration), 2) + "\n");
    row.result = read_result(folder_ / row.name);
  }
}

bool Course::run(const RunOptions& options, const CourseCallbacks& callbacks) {
  std::vector<std::size_t> left(rows_.size());
  for (std::size_t i = 0; i < left.size(); ++i) left[i] = i;
  const std::vector<std::int64_t> ends = round_ends(sweep_);
  for (std::size_t round = 0; round < ends.size() && !left.empty(); ++round) {
    const bool last = round + 1 == ends.size();
    RoundState state{.round = static_cast<int>(round) + 1,
                     .rounds = static_cast<int>(ends.size()),
                     .end = last ? 0 : ends[round]};
    if (!run_round(state, left, options, callbacks)) return false;
    if (last) break;
    std::vector<double> values;
    values.reserve(left.size());
    for (const std::size_t i : left) values.push_back(value_in(i, state.round));
    std::vector<std::size_t> next;
    for (const std::size_t i : survivors(values, sweep_.factor)) next.push_back(left[i]);
    left = std::move(next);
    callbacks.on_round(state, left.size(), values.size());
  }
  return true;
}

void Course::read_curves() {
  for (SweepRow& row : rows_) row.curve = read_curve(folder_ / row.name);
}

std::size_t Course::finished() const {
  return static_cast<std::size_t>(std::count_if(rows_.begin(), rows_.end(), [](const auto& row) {
    return row.result.status != RunStatus::open;
  }));
}

/// What a run was worth at the end of a round, though it may be further by now.
double Course::value_in(std::size_t place, int round) const {
  const RunResult& result = rows_[place].result;
  if (result.round == round) return result.value;
  const std::int64_t end = round_ends(sweep_)[static_cast<std::size_t>(round) - 1];
  LossCurve curve = read_curve(folder_ / rows_[place].name);
  const auto later = [&](const auto& point) { return point.first > end; };
  std::erase_if(curve.training, later);
  std::erase_if(curve.validation, later);
  return metric_of(curve, sweep_.metric);
}

/// Among those that have ended in a round; null where none has.
const SweepRow* Course::best_so_far(int round) const {
  const SweepRow* best = nullptr;
  for (const SweepRow& row : rows_) {
    if (row.result.status != RunStatus::done || row.result.round != round) continue;
    if (best == nullptr || row.result.value < best->result.value) best = &row;
  }
  return best;
}

bool Course::run_round(RoundState& state, const std::vector<std::size_t>& left,
                       const RunOptions& options, const CourseCallbacks& callbacks) {
  std::vector<std::size_t> places;
  std::vector<RunTask> tasks;
  for (const std::size_t i : left) {
    const RunResult& before = rows_[i].result;
    if (before.status == RunStatus::diverged) continue;
    if (before.status == RunStatus::done && before.round >= state.round) continue;
    places.push_back(i);
    tasks.push_back({.folder = folder_ / rows_[i].name,
                     .round = state.round,
                     .stop_at = state.end,
                     .before = before});
  }
  if (tasks.empty()) return options.stop_signal() == 0;
  state.runs = tasks.size();
  const Clock::time_point start = Clock::now();
  make_runs(
      tasks, options,
      [&](std::size_t task, const RunResult& result) {
        ++state.ended;
        SweepRow& row = rows_[places[task]];
        row.result = result;
        callbacks.on_end(row);
      },
      [&] {
        state.seconds = std::chrono::duration<double>(Clock::now() - start).count();
        state.best = best_so_far(state.round);
        callbacks.on_wait(state);
      });
  return options.stop_signal() == 0;
}

}  // namespace quire
