// Where English sentences end, by rules alone, as the Python package segtok sets them.
//
// A sentence may end at a marker: a terminal (. ! ? and their relatives), at most one closing
// quote, closing brackets, white space. It does not where the dot belongs to an abbreviation, an
// initial or a date, and two sentences become one again where the second begins as none does: with
// "and", or with a lower-case word after a quotation. YAKE counts in how many sentences a word
// stands, so its scores are only equal where the sentences are.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace quire {

/// . ! ? and the same in other scripts.
bool is_sentence_terminal(char32_t code);
/// What joins the parts of a word: "-", the soft hyphen, …
bool is_hyphen(char32_t code);

/// A text as one line: line ends and tabs are spaces. What is not UTF-8 becomes U+FFFD.
std::u32string line_of(std::string_view text);
/// The sentences of a text of one line, stripped of white space; none is empty.
std::vector<std::u32string_view> split_sentences(std::u32string_view text);

}  // namespace quire
