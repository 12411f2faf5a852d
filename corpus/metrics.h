// What can be said of generated texts without a model: how much they repeat themselves and each
// other, how much they copy, whether they say what they were asked to,
// and whether their sentences hold together.
//
// A text's tokens are its words as cut at Unicode white space, with case and punctuation kept, as
// Python's text.split() has them. An n-gram is n tokens in a row; none crosses texts.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "corpus/stop_words.h"

namespace quire {

/// A text's tokens as numbers, one for each different token of the texts that were read together.
using TokenNumbers = std::u32string;

/// Reads texts into numbers; texts of one reader can be compared.
class TokenReader {
 public:
  TokenNumbers read(std::string_view text);

 private:
  std::unordered_map<std::u32string, char32_t> numbers_;
};

/// Different n-grams / all n-grams, over all texts together; 0 without any.
double distinct_ngrams(const std::vector<TokenNumbers>& texts, std::size_t n);

/// For each text, BLEU-4 of it against all the others as references (Papineni et al. 2002; Zhu et
/// al. 2018): BP · exp(Σ ¼ ln p_n, n = 1…4), where p_n is the share of its n-grams that some other
/// text has as often, at least 0.1 / their number for n ≥ 2 (Chen and Cherry 2014, method 1), and
/// BP is 1, or exp(1 - r/c) for a text of c tokens not longer than the reference nearest in length,
/// of r tokens (the shorter one on a tie). 0 without a token in common.
/// High is bad: the texts are alike.
std::vector<double> self_bleu(const std::vector<TokenNumbers>& texts);

/// Mean over texts of 1 - different n-grams / all n-grams of the text; 0 for a text without any.
double repeated_ngrams(const std::vector<TokenNumbers>& texts, std::size_t n);

/// Mean over texts of the share of tokens, from the second on, that are among the `window` tokens
/// before them; 0 for a text of fewer than two (Welleck et al. 2020, rep/l).
double repeated_tokens(const std::vector<TokenNumbers>& texts, std::size_t window);

/// The longest run of one token in any text.
std::size_t longest_run(const std::vector<TokenNumbers>& texts);

/// The share of all texts' tokens that lie in an n-gram which a training text has too.
double copied_share(const std::vector<TokenNumbers>& texts,
                    const std::vector<TokenNumbers>& training, std::size_t n);

/// The share of the keywords that the text has, without regard to case, as whole words: neither the
/// character before nor the one behind belongs to a word. 1 without keywords.
double keyword_coverage(std::string_view text, const std::vector<std::string>& keywords);

/// How much neighbouring sentences have in common: the mean over the pairs of |A ∩ B| / √(|A| |B|),
/// A and B their sets of words in lower case, without stop words and what has no letter; 0 where
/// one is empty. Sentences and words are those of sentences.h and words.h.
/// Nothing for a text of one sentence.
std::optional<double> local_coherence(std::string_view text, const StopWords& stop_words);

/// The mean; 0 without values.
double mean_of(const std::vector<double>& values);

}  // namespace quire
