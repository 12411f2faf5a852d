#include "base/json.h"

#include <nlohmann/json.hpp>
#include <stdexcept>

#include "tests/support/catch.h"
#include "tests/support/work.h"

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
    return json_trouble(error);
  }
  return "";
}

}  // namespace

TEST_CASE("JSON is nested so deep and no deeper") {
  CHECK(trouble(nested(kJsonDepth)).empty());
  CHECK(trouble(nested(kJsonDepth + 1)) == "line 1, column 257: nested deeper than 256 levels");
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
  CHECK(trouble("{\"a\": 1}\0"sv) == "line 1, column 9: a NUL byte");
  CHECK(trouble("{\n}\0{"sv) == "line 2, column 2: a NUL byte");
  CHECK_FALSE(trouble("[\"\\\0\"]"sv).empty());
}

TEST_CASE("slow: JSON of more bytes than any file of ours has is refused before it is read") {
  const std::string text(kJsonBytes + 1, ' ');
  CHECK(trouble(text).find("longer than 1073741824 bytes") != std::string::npos);
}

TEST_CASE("what is wrong with JSON is told with its line, and without the library's name") {
  CHECK(trouble("{\n \"a\": 1,\n \"b\": }\n") ==
        "line 3, column 7: unexpected '}'; expected '[', '{', or a literal");
  CHECK(trouble("").starts_with("line 1, column 1: unexpected end of input"));
  CHECK(trouble("[1, 2").starts_with("line 1, column 6: unexpected end of input"));
  CHECK(trouble("\n\n[\"a\nb\"]").starts_with("line 4, column 0: invalid string"));
  try {
    parse_json<Json>("{\"a\": }");
    FAIL("parsed");
  } catch (const Json::exception& error) {
    CHECK(json_line_trouble(error) == "column 7: unexpected '}'; expected '[', '{', or a literal");
  }
  try {
    Json::object().at("status");
    FAIL("found");
  } catch (const Json::exception& error) {
    CHECK(json_trouble(error) == "key 'status' not found");
  }
  CHECK(json_trouble(std::runtime_error("not of a library")) == "not of a library");
}

TEST_CASE("a name that an object has twice is found in time in proportion to the text") {
  CHECK(repeated_json_name(R"({"a": {"b": 1}, "c": {"b": 1}})") == std::nullopt);
  CHECK(repeated_json_name(R"({"a": [{"b": 1}, {"b": 1}], "b": 1})") == std::nullopt);
  CHECK(repeated_json_name(R"({"a": [{"b": 1, "b": 1}]})") == "b");
  CHECK(repeated_json_name(R"({"a": {"c": {"d": [1]}}, "b": 1, "a": 1})") == "a");
  CHECK(repeated_json_name("{") == std::nullopt);
  const auto look = [](int names, int times) {
    std::string many = "{";
    for (int i = 0; i < names; ++i) many += "\"name" + std::to_string(i) + "\": {},";
    many += R"("name7": 1})";
    return test::processor_seconds([&] {
      for (int i = 0; i < times; ++i) REQUIRE(repeated_json_name(many) == "name7");
    });
  };
  // As many names in one object as in a hundred: comparing all pairs would be 100 times the work.
  CHECK(look(100'000, 1) < 20 * look(1000, 100));
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

TEST_CASE("values are read as strictly as their types say") {
  const auto refused = [](const char* text, auto into) {
    const auto before = into;
    return !read_json(parse_json<Json>(text), into) && into == before;
  };
  for (const char* text : {"true", "1.5", "4294967297", "-2147483649", "\"1\"", "null", "[1]"}) {
    CHECK(refused(text, 7));
  }
  for (const char* text : {"1", "\"true\"", "null"}) CHECK(refused(text, false));
  for (const char* text : {"true", "\"1\"", "null"}) CHECK(refused(text, 0.5f));
  for (const char* text : {"1", "[\"a\"]", "null"}) CHECK(refused(text, std::string("a")));
  for (const char* text : {"1", "{}", "[1, 2.5]"}) CHECK(refused(text, std::vector<int>{3}));
  CHECK(refused("[[[1], 2], [1, 2]]", std::vector<std::pair<std::vector<int>, float>>{}));
  std::vector<std::pair<std::vector<int>, float>> pairs;
  CHECK(read_json(parse_json<Json>("[[[1, 2], 2.5], [[], 1]]"), pairs));
  CHECK(pairs == std::vector<std::pair<std::vector<int>, float>>{{{1, 2}, 2.5f}, {{}, 1.0f}});
  std::uint64_t seed = 0;
  CHECK(read_json(parse_json<Json>("18446744073709551615"), seed));
  CHECK(seed == UINT64_MAX);
}

TEST_CASE("fields are read by name, and those that nobody asked for are told") {
  using Ordered = nlohmann::ordered_json;
  const auto object = parse_json<Ordered>(R"({"rows": 3, "name": null, "ratio": true, "sede": 1})");
  JsonFields<Ordered> fields(
      object, "a.json",
      [](const std::string& name, const Ordered& value, const std::string& wanted,
         const std::string& next) {
        return Error(Fault::bad_data, name + " is " + json_text(value) + ", not " + wanted, {},
                     next);
      },
      "look it up");
  const auto message = [](const auto& work) {
    try {
      work();
    } catch (const Error& error) {
      return error.message();
    }
    return std::string();
  };
  int rows = 0;
  fields.read("rows", rows, 1, 3);
  CHECK(rows == 3);
  CHECK(message([&] { fields.read("rows", rows, 4, 9); }) ==
        "error: rows is 3, not a whole number from 4 to 9\n  try: look it up");
  std::string name = "as it was";
  fields.read("name", name);
  CHECK(name == "as it was");
  CHECK(message([&] { fields.require("name"); }) ==
        "error: a.json has no 'name'\n  try: look it up");
  double ratio = 0;
  CHECK(message([&] { fields.read("ratio", ratio); }) ==
        "error: ratio is true, not a number\n  try: look it up");
  CHECK(message([&] { fields.read("ratio", name, "a word"); }).find("not a word") !=
        std::string::npos);
  CHECK(fields["seed"].is_null());
  CHECK(fields.unknown() == std::vector<std::string>{"sede"});
  CHECK(message([&] { fields.refuse_unknown(); }) ==
        "error: a.json has no use for 'sede'\n  did you mean 'seed'?\n  try: look it up");
}
