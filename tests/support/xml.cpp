#include "tests/support/xml.h"

#include <cctype>
#include <vector>

namespace quire::test {
namespace {

std::string at(std::size_t offset, const std::string& what) {
  return what + " at byte " + std::to_string(offset);
}

bool is_name(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-' || c == '_' || c == ':';
}

/// The end of the entity that begins at `from`, 0 where there is none.
std::size_t entity_end(std::string_view text, std::size_t from) {
  for (const std::string_view entity : {"&amp;", "&lt;", "&gt;", "&quot;", "&apos;"}) {
    if (text.substr(from).starts_with(entity)) return from + entity.size();
  }
  return 0;
}

/// Reads ` name="value"`s up to the tag's end; returns a fault.
std::string read_attributes(std::string_view text, std::size_t& i) {
  while (i < text.size() && text[i] != '>' && text[i] != '/') {
    if (std::isspace(static_cast<unsigned char>(text[i])) == 0) return at(i, "no space");
    while (i < text.size() && std::isspace(static_cast<unsigned char>(text[i])) != 0) ++i;
    if (i < text.size() && (text[i] == '>' || text[i] == '/')) break;
    const std::size_t name = i;
    while (i < text.size() && is_name(text[i])) ++i;
    if (i == name || text.substr(i, 2) != "=\"") return at(i, "no attribute");
    for (i += 2; i < text.size() && text[i] != '"'; ++i) {
      if (text[i] == '<') return at(i, "'<' in an attribute");
      if (text[i] == '&' && entity_end(text, i) == 0) return at(i, "a bare '&'");
    }
    if (i++ >= text.size()) return at(i, "an attribute without an end");
  }
  return "";
}

}  // namespace

std::string xml_fault(std::string_view text) {
  std::vector<std::string_view> open;
  bool had_root = false;
  for (std::size_t i = 0; i < text.size();) {
    if (text[i] == '&' && entity_end(text, i) == 0) return at(i, "a bare '&'");
    if (text[i] == '>') return at(i, "a bare '>'");
    if (text[i] != '<') {
      if (open.empty() && std::isspace(static_cast<unsigned char>(text[i])) == 0) {
        return at(i, "text outside the root");
      }
      ++i;
      continue;
    }
    const bool closes = text.substr(i, 2) == "</";
    const std::size_t name = i += closes ? 2 : 1;
    while (i < text.size() && is_name(text[i])) ++i;
    const std::string_view element = text.substr(name, i - name);
    if (element.empty()) return at(name, "a tag without a name");
    if (closes) {
      if (open.empty() || open.back() != element) {
        return at(name, "</" + std::string(element) + "> closes nothing");
      }
      open.pop_back();
    } else {
      if (open.empty() && had_root) return at(name, "a second root");
      had_root = true;
      const std::string fault = read_attributes(text, i);
      if (!fault.empty()) return fault;
      const bool empty = i < text.size() && text[i] == '/';
      if (empty) ++i;
      if (!empty) open.push_back(element);
    }
    if (i >= text.size() || text[i] != '>') return at(i, "a tag without an end");
    ++i;
  }
  if (!open.empty()) return "<" + std::string(open.back()) + "> is not closed";
  return had_root ? "" : "no element";
}

std::string xml_attribute(std::string_view tag, std::string_view name) {
  const std::string key = " " + std::string(name) + "=\"";
  const std::size_t found = tag.find(key);
  if (found == std::string_view::npos) return "";
  const std::size_t begin = found + key.size();
  return std::string(tag.substr(begin, tag.find('"', begin) - begin));
}

}  // namespace quire::test
