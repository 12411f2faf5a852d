#include "corpus/template.h"

#include "base/error.h"

namespace quire {

Template::Template(std::string_view text) {
  const auto refuse = [&](const std::string& why) {
    throw Error(Fault::usage, "the template \"" + std::string(text) + "\" " + why,
                {"columns are named in braces; {{ and }} stand for braces"},
                "`template_text` \"{keywords} => {quote}\""_named);
  };
  std::string literal;
  for (std::size_t at = 0; at < text.size(); ++at) {
    const std::string_view two = text.substr(at, 2);
    if (two == "{{" || two == "}}") {
      literal += text[at++];
    } else if (two == "\\n" || two == "\\t") {
      literal += two == "\\n" ? '\n' : '\t';
      ++at;
    } else if (text[at] == '{') {
      const std::size_t end = text.find('}', at);
      if (end == std::string_view::npos) refuse("opens a brace that is never closed");
      if (end == at + 1) refuse("has empty braces");
      literals_.push_back(std::move(literal));
      literal.clear();
      fields_.emplace_back(text.substr(at + 1, end - at - 1));
      at = end;
    } else if (text[at] == '}') {
      refuse("closes a brace that was never opened");
    } else {
      literal += text[at];
    }
  }
  literals_.push_back(std::move(literal));
  if (fields_.empty()) refuse("names no column");
}

std::string Template::fill(const std::vector<std::string_view>& values) const {
  return beginning(values, fields_.size());
}

std::string Template::prompt(const std::vector<std::string_view>& values) const {
  std::string text = beginning(values, fields_.size() - 1);
  text.resize(text.find_last_not_of(" \t\n") + 1);
  return text;
}

std::string Template::beginning(const std::vector<std::string_view>& values,
                                std::size_t count) const {
  std::string text = literals_[0];
  for (std::size_t i = 0; i < count; ++i) text.append(values[i]).append(literals_[i + 1]);
  return text;
}

}  // namespace quire
