#include "cli/help_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <string_view>

#include "base/text.h"
#include "cli/terminal.h"
#include "pipeline/get_model.h"

namespace quire {
namespace {

/// An option's line: what is typed, and what it does.
struct Entry {
  std::string typed, text;
};

// "  -o, --output-dir DIR"
Entry entry_of(const HelpOption& option, int columns) {
  std::string shorts, aliases;
  for (const std::string& alias : option.aliases) {
    if (alias.size() == 1) {
      shorts += "-" + alias + ", ";
    } else {
      aliases += (aliases.empty() ? " (or --" : ", --") + alias;
    }
  }
  const auto typed = [&](const std::string& value) {
    return "  " + (shorts.empty() ? "    " : shorts) + "--" + option.name +
           (value.empty() ? "" : " " + value);
  };
  Entry entry{.typed = typed(option.value), .text = option.text};
  if (!option.choices.empty() && display_width(entry.typed) > columns) {
    entry.typed = typed("NAME");
    entry.text += ": " + listed(option.choices, "or");
  }
  if (!aliases.empty()) entry.text += aliases + ")";
  if (!option.default_text.empty()) entry.text += " [" + option.default_text + "]";
  return entry;
}

std::string format_group(const std::vector<Entry>& entries, int columns) {
  // Options that are longer than this have their text below them.
  const int limit = columns < 80 ? 22 : 30;
  int widest = 0;
  for (const Entry& entry : entries) {
    widest = std::max(widest, std::min(display_width(entry.typed), limit));
  }
  const std::string indent(static_cast<std::size_t>(widest) + 2, ' ');
  std::string out;
  for (const Entry& entry : entries) {
    std::string text = flow(entry.text, columns, indent);
    if (display_width(entry.typed) <= widest) {
      text.replace(0, entry.typed.size(), entry.typed);
      out += text + "\n";
    } else {
      out += entry.typed + "\n" + text + "\n";
    }
  }
  return out;
}

/// What the command does: paragraphs flow, lines that begin with a space stay.
std::string format_about(std::string_view about, int columns) {
  std::string out, paragraph;
  const auto end_paragraph = [&] {
    if (!paragraph.empty()) out += flow(paragraph, columns) + "\n";
    paragraph.clear();
  };
  while (!about.empty()) {
    const std::string_view line = take_until('\n', about);
    if (line.empty() || line.front() == ' ') {
      end_paragraph();
      out += break_lines(line, columns) + "\n";
    } else {
      paragraph += std::string(line) + " ";
    }
  }
  end_paragraph();
  return out;
}

}  // namespace

std::string format_help(const HelpText& help, int columns) {
  std::string out = format_about(help.about, columns) + "\nUsage:\n" +
                    break_lines("  quire " + help.command + " " + help.synopsis, columns) + "\n";
  std::vector<std::string> groups;
  for (const HelpOption& option : help.options) {
    if (std::find(groups.begin(), groups.end(), option.group) == groups.end()) {
      groups.push_back(option.group);
    }
  }
  for (const std::string& group : groups) {
    std::vector<Entry> entries;
    for (const HelpOption& option : help.options) {
      if (option.group == group) entries.push_back(entry_of(option, columns));
    }
    out += "\n" + break_lines(" " + group + " options:", columns) + "\n" +
           format_group(entries, columns);
  }
  if (!help.examples.empty()) out += "\nExamples:\n";
  for (const std::string& line : help.examples) out += break_lines("  " + line, columns) + "\n";
  return out;
}

std::string listed(const std::vector<std::string>& words, std::string_view last_word) {
  std::string text;
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (i > 0) text += i + 1 == words.size() ? fmt::format(" {} ", last_word) : ", ";
    text += words[i];
  }
  return text;
}

std::string where_models_come_from() {
  return fmt::format("{} comes with Quire. {} does not: quire download {} gets it.", kBundledModel,
                     kUsualModel, kUsualModel);
}

}  // namespace quire
