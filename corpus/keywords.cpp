#include "corpus/keywords.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <unordered_map>

#include "corpus/characters.h"
#include "corpus/sentences.h"
#include "corpus/words.h"

namespace quire {
namespace {

using namespace characters;
using Words = std::vector<std::u32string>;

// How a word is written where it stands.
enum class Tag {
  plain,
  capitalised,  // but not as the first word of a sentence
  acronym,      // all in capitals, "I" too
  number,
  odd,  // letters and digits mixed, neither of them, or with several signs
};

bool in_keyword(Tag tag) {
  return tag != Tag::number && tag != Tag::odd;
}

bool is_sign(char32_t c) {
  return c > ' ' && c < 127 && !is(c, letter | decimal);
}

Tag tag_of(const std::u32string& word, bool first) {
  const auto count = [&](auto property) {
    return std::count_if(word.begin(), word.end(), property);
  };
  // "1,024.5": digits, any commas, at most one dot.
  const auto digits = count([](char32_t c) { return is(c, digit); });
  const auto commas = count([](char32_t c) { return c == ','; });
  const auto dots = count([](char32_t c) { return c == '.'; });
  if (digits > 0 && dots <= 1 && digits + commas + dots == std::ssize(word)) return Tag::number;
  const bool letters = count([](char32_t c) { return is(c, letter); }) > 0;
  if (letters == (digits > 0) || count(is_sign) > 1) return Tag::odd;
  const auto capitals = count([](char32_t c) { return is(c, capital); });
  if (capitals > 0 && count([](char32_t c) { return is(c, small | title); }) == 0) {
    return Tag::acronym;
  }
  if (word.size() > 1 && is(word[0], capital) && capitals == 1 && !first) return Tag::capitalised;
  return Tag::plain;
}

// The sum and number of the edges at one side of a term.
struct Side {
  double neighbours = 0, weight = 0;
  double share() const { return weight == 0 ? 0 : neighbours / weight; }
};

// A word in lower case and without the s of a plural.
struct Term {
  bool stop = false;
  double count = 0, acronyms = 0, capitalised = 0;
  Side left, right;
  std::vector<int> sentences;  // that it stands in, each once
  double score = 0;
};

struct Candidate {
  std::u32string shown, lower;
  std::vector<int> terms;
  double count = 0;
  bool well_written = false;  // at least once
  double score = 0;
};

double median(const std::vector<int>& sorted) {
  const std::size_t middle = sorted.size() / 2;
  return sorted.size() % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2.0;
}

// The sum in the order in which NumPy adds: its last bits decide between keywords that score alike.
double sum_of(const double* values, std::size_t count) {
  if (count < 8) return std::accumulate(values, values + count, 0.0);
  if (count > 128) {
    const std::size_t half = count / 2 / 8 * 8;
    return sum_of(values, half) + sum_of(values + half, count - half);
  }
  double lane[8];
  std::copy_n(values, 8, lane);
  std::size_t i = 8;
  for (; i + 8 <= count; i += 8) {
    for (std::size_t j = 0; j < 8; ++j) lane[j] += values[i + j];
  }
  const double sum =
      ((lane[0] + lane[1]) + (lane[2] + lane[3])) + ((lane[4] + lane[5]) + (lane[6] + lane[7]));
  return std::accumulate(values + i, values + count, sum);
}

class Extraction {
 public:
  Extraction(const KeywordOptions& options, const StopWords& stop_words)
      : options_(options), stop_words_(stop_words) {}

  void add_sentence(const Words& words) {
    block_.clear();
    for (std::size_t i = 0; i < words.size(); ++i) {
      if (std::all_of(words[i].begin(), words[i].end(), is_sign)) {
        block_.clear();
      } else {
        add_word(words[i], tag_of(words[i], i == 0));
      }
    }
    ++sentences_;
  }

