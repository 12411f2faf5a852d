#include "base/json.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <unordered_set>

#include "base/file.h"
#include "base/foreign_file.h"
#include "base/nearest.h"

namespace quire {
namespace {

/// `byte` counts from 1, as the JSON library has it.
[[noreturn]] void refuse(std::string_view text, std::size_t byte, const std::string& why) {
  const std::string_view before = text.substr(0, byte);
  const std::size_t line_end = before.substr(0, byte - 1).rfind('\n');
  throw nlohmann::json::parse_error::create(
      101,
      {.chars_read_total = byte,
       .chars_read_current_line = line_end == std::string_view::npos ? byte : byte - line_end - 1,
       .lines_read = static_cast<std::size_t>(std::count(before.begin(), before.end() - 1, '\n'))},
      why, nullptr);
}

/// Takes `part` off the front; false where the text begins otherwise.
bool take_off(std::string& text, std::string_view part) {
  if (!text.starts_with(part)) return false;
  text.erase(0, part.size());
  return true;
}

/// Bytes that check_json_limits() looks at; most are none of them.
constexpr std::array<bool, 256> kOfStructure = [] {
  std::array<bool, 256> is{};
  for (const unsigned char c : {'\0', '"', '\\', '[', ']', '{', '}'}) is[c] = true;
  return is;
}();

}  // namespace

void check_json_limits(std::string_view text) {
  if (text.size() > kJsonBytes) {
    refuse(text, kJsonBytes, "longer than " + std::to_string(kJsonBytes) + " bytes");
  }
  std::size_t depth = 0;
  bool in_string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (!kOfStructure[static_cast<unsigned char>(c)]) continue;
    if (c == '\0') refuse(text, i + 1, "a NUL byte");
    if (c == '"') in_string = !in_string;
    if (in_string) {
      if (c == '\\' && i + 1 < text.size() && text[i + 1] != '\0') ++i;
    } else if (c == '[' || c == '{') {
      if (++depth > kJsonDepth) {
        refuse(text, i + 1, "nested deeper than " + std::to_string(kJsonDepth) + " levels");
      }
    } else if ((c == ']' || c == '}') && depth > 0) {
      --depth;
    }
  }
}

// "[json.exception.parse_error.101] parse error at line 1, column 5: syntax error while parsing value -
// unexpected …"
std::string json_trouble(const std::exception& error) {
  std::string why = error.what();
  if (why.starts_with('[')) why.erase(0, std::min(why.find("] ") + 2, why.size()));
  if (!take_off(why, "parse error at ")) return why;
  const std::size_t colon = why.find(": ");
  const std::string place = why.substr(0, colon);
  why.erase(0, colon == std::string::npos ? why.size() : colon + 2);
  if (take_off(why, "syntax error ") && why.starts_with("while parsing ")) {
    why.erase(0, std::min(why.find(" - ") + 3, why.size()));
  }
  return why.empty() ? place : place + ": " + why;
}

std::string json_line_trouble(const std::exception& error) {
  std::string why = json_trouble(error);
  take_off(why, "line 1, ");
  return why;
}

std::optional<std::string> repeated_json_name(std::string_view text) {
  std::vector<std::unordered_set<std::string>> names;  // of the objects that are open, by depth
  std::optional<std::string> found;
  const auto look = [&](int depth, nlohmann::json::parse_event_t event,
                        const nlohmann::json& parsed) {
    const std::size_t level = depth;
    if (event == nlohmann::json::parse_event_t::object_start) {
      names.resize(level);
      names.emplace_back();
    } else if (event == nlohmann::json::parse_event_t::key && !found) {
      const auto& name = parsed.get_ref<const std::string&>();
      if (!names[level - 1].insert(name).second) found = name;
    }
    return false;  // what is kept is empty
  };
  const nlohmann::json kept = nlohmann::json::parse(text, look, /*allow_exceptions=*/false);
  return found;
}

template <class Json>
Json parse_json(std::string_view text) {
  check_json_limits(text);
  return Json::parse(text);
}

template <class Json>
Json parse_json_or_discard(std::string_view text) {
  try {
    check_json_limits(text);
  } catch (const nlohmann::json::parse_error&) {
    return Json(Json::value_t::discarded);
  }
  return Json::parse(text, nullptr, /*allow_exceptions=*/false);
}

template <class Json>
Json parse_json_file(const std::filesystem::path& path) {
  const std::string text = read_file(path);
  try {
    return parse_json<Json>(text);
  } catch (const nlohmann::json::exception& error) {
    throw unusable_file(path.string() + " is not valid JSON", text, json_trouble(error));
  }
}

template <class Json>
std::optional<std::int32_t> int32_of(const Json& value) {
  const bool fits = value.is_number_unsigned()
                        ? value.template get<std::uint64_t>() <= INT32_MAX
                        : value.is_number_integer() &&
                              value.template get<std::int64_t>() >= INT32_MIN &&
                              value.template get<std::int64_t>() <= INT32_MAX;
  if (!fits) return std::nullopt;
  return value.template get<std::int32_t>();
}

template <class Json>
std::string json_text(const Json& value, int indent) {
  return value.dump(indent, ' ', /*ensure_ascii=*/false, Json::error_handler_t::replace);
}

template <class Json>
const Json& JsonFields<Json>::operator[](const std::string& name) {
  static const Json kNull;
  if (std::find(known_.begin(), known_.end(), name) == known_.end()) known_.push_back(name);
  const auto found = object_.find(name);
  return found == object_.end() ? kNull : *found;
}

template <class Json>
const Json& JsonFields<Json>::require(const std::string& name) {
  const Json& value = (*this)[name];
  if (!value.is_null()) return value;
  throw Error(Fault::bad_data, where_ + " has no '" + name + "'", {}, next_);
}

template <class Json>
std::vector<std::string> JsonFields<Json>::unknown() const {
  std::vector<std::string> names;
  for (const auto& [name, value] : object_.items()) {
    if (std::find(known_.begin(), known_.end(), name) == known_.end()) names.push_back(name);
  }
  return names;
}

template <class Json>
void JsonFields<Json>::refuse_unknown() const {
  const std::vector<std::string> names = unknown();
  if (names.empty()) return;
  const std::string near = nearest(names[0], known_);
  throw Error(Fault::bad_data, where_ + " has no use for '" + names[0] + "'",
              {near.empty() ? fmt::format("known here: {}", fmt::join(known_, ", "))
                            : fmt::format("did you mean '{}'?", near)},
              next_);
}

template nlohmann::json parse_json(std::string_view);
template nlohmann::json parse_json_or_discard(std::string_view);
template std::string json_text(const nlohmann::json&, int);
template std::optional<std::int32_t> int32_of(const nlohmann::json&);
template nlohmann::ordered_json parse_json(std::string_view);
template nlohmann::ordered_json parse_json_file(const std::filesystem::path&);
template class JsonFields<nlohmann::ordered_json>;
template nlohmann::ordered_json parse_json_or_discard(std::string_view);
template std::string json_text(const nlohmann::ordered_json&, int);
template std::optional<std::int32_t> int32_of(const nlohmann::ordered_json&);

}  // namespace quire
