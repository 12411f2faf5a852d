// Keywords of a single text by YAKE: no training, no dictionary but a list of stop words.
//
// A word is the better a keyword the more often it stands in the text, the earlier, in the more
// sentences, the more often in capitals, and the fewer different words stand beside it (words that
// go with everything say little). Phrases of up to n words are scored by their words' scores. The
// method is that of Campos et al., "YAKE! Keyword extraction from single documents using multiple
// local features", Information Sciences 509 (2020); where the Python package yake 0.7.3 differs
// from the paper, this follows the package: keywords, scores and order are the same.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "corpus/stop_words.h"

namespace quire {

struct KeywordOptions {
  int top = 5;    ///< keywords at most
  int ngram = 3;  ///< words in a keyword at most
  /// At 1 none is left out, and all are in lower case, as yake has it.
  double dedup = 0.9;  ///< a keyword more similar than this to a better one is left out
  int window = 1;      ///< words before a word that count as its neighbours
};

struct Keyword {
  std::string text;  ///< as the text first has it
  double score;      ///< lower is better
};

/// The text's keywords, best first. What is not UTF-8 is read as U+FFFD.
std::vector<Keyword> extract_keywords(std::string_view text, const KeywordOptions& options,
                                      const StopWords& stop_words);

/// How alike two phrases in lower case are, from 0 to 1: what yake calls "seqm", which looks at
/// lengths, ends, words and triples of characters.
double phrase_similarity(std::u32string_view a, std::u32string_view b);

}  // namespace quire
