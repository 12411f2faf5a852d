// The words of a sentence, by rules alone, as the Python package segtok cuts them.
//
// Web and mail addresses that stand by themselves are words; in what is left, HTML's entities are
// read ("&amp;"), and words are cut at white space and around what is neither letter nor number:
// dots, commas, hyphens and apostrophes inside of a word stay. What lies between words is a token
// too, and so are the contraction's halves: do n't, she 's.
#pragma once

#include <deque>
#include <string>
#include <string_view>
#include <vector>

namespace quire {

/// The tokens of a sentence, none empty: words and what lies between them. They are parts of the
/// sentence; what is written otherwise there ("&amp;") goes to `made`,
/// and the tokens are parts of that.
std::vector<std::u32string_view> split_words(std::u32string_view sentence,
                                             std::deque<std::u32string>& made);

}  // namespace quire