  std::vector<Keyword> keywords() {
    if (!score_terms()) return {};
    std::vector<const Candidate*> ranked;
    for (Candidate& candidate : candidates_) {
      if (!candidate.well_written || terms_[index(candidate.terms.front())].stop ||
          terms_[index(candidate.terms.back())].stop) {
        continue;
      }
      candidate.score = score_of(candidate);
      ranked.push_back(&candidate);
    }
    std::stable_sort(ranked.begin(), ranked.end(),
                     [](const Candidate* a, const Candidate* b) { return a->score < b->score; });

    std::vector<const Candidate*> taken;
    for (const Candidate* candidate : ranked) {
      if (std::ssize(taken) == options_.top) break;
      const bool similar = std::any_of(taken.begin(), taken.end(), [&](const Candidate* better) {
        return phrase_similarity(candidate->lower, better->lower) > options_.dedup;
      });
      if (!similar) taken.push_back(candidate);
    }
    std::vector<Keyword> result;
    for (const Candidate* candidate : taken) {
      result.push_back({to_utf8(candidate->shown), candidate->score});
    }
    return result;
  }

 private:
  struct Place {
    const std::u32string* word;
    int lower;  // index of the word in lower case
    int term;
    Tag tag;
  };

  static std::size_t index(int i) { return static_cast<std::size_t>(i); }

  void add_word(const std::u32string& word, Tag tag) {
    std::u32string lowered = to_lower(word);
    const auto [known, is_new] =
        lowered_.try_emplace(std::move(lowered), static_cast<int>(lowered_.size()));
    if (is_new) {
      words_.push_back(&known->first);
      term_of_.push_back(term_of(known->first));
    }
    const Place place{&word, known->second, term_of_[index(known->second)], tag};
    Term& term = terms_[index(place.term)];
    term.count += 1;
    term.acronyms += tag == Tag::acronym ? 1 : 0;
    term.capitalised += tag == Tag::capitalised ? 1 : 0;
    if (term.sentences.empty() || term.sentences.back() != sentences_) {
      term.sentences.push_back(sentences_);
    }
    if (in_keyword(tag)) {
      const std::size_t before = std::min(block_.size(), index(options_.window));
      for (std::size_t i = block_.size() - before; i < block_.size(); ++i) {
        if (in_keyword(block_[i].tag)) add_edge(block_[i].term, place.term);
      }
    }
    block_.push_back(place);
    add_candidates();
  }

  int term_of(const std::u32string& lowered) {
    std::u32string name = lowered;
    if (name.size() > 3 && name.back() == 's') name.pop_back();
    const auto [known, is_new] = term_names_.try_emplace(name, static_cast<int>(terms_.size()));
    if (is_new) {
      const auto signs = std::count_if(name.begin(), name.end(), is_sign);
      terms_.emplace_back().stop = stop_words_.contains(lowered) || stop_words_.contains(name) ||
                                   std::ssize(name) - signs < 3;
    }
    return known->second;
  }

  static std::uint64_t edge(int from, int to) {
    return static_cast<std::uint64_t>(from) << 32 | static_cast<std::uint32_t>(to);
  }

  void add_edge(int from, int to) {
    double& weight = edges_[edge(from, to)];
    Side& right = terms_[index(from)].right;
    Side& left = terms_[index(to)].left;
    if (weight == 0) {
      right.neighbours += 1;
      left.neighbours += 1;
    }
    weight += 1;
    right.weight += 1;
    left.weight += 1;
  }

  double weight_of(int from, int to) const {
    const auto found = edges_.find(edge(from, to));
    return found == edges_.end() ? 0 : found->second;
  }

  // The last words of the block, 1 up to as many as a keyword may have.
  void add_candidates() {
    std::u32string key;  // the words' indexes; any order will do as long as it is always the same
    bool well_written = true;
    const std::size_t longest = std::min(block_.size(), index(options_.ngram));
    for (std::size_t length = 1; length <= longest; ++length) {
      const std::size_t first = block_.size() - length;
      key += static_cast<char32_t>(block_[first].lower);
      well_written &= in_keyword(block_[first].tag);
      const auto [known, is_new] = candidate_of_.try_emplace(key, candidates_.size());
      if (is_new) {
        Candidate& candidate = candidates_.emplace_back();
        for (std::size_t i = first; i < block_.size(); ++i) {
          if (i > first) {
            candidate.shown += U' ';
            candidate.lower += U' ';
          }
          candidate.shown += *block_[i].word;
          candidate.lower += *words_[index(block_[i].lower)];
          candidate.terms.push_back(block_[i].term);
        }
      }
      Candidate& candidate = candidates_[known->second];
      candidate.count += 1;
      candidate.well_written |= well_written;
    }
  }

