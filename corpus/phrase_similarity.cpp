#include <algorithm>
#include <utility>
#include <vector>

#include "corpus/keywords.h"

namespace quire {
namespace {

using View = std::u32string_view;

// How many of two sets' elements are in both, of those in either.
// The vectors are sorted, without repetitions.
template <class T>
double shared_part(const std::vector<T>& a, const std::vector<T>& b) {
  std::size_t both = 0;
  for (auto i = a.begin(), j = b.begin(); i != a.end() && j != b.end();) {
    if (*i == *j)
      ++both, ++i, ++j;
    else if (*i < *j)
      ++i;
    else
      ++j;
  }
  const std::size_t either = a.size() + b.size() - both;
  return either == 0 ? 0 : static_cast<double>(both) / static_cast<double>(either);
}

template <class T>
std::vector<T> set_of(std::vector<T> values) {
  std::sort(values.begin(), values.end());
  values.erase(std::unique(values.begin(), values.end()), values.end());
  return values;
}

std::vector<char32_t> character_set(View text) {
  return set_of(std::vector<char32_t>(text.begin(), text.end()));
}

std::vector<View> word_set(View text) {
  std::vector<View> words;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find(U' '), text.size());
    if (end > 0) words.push_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return set_of(std::move(words));
}

std::vector<View> triple_set(View text) {
  std::vector<View> triples;
  for (std::size_t i = 0; i + 3 <= text.size(); ++i) triples.push_back(text.substr(i, 3));
  return set_of(std::move(triples));
}

std::ptrdiff_t count_spaces(View text) {
  return std::count(text.begin(), text.end(), U' ');
}

}  // namespace

double phrase_similarity(View a, View b) {
  if (a == b) return 1;
  if (a.empty() || b.empty()) return 0;
  const std::size_t longer = std::max(a.size(), b.size()), shorter = std::min(a.size(), b.size());
  const double m = static_cast<double>(longer), k = static_cast<double>(shorter);
  if (m - k > 0.6 * m) return 0;
  if (longer > 3) {
    if (a.front() != b.front() || a.back() != b.back()) return 0;
    if (shorter >= 3 && a[1] != b[1]) return 0;
  }
  if (std::abs(count_spaces(a) - count_spaces(b)) > 1) return 0;

  const double lengths = k / m;
  const double characters = shared_part(character_set(a), character_set(b));
  if (lengths < 0.3 || characters < 0.2) return 0;
  if (longer <= 4) return characters * lengths;
  if (count_spaces(a) > 0 || count_spaces(b) > 0) {
    const double words = shared_part(word_set(a), word_set(b));
    if (words > 0.4) return words;
  }
  const double triples = shared_part(triple_set(a), triple_set(b));
  return std::min(1.0, 0.3 * lengths + 0.2 * characters + 0.5 * triples);
}

}  // namespace quire
