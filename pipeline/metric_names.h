// The metrics of `quire eval` by name, as its JSON, its tables and `metrics` have them.
//
// Where evaluate, the library of Hugging Face, has the same metric, the name is its name there:
// perplexity, exact_match. Its other names are answered with what stands nearest to them.
// docs/metrics.md has the formulas.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "pipeline/eval_report.h"

namespace quire {

/// What is evaluated: data, data with `completions`, texts.
enum class Evaluation { data, completions, texts };

struct MetricName {
  Evaluation evaluation;
  std::string_view name;
  std::string_view wants;  ///< the option without which there is none: "training_data"; "": always
};

/// All of them, in the order in which they are told. The K of among_top_K is a number elsewhere.
std::vector<MetricName> metric_names();

/// What stands nearest to a metric of evaluate that Quire does not have; "" for other names.
std::string nearest_metric(std::string_view name);

/// "a,b c" as `metrics` may have it, as names; those among_top_N as among_top_K.
std::vector<std::string> split_metrics(const std::vector<std::string>& given);

/// Throws Error(usage) for a name that this evaluation does not have, saying what does;
/// `is_given` tells whether an option was.
void check_metrics(const std::vector<std::string>& names, Evaluation evaluation,
                   const std::function<bool(const std::string& option)>& is_given);

/// The report with these metrics alone, in this order; all of it where there are no names.
EvalReport select_metrics(EvalReport report, const std::vector<std::string>& names);

}  // namespace quire