  // False where all are stop words.
  bool score_terms() {
    std::vector<double> counts;
    double most = 0;
    for (const Term& term : terms_) {
      most = std::max(most, term.count);
      if (!term.stop) counts.push_back(term.count);
    }
    if (counts.empty()) return false;
    const double size = static_cast<double>(counts.size());
    const double mean = std::accumulate(counts.begin(), counts.end(), 0.0) / size;
    for (double& count : counts) count = (count - mean) * (count - mean);
    const double usual = mean + std::sqrt(sum_of(counts.data(), counts.size()) / size);
    for (Term& term : terms_) {
      const double of_most = term.count / most;
      const double relatedness =
          (0.5 + term.left.share() * of_most) + (0.5 + term.right.share() * of_most);
      const double frequency = term.count / usual;
      const double spread = static_cast<double>(term.sentences.size()) / sentences_;
      const double casing = std::max(term.acronyms, term.capitalised) / (1 + std::log(term.count));
      const double position = std::log(std::log(3 + median(term.sentences)));
      term.score =
          (position * relatedness) / (casing + frequency / relatedness + spread / relatedness);
    }
    return true;
  }

  // A stop word inside a phrase counts by how sure it is to stand between its neighbours.
  double score_of(const Candidate& candidate) const {
    double sum = 0, product = 1;
    const std::vector<int>& terms = candidate.terms;
    for (std::size_t i = 0; i < terms.size(); ++i) {
      const Term& term = terms_[index(terms[i])];
      if (!term.stop) {
        sum += term.score;
        product *= term.score;
        continue;
      }
      const int before = terms[i - 1], after = terms[i + 1];
      const double sure = weight_of(before, terms[i]) / terms_[index(before)].count *
                          (weight_of(terms[i], after) / terms_[index(after)].count);
      product *= 1 + (1 - sure);
      sum -= 1 - sure;
    }
    const double score = product / ((sum + 1) * candidate.count);
    return std::isnan(score) ? std::numeric_limits<double>::infinity() : score;
  }

  const KeywordOptions& options_;
  const StopWords& stop_words_;
  std::unordered_map<std::u32string, int> lowered_, term_names_;
  std::vector<const std::u32string*> words_;  // in lower case; a map's keys stay where they are
  std::vector<int> term_of_;                  // of each of words_
  std::vector<Term> terms_;
  std::unordered_map<std::uint64_t, double> edges_;
  std::unordered_map<std::u32string, std::size_t> candidate_of_;
  std::vector<Candidate> candidates_;
  std::vector<Place> block_;  // the words since the last punctuation
  int sentences_ = 0;
};

// One line, as the sentences' rules want it.
std::u32string one_line(std::string_view text) {
  std::u32string line = from_utf8(text);
  std::replace_if(
      line.begin(), line.end(), [](char32_t c) { return c == '\n' || c == '\t'; }, U' ');
  const std::size_t first =
      static_cast<std::size_t>(std::find_if_not(line.begin(), line.end(), is_blank) - line.begin());
  // yake puts a space before a text that does not begin with a capital, and an empty line, which
  // makes no difference, before one that does.
  const bool capital = first < line.size() && line[first] >= 'A' && line[first] <= 'Z';
  return capital ? line : U' ' + line;
}

}  // namespace

std::vector<Keyword> extract_keywords(std::string_view text, const KeywordOptions& options,
                                      const StopWords& stop_words) {
  Extraction extraction(options, stop_words);
  std::vector<Words> sentences;  // the extraction points into them
  const std::u32string line = one_line(text);
  for (const std::u32string_view sentence : split_sentences(line)) {
    sentences.push_back(split_words(sentence));
  }
  for (const Words& words : sentences) extraction.add_sentence(words);
  return extraction.keywords();
}

}  // namespace quire
