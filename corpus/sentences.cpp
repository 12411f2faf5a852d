#include "corpus/sentences.h"

#include <algorithm>
#include <array>

#include "corpus/characters.h"

namespace quire {
namespace {

using namespace characters;
using View = std::u32string_view;

constexpr View kTerminals =
    U".!?\u203C\u203D\u2047\u2048\u2049\u3002\uFE52\uFE57\uFF01\uFF0E\uFF1F\uFF61";

// Those written with a capital stand so only; the others with a capital too.
constexpr auto kAbbreviations = std::to_array<View>(
    {U"approx", U"Capt", U"cf",  U"Col",      U"Dr",  U"f.e",  U"fe",  U"fig",      U"figs",
     U"Gen",    U"e.g",  U"eg",  U"i.e",      U"ie",  U"i.v",  U"iv",  U"Mag",      U"med",
     U"Mr",     U"Mrs",  U"Mt",  U"nat",      U"No",  U"nr",   U"p.e", U"phil",     U"prof",
     U"rer",    U"sci",  U"Sgt", U"Sr",       U"Sra", U"Srta", U"St",  U"univ",     U"vol",
     U"vs",     U"z.B",  U"Z.b", U"J\u00E4n", U"Jan", U"Ene",  U"Feb", U"M\u00E4r", U"Mar",
     U"Apr",    U"Abr",  U"May", U"Jun",      U"Jul", U"Aug",  U"Sep", U"Sept",     U"Oct",
     U"Okt",    U"Nov",  U"Dic", U"Dez",      U"Dec", U"E.U",  U"U.K", U"U.S"});

// An initial follows them. The first letter may be of either case.
constexpr auto kBeforeInitials =
    std::to_array<View>({U"By", U"Captain", U"Commander", U"Doctor", U"Doktor", U"General",
                         U"Mister", U"Miss", U"Magister", U"Magiss", U"Professor", U"Se\u00F1or",
                         U"Se\u00F1ora", U"Se\u00F1orit", U"Se\u00F1orita"});

// Hardly any sentence begins with one of these in lower case.
constexpr auto kContinuations = std::to_array<View>(
    {U"and", U"are", U"between", U"by", U"from", U"has", U"into", U"is", U"of", U"or", U"than",
     U"that", U"through", U"via", U"was", U"were", U"whether", U"with"});

// Below this length, in characters, brackets may hold what looks like two sentences.
constexpr std::size_t kShortSentence = 55;

bool is_initial(char32_t c) {
  return is(c, upper | title);
}

View without_trailing_space(View text) {
  while (!text.empty() && is(text.back(), space)) text.remove_suffix(1);
  return text;
}

// The end of the marker that begins with the terminal at `at`; `at` itself where there is none.
std::size_t marker_end(View text, std::size_t at) {
  std::size_t i = at + 1;
  if (i < text.size() && View(U"'\u2019\"\u201D").find(text[i]) != View::npos) ++i;
  while (i < text.size() && (text[i] == ']' || text[i] == ')')) ++i;
  const std::size_t spaces = i;
  while (i < text.size() && is(text[i], space)) ++i;
  return i == spaces ? at : i;
}

bool ends_in_word(View text, View word) {
  return text.ends_with(word) && is_boundary(text, text.size() - word.size());
}

// With a first letter, one of ASCII, of either case.
bool ends_in_word_of_any_case(View text, View word) {
  const std::size_t rest = word.size() - 1;
  if (text.size() <= rest || !text.ends_with(word.substr(1))) return false;
  const std::size_t first = text.size() - word.size();
  return (text[first] | 0x20) == (word[0] | 0x20) && is_boundary(text, first);
}

bool ends_in_abbreviation(View piece) {
  return std::any_of(kAbbreviations.begin(), kAbbreviations.end(), [&](View word) {
    // "z.B" becomes "Z.b", which the list has: all others have capitals nowhere else.
    const bool any_case = word[0] >= 'a' && word != U"z.B";
    return any_case ? ends_in_word_of_any_case(piece, word) : ends_in_word(piece, word);
  });
}

constexpr std::size_t kNone = View::npos;

// Where a lone capital, and a modifier letter it may have, begins that ends at `end`.
std::size_t capital_before(View text, std::size_t end) {
  if (end > 0 && is_initial(text[end - 1])) return end - 1;
  if (end > 1 && is(text[end - 1], modifier) && is_initial(text[end - 2])) return end - 2;
  return kNone;
}

// Whether a lone capital (or a comma, where asked for) stands right before `end`: "A, B and C".
bool follows_lone_capital(View text, std::size_t end, bool or_comma) {
  const auto fits = [&](std::size_t at) {
    return (is(text[at], upper) || (or_comma && text[at] == ',')) && is_boundary(text, at);
  };
  if (end > 0 && fits(end - 1)) return true;
  return end > 1 && is(text[end - 1], modifier) && fits(end - 2);
}

// Whether what stands before an initial makes it that of a name: a title,
// a list of authors, or a bracket.
bool expects_initial(View before) {
  if (before.ends_with(U'(') || before.ends_with(U'[')) return true;
  if (before.empty() || !is(before.back(), space)) return false;
  before.remove_suffix(1);
  for (const View word : kBeforeInitials) {
    if (ends_in_word_of_any_case(before, word)) return true;
  }
  const auto ends_in_comma = [](View text) {
    return text.ends_with(U',') && !follows_lone_capital(text, text.size() - 1, /*or_comma=*/false);
  };
  if (ends_in_comma(before)) return true;
  if (!before.ends_with(U"and") || before.size() < 4) return false;
  const std::size_t gap = before.size() - 4;
  if (!is(before[gap], space)) return false;
  return ends_in_comma(before.substr(0, gap)) ||
         !follows_lone_capital(before, gap, /*or_comma=*/true);
}

// "By A", "Captain A.-B", "Smith, A": the dot after it belongs to a name.
bool ends_in_initial_of_name(View piece) {
  const std::size_t one = capital_before(piece, piece.size());
  if (one == kNone) return false;
  if (expects_initial(piece.substr(0, one))) return true;
  std::size_t dot = one;
  if (dot > 0 && is_hyphen(piece[dot - 1])) --dot;
  if (dot == 0 || piece[dot - 1] != '.') return false;
  const std::size_t two = capital_before(piece, dot - 1);
  return two != kNone && expects_initial(piece.substr(0, two));
}

bool all_are(View text, std::uint16_t any_of) {
  return std::all_of(text.begin(), text.end(), [&](char32_t c) { return is(c, any_of); });
}

bool dot_belongs_to(View piece) {
  if (piece.size() == 1 && !is(piece[0], space)) return true;
  if (!piece.empty() && all_are(piece, decimal)) return true;
  return ends_in_abbreviation(piece) || ends_in_initial_of_name(piece);
}

// A single word in lower case, "gene-a1".
bool is_lone_word(View text) {
  if (text.empty() || !is(text[0], lower)) return false;
  return std::all_of(text.begin(), text.end(),
                     [](char32_t c) { return is(c, lower | decimal) || is_hyphen(c); });
}

bool ends_in_day(View text) {
  if (text.empty() || text.back() < '0' || text.back() > '9') return false;
  const std::size_t last = text.size() - 1;
  if (is_boundary(text, last)) return true;
  return last > 0 && text[last - 1] >= '0' && text[last - 1] <= '3' && is_boundary(text, last - 1);
}

bool begins_with_month(View text) {
  if (text.empty()) return false;
  if (text[0] >= '1' && text[0] <= '9') return true;
  if (text[0] == '0') return text.size() > 1 && text[1] >= '1' && text[1] <= '9';
  static constexpr auto kMonths = std::to_array<View>(
      {U"Jan", U"J\u00E4n", U"Ene", U"Feb", U"Mar", U"M\u00E4r", U"Apr", U"Abr", U"May", U"Jun",
       U"Jul", U"Aug",      U"Sep", U"Oct", U"Okt", U"Nov",      U"Dec", U"Dez", U"Dic", U"Diz"});
  return std::any_of(kMonths.begin(), kMonths.end(),
                     [&](View month) { return text.starts_with(month); });
}

// "Anna B": a capitalised word, what is between words, and a capital.
bool ends_in_middle_initial(View text) {
  if (text.empty() || !is(text.back(), upper)) return false;
  std::size_t at = text.size() - 1;
  const std::size_t gap = at;
  while (at > 0 && !is(text[at - 1], in_word)) --at;
  if (at == gap) return false;
  const std::size_t end = at;
  while (at > 0 && is(text[at - 1], lower)) --at;
  return at < end && at > 0 && is(text[at - 1], upper) && is_boundary(text, at - 1);
}

bool begins_with_capitalised_word(View text) {
  if (text.empty() || !is(text[0], upper)) return false;
  std::size_t at = 1;
  while (at < text.size() && is(text[at], lower)) ++at;
  return at > 1 && is_boundary(text, at);
}

// Whether the sentence goes on at a marker that stands between two pieces of text.
bool goes_on(View piece, char32_t marker, View next) {
  if (!piece.empty() && is_blank(piece.back())) return true;
  if (marker != '.') return false;
  if (dot_belongs_to(piece)) return true;
  return is_lone_word(next) || (ends_in_day(piece) && begins_with_month(next)) ||
         (ends_in_middle_initial(piece) && begins_with_capitalised_word(next));
}

// ." or .) or spp. or a short abbreviation, and white space.
bool lower_case_may_follow(View text) {
  const View end = without_trailing_space(text);
  if (end.size() == text.size() || end.empty()) return false;
  View inside = end;
  while (!inside.empty() && (inside.back() == ']' || inside.back() == ')')) inside.remove_suffix(1);
  if (inside.size() < end.size() && !inside.empty() && is_sentence_terminal(inside.back())) {
    return true;
  }
  if (inside.size() > 1 && inside.back() == '"' &&
      is_sentence_terminal(inside[inside.size() - 2])) {
    return true;
  }
  if (end.back() != '.') return false;
  const View word = end.substr(0, end.size() - 1);
  if (ends_in_word(word, U"spp")) return true;
  const std::size_t size = word.size();
  if (size > 0 && is(word[size - 1], letter) && is_boundary(word, size - 1)) return true;
  return size > 1 && is(word[size - 1], lower) && is(word[size - 2], letter) &&
         is_boundary(word, size - 2);
}

bool begins_with_lower_word(View text) {
  std::size_t at = 0;
  while (at < text.size() && is(text[at], lower)) ++at;
  return at > 0 && is_boundary(text, at);
}

struct Brackets {
  char32_t open, close;
};
constexpr Brackets kRound = {'(', ')'}, kSquare = {'[', ']'};

// How deep a text is inside of brackets, counted from the first that opens. It is kept while
// sentences are joined: counting again each time takes minutes for a megabyte of "a. and a. and …".
class Nesting {
 public:
  explicit Nesting(Brackets kind) : kind_(kind) {}
  void add(View text) {
    for (const char32_t c : text) {
      if (c == kind_.open) {
        ++depth_;
        begun_ = true;
      } else if (c == kind_.close && begun_) {
        --depth_;
      }
    }
  }
  Brackets kind() const { return kind_; }
  bool open() const { return depth_ > 0; }

