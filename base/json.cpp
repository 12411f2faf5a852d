#include "base/json.h"

#include <nlohmann/json.hpp>
#include <unordered_set>
#include <vector>

namespace quire {
namespace {

[[noreturn]] void refuse(std::size_t byte, const std::string& why) {
  throw nlohmann::json::parse_error::create(101, byte, why, nullptr);
}

/// Looks at names alone.
class RepeatedNames : public nlohmann::json_sax<nlohmann::json> {
 public:
  std::optional<std::string> found;

  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(std::int64_t) override { return true; }
  bool number_unsigned(std::uint64_t) override { return true; }
  bool number_float(double, const std::string&) override { return true; }
  bool string(std::string&) override { return true; }
  bool binary(nlohmann::json::binary_t&) override { return true; }
  bool start_object(std::size_t) override {
    names_.emplace_back();
    return true;
  }
  bool key(std::string& name) override {
    if (names_.back().insert(name).second) return true;
    found = name;
    return false;
  }
  bool end_object() override {
    names_.pop_back();
    return true;
  }
  bool start_array(std::size_t) override { return true; }
  bool end_array() override { return true; }
  bool parse_error(std::size_t, const std::string&, const nlohmann::json::exception&) override {
    return false;
  }

 private:
  std::vector<std::unordered_set<std::string>> names_;  // of the objects that are open
};

}  // namespace

void check_json_limits(std::string_view text) {
  if (text.size() > kJsonBytes) {
    refuse(kJsonBytes, "longer than " + std::to_string(kJsonBytes) + " bytes");
  }
  std::size_t depth = 0;
  bool in_string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '\0') refuse(i + 1, "a NUL byte");
    if (c == '"') in_string = !in_string;
    if (in_string) {
      if (c == '\\' && i + 1 < text.size() && text[i + 1] != '\0') ++i;
    } else if (c == '[' || c == '{') {
      if (++depth > kJsonDepth) {
        refuse(i + 1, "nested deeper than " + std::to_string(kJsonDepth) + " levels");
      }
    } else if ((c == ']' || c == '}') && depth > 0) {
      --depth;
    }
  }
}

std::optional<std::string> repeated_json_name(std::string_view text) {
  RepeatedNames names;
  nlohmann::json::sax_parse(text, &names);
  return names.found;
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

template nlohmann::json parse_json(std::string_view);
template nlohmann::json parse_json_or_discard(std::string_view);
template std::string json_text(const nlohmann::json&, int);
template std::optional<std::int32_t> int32_of(const nlohmann::json&);
template nlohmann::ordered_json parse_json(std::string_view);
template nlohmann::ordered_json parse_json_or_discard(std::string_view);
template std::string json_text(const nlohmann::ordered_json&, int);
template std::optional<std::int32_t> int32_of(const nlohmann::ordered_json&);

}  // namespace quire
