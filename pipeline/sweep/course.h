// The course of a sweep: its runs, where each stands, and what it takes to bring them further.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <vector>

#include "pipeline/sweep/runs.h"
#include "pipeline/sweep/space.h"

namespace quire {

struct RoundState {
  int round = 1;
  int rounds = 1;
  std::int64_t end = 0;             ///< its last step; 0: the run's
  std::size_t ended = 0, runs = 0;  ///< of those that are made in it now
  double seconds = 0;               ///< since it began
  const SweepRow* best = nullptr;   ///< of those that ended in it
};

struct CourseCallbacks {
  std::function<void(const SweepRow&)> on_end;     ///< of a run in a round
  std::function<void(const RoundState&)> on_wait;  ///< many times a second
  /// Between two rounds: so many of the runs go on.
  std::function<void(const RoundState&, std::size_t going_on, std::size_t of)> on_round;
};

class Course {
 public:
  /// Keeps a reference to the sweep.
  Course(const Sweep& sweep, const std::filesystem::path& folder);

  /// Throws Error(usage) unless the folder is new, empty, or that of the same sweep; `overwrite`: of
  /// another one, too.
  void check_folder(bool overwrite) const;
  /// Makes the runs' folders and reads the results in them. `overwrite` removes what an earlier sweep
  /// made, and nothing else.
  void prepare(bool overwrite);
  /// All rounds. False: it was stopped.
  bool run(const RunOptions& options, const CourseCallbacks& callbacks);

  void read_curves();
  const std::vector<SweepRow>& rows() const { return rows_; }
  std::size_t finished() const;

 private:
  double value_in(std::size_t place, int round) const;
  const SweepRow* best_so_far(int round) const;
  bool run_round(RoundState& state, const std::vector<std::size_t>& left, const RunOptions& options,
                 const CourseCallbacks& callbacks);

  const Sweep& sweep_;
  const std::filesystem::path folder_;
  std::vector<SweepRow> rows_;
};

}  // namespace quire
