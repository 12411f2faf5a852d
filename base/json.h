// Reading and writing JSON. Here, and not by the JSON library's own functions: these are templates
// that take a second to compile in every file that calls them.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace quire {

/// Json is nlohmann::json, or nlohmann::ordered_json for keys in the order of the text. Throws
/// Json::parse_error.
template <class Json>
Json parse_json(std::string_view text);

/// Where the text is not JSON, a value with is_discarded().
template <class Json>
Json parse_json_or_discard(std::string_view text);

/// On one line, or with line breaks and an indent. U+FFFD stands for what is not UTF-8.
template <class Json>
std::string json_text(const Json& value, int indent = -1);

}  // namespace quire
