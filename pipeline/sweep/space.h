// What a sweep is to try, and which of its runs go on: everything that needs no run.
//
// A sweep is a JSON object:
//
//   {"method": "random",                     grid, random or halving
//    "train": {"config": "tiny", "data": "books/", "max_steps": 90, …},  options of quire train
//    "search": {"learning_rate": {"log_min": 1e-4, "log_max": 1e-2},     options to try values of
//               "weight_decay": {"min": 0, "max": 0.1},
//               "packing": ["stream", "records"]},
//    "runs": 9, "metric": "eval_loss", "parallel": 1, "seed": 1}
//
// grid: every combination, the last option changing fastest; a range has "steps", its number of
// values, ends included. random: "runs" draws, each value from its list, or uniform in its range or
// in the range's logarithm. halving: as random, in rounds of growing length.
//
// Draws: number n of the stream that the seed and the option's name make, so that a further option
// leaves the others' values as they were. A range of an option that takes whole numbers is drawn
// from these; other values are rounded to four significant digits, to be copied by hand. A
// combination that was drawn before is drawn again.
//
// Successive halving (Jamieson and Talwalkar 2016): in round r of R every run that is left is
// trained up to step max_steps / factor^(R - r), so the last round ends at max_steps; of n runs of
// a round the best max(1, n / factor) go on, n / factor rounded down. A run goes on from its
// checkpoint, and its learning-rate schedule is that of max_steps from its first step on: a round
// only stops it earlier. So all runs of a round are compared at one step of one shape of schedule,
// nothing is computed twice, and the winner is, to the bit, the model that `quire train` makes of
// its options in one go. What it costs: at the early rounds' ends the rates have not fallen yet, so
// options that pay off late, small rates above all, are judged by their beginning.
//
// Lower is better in every metric. A run that diverged counts as the worst and never goes on.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "pipeline/train_options.h"

namespace quire {

enum class SweepMethod { grid, random, halving };

/// An option and the values it may have: a list, or a range.
struct SearchDimension {
  std::string option;                           ///< first name, in snake case
  std::vector<nlohmann::ordered_json> choices;  ///< empty: the range
  double low = 0, high = 0;
  bool logarithmic = false;
  bool whole = false;  ///< takes whole numbers only
  int steps = 0;       ///< values of the range in a grid
};

struct Sweep {
  SweepMethod method = SweepMethod::grid;
  nlohmann::ordered_json train =
      nlohmann::ordered_json::object();  ///< fixed options by their first names in snake case
  std::vector<SearchDimension> search;
  int runs = 0;                      ///< random and halving
  std::string metric = "eval_loss";  ///< at the end; or best_eval_loss (lowest on the way), loss
  int parallel = 1;
  std::uint64_t seed = 42;
  int factor = 3;  ///< halving
  int rounds = 1;  ///< halving; one otherwise
};

/// Values of the searched options, in the order of the search.
using Configuration = nlohmann::ordered_json;

/// The options of a training run as whoever starts it takes them.
struct TrainVocabulary {
  /// The first name of an option in snake case. Throws Error(usage) where there is none.
  std::function<std::string(const std::string& name_or_alias)> name_of;
  nlohmann::ordered_json defaults;  ///< by first names
  /// Throws Error(usage) for values that make no sense.
  std::function<TrainOptions(const nlohmann::ordered_json& options)> read;
};

/// Throws Error(bad_data) for what is not such an object, and Error(usage) for an option or a value
/// that quire train does not take; both name the file and the key. Reads nothing else.
Sweep read_sweep(const std::filesystem::path& file, const TrainVocabulary& vocabulary);

/// The runs to make, in order, without two alike. Fewer than sweep.runs where no more different
/// ones are found in 100 draws for each. Throws Error(usage) for a grid of more than 100,000.
std::vector<Configuration> configurations(const Sweep& sweep);

/// All options of a run: the fixed ones, the configuration's, and where they are not given those
/// that the sweep sets: no checkpoints but those it needs, and with halving an evaluation at the
/// end of every round.
nlohmann::ordered_json train_options(const Sweep& sweep, const Configuration& configuration);

/// Throws what quire train would throw for the options of a run, with the file added, and Error
/// (bad_data) for data that is not there. For usage also: no validation data to measure on.
void check_configuration(const Sweep& sweep, const Configuration& configuration,
                         const std::filesystem::path& file, const TrainVocabulary& vocabulary);

/// The step that each round ends at; {0} stands for a whole run, without halving.
std::vector<std::int64_t> round_ends(const Sweep& sweep);

/// Places of the values that go on into the next round, rising: the best max(1, n / factor). Equal
/// ones by their place; NaN (diverged, failed) never.
std::vector<std::size_t> survivors(const std::vector<double>& values, int factor);

/// Its description without what may change when it is gone on with: how many run at a time.
std::string canonical_json(const Sweep& sweep);

}  // namespace quire
