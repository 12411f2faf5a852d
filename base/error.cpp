#include "base/error.h"

namespace quire {
namespace {

std::string (*g_name_of)(std::string_view) = nullptr;

}  // namespace

std::string field_name(std::string_view field) {
  return g_name_of != nullptr ? g_name_of(field) : "`" + std::string(field) + "`";
}

std::string operator""_named(const char* text, std::size_t size) {
  std::string_view rest(text, size);
  std::string out;
  for (std::size_t begin; (begin = rest.find('`')) != std::string_view::npos;) {
    const std::size_t end = rest.find('`', begin + 1);
    out += std::string(rest.substr(0, begin)) + field_name(rest.substr(begin + 1, end - begin - 1));
    rest.remove_prefix(end + 1);
  }
  return out.append(rest);
}

void name_fields_by(std::string (*name_of)(std::string_view field)) {
  g_name_of = name_of;
}

}  // namespace quire
