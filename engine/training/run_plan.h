// How a run fits into what it may take: its steps into a time, its validation into a share.
//
// A run that is too long for its time takes fewer steps, and its learning rate still goes the whole
// way: from step a on, where the schedule stood at its step p, the N - a steps that are left are
// spread evenly over the T - p that the schedule has left:
//   place(t) = p + (t - a)·(T - p)/(N - a)
// where T are the steps that were asked for. Checkpoints hold N, a and p, so that a run that goes on
// has the bits of one that did not stop.
//
// Validation is held to its share by arithmetic, not by a clock: a token that is validated on costs a
// third of one that is trained on (forward alone, of forward and twice that backward). So equal
// commands validate at equal steps on equal rows.
#pragma once

#include <cstdint>

namespace quire {

struct StepPlan {
  std::int64_t steps = 0;   ///< N; 0: as many as were asked for
  std::int64_t anchor = 0;  ///< a
  double anchor_place = 0;  ///< p
  bool operator==(const StepPlan&) const = default;

  /// The step of a schedule of `asked` steps at whose rate step t is made.
  double place(std::int64_t t, std::int64_t asked) const;
  /// Steps in all, where `asked` were asked for.
  std::int64_t total(std::int64_t asked) const { return steps > 0 ? steps : asked; }
  /// The plan of a run that stands before step `now` and has time for `left` steps more: at least
  /// one, and no more than the schedule has. A plan that is right to a twentieth of its rest stays.
  StepPlan fitted(std::int64_t now, std::int64_t left, std::int64_t asked) const;
};

/// What parts of a run take, in seconds.
struct RunPace {
  double step = 0, evaluation = 0;
  /// Steps that fit into `seconds`, with an evaluation every `eval_every` of them (0: none) and one
  /// at the end.
  std::int64_t steps_within(double seconds, double eval_every) const;
};

/// On what a run validates, and when.
struct EvalPlan {
  std::int64_t rows = 0;   ///< spread over those that are held out; 0: all of them
  std::int64_t every = 0;  ///< steps; 0: as was asked for
  bool operator==(const EvalPlan&) const = default;
};

struct EvalCost {
  std::int64_t steps = 0;        ///< of the run
  double step_tokens = 0;        ///< that one of them trains on
  std::int64_t epoch_steps = 0;  ///< after which it would validate, beside the first and the last
  std::int64_t rows = 0;         ///< held out
  double row_tokens = 0;         ///< of each
  /// Evaluations of all rows, one before the first step and one after the last included.
  std::int64_t evaluations() const;
};

/// Keeps validation within `share` of the run: all rows, but fewer times, as long as that leaves five
/// evaluations (or as many as there would be); else fewer rows, at least one.
EvalPlan bounded(const EvalCost& cost, double share);

}  // namespace quire
