#include "base/json.h"

#include <chrono>
#include <nlohmann/json.hpp>

#include "tests/support/catch.h"

using namespace quire;
using Json = nlohmann::json;

namespace {

std::string nested(std::size_t levels) {
  return std::string(levels, '[') + std::string(levels, ']');
}

std::string trouble(std::string_view text) {
  try {
    parse_json<Json>(text);
  } catch (const Json::parse_error& error) {
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE("JSON is nested so deep and no deeper") {
  CHECK(trouble(nested(kJsonDepth)).empty());
  CHECK(trouble(nested(kJsonDepth + 1)) ==
        "[json.exception.parse_error.101] parse error at byte 257: nested deeper than 256 levels");
  CHECK(parse_json_or_discard<Json>(nested(kJsonDepth)).is_array());
  CHECK(parse_json_or_discard<Json>(nested(kJsonDepth + 1)).is_discarded());
  std::string objects;
  for (int i = 0; i < 100'000; ++i) objects += R"({"a":)";
  CHECK(trouble(objects).find("nested deeper") != std::string::npos);
  // What is open counts, not what was: siblings and brackets in strings are no depth.
  std::string flat = "[[]";
  for (int i = 0; i < 1000; ++i) flat += ",[]";
  CHECK(parse_json<Json>(flat + "]").size() == 1001);
  CHECK(parse_json<Json>(R"(["\"[", ")" + std::string(1000, '{') + R"("])").size() == 2);
}

TEST_CASE("JSON with a NUL byte is refused, not cut there") {
  using namespace std::string_view_literals;
  CHECK(trouble("{\"a\": 1}\0"sv).find("byte 9: a NUL byte") != std::string::npos);
  CHECK(trouble("{}\0{"sv).find("byte 3: a NUL byte") != std::string::npos);
  CHECK_FALSE(trouble("[\"\\\0\"]"sv).empty());
}

TEST_CASE("JSON of more bytes than any file of ours has is refused before it is read") {
  const std::string text(kJsonBytes + 1, ' ');
  CHECK(trouble(text).find("longer than 1073741824 bytes") != std::string::npos);
}

TEST_CASE("a name that an object has twice is found in time in proportion to the text") {
  CHECK(repeated_json_name(R"({"a": {"b": 1}, "c": {"b": 1}})") == std::nullopt);
  CHECK(repeated_json_name(R"({"a": [{"b": 1, "b": 1}]})") == "b");
  CHECK(repeated_json_name("{") == std::nullopt);
  std::string many = "{";
  for (int i = 0; i < 100'000; ++i) many += "\"name" + std::to_string(i) + "\": {},";
  const auto start = std::chrono::steady_clock::now();
  CHECK(repeated_json_name(many + R"("name7": 1})") == "name7");
  CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(5));
}

TEST_CASE("a whole number of 32 bits is one, and nothing else is") {
  const auto of = [](const char* text) { return int32_of(Json::parse(text)); };
  CHECK(of("0") == 0);
  CHECK(of("2147483647") == 2147483647);
  CHECK(of("-2147483648") == INT32_MIN);
  for (const char* text : {"2147483648", "-2147483649", "4294967297", "18446744073709551615", "3.0",
                           "3.7", "true", "null", "\"3\"", "[3]"}) {
    CAPTURE(text);
    CHECK(of(text) == std::nullopt);
  }
}