 private:
  Brackets kind_;
  std::ptrdiff_t depth_ = 0;
  bool begun_ = false;
};

bool closes_unopened(View text, Brackets kind) {
  const std::size_t last = text.rfind(kind.close);
  if (last == View::npos) return false;
  const View to = text.substr(0, last + 1);
  return std::count(to.begin(), to.end(), kind.close) > std::count(to.begin(), to.end(), kind.open);
}

// "Proc. " and then "Natl. ": parts of one long abbreviation, such as the name of a journal.
bool ends_in_capitalised_dot(View text) {
  View end = without_trailing_space(text);
  if (end.size() == text.size() || !end.ends_with(U'.')) return false;
  end.remove_suffix(1);
  std::size_t at = end.size();
  while (at > 0 && is(end[at - 1], letter)) --at;
  return at < end.size() && is_initial(end[at]) && is_boundary(end, at);
}

bool begins_with_capitalised_point(View text) {
  const auto point_and_space = [&](std::size_t at) {
    return at + 1 < text.size() && (text[at] == '.' || text[at] == ',' || text[at] == ':') &&
           is(text[at + 1], space);
  };
  const auto run = [&](std::size_t at, std::uint16_t any_of) {
    while (at < text.size() && is(text[at], any_of)) ++at;
    return at;
  };
  const std::size_t digits = run(0, decimal);
  if (digits > 0 && point_and_space(digits)) return true;
  std::size_t at = 0;
  const bool year = text.size() > 6 && text[0] == '(' && all_are(text.substr(1, 4), decimal) &&
                    text[5] == ')' && is(text[6], space);
  if (year) at = 7;
  return at < text.size() && is_initial(text[at]) && point_and_space(run(at, letter));
}

bool joined_by(const Nesting& nesting, View before, View next) {
  if (before.size() >= kShortSentence && next.size() >= kShortSentence) return false;
  return nesting.open() &&
         (closes_unopened(next, nesting.kind()) || before.ends_with(U" et al. ") ||
          (ends_in_capitalised_dot(before) && begins_with_capitalised_point(next)));
}

bool begins_with_continuation(View text) {
  return std::any_of(kContinuations.begin(), kContinuations.end(), [&](View word) {
    return text.starts_with(word) && is_boundary(text, word.size());
  });
}

// The sentence so far, and whether the next one belongs to it.
class Sentence {
 public:
  explicit Sentence(View text) : text_(text) {
    round_.add(text);
    square_.add(text);
  }
  bool continued_by(View next) const {
    return begins_with_continuation(next) ||
           (begins_with_lower_word(next) && lower_case_may_follow(text_)) ||
           joined_by(round_, text_, next) || joined_by(square_, text_, next);
  }
  /// `next` comes right behind in memory.
  void join(View next) {
    text_ = View(text_.data(), text_.size() + next.size());
    round_.add(next);
    square_.add(next);
  }
  View text() const { return text_; }

