// Reading and writing JSON. Here, and not by the JSON library's own functions: these are templates
// that take a second to compile in every file that calls them.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"

namespace quire {

/// What a text may hold at most. Copies, comparisons and writing of a value recurse,
/// a frame of some 200 bytes and more a level: 100,000 brackets are the end of a stack of 8 MB.
/// Python's own reader takes about 1,000 levels; a model's files have 6.
inline constexpr std::size_t kJsonDepth = 256;
inline constexpr std::size_t kJsonBytes = std::size_t{1} << 30;

/// Throws nlohmann::json::parse_error for a text beyond these limits, or one with a NUL byte, at
/// which the JSON library takes a text for ended. In one pass, before anything is built; whoever
/// parses by himself calls it first.
void check_json_limits(std::string_view text);

/// Json is nlohmann::json, or nlohmann::ordered_json for keys in the order of the text. Throws
/// Json::parse_error, for a text beyond the limits too.
template <class Json>
Json parse_json(std::string_view text);

/// Where the text is not JSON, a value with is_discarded().
template <class Json>
Json parse_json_or_discard(std::string_view text);

/// What a file holds. Throws Error(bad_data) for one that is not JSON, with what it is instead where
/// that is known.
template <class Json>
Json parse_json_file(const std::filesystem::path& path);

/// What an exception of the JSON library says, without that library's name for it: "line 3, column 7:
/// unexpected '}'; expected …", "key 'status' not found".
std::string json_trouble(const std::exception& error);
/// The same of a text that is one line of a file: "column 7: …".
std::string json_line_trouble(const std::exception& error);

/// A whole number of 32 bits; nullopt for anything else. The library's get() takes 3.7 for 3, true
/// for 1, and 2^32 + 1 for 1.
template <class Json>
std::optional<std::int32_t> int32_of(const Json& value);

/// A name that one of the text's objects has twice, of which a parser would keep the last; nullopt
/// where there is none, or where the text is not JSON. Takes time in proportion to the text.
std::optional<std::string> repeated_json_name(std::string_view text);

/// On one line, or with line breaks and an indent. U+FFFD stands for what is not UTF-8.
template <class Json>
std::string json_text(const Json& value, int indent = -1);

/// Whether a value is what the type says, to which `into` is then set: true or false, a whole number
/// of 32 bits, one of 64 (of which the negative are taken as C takes them), a number, a text; lists,
/// and pairs, which are lists of two. The library's own get() takes true for 1 and 3.7 for 3.
template <class Json, class T>
bool read_json(const Json& value, T& into) {
  const bool fits = std::same_as<T, int>     ? int32_of(value).has_value()
                    : std::same_as<T, bool>  ? value.is_boolean()
                    : std::integral<T>       ? value.is_number_integer()
                    : std::floating_point<T> ? value.is_number()
                                             : value.is_string();
  if (fits) value.get_to(into);
  return fits;
}
template <class Json, class T>
bool read_json(const Json& value, std::vector<T>& into);
template <class Json, class First, class Second>
bool read_json(const Json& value, std::pair<First, Second>& into) {
  return value.is_array() && value.size() == 2 && read_json(value[0], into.first) &&
         read_json(value[1], into.second);
}
template <class Json, class T>
bool read_json(const Json& value, std::vector<T>& into) {
  if (!value.is_array()) return false;
  std::vector<T> list(value.size());
  for (std::size_t i = 0; i < list.size(); ++i) {
    if (!read_json(value[i], list[i])) return false;
  }
  into = std::move(list);
  return true;
}

/// What read_json() wanted of a value that it refused.
template <class T, class Json>
const char* wanted_json(const Json& value) {
  if constexpr (std::same_as<T, bool>) return "true or false";
  if constexpr (std::floating_point<T>) return "a number";
  if constexpr (!std::integral<T>) return "a string";
  return value.is_number_integer() ? "a whole number of 32 bits" : "a whole number";
}

/// The fields of an object in a file, each read with a check of its type. What is absent or null
/// leaves its target as it is.
template <class Json>
class JsonFields {
 public:
  /// The error of a field whose value is not what was `wanted`, "a whole number"; `next`: what to try.
  using Refusal = std::function<Error(const std::string& name, const Json& value,
                                      const std::string& wanted, const std::string& next)>;

  /// `where` the object stands begins the messages on what is not there and on what nobody asked for;
  /// `next` ends all of them. Keeps a reference to the object.
  JsonFields(const Json& object, std::string where, Refusal refusal, std::string next = {})
      : object_(object),
        where_(std::move(where)),
        refusal_(std::move(refusal)),
        next_(std::move(next)) {}

  const std::string& where() const { return where_; }
  /// A null value where the field is absent.
  const Json& operator[](const std::string& name);
  /// Throws where it is absent or null.
  const Json& require(const std::string& name);
  [[noreturn]] void refuse(const std::string& name, const std::string& wanted,
                           const std::string& next) {
    throw refusal_(name, (*this)[name], wanted, next);
  }
  [[noreturn]] void refuse(const std::string& name, const std::string& wanted) {
    refuse(name, wanted, next_);
  }

  template <class T>
  void read(const std::string& name, T& into, const char* wanted = nullptr) {
    const Json& value = (*this)[name];
    if (value.is_null() || read_json(value, into)) return;
    refuse(name, wanted != nullptr ? wanted : wanted_json<T>(value));
  }
  /// A whole number from `least` to `most`.
  template <std::integral T>
  void read(const std::string& name, T& into, std::int64_t least, std::int64_t most) {
    std::int64_t number = 0;
    const Json& value = (*this)[name];
    if (value.is_null()) return;
    if (!read_json(value, number) || number < least || number > most) {
      refuse(name, "a whole number from " + std::to_string(least) + " to " + std::to_string(most));
    }
    into = static_cast<T>(number);
  }
  /// Those that nobody asked for, in the order of the file.
  std::vector<std::string> unknown() const;
  /// Throws where there are any, telling what the first may have been meant to be.
  void refuse_unknown() const;

 private:
  const Json& object_;
  std::string where_;
  Refusal refusal_;
  std::string next_;
  std::vector<std::string> known_;
};

}  // namespace quire
