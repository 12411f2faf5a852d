#include "corpus/words.h"

#include <algorithm>
#include <array>

#include "corpus/characters.h"
#include "corpus/html_entities.h"
#include "corpus/sentences.h"

namespace quire {
namespace {

using namespace characters;
using View = std::u32string_view;
using Words = std::vector<View>;
using Made = std::deque<std::u32string>;

constexpr std::size_t kNone = View::npos;

bool one_of(char32_t c, View set) {
  return set.find(c) != View::npos;
}

// Apostrophes other than ASCII's.
bool is_apostrophe(char32_t c) {
  return one_of(c, U"\u00B4\u02B9\u02BC\u2019\u2032");
}
bool is_alnum(char32_t c) {
  return is(c, alnum);
}

// ---- Addresses ----

// A host's end: labels of letters, digits and hyphens with dots between them, the last without
// hyphens. It takes all such characters that follow, or there is none.
std::size_t host_end(View text, std::size_t begin) {
  std::size_t end = begin;
  while (end < text.size() && (is(text[end], in_word) || text[end] == '-' || text[end] == '.'))
    ++end;
  const View host = text.substr(begin, end - begin);
  const std::size_t dot = host.rfind(U'.');
  if (dot == kNone || dot == 0 || dot + 1 == host.size() || host[0] == '.') return kNone;
  if (host.find(U"..") != kNone || host.find(U'-', dot) != kNone) return kNone;
  return end;
}

bool ends_address(View text, std::size_t at) {
  return at == text.size() || one_of(text[at], U">\"')]}") || is(text[at], space);
}

// Port, path, query and fragment behind a host; the address must end there.
std::size_t address_end(View text, std::size_t at) {
  if (at == kNone) return kNone;
  const auto pass = [&](char32_t sign, View stops, bool may_be_empty) {
    if (at == text.size() || text[at] != sign) return;
    std::size_t end = at + 1;
    while (end < text.size() && !ends_address(text, end) && !one_of(text[end], stops)) ++end;
    if (end > at + 1 || may_be_empty) at = end;
  };
  if (at < text.size() && text[at] == ':') {
    std::size_t digits = at + 1;
    while (digits < text.size() && is(text[digits], decimal)) ++digits;
    if (digits > at + 1) at = digits;
  }
  pass(U'/', U"?#", /*may_be_empty=*/true);
  pass(U'?', U"#", /*may_be_empty=*/false);
  pass(U'#', U"", /*may_be_empty=*/false);
  return ends_address(text, at) ? at : kNone;
}

bool begins_address(View text, std::size_t at) {
  return at == 0 || one_of(text[at - 1], U"<\"'([{") || is(text[at - 1], space);
}
// A through z has some signs between its letters; the rule of segtok has them too.
bool is_scheme(char32_t c) {
  return c >= 'A' && c <= 'z';
}
bool is_mailbox(char32_t c) {
  return is(c, in_word) || one_of(c, U".#$%&'*+/=!?^`{|}~-");
}

// Finds addresses from place to place. A run of characters that an address may begin with is looked
// at once: it can have as many beginnings as characters ("[[[[…").
class Addresses {
 public:
  explicit Addresses(View text) : text_(text) {}

  // The end of an address that begins at `at`, or kNone. Places must not go back.
  std::size_t end_at(std::size_t at) {
    if (!begins_address(text_, at)) return kNone;
    if (is_scheme(text_[at])) {
      if (at >= scheme_end_) {
        scheme_end_ = run(at, is_scheme);
        web_end_ = web_address_end(scheme_end_);
      }
      if (web_end_ != kNone) return web_end_;
    }
    if (!is_mailbox(text_[at])) return kNone;
    if (at >= mailbox_end_) {
      mailbox_end_ = run(at, is_mailbox);
      mail_end_ = mail_address_end(mailbox_end_);
    }
    return mail_end_;
  }

 private:
  std::size_t run(std::size_t at, bool (*fits)(char32_t)) const {
    while (at < text_.size() && fits(text_[at])) ++at;
    return at;
  }

  // scheme://[user@]host… . The user may hold anything, white space too.
  std::size_t web_address_end(std::size_t at) {
    if (!text_.substr(at).starts_with(U"://")) return kNone;
    at += 3;
    if (user_end_ < at) {
      user_end_ = text_.find(U'@', at);
      with_user_ = user_end_ == kNone ? kNone : address_end(text_, host_end(text_, user_end_ + 1));
    }
    if (user_end_ > at && with_user_ != kNone) return with_user_;
    return address_end(text_, host_end(text_, at));
  }

  std::size_t mail_address_end(std::size_t at) const {
    if (at == text_.size() || text_[at] != '@') return kNone;
    const std::size_t end = host_end(text_, at + 1);
    return end != kNone && ends_address(text_, end) ? end : kNone;
  }

