#include "pipeline/measures.h"

#include <algorithm>
#include <limits>

#include "corpus/metrics.h"

namespace quire {
namespace {

double mean_or_nothing(const std::vector<double>& values) {
  return values.empty() ? std::numeric_limits<double>::quiet_NaN() : mean_of(values);
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
  std::vector<Metric> metrics;
  const auto count = [&](const char* name, std::size_t value) {
    metrics.push_back({.name = name, .value = static_cast<double>(value), .count = true});
  };
  const auto measure = [&](const char* name, double value) {
    metrics.push_back({.name = name, .value = value});
  };
  count("texts", texts.size());
  count("empty_texts", empty);
  count("tokens", tokens);
  measure("distinct_1", distinct_ngrams(texts, 1));
  measure("distinct_2", distinct_ngrams(texts, 2));
  measure("distinct_3", distinct_ngrams(texts, 3));
  measure("self_bleu4", mean_of(self_bleu(texts)));
  measure("seq_rep_4", repeated_ngrams(texts, 4));
  measure("rep_16", repeated_tokens(texts, 16));
  count("longest_run", longest_run(texts));
  if (training != nullptr) {
    std::vector<TokenNumbers> read;
    read.reserve(training->size());
    for (const std::string& text : *training) read.push_back(reader.read(text));
    measure("copied_share", copied_share(texts, read, copied_ngram));
  }
  if (has_keywords) measure("keyword_coverage", mean_of(coverage));
  measure("coherence", mean_or_nothing(coherence));
  count("coherence_texts", coherence.size());
  return metrics;
}

}  // namespace quire
