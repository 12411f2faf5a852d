#include "corpus/keywords.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <limits>
#include <memory_resource>
#include <numeric>
#include <unordered_map>

#include "corpus/characters.h"
#include "corpus/sentences.h"
#include "corpus/words.h"

namespace quire {
namespace {

using namespace characters;
using View = std::u32string_view;

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

Tag tag_of(View word, bool first) {
  std::size_t digits = 0, commas = 0, dots = 0, letters = 0, signs = 0, capitals = 0,
              not_capitals = 0;
  for (const char32_t c : word) {
    const std::uint16_t bits = traits(c);
    digits += (bits & digit) != 0;
    letters += (bits & letter) != 0;
    capitals += (bits & capital) != 0;
    not_capitals += (bits & (small | title)) != 0;
    signs += is_sign(c);
    commas += c == ',';
    dots += c == '.';
  }
  // "1,024.5": digits, any commas, at most one dot.
  if (digits > 0 && dots <= 1 && digits + commas + dots == word.size()) return Tag::number;
  if ((letters > 0) == (digits > 0) || signs > 1) return Tag::odd;
  if (capitals > 0 && not_capitals == 0) return Tag::acronym;
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
  explicit Term(std::pmr::memory_resource* memory) : sentences(memory) {}
  bool stop = false;
  double count = 0, acronyms = 0, capitalised = 0;
  Side left, right;
  std::pmr::vector<int> sentences;  // that it stands in, each once
  double score = 0;
};

// A word where it stands.
struct Place {
  View word;
  View lower;
  std::uint32_t lower_id;
  std::uint32_t term;
  Tag tag;
};

struct Candidate {
  std::size_t first, length;  // of the places where it stands first
  double count = 0;
  bool well_written = false;  // at least once
  double score = 0;
};

using Ids = std::pmr::unordered_map<std::pmr::u32string, std::uint32_t, TextHash, std::equal_to<>>;

// Two numbers as a key.
std::uint64_t pair_of(std::uint32_t a, std::uint32_t b) {
  return std::uint64_t{a} << 32 | b;
}

double median(const std::pmr::vector<int>& sorted) {
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

  /// `words` stay where they are.
  void add_sentence(const std::vector<View>& words) {
    block_ = places_.size();
    for (std::size_t i = 0; i < words.size(); ++i) {
      if (std::all_of(words[i].begin(), words[i].end(), is_sign)) {
        block_ = places_.size();
      } else {
        add_word(words[i], tag_of(words[i], i == 0));
      }
    }
    ++sentences_;
  }

  std::vector<Keyword> keywords() {
    if (!score_terms()) return {};
    std::pmr::vector<const Candidate*> ranked(&memory_);
    for (Candidate& candidate : candidates_) {
      const Place* first = &places_[candidate.first];
      if (!candidate.well_written || term(first[0]).stop ||
          term(first[candidate.length - 1]).stop) {
        continue;
      }
      candidate.score = score_of(candidate);
      ranked.push_back(&candidate);
    }
    std::stable_sort(ranked.begin(), ranked.end(),
                     [](const Candidate* a, const Candidate* b) { return a->score < b->score; });

    std::vector<Keyword> result;
    std::vector<std::u32string> taken;  // in lower case
    for (const Candidate* candidate : ranked) {
      if (std::ssize(taken) == options_.top) break;
      std::u32string lower = text_of(*candidate, &Place::lower);
      const bool similar =
          std::any_of(taken.begin(), taken.end(), [&](const std::u32string& better) {
            return phrase_similarity(lower, better) > options_.dedup;
          });
      if (similar) continue;
      // yake writes a keyword as it stands in the text, and in lower case
      // where nothing is left out.
      const bool as_written = options_.dedup < 1;
      result.push_back(
          {to_utf8(as_written ? text_of(*candidate, &Place::word) : lower), candidate->score});
      taken.push_back(std::move(lower));
    }
    return result;
  }

 private:
  Term& term(const Place& place) { return terms_[place.term]; }
  const Term& term(const Place& place) const { return terms_[place.term]; }

  std::u32string text_of(const Candidate& candidate, View Place::*form) const {
    std::u32string text;
    for (std::size_t i = 0; i < candidate.length; ++i) {
      if (i > 0) text += U' ';
      text += places_[candidate.first + i].*form;
    }
    return text;
  }

  void add_word(View word, Tag tag) {
    to_lower(word, scratch_);
    auto known = words_.find(View(scratch_));
    if (known == words_.end()) {
      known = words_.emplace(scratch_, words_.size()).first;
      term_of_.push_back(term_of(known->first));
    }
    const Place place{word, known->first, known->second, term_of_[known->second], tag};
    Term& its_term = term(place);
    its_term.count += 1;
    its_term.acronyms += tag == Tag::acronym ? 1 : 0;
    its_term.capitalised += tag == Tag::capitalised ? 1 : 0;
    if (its_term.sentences.empty() || its_term.sentences.back() != sentences_) {
      its_term.sentences.push_back(sentences_);
    }
    if (in_keyword(tag)) {
      const std::size_t before =
          std::min(places_.size() - block_, static_cast<std::size_t>(options_.window));
      for (std::size_t i = places_.size() - before; i < places_.size(); ++i) {
        if (in_keyword(places_[i].tag)) add_edge(places_[i].term, place.term);
      }
    }
    places_.push_back(place);
    add_candidates();
  }

  std::uint32_t term_of(View lowered) {
    View name = lowered;
    if (name.size() > 3 && name.back() == 's') name.remove_suffix(1);
    const auto known = term_names_.find(name);
    if (known != term_names_.end()) return known->second;
    const auto id = static_cast<std::uint32_t>(terms_.size());
    term_names_.emplace(name, id);
    const auto signs = std::count_if(name.begin(), name.end(), is_sign);
    terms_.emplace_back(&memory_).stop =
        stop_words_.contains(lowered) || stop_words_.contains(name) || std::ssize(name) - signs < 3;
    return id;
  }

  void add_edge(std::uint32_t from, std::uint32_t to) {
    double& weight = edges_[pair_of(from, to)];
    Side& right = terms_[from].right;
    Side& left = terms_[to].left;
    if (weight == 0) {
      right.neighbours += 1;
      left.neighbours += 1;
    }
    weight += 1;
    right.weight += 1;
    left.weight += 1;
  }

  double weight_of(std::uint32_t from, std::uint32_t to) const {
    const auto found = edges_.find(pair_of(from, to));
    return found == edges_.end() ? 0 : found->second;
  }

  // The last words of the block, 1 up to as many as a keyword may have. A candidate is known by the
  // one without its first word, and that word.
  void add_candidates() {
    std::uint32_t id = UINT32_MAX;  // none
    bool well_written = true;
    const std::size_t longest =
        std::min(places_.size() - block_, static_cast<std::size_t>(options_.ngram));
    for (std::size_t length = 1; length <= longest; ++length) {
      const std::size_t first = places_.size() - length;
      well_written &= in_keyword(places_[first].tag);
      const auto [known, is_new] =
          candidate_of_.try_emplace(pair_of(id, places_[first].lower_id), candidates_.size());
      if (is_new) candidates_.push_back({.first = first, .length = length});
      id = known->second;
      Candidate& candidate = candidates_[id];
      candidate.count += 1;
      candidate.well_written |= well_written;
    }
  }

  // False where all are stop words.
  bool score_terms() {
    std::pmr::vector<double> counts(&memory_);
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
    const Place* places = &places_[candidate.first];
    for (std::size_t i = 0; i < candidate.length; ++i) {
      const Term& its_term = term(places[i]);
      if (!its_term.stop) {
        sum += its_term.score;
        product *= its_term.score;
        continue;
      }
      const Place &before = places[i - 1], &after = places[i + 1];
      const double sure = weight_of(before.term, places[i].term) / term(before).count *
                          (weight_of(places[i].term, after.term) / term(after).count);
      product *= 1 + (1 - sure);
      sum -= 1 - sure;
    }
    const double score = product / ((sum + 1) * candidate.count);
    return std::isnan(score) ? std::numeric_limits<double>::infinity() : score;
  }

  const KeywordOptions& options_;
  const StopWords& stop_words_;
  // Thousands of small things for a text, all gone with it: calls of malloc took half of the time.
  std::array<std::byte, 1 << 15> first_memory_;
  std::pmr::monotonic_buffer_resource memory_{first_memory_.data(), first_memory_.size()};
  Ids words_{&memory_}, term_names_{&memory_};  // in lower case
  std::u32string scratch_;
  std::pmr::vector<std::uint32_t> term_of_{&memory_};  // of each of words_
  std::pmr::vector<Term> terms_{&memory_};
  std::pmr::unordered_map<std::uint64_t, double> edges_{&memory_};
  std::pmr::unordered_map<std::uint64_t, std::uint32_t> candidate_of_{&memory_};
  std::pmr::vector<Candidate> candidates_{&memory_};
  std::pmr::vector<Place> places_{&memory_};
  std::size_t block_ = 0;  // the first place since the last punctuation
  int sentences_ = 0;
};

// One line, as the sentences' rules want it.
std::u32string one_line(std::string_view text) {
  const std::u32string line = line_of(text);
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
  std::deque<std::u32string> made;
  const std::u32string line = one_line(text);
  for (const View sentence : split_sentences(line)) {
    extraction.add_sentence(split_words(sentence, made));
  }
  return extraction.keywords();
}

}  // namespace quire