  View text_;
  std::size_t scheme_end_ = 0, web_end_ = kNone;
  std::size_t mailbox_end_ = 0, mail_end_ = kNone;
  std::size_t user_end_ = 0, with_user_ = kNone;
};

// ---- Words between white space ----

// "km²" or "m⁻¹" that takes all the rest: at most three letters, and a prefix such as k or µ before
// them. Length, or 0.
std::size_t unit_length(View rest) {
  View unit = rest;
  if (!one_of(unit.back(), U"\u00B9\u00B2\u00B3")) return 0;
  unit.remove_suffix(1);
  if (unit.ends_with(U'\u207B')) unit.remove_suffix(1);
  constexpr std::uint16_t kLetter = upper | title | lower | modifier;
  if (unit.empty() || unit.size() > 4) return 0;
  if (unit.size() == 4 && !one_of(unit[0], U"yzafpn\u00B5mcdhkMGTPEZY")) return 0;
  const bool letters =
      std::all_of(unit.begin(), unit.end(), [](char32_t c) { return is(c, kLetter); });
  return letters ? rest.size() : 0;
}

// "H₂", "Fe₂³⁺": an element, or a bracket, with the number of its atoms
// and its charge. Length, or 0.
std::size_t atoms_length(View rest) {
  const auto at = [&](std::size_t i) { return i < rest.size() ? rest[i] : U'\0'; };
  std::size_t i = 0;
  while (true) {
    if (at(i) >= 'A' && at(i) <= 'Z') {
      ++i;
      if (at(i) >= 'a' && at(i) <= 'z') ++i;
    } else if (at(i) == ')' || at(i) == ']') {
      ++i;
    } else {
      break;
    }
  }
  const std::size_t number = i;
  while (at(i) >= U'\u2080' && at(i) <= U'\u2089') ++i;
  if (number == 0 || i == number) return 0;
  const std::size_t charge = i + (at(i) == U'\u00B2' || at(i) == U'\u00B3' ? 1 : 0);
  return at(charge) == U'\u207A' || at(charge) == U'\u207B' ? charge + 1 : i;
}

// How much of `span` belongs to a word at `at`: a letter or number with what holds it to the next
// one. 0 where no word goes on. `ascii`: all of the span is.
std::size_t part_length(View span, std::size_t at, bool ascii) {
  const auto after = [&](std::size_t i) { return at + i < span.size() ? span[at + i] : U'\0'; };
  const char32_t c = span[at], next = after(1);
  if (is_alnum(c)) {
    if (next == '.' && !(after(2) == '.' && after(3) == '.')) return 2;
    if (next == ',' && is_alnum(after(2))) return 2;
    if (next == ':' && is(c, decimal | letter_number) && is(after(2), decimal | letter_number))
      return 2;
    if (is_apostrophe(next) && is_hyphen(after(2)) && is_alnum(after(3))) return 3;
    if (is_hyphen(next) && is_alnum(after(2))) return 2;
  }
  if (is_apostrophe(c) && !is_apostrophe(next)) return 1;
  if (next == '\'') {
    if (is_alnum(c) && is_alnum(after(2))) return 2;
    if (c == 's' && at + 2 == span.size()) return 2;
  }
  if (!ascii && is_boundary(span, at)) {
    if (const std::size_t length = unit_length(span.substr(at))) return length;
    if (const std::size_t length = atoms_length(span.substr(at))) return length;
  }
  return is_alnum(c) ? 1 : 0;
}

void split_span(View span, Words& words) {
  const bool ascii = std::all_of(span.begin(), span.end(), [](char32_t c) { return c < 128; });
  std::size_t between = 0;
  for (std::size_t at = 0; at < span.size();) {
    std::size_t end = at, length = 0;
    while (end < span.size() && (length = part_length(span, end, ascii)) > 0) end += length;
    if (end == at) {
      ++at;
      continue;
    }
    if (at > between) words.emplace_back(span.substr(between, at - between));
    words.emplace_back(span.substr(at, end - at));
    at = between = end;
  }
  if (span.size() > between) words.emplace_back(span.substr(between));
}

// A word whose hyphen is followed by a line end becomes whole. Text of one line has "\r" at most.
std::u32string without_hyphenated_line_ends(View text) {
  const auto is_line_end = [](char32_t c) { return c == '\r' || c == '\n' || c == U'\u2028'; };
  // Zs and the tab; White_Space also has the line ends, which stand for themselves here.
  const auto is_gap = [&](char32_t c) {
    return is(c, space) && !is_line_end(c) && c != '\v' && c != '\f' && c != U'\u0085' &&
           c != U'\u2029';
  };
  std::u32string result;
  std::size_t free = 0;  // what comes before has been taken by the match before
  for (std::size_t at = 0; at < text.size(); ++at) {
    result += text[at];
    if (!is_hyphen(text[at]) || at <= free || !is_alnum(text[at - 1])) continue;
    std::size_t next = at + 1;
    while (next < text.size() && is_gap(text[next])) ++next;
    if (next == text.size() || !is_line_end(text[next])) continue;
    next += text.substr(next).starts_with(U"\r\n") ? 2 : 1;
    while (next < text.size() && is_gap(text[next])) ++next;
    if (next == text.size() || !is_alnum(text[next])) continue;
    result += text[next];
    at = next;
    free = next + 1;
  }
  return result;
}

// The sentence's own terminal is no part of its last word. The words from `first` on are looked at.
void split_terminal(Words& words, std::size_t first) {
  const std::size_t stop = std::max(first + 3, words.size()) - 3;  // the last three, or all
  for (std::size_t index = words.size(); index-- > stop;) {
    const View word = words[index];
    const bool is_word = is_alnum(word[0]) && !is_apostrophe(word[0]);
    if (!is_word && std::none_of(word.begin(), word.end(), is_sentence_terminal)) continue;
    if (word.size() > 1 && word != U"...") {
      std::size_t cut = 0;
      if (is_sentence_terminal(word.back())) {
        cut = word.size() - 1;
      } else if (is_sentence_terminal(word[0])) {
        cut = 1;
      }
      if (cut > 0) {
        words[index] = word.substr(0, cut);
        words.insert(words.begin() + index + 1, word.substr(cut));
      }
    }
    return;
  }
}

// Commas and colons at a word's end become tokens. The words from `first` on are looked at.
void split_points(Words& words, std::size_t first) {
  for (std::size_t i = first; i < words.size(); ++i) {
    const View word = words[i];
    std::size_t end = word.size();
    while (end > 1 && one_of(word[end - 1], U",;:")) --end;
    if (end == word.size()) continue;
    words[i] = word.substr(0, end);
    words.insert(words.begin() + i + 1, word.size() - end, View());
    for (std::size_t at = end; at < word.size(); ++at) words[++i] = word.substr(at, 1);
  }
}

void add_words(View text, Words& words, Made& made) {
  if (text.find(U'&') != kNone) text = made.emplace_back(unescape_html(text));
  if (text.find_first_of(U"\r\n\u2028") != kNone) {
    text = made.emplace_back(without_hyphenated_line_ends(text));
  }
  const std::size_t first = words.size();
  for (std::size_t at = 0; at < text.size();) {
    std::size_t end = at;
    while (end < text.size() && !is(text[end], space)) ++end;
    if (end > at) split_span(text.substr(at, end - at), words);
    at = end + 1;
  }
  split_terminal(words, first);
  split_points(words, first);
}

// Whether letters and numbers, in parts with one hyphen between them, make up all of `word`.
bool is_hyphenated(View word) {
  bool after_alnum = false;
  for (const char32_t c : word) {
    if (!is_alnum(c) && !(after_alnum && is_hyphen(c))) return false;
    after_alnum = is_alnum(c);
  }
  return after_alnum;
}

bool is_any_apostrophe(char32_t c) {
  return c == '\'' || is_apostrophe(c);
}

bool is_contraction(View word) {
  static constexpr auto kEndings =
      std::to_array<View>({U"d", U"ll", U"m", U"re", U"s", U"t", U"ve"});
  return std::any_of(kEndings.begin(), kEndings.end(), [&](View ending) {
    if (word.size() < ending.size() + 2 || !word.ends_with(ending)) return false;
    const std::size_t at = word.size() - ending.size() - 1;
    return is_any_apostrophe(word[at]) && is_hyphenated(word.substr(0, at));
  });
}

// "she's" becomes "she" and "'s", "don't" becomes "do" and "n't". Two of the apostrophes are
// letters to Unicode, so a word may have more of them: each cuts
// the whole word, the last one first.
void split_contraction(View word, Words& words) {
  std::size_t at = word.size();
  for (std::size_t i = word.size(); i-- > 0;) {
    if (!is_any_apostrophe(word[i])) continue;
    const bool not_short =
        i + 2 == word.size() && word.back() == 't' && i > 0 && word[i - 1] == 'n';
    at = not_short && word.size() > 2 ? i - 1 : i;
    words.push_back(word.substr(0, at));
  }
  words.push_back(word.substr(at));
}

}  // namespace

Words split_words(View sentence, Made& made) {
  Words cut;
  cut.reserve(sentence.size() / 4 + 4);
  std::size_t done = 0;
  if (sentence.find(U'@') != kNone || sentence.find(U"://") != kNone) {
    Addresses addresses(sentence);
    for (std::size_t at = 0; at < sentence.size();) {
      const std::size_t end = addresses.end_at(at);
      if (end == kNone) {
        ++at;
        continue;
      }
      add_words(sentence.substr(done, at - done), cut, made);
      cut.emplace_back(sentence.substr(at, end - at));
      done = at = end;
    }
  }
  add_words(sentence.substr(done), cut, made);

  Words words;
  words.reserve(cut.size() + 4);
  for (const View word : cut) {
    if (is_contraction(word)) {
      split_contraction(word, words);
    } else {
      words.push_back(word);
    }
  }
  // The half "'s" says nothing. Written with a typographic apostrophe it stays, in segtok too.
  std::erase_if(words,
                [](View word) { return word.empty() || (word.size() > 1 && word[0] == '\''); });
  return words;
}

}  // namespace quire
