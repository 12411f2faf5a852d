#include "report/front_matter.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/json.h"
#include "base/text.h"

namespace quire {
namespace {

constexpr std::string_view kFence = "---";

/// The next line without its end, CR included.
std::string_view take_line(std::string_view& text) {
  std::string_view line = take_until('\n', text);
  if (line.ends_with('\r')) line.remove_suffix(1);
  return line;
}

/// "license" of "license: mit"; empty where a line begins no field.
std::string_view name_in(std::string_view line) {
  const std::size_t colon = line.find(':');
  if (colon == std::string_view::npos || colon == 0) return {};
  const std::string_view name = line.substr(0, colon);
  const bool word = std::all_of(name.begin(), name.end(), [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '_' || c == '-';
  });
  return word && name.front() != '-' ? name : std::string_view();
}

}  // namespace

FrontMatter FrontMatter::take(std::string_view& text) {
  FrontMatter front;
  std::string_view rest = text;
  if (take_line(rest) != kFence) return front;
  while (!rest.empty()) {
    const std::string_view line = take_line(rest);
    if (line == kFence) {
      text = rest;
      return front;
    }
    const std::string_view name = name_in(line);
    if (front.fields_.empty() || !name.empty()) front.fields_.push_back({std::string(name), ""});
    front.fields_.back().lines += std::string(line) + "\n";
  }
  return {};  // nothing ends it: a rule at the top of a text
}

const FrontMatter::Field* FrontMatter::find(std::string_view name) const {
  const auto field =
      std::find_if(fields_.begin(), fields_.end(), [&](const Field& f) { return f.name == name; });
  return field == fields_.end() ? nullptr : &*field;
}

bool FrontMatter::has(std::string_view name) const {
  return find(name) != nullptr;
}

std::string FrontMatter::value(std::string_view name) const {
  const Field* field = find(name);
  if (field == nullptr) return "";
  std::string_view lines = field->lines;
  std::string_view line = take_until('\n', lines);
  line.remove_prefix(field->name.size() + 1);
  const auto trim = [&](std::string_view marks) {
    line.remove_prefix(std::min(line.find_first_not_of(marks), line.size()));
    line.remove_suffix(line.size() - std::min(line.find_last_not_of(marks) + 1, line.size()));
  };
  trim(" \t");
  trim("\"'");
  return std::string(line);
}

void FrontMatter::set(std::string_view name, const std::string& lines) {
  const Field* field = find(name);
  if (field == nullptr) {
    fields_.push_back({std::string(name), lines});
  } else {
    fields_[static_cast<std::size_t>(field - fields_.data())].lines = lines;
  }
}

void FrontMatter::add_to_list(std::string_view name, const std::vector<std::string>& words) {
  std::string lines = std::string(name) + ":\n";
  std::vector<std::string> there;
  if (const Field* field = find(name)) {
    std::string_view rest = field->lines;
    const std::string_view first = take_line(rest);
    if (first.find_first_not_of(" \t", name.size() + 1) != std::string_view::npos) return;
    lines = field->lines;
    while (!rest.empty()) {
      std::string_view line = take_line(rest);
      line.remove_prefix(std::min(line.find_first_not_of(" \t-"), line.size()));
      there.emplace_back(line);
    }
  }
  for (const std::string& word : words) {
    const std::string item = in_yaml(word);
    if (std::find(there.begin(), there.end(), item) == there.end() &&
        std::find(there.begin(), there.end(), word) == there.end()) {
      lines += "- " + item + "\n";
    }
  }
  set(name, lines);
}

std::string FrontMatter::text() const {
  std::string text = std::string(kFence) + "\n";
  for (const Field& field : fields_) text += field.lines;
  return text + std::string(kFence) + "\n\n";
}

std::string in_yaml(const std::string& text) {
  // Not what YAML takes for a number, for true or null: these begin otherwise or are quoted.
  const bool plain = !text.empty() && std::isalpha(static_cast<unsigned char>(text[0])) != 0 &&
                     std::all_of(text.begin(), text.end(), [](unsigned char c) {
                       return std::isalnum(c) != 0 || c == '-' || c == '_' || c == '.' || c == '/';
                     });
  const std::string lower = lower_ascii(text);
  for (const char* word : {"true", "false", "yes", "no", "on", "off", "null", "y", "n"}) {
    if (lower == word) return json_text(nlohmann::json(text));
  }
  return plain ? text : json_text(nlohmann::json(text));
}

}  // namespace quire
