// What a sweep tells in the end: a table, sweep.csv, sweep.svg and best.json.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <vector>

#include "pipeline/sweep/runs.h"
#include "pipeline/sweep/space.h"

namespace quire {

/// Best first: by the round they reached, the latest first, for losses at different steps do not
/// compare; then by the metric; then those that diverged, those that failed, those that are open.
std::vector<SweepRow> ranked(std::vector<SweepRow> rows);

/// "learning_rate 0.001, packing stream"
std::string in_words(const Configuration& configuration);

/// The cells of a table: a heading, and a row a run, in the order given.
std::vector<std::vector<std::string>> sweep_table(const Sweep& sweep,
                                                  const std::vector<SweepRow>& rows);
/// A run as a JSON object, on a line; `folder`: the sweep's.
std::string sweep_json(const Sweep& sweep, std::size_t rank, const SweepRow& row,
                       const std::filesystem::path& folder);
/// rank, run, status, round, step, METRIC, seconds, and a column for each searched option.
std::string sweep_csv(const Sweep& sweep, const std::vector<SweepRow>& rows);

/// The loss over the steps, a line a run, and for each searched option the metric over its values,
/// a <circle class="run"> a run that has one, hollow where it ended in an earlier round than the
/// first row, which is drawn as the best. An axis is logarithmic where the range is, or where a
/// list's numbers span a factor of ten or lie nearer to equal ratios than to equal distances;
/// values that are not numbers have a place each. Ticks are round, or what a list names;
/// nothing that is drawn lies on them.
std::string sweep_svg(const Sweep& sweep, const std::vector<SweepRow>& rows);

}  // namespace quire
