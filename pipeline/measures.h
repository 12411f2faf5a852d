// What texts are like, in numbers with names.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "corpus/samples.h"
#include "pipeline/completions.h"
#include "pipeline/scoring.h"

namespace quire {

struct Metric {
  std::string name;    ///< "distinct_2", the key in JSON and CSV
  double value = 0;    ///< NaN where there is nothing to measure
  bool count = false;  ///< a whole number of things, not a measure
};

/// Metrics of corpus/metrics.h over all texts together, in this order:
///
///   texts, empty_texts, tokens           counts; a token is a word as white space cuts it
///   distinct_1, distinct_2, distinct_3   different n-grams / all n-grams
///   self_bleu4                           mean BLEU-4 of each text against the others
///   seq_rep_4                            mean share of 4-grams that the text had before
///   rep_16                               mean share of tokens among the 16 before them
///   longest_run                          a count
///   copied_share                         with training texts: tokens in n-grams these have too
///   keyword_coverage                     where keywords are given: mean over the texts with any
///   coherence                            mean over the texts of two sentences or more
///   coherence_texts                      a count: how many those are
///
/// `training` is null where there is none; `copied_ngram` is the n of copied_share.
std::vector<Metric> measure_texts(const std::vector<Sample>& samples,
                                  const std::vector<std::string>* training,
                                  std::size_t copied_ngram);

/// loss, perplexity, tokens, scored, bits_per_byte, window, stride
std::vector<Metric> metrics_of(const Scored& scored);
/// records, exact_match, among_top_K for K = top
std::vector<Metric> metrics_of(const CompletionScores& scores, int top);

}  // namespace quire
