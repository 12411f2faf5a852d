#include "cli/eval_names.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "base/nearest.h"

namespace quire {
namespace {

constexpr MetricName kNames[] = {
    {Evaluation::data, "loss", ""},
    {Evaluation::data, "perplexity", ""},
    {Evaluation::data, "tokens", ""},
    {Evaluation::data, "scored", ""},
    {Evaluation::data, "bits_per_byte", ""},
    {Evaluation::data, "window", ""},
    {Evaluation::data, "stride", ""},
    {Evaluation::completions, "records", ""},
    {Evaluation::completions, "exact_match", ""},
    {Evaluation::completions, "among_top_K", ""},
    {Evaluation::texts, "texts", ""},
    {Evaluation::texts, "empty_texts", ""},
    {Evaluation::texts, "tokens", ""},
    {Evaluation::texts, "distinct_1", ""},
    {Evaluation::texts, "distinct_2", ""},
    {Evaluation::texts, "distinct_3", ""},
    {Evaluation::texts, "self_bleu4", ""},
    {Evaluation::texts, "seq_rep_4", ""},
    {Evaluation::texts, "rep_16", ""},
    {Evaluation::texts, "longest_run", ""},
    {Evaluation::texts, "copied_share", "training-data"},
    {Evaluation::texts, "keyword_coverage", "keywords-column"},
    {Evaluation::texts, "coherence", ""},
    {Evaluation::texts, "coherence_texts", ""},
    {Evaluation::texts, "perplexity", "model"},
    {Evaluation::texts, "bits_per_byte", "model"},
};

struct Foreign {
  std::string_view names;  // with a space before and behind each
  std::string_view answer;
};

// The metrics and measurements of evaluate 0.4, and the keys of what they return.
constexpr Foreign kForeign[] = {
    {" mean_perplexity perplexities ",
     "perplexity, which is of all tokens together and not a mean over texts"},
    {" bleu sacrebleu google_bleu ",
     "self_bleu4, BLEU of each text against the others; with references, exact_match of "
     "--completions K"},
    {" rouge rouge1 rouge2 rougeL rougeLsum meteor chrf ter wer cer character charcut_mt nist_mt "
     "bertscore bleurt comet xtreme_s frugalscore ",
     "exact_match, of --data FILE --template TEXT --completions K: no other compares with a "
     "reference"},
    {" accuracy f1 precision recall squad squad_v2 glue super_glue matthews_correlation ",
     "exact_match, of --data FILE --template TEXT --completions K"},
    {" top_k_accuracy ", "among_top_K, of --data FILE --template TEXT --completions K"},
    {" mauve ",
     "distinct_2, self_bleu4 and seq_rep_4, with texts that people wrote as the --baseline"},
    {" word_count word_length total_word_count ", "tokens, the words of --texts FILE"},
    {" text_duplicates duplicate_fraction ",
     "self_bleu4 for texts that are alike; quire data inspect counts the same records of data"},
    {" toxicity regard honest ", "none: evaluate.load(\"toxicity\") judges what --texts has"},
};

std::string_view of_what(Evaluation evaluation) {
  switch (evaluation) {
    case Evaluation::data:
      return "--data FILE";
    case Evaluation::completions:
      return "--data FILE --completions K";
    case Evaluation::texts:
      return "--texts FILE";
  }
  return "";
}

std::vector<std::string> names_of(Evaluation evaluation) {
  std::vector<std::string> names;
  for (const MetricName& metric : kNames) {
    if (metric.evaluation == evaluation) names.emplace_back(metric.name);
  }
  return names;
}

[[noreturn]] void refuse_unknown(const std::string& name, Evaluation evaluation) {
  std::vector<std::string> details;
  std::string next = "quire eval --help";
  if (const std::string_view answer = nearest_metric(name); !answer.empty()) {
    details.push_back("nearest is " + std::string(answer));
  } else {
    std::vector<std::string> all;
    for (const MetricName& metric : kNames) all.emplace_back(metric.name);
    const std::string near = nearest(name, all);
    if (!near.empty()) next = "--metrics " + near;
  }
  details.push_back(
      fmt::format("{} has {}", of_what(evaluation), fmt::join(names_of(evaluation), ", ")));
  throw Error(Fault::usage, "quire eval has no metric '" + name + "'", std::move(details), next);
}

void check_metric(const std::string& name, Evaluation evaluation,
                  const std::function<bool(const std::string&)>& is_given) {
  const MetricName* elsewhere = nullptr;
  for (const MetricName& metric : kNames) {
    if (metric.name != name) continue;
    if (metric.evaluation != evaluation) {
      elsewhere = &metric;
      continue;
    }
    if (metric.wants.empty() || is_given(std::string(metric.wants))) return;
    throw Error(Fault::usage, fmt::format("--metrics {} wants --{}", name, metric.wants), {},
                "quire eval --help");
  }
  if (elsewhere == nullptr) refuse_unknown(name, evaluation);
  throw Error(
      Fault::usage, fmt::format("--metrics {} is for {}", name, of_what(elsewhere->evaluation)),
      {fmt::format("{} has {}", of_what(evaluation), fmt::join(names_of(evaluation), ", "))},
      "quire eval --help");
}

}  // namespace

std::span<const MetricName> metric_names() {
  return kNames;
}

std::string_view nearest_metric(std::string_view name) {
  for (const Foreign& foreign : kForeign) {
    if (foreign.names.find(fmt::format(" {} ", name)) != std::string_view::npos) {
      return foreign.answer;
    }
  }
  return {};
}

std::vector<std::string> split_metrics(const std::vector<std::string>& given) {
  std::vector<std::string> names;
  for (const std::string& list : given) {
    for (std::size_t at = 0; at <= list.size();) {
      const std::size_t end = std::min(list.find(',', at), list.size());
      std::string name = list.substr(at, end - at);
      const std::string number = name.starts_with("among_top_") ? name.substr(10) : "";
      if (!number.empty() &&
          std::all_of(number.begin(), number.end(), [](char c) { return c >= '0' && c <= '9'; })) {
        name = "among_top_K";
      }
      if (std::find(names.begin(), names.end(), name) == names.end() && !name.empty()) {
        names.push_back(std::move(name));
      }
      at = end + 1;
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
  const auto selected = [&](const std::vector<Metric>& metrics) {
    std::vector<Metric> some;
    for (const std::string& name : names) {
      for (const Metric& metric : metrics) {
        const bool is_it =
            name == "among_top_K" ? metric.name.starts_with("among_top_") : metric.name == name;
        if (is_it) some.push_back(metric);
      }
    }
    return some;
  };
  report.metrics = selected(report.metrics);
  report.baseline = selected(report.baseline);
  return report;
}

}  // namespace quire
