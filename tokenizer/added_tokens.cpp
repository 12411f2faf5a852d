#include "tokenizer/added_tokens.h"

#include <algorithm>
#include <cstring>

#include "base/utf8.h"
#include "tokenizer/unicode.h"

namespace quire {
namespace {

bool is_space_at(const char* at) {
  return unicode::class_of(utf8::character(at).code) == unicode::CharClass::space;
}

bool is_single_word(std::string_view text, std::size_t begin, std::size_t end) {
  const auto word_at = [&](std::size_t at) {
    return unicode::is_word(utf8::character(text.data() + at).code);
  };
  return (begin == 0 || !word_at(utf8::begin_of_character(text, begin - 1))) &&
         (end == text.size() || !word_at(end));
}

std::size_t begin_of_spaces_before(std::string_view text, std::size_t taken, std::size_t at) {
  while (at > taken) {
    const std::size_t previous = utf8::begin_of_character(text, at - 1);
    if (!is_space_at(text.data() + previous)) break;
    at = previous;
  }
  return std::max(at, taken);
}

std::size_t end_of_spaces_from(std::string_view text, std::size_t at) {
  while (at < text.size() && is_space_at(text.data() + at)) {
    at += utf8::character(text.data() + at).length;
  }
  return at;
}

}  // namespace

AddedTokenFinder::AddedTokenFinder(std::vector<AddedToken> tokens, bool specials_are_text)
    : tokens_(std::move(tokens)), specials_are_text_(specials_are_text) {
  const auto text = [&](const AddedToken& token) { return specials_are_text && token.special; };
  if (std::all_of(tokens_.begin(), tokens_.end(), text)) tokens_.clear();  // nothing to find
  std::stable_sort(tokens_.begin(), tokens_.end(), [](const AddedToken& a, const AddedToken& b) {
    return a.content.size() > b.content.size();
  });
  for (const AddedToken& token : tokens_) {
    first_bytes_.set(static_cast<unsigned char>(token.content.front()));
  }
  if (tokens_.empty()) return;
  longest_ = tokens_.front().content.size();
  if (first_bytes_.count() == 1) {
    only_first_byte_ = static_cast<unsigned char>(tokens_.front().content.front());
  }
}

AddedTokenFinder::Match AddedTokenFinder::find(std::string_view text, std::size_t from,
                                               std::size_t taken) const {
  if (tokens_.empty()) return {};
  std::size_t at = from;
  while (at < text.size()) {
    if (only_first_byte_ >= 0) {
      const void* found = std::memchr(text.data() + at, only_first_byte_, text.size() - at);
      if (found == nullptr) return {};
      at = static_cast<std::size_t>(static_cast<const char*>(found) - text.data());
    } else if (!first_bytes_[static_cast<unsigned char>(text[at])]) {
      ++at;
      continue;
    }
    const auto found = std::find_if(tokens_.begin(), tokens_.end(), [&](const AddedToken& token) {
      return text.compare(at, token.content.size(), token.content) == 0;
    });
    if (found == tokens_.end()) {
      ++at;
      continue;
    }
    const AddedToken& token = *found;
    const std::size_t end = at + token.content.size();
    const bool is_text = specials_are_text_ && token.special;
    if (!is_text && (!token.single_word || is_single_word(text, at, end))) {
      Match match{.begin = at, .end = end, .resume = end, .id = token.id};
      if (token.strip_left) match.begin = begin_of_spaces_before(text, taken, at);
      if (token.strip_right) match.end = end_of_spaces_from(text, end);
      // One of spaces that the token before it took along is none to tokenizers.
      if (match.begin < match.end) return match;
    }
    at = end;
  }
  return {};
}

}  // namespace quire
