#include "tokenizer/added_tokens.h"

#include <algorithm>
#include <cstring>

#include "tokenizer/unicode.h"
#include "tokenizer/utf8.h"

namespace quire {
namespace {

bool is_space_at(const char* at) {
  return unicode::class_of(utf8::character(at).code) == unicode::CharClass::space;
}

std::size_t begin_of_spaces_before(std::string_view text, std::size_t taken, std::size_t at) {
  while (at > taken) {
    std::size_t previous = at - 1;
    while (previous > taken && (static_cast<unsigned char>(text[previous]) & 0xC0) == 0x80) {
      --previous;
    }
    if (!is_space_at(text.data() + previous)) break;
    at = previous;
  }
  return at;
}

std::size_t end_of_spaces_from(std::string_view text, std::size_t at) {
  while (at < text.size() && is_space_at(text.data() + at)) {
    at += static_cast<std::size_t>(utf8::character(text.data() + at).length);
  }
  return at;
}

}  // namespace

AddedTokenFinder::AddedTokenFinder(std::vector<AddedToken> tokens) : tokens_(std::move(tokens)) {
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
    for (const AddedToken& token : tokens_) {
      if (text.compare(at, token.content.size(), token.content) != 0) continue;
      const std::size_t end = at + token.content.size();
      Match match{.begin = at, .end = end, .resume = end, .id = token.id};
      if (token.strip_left) match.begin = begin_of_spaces_before(text, taken, at);
      if (token.strip_right) match.end = end_of_spaces_from(text, end);
      return match;
    }
    ++at;
  }
  return {};
}

}  // namespace quire
