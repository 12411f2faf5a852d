#include "pipeline/measures.h"

#include <fmt/format.h>

#include <concepts>
#include <limits>

#include "corpus/metrics.h"

namespace quire {
namespace {

template <std::integral T>
Metric count(const char* name, T value) {
  return {.name = name, .value = static_cast<double>(value), .count = true};
}

}  // namespace

std::vector<Metric> measure_texts(const std::vector<Sample>& samples,
                                  const std::vector<std::string>* training,
                                  std::size_t copied_ngram) {
  TokenReader reader;
  std::vector<TokenNumbers> texts;
  std::vector<double> coverage, coherence;
  std::size_t empty = 0, tokens = 0;
  const StopWords stop_words = StopWords::english();
  bool has_keywords = false;
  for (const Sample& sample : samples) {
    texts.push_back(reader.read(sample.text));
    tokens += texts.back().size();
    empty += texts.back().empty() ? 1 : 0;
    if (const auto score = local_coherence(sample.text, stop_words)) coherence.push_back(*score);
    if (sample.keywords.empty()) continue;
    has_keywords = true;
    coverage.push_back(keyword_coverage(sample.text, sample.keywords));
  }
  std::vector<Metric> metrics = {count("texts", texts.size()),
                                 count("empty_texts", empty),
                                 count("tokens", tokens),
                                 {"distinct_1", distinct_ngrams(texts, 1)},
                                 {"distinct_2", distinct_ngrams(texts, 2)},
                                 {"distinct_3", distinct_ngrams(texts, 3)},
                                 {"self_bleu4", mean_of(self_bleu(texts))},
                                 {"seq_rep_4", repeated_ngrams(texts, 4)},
                                 {"rep_16", repeated_tokens(texts, 16)},
                                 count("longest_run", longest_run(texts))};
  if (training != nullptr) {
    std::vector<TokenNumbers> read;
    read.reserve(training->size());
    for (const std::string& text : *training) read.push_back(reader.read(text));
    metrics.push_back({"copied_share", copied_share(texts, read, copied_ngram)});
  }
  if (has_keywords) metrics.push_back({"keyword_coverage", mean_of(coverage)});
  metrics.push_back({"coherence", coherence.empty() ? std::numeric_limits<double>::quiet_NaN()
                                                    : mean_of(coherence)});
  metrics.push_back(count("coherence_texts", coherence.size()));
  return metrics;
}

std::vector<Metric> metrics_of(const Scored& scored) {
  return {{"loss", scored.result.loss()},
          {"perplexity", scored.result.perplexity()},
          count("tokens", scored.tokens),
          count("scored", scored.result.scored),
          {"bits_per_byte", scored.bits_per_byte()},
          count("window", scored.windows.window),
          count("stride", scored.windows.stride)};
}

std::vector<Metric> metrics_of(const CompletionScores& scores, int top) {
  const auto all = static_cast<double>(scores.records);
  return {count("records", scores.records),
          {"exact_match", static_cast<double>(scores.best) / all},
          {fmt::format("among_top_{}", top), static_cast<double>(scores.among) / all}};
}

}  // namespace quire
