#include "corpus/metrics.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <deque>
#include <numeric>
#include <set>
#include <unordered_set>

#include "corpus/characters.h"
#include "corpus/sentences.h"
#include "corpus/words.h"

namespace quire {
namespace {

using namespace characters;
using Ngram = std::u32string_view;  // of TokenNumbers

// Calls take(n-gram) for each, in order.
template <class Take>
void for_each_ngram(const TokenNumbers& text, std::size_t n, Take take) {
  for (std::size_t at = 0; at + n <= text.size(); ++at) take(Ngram(text).substr(at, n));
}

std::size_t ngram_count(const TokenNumbers& text, std::size_t n) {
  return text.size() < n ? 0 : text.size() - n + 1;
}

double ratio(std::size_t part, std::size_t whole) {
  return whole == 0 ? 0 : static_cast<double>(part) / static_cast<double>(whole);
}

// How often an n-gram stands in the text that has it most often, and in the next one.
struct Most {
  std::size_t text = 0, count = 0, next_count = 0;

  void add(std::size_t of_text, std::size_t its_count) {
    if (its_count > count) {
      next_count = count;
      count = its_count;
      text = of_text;
    } else {
      next_count = std::max(next_count, its_count);
    }
  }
  std::size_t beside(std::size_t of_text) const { return of_text == text ? next_count : count; }
};

using Counts = std::unordered_map<Ngram, std::size_t>;

Counts counts_of(const TokenNumbers& text, std::size_t n) {
  Counts counts;
  for_each_ngram(text, n, [&](Ngram ngram) { ++counts[ngram]; });
  return counts;
}

// The length nearest to `length` among all but one text of that length; the shorter one on a tie.
std::size_t nearest_length(const std::vector<std::size_t>& sorted, std::size_t length) {
  const auto own = std::lower_bound(sorted.begin(), sorted.end(), length);
  const auto next = own + 1;
  if (own == sorted.begin()) return *next;
  const std::size_t shorter = *(own - 1);
  if (next == sorted.end()) return shorter;
  return *next - length < length - shorter ? *next : shorter;
}

std::set<std::u32string> content_words(std::u32string_view sentence, const StopWords& stop_words) {
  std::set<std::u32string> words;
  std::deque<std::u32string> made;
  for (const std::u32string_view word : split_words(sentence, made)) {
    std::u32string lowered = to_lower(word);
    const bool letters =
        std::any_of(lowered.begin(), lowered.end(), [](char32_t c) { return is(c, letter); });
    if (letters && !stop_words.contains(lowered)) words.insert(std::move(lowered));
  }
  return words;
}

}  // namespace

TokenNumbers TokenReader::read(std::string_view text) {
  const std::u32string wide = from_utf8(text);
  TokenNumbers numbers;
  for (auto at = wide.begin(); at != wide.end();) {
    at = std::find_if_not(at, wide.end(), is_blank);
    const auto end = std::find_if(at, wide.end(), is_blank);
    if (at == end) break;
    const auto next = static_cast<char32_t>(numbers_.size());
    numbers += numbers_.try_emplace(std::u32string(at, end), next).first->second;
    at = end;
  }
  return numbers;
}

double distinct_ngrams(const std::vector<TokenNumbers>& texts, std::size_t n) {
  std::unordered_set<Ngram> different;
  std::size_t all = 0;
  for (const TokenNumbers& text : texts) {
    all += ngram_count(text, n);
    for_each_ngram(text, n, [&](Ngram ngram) { different.insert(ngram); });
  }
  return ratio(different.size(), all);
}

std::vector<double> self_bleu(const std::vector<TokenNumbers>& texts) {
  constexpr std::size_t kLongest = 4;
  std::vector<double> scores(texts.size(), 0.0);
  if (texts.size() < 2) return scores;
  std::vector<std::array<std::size_t, kLongest + 1>> shared(texts.size());
  for (std::size_t n = 1; n <= kLongest; ++n) {
    std::unordered_map<Ngram, Most> most;
    for (std::size_t i = 0; i < texts.size(); ++i) {
      for (const auto& [ngram, count] : counts_of(texts[i], n)) most[ngram].add(i, count);
    }
    for (std::size_t i = 0; i < texts.size(); ++i) {
      shared[i][n] = 0;
      for (const auto& [ngram, count] : counts_of(texts[i], n)) {
        shared[i][n] += std::min(count, most[ngram].beside(i));
      }
    }
  }
  std::vector<std::size_t> lengths;
  lengths.reserve(texts.size());
  for (const TokenNumbers& text : texts) lengths.push_back(text.size());
  std::sort(lengths.begin(), lengths.end());
  for (std::size_t i = 0; i < texts.size(); ++i) {
    if (shared[i][1] == 0) continue;
    double sum = 0;
    for (std::size_t n = 1; n <= kLongest; ++n) {
      const double hits = shared[i][n] > 0 ? static_cast<double>(shared[i][n]) : 0.1;
      const std::size_t all = std::max<std::size_t>(1, ngram_count(texts[i], n));
      sum += 0.25 * std::log(hits / static_cast<double>(all));
    }
    const std::size_t length = texts[i].size(), reference = nearest_length(lengths, length);
    const double brevity = length > reference ? 1 : std::exp(1 - ratio(reference, length));
    scores[i] = brevity * std::exp(sum);
  }
  return scores;
}

double repeated_ngrams(const std::vector<TokenNumbers>& texts, std::size_t n) {
  std::vector<double> shares;
  for (const TokenNumbers& text : texts) {
    const std::size_t all = ngram_count(text, n);
    shares.push_back(all == 0 ? 0 : 1 - ratio(counts_of(text, n).size(), all));
  }
  return mean_of(shares);
}

double repeated_tokens(const std::vector<TokenNumbers>& texts, std::size_t window) {
  std::vector<double> shares;
  for (const TokenNumbers& text : texts) {
    std::unordered_map<char32_t, std::size_t> last;  // where each token stood last
    std::size_t repeated = 0;
    for (std::size_t at = 0; at < text.size(); ++at) {
      const auto [seen, is_new] = last.try_emplace(text[at], at);
      if (!is_new && at - seen->second <= window) ++repeated;
      seen->second = at;
    }
    shares.push_back(text.size() < 2 ? 0 : ratio(repeated, text.size() - 1));
  }
  return mean_of(shares);
}

std::size_t longest_run(const std::vector<TokenNumbers>& texts) {
  std::size_t longest = 0;
  for (const TokenNumbers& text : texts) {
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t end = std::min(text.find_first_not_of(text[at], at), text.size());
      longest = std::max(longest, end - at);
      at = end;
    }
  }
  return longest;
}