 private:
  View text_;
  Nesting round_{kRound}, square_{kSquare};
};

}  // namespace

bool is_sentence_terminal(char32_t code) {
  return kTerminals.find(code) != View::npos;
}

bool is_hyphen(char32_t code) {
  constexpr View kHyphens = U"-\u00AD\u058A\u05BE\u0F0C\u1400\u1806\u2010\u2011\u2012\u2E17\u30A0";
  return kHyphens.find(code) != View::npos;
}

std::u32string line_of(std::string_view text) {
  std::u32string line = from_utf8(text);
  std::ranges::replace_if(
      line, [](char32_t c) { return c == '\n' || c == '\t'; }, U' ');
  return line;
}

std::vector<View> split_sentences(View text) {
  struct Marker {
    std::size_t begin, end;
  };
  std::vector<Marker> markers;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = is_sentence_terminal(text[at]) ? marker_end(text, at) : at;
    if (end > at) markers.push_back({at, end});
    at = end > at ? end : at + 1;
  }

  std::vector<Sentence> found;
  const auto add = [&](std::size_t begin, std::size_t end) {
    const View next = text.substr(begin, end - begin);
    if (!found.empty() && found.back().continued_by(next)) {
      found.back().join(next);
    } else {
      found.emplace_back(next);
    }
  };
  std::size_t begin = 0, piece = 0;
  for (std::size_t m = 0; m < markers.size(); ++m) {
    const auto [at, end] = markers[m];
    const std::size_t next_end = m + 1 < markers.size() ? markers[m + 1].begin : text.size();
    if (!goes_on(text.substr(piece, at - piece), text[at], text.substr(end, next_end - end))) {
      add(begin, end);
      begin = end;
    }
    piece = end;
  }
  add(begin, text.size());

  std::vector<View> sentences;
  for (const Sentence& sentence : found) {
    const View stripped = trimmed(sentence.text());
    if (!stripped.empty()) sentences.push_back(stripped);
  }
  return sentences;
}

}  // namespace quire
