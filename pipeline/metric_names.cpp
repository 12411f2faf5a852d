#include "pipeline/metric_names.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "base/error.h"
#include "base/nearest.h"
#include "base/text.h"

namespace quire {
namespace {

struct Group {
  Evaluation evaluation;
  std::vector<std::string_view> names;
  std::string_view wants = {};
};

const Group kGroups[] = {
    {Evaluation::data,
     {"loss", "perplexity", "tokens", "scored", "bits_per_byte", "window", "stride"}},
    {Evaluation::completions, {"records", "exact_match", "among_top_K"}},
    {Evaluation::texts,
     {"texts", "empty_texts", "tokens", "distinct_1", "distinct_2", "distinct_3", "self_bleu4",
      "seq_rep_4", "rep_16", "longest_run"}},
    {Evaluation::texts, {"copied_share"}, "training_data"},
    {Evaluation::texts, {"keyword_coverage"}, "keywords_column"},
    {Evaluation::texts, {"coherence", "coherence_texts"}},
    {Evaluation::texts, {"perplexity", "bits_per_byte"}, "model"},
};

std::string of_what(Evaluation evaluation) {
  switch (evaluation) {
    case Evaluation::data:
      return "`paths` FILE"_named;
    case Evaluation::completions:
      return "`paths` FILE `completions` K"_named;
    case Evaluation::texts:
      return "`texts` FILE"_named;
  }
  return "";
}

/// "--texts FILE has texts, empty_texts, …"
std::string what_there_is(Evaluation evaluation) {
  std::vector<std::string_view> names;
  for (const MetricName& metric : metric_names()) {
    if (metric.evaluation == evaluation) names.push_back(metric.name);
  }
  return fmt::format("{} has {}", of_what(evaluation), fmt::join(names, ", "));
}

void check_metric(const std::string& name, Evaluation evaluation,
                  const std::function<bool(const std::string&)>& is_given) {
  const std::string help = "quire eval `help`"_named;
  const std::vector<MetricName> known = metric_names();
  const auto named = [&](const MetricName& metric) { return metric.name == name; };
  const auto here = std::ranges::find_if(
      known, [&](const MetricName& m) { return named(m) && m.evaluation == evaluation; });
  if (here != known.end()) {
    if (here->wants.empty() || is_given(std::string(here->wants))) return;
    throw Error(Fault::usage,
                fmt::format("{} {} wants {}", field_name("metrics"), name, field_name(here->wants)),
                {}, help);
  }
  const auto elsewhere = std::find_if(known.rbegin(), known.rend(), named);
  if (elsewhere != known.rend()) {
    throw Error(
        Fault::usage,
        fmt::format("{} {} is for {}", field_name("metrics"), name, of_what(elsewhere->evaluation)),
        {what_there_is(evaluation)}, help);
  }
  if (const std::string answer = nearest_metric(name); !answer.empty()) {
    throw Error(Fault::usage, "quire eval has no metric '" + name + "'",
                {"nearest is " + answer, what_there_is(evaluation)}, help);
  }
  std::vector<std::string> all;
  all.reserve(known.size());
  for (const MetricName& metric : known) all.emplace_back(metric.name);
  const std::string near = nearest(name, all);
  throw Error(Fault::usage, "quire eval has no metric '" + name + "'", {what_there_is(evaluation)},
              near.empty() ? help : field_name("metrics") + " " + near);
}

}  // namespace

std::vector<MetricName> metric_names() {
  std::vector<MetricName> all;
  for (const Group& group : kGroups) {
    for (const std::string_view name : group.names) {
      all.push_back({group.evaluation, name, group.wants});
    }
  }
  return all;
}

std::string nearest_metric(std::string_view name) {
  struct Foreign {
    std::string_view names;  // with a space before and behind each
    std::string answer;
  };
  // The metrics and measurements of evaluate 0.4, and the keys of what they return.
  const Foreign all[] = {
      {" mean_perplexity perplexities ",
       "perplexity, which is of all tokens together and not a mean over texts"},
      {" bleu sacrebleu google_bleu ",
       "self_bleu4, BLEU of each text against the others; with references, exact_match of "
       "`completions` K"_named},
      {" rouge rouge1 rouge2 rougeL rougeLsum meteor chrf ter wer cer character charcut_mt nist_mt "
       "bertscore bleurt comet xtreme_s frugalscore ",
       "exact_match, of `paths` FILE `template_text` TEXT `completions` K: no other compares "_named
       "with a reference"_named},
      {" accuracy f1 precision recall squad squad_v2 glue super_glue matthews_correlation ",
       "exact_match, of `paths` FILE `template_text` TEXT `completions` K"_named},
      {" top_k_accuracy ",
       "among_top_K, of `paths` FILE `template_text` TEXT `completions` K"_named},
      {" mauve ",
       "distinct_2, self_bleu4 and seq_rep_4, with texts that people wrote as the `baseline`"_named},
      {" word_count word_length total_word_count ", "tokens, the words of `texts` FILE"_named},
      {" text_duplicates duplicate_fraction ",
       "self_bleu4 for texts that are alike; quire data inspect counts the same records of data"},
      {" toxicity regard honest ",
       "none: evaluate.load(\"toxicity\") judges what `texts` has"_named},
  };
  for (const Foreign& foreign : all) {
    if (foreign.names.find(fmt::format(" {} ", name)) != std::string_view::npos) {
      return foreign.answer;
    }
  }
  return {};
}

std::vector<std::string> split_metrics(const std::vector<std::string>& given) {
  std::vector<std::string> names;
  for (const std::string& list : given) {
    for (std::string_view rest = list; !rest.empty();) {
      std::string name(take_until(',', rest));
      if (name.starts_with("among_top_") && name.size() > 10 &&
          name.find_first_not_of("0123456789", 10) == std::string::npos) {
        name = "among_top_K";
      }
      if (!name.empty() && std::ranges::find(names, name) == names.end()) {
        names.push_back(std::move(name));
      }
    }
  }
  return names;
}

void check_metrics(const std::vector<std::string>& names, Evaluation evaluation,
                   const std::function<bool(const std::string& option)>& is_given) {
  for (const std::string& name : names) check_metric(name, evaluation, is_given);
}

EvalReport select_metrics(EvalReport report, const std::vector<std::string>& names) {
  if (names.empty()) return report;
  for (std::vector<Metric>* const metrics : {&report.metrics, &report.baseline}) {
    std::vector<Metric> some;
    for (const std::string& name : names) {
      std::ranges::copy_if(*metrics, std::back_inserter(some), [&](const Metric& metric) {
        return name == "among_top_K" ? metric.name.starts_with("among_top_") : metric.name == name;
      });
    }
    *metrics = std::move(some);
  }
  return report;
}

}  // namespace quire