double copied_share(const std::vector<TokenNumbers>& texts,
                    const std::vector<TokenNumbers>& training, std::size_t n) {
  // The texts' own n-grams are kept, as the training texts may be large.
  std::unordered_map<Ngram, bool> found;
  for (const TokenNumbers& text : texts) {
    for_each_ngram(text, n, [&](Ngram ngram) { found.emplace(ngram, false); });
  }
  for (const TokenNumbers& text : training) {
    for_each_ngram(text, n, [&](Ngram ngram) {
      if (const auto own = found.find(ngram); own != found.end()) own->second = true;
    });
  }
  std::size_t copied = 0, all = 0;
  for (const TokenNumbers& text : texts) {
    all += text.size();
    std::size_t counted = 0;  // tokens before here are
    for (std::size_t at = 0; at + n <= text.size(); ++at) {
      if (!found[Ngram(text).substr(at, n)]) continue;
      copied += at + n - std::max(counted, at);
      counted = at + n;
    }
  }
  return ratio(copied, all);
}

double keyword_coverage(std::string_view text, const std::vector<std::string>& keywords) {
  if (keywords.empty()) return 1;
  const std::u32string lowered = to_lower(from_utf8(text));
  const auto in_word_at = [&](std::size_t at) {
    return at < lowered.size() && is(lowered[at], in_word);
  };
  std::size_t found = 0;
  for (const std::string& keyword : keywords) {
    const std::u32string wide = to_lower(from_utf8(keyword));
    const std::u32string_view wanted = trimmed(wide);
    if (wanted.empty()) continue;
    for (std::size_t at = 0; (at = lowered.find(wanted, at)) != std::u32string::npos; ++at) {
      if ((at > 0 && in_word_at(at - 1)) || in_word_at(at + wanted.size())) continue;
      ++found;
      break;
    }
  }
  return ratio(found, keywords.size());
}

std::optional<double> local_coherence(std::string_view text, const StopWords& stop_words) {
  const std::u32string line = line_of(text);
  std::vector<std::set<std::u32string>> sentences;
  for (const std::u32string_view sentence : split_sentences(line)) {
    sentences.push_back(content_words(sentence, stop_words));
  }
  if (sentences.size() < 2) return std::nullopt;
  std::vector<double> shares;
  for (std::size_t i = 1; i < sentences.size(); ++i) {
    const auto &a = sentences[i - 1], &b = sentences[i];
    const auto both =
        std::count_if(a.begin(), a.end(), [&](const auto& word) { return b.contains(word); });
    const double sizes = static_cast<double>(a.size()) * static_cast<double>(b.size());
    shares.push_back(sizes == 0 ? 0 : static_cast<double>(both) / std::sqrt(sizes));
  }
  return mean_of(shares);
}

double mean_of(const std::vector<double>& values) {
  if (values.empty()) return 0;
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

}  // namespace quire
