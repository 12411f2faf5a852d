#include <fstream>
#include <nlohmann/json.hpp>

#include "base/json.h"
#include "base/utf8.h"
#include "tests/tokenizer/helpers.h"

using namespace quire;
using namespace quire::test;
using nlohmann::json;

namespace {

std::string bytes_of_hex(const std::string& hex) {
  std::string bytes;
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2) {
    bytes.push_back(static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16)));
  }
  return bytes;
}

std::string repaired(std::string_view bytes) {
  std::string text;
  utf8::append_replacing_invalid(bytes, text);
  return text;
}

}  // namespace

TEST_CASE("invalid UTF-8 is replaced part by part") {
  const std::string mark(utf8::replacement);
  CHECK(repaired("") == "");
  CHECK(repaired("plain \xC3\xA9 \xF0\x9F\x98\x80") == "plain \xC3\xA9 \xF0\x9F\x98\x80");
  CHECK(repaired("\xFF") == mark);
  CHECK(repaired("a\xC3") == "a" + mark);
  CHECK(repaired("\xE2\x82") == mark);  // one unfinished character
  CHECK(repaired("\xE2\x82z") == mark + "z");
  CHECK(repaired("\xF0\x9F\x98") == mark);
  CHECK(repaired("\xC0\x80") == mark + mark);                        // overlong
  CHECK(repaired("\xE0\x9F\xBF") == mark + mark + mark);             // overlong
  CHECK(repaired("\xED\xA0\x80") == mark + mark + mark);             // a surrogate
  CHECK(repaired("\xF4\x90\x80\x80") == mark + mark + mark + mark);  // above U+10FFFF
  CHECK(repaired("\x80\xBF") == mark + mark);
}

TEST_CASE("the reference's invalid texts encode to the same ids") {
  QUIRE_FIXTURE(path, "tokenizer/invalid_utf8.jsonl");
  QUIRE_FIXTURE(vocabulary, "gpt2-vocab");
  const Tokenizer tokenizer = Tokenizer::load(vocabulary);
  std::ifstream file(path);
  int cases = 0;
  for (std::string line; std::getline(file, line); ++cases) {
    const json entry = parse_json<json>(line);
    const std::string bytes = bytes_of_hex(entry["hex"]);
    INFO(line);
    CHECK(repaired(bytes) == entry["text"].get<std::string>());
    CHECK(tokenizer.encode(bytes) == entry["ids"].get<std::vector<TokenId>>());
  }
  CHECK(cases == 120);
}

TEST_CASE("the reference's token sequences decode to the same text, at once and as a stream") {
  QUIRE_FIXTURE(path, "tokenizer/decode.jsonl");
  QUIRE_FIXTURE(vocabulary, "gpt2-vocab");
  const Tokenizer tokenizer = Tokenizer::load(vocabulary);
  std::ifstream file(path);
  int cases = 0;
  for (std::string line; std::getline(file, line); ++cases) {
    const json entry = parse_json<json>(line);
    const auto ids = entry["ids"].get<std::vector<TokenId>>();
    INFO(line);
    std::string bytes;
    StreamDecoder stream(tokenizer);
    std::string streamed;
    for (const TokenId id : ids) {
      bytes += tokenizer.token_bytes(id);
      streamed += stream.push(id);
    }
    streamed += stream.finish();
    CHECK(bytes == bytes_of_hex(entry["hex"]));
    CHECK(tokenizer.decode(ids) == entry["text"].get<std::string>());
    CHECK(streamed == entry["text"].get<std::string>());
  }
  CHECK(cases == 200);
}

TEST_CASE("a stream is the whole text in parts that never cut a character") {
  const Tokenizer tokenizer = small_tokenizer();
  Random random(6);
  for (int round = 0; round < 2000; ++round) {
    // Byte by byte: each byte of the random text is a token of its own.
    std::vector<TokenId> ids;
    for (const char byte : random_bytes(random, below(random, 12))) {
      ids.push_back(tokenizer.token_to_id(printable({&byte, 1})).value());
    }
    if (below(random, 3) == 0) ids.push_back(*tokenizer.end_of_text());
    const bool skip = below(random, 2) == 0;
    StreamDecoder stream(tokenizer, skip);
    std::string streamed;
    for (const TokenId id : ids) {
      const std::string part = stream.push(id);
      REQUIRE(utf8::valid_prefix(part) == part.size());
      streamed += part;
    }
    streamed += stream.finish();
    REQUIRE(streamed == tokenizer.decode(ids, skip));
  }
}

TEST_CASE("a stream shows a character with its last byte") {
  const Tokenizer tokenizer = small_tokenizer();
  StreamDecoder stream(tokenizer);
  const auto push = [&](char byte) {
    return stream.push(tokenizer.token_to_id(printable({&byte, 1})).value());
  };
  CHECK(push('\xF0') == "");
  CHECK(push('\x9F') == "");
  CHECK(push('\x98') == "");
  CHECK(push('\x80') == "\xF0\x9F\x98\x80");
  CHECK(push('\xC3') == "");
  CHECK(push('x') == std::string(utf8::replacement) + "x");
  CHECK(push('\xE2') == "");
  CHECK(stream.finish() == utf8::replacement);
  CHECK(stream.finish() == "");
}

TEST_CASE("ids outside the vocabulary are named") {
  const Tokenizer tokenizer = small_tokenizer();
  const std::vector<TokenId> ids = {1, 327};
  CHECK(contains(error_of([&] { tokenizer.decode(ids); }), "token id 327"));
  CHECK(contains(error_of([&] { tokenizer.decode(ids); }), "0 to 326"));
  CHECK(contains(error_of([&] { tokenizer.token_bytes(-1); }), "token id -1"));
}
