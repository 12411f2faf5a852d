// Reading and writing JSON. Here, and not by the JSON library's own functions: these are templates
// that take a second to compile in every file that calls them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>

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

}  // namespace quire
