#include "tokenizer/splitter.h"

#include "base/utf8.h"
#include "tokenizer/unicode.h"

namespace quire {
namespace {

using unicode::CharClass;

struct Classed {
  CharClass kind;
  std::size_t length;
};

Classed classed(const char* at) {
  const auto byte = static_cast<unsigned char>(*at);
  if (byte < 0x80) return {static_cast<CharClass>(splitter::class_of_byte[byte]), 1};
  const utf8::Character character = utf8::character(at);
  return {unicode::class_of(character.code), character.length};
}

// 's 't 'm 'd 're 've 'll: the pattern has no other case of letters.
int contraction(const char* at, const char* end) {
  const char second = end - at > 1 ? at[1] : '\0', third = end - at > 2 ? at[2] : '\0';
  if (second == 's' || second == 't' || second == 'm' || second == 'd') return 2;
  if ((second == 'r' || second == 'v') && third == 'e') return 3;
  return second == 'l' && third == 'l' ? 3 : 0;
}

}  // namespace

const char* piece_end(const char* at, const char* end) {
  if (*at == '\'') {
    const int length = contraction(at, end);
    if (length > 0) return at + length;
  }
  Classed first = classed(at);
  if (*at == ' ' && at + 1 != end) {
    const Classed second = classed(at + 1);
    if (second.kind != CharClass::space) {
      ++at;
      first = second;
    }
  }
  const char* last = at;  // the last character of the run
  at += first.length;
  bool single = true;
  while (at != end) {
    const Classed next = classed(at);
    if (next.kind != first.kind) {
      // \s+(?!\S): something follows the spaces, so the last of them is left to it, unless it is
      // the only one.
      return first.kind == CharClass::space && !single ? last : at;
    }
    last = at;
    at += next.length;
    single = false;
  }
  return end;
}

}  // namespace quire
