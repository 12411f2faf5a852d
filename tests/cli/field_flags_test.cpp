// Below cli/ messages name fields, and every field has a flag.
#include <algorithm>
#include <filesystem>
#include <set>
#include <vector>

#include "base/file.h"
#include "cli/flags.h"
#include "tests/support/catch.h"
#include "tests/support/text.h"

using namespace quire;
using namespace quire::test;
namespace fs = std::filesystem;

namespace {

struct Literal {
  std::string text;
  bool named = false;  // ends with _named
  std::string before;  // what calls it: "field_name("
};

/// The string literals of a source: comments are passed over, raw strings are one line of it.
std::vector<Literal> literals_of(const std::string& source) {
  std::vector<Literal> found;
  const auto at_is = [&](std::size_t at, const char* text) {
    return source.compare(at, 2, text) == 0;
  };
  const auto word_of = [&](std::size_t at) {  // that ends before it
    std::size_t begin = at;
    while (begin > 0 && std::isalnum(static_cast<unsigned char>(source[begin - 1])) != 0) --begin;
    return source.substr(begin, at - begin);
  };
  for (std::size_t at = 0; at < source.size(); ++at) {
    const std::string word = source[at] == '\'' || source[at] == 'R' ? word_of(at) : "";
    const bool in_number = !word.empty() && std::isxdigit(static_cast<unsigned char>(word[0])) != 0;
    if (at_is(at, "//")) {
      at = std::min(source.find('\n', at), source.size());
    } else if (at_is(at, "/*")) {
      at = source.find("*/", at) + 1;
    } else if (at_is(at, "R\"") && word.empty()) {
      const std::size_t open = source.find('(', at);
      const std::string close = ")" + source.substr(at + 2, open - at - 2) + "\"";
      const std::size_t end = source.find(close, open);
      found.push_back({source.substr(open + 1, end - open - 1), false, ""});
      at = end + close.size() - 1;
    } else if (source[at] == '"' || (source[at] == '\'' && !in_number)) {  // 10'000 is a number
      std::size_t end = at + 1;
      while (source[end] != source[at]) end += source[end] == '\\' ? 2 : 1;
      if (source[at] == '"') {
        found.push_back({source.substr(at + 1, end - at - 1),
                         source.compare(end + 1, 6, "_named") == 0,
                         source.substr(at < 11 ? 0 : at - 11, 11)});
      }
      at = end;
    }
  }
  return found;
}

/// Of all folders but cli/ and what stands beside it.
std::vector<std::pair<fs::path, Literal>> literals_below_cli() {
  std::vector<std::pair<fs::path, Literal>> found;
  for (const fs::directory_entry& folder : fs::directory_iterator(QUIRE_SOURCES)) {
    const std::string name = folder.path().filename().string();
    if (!folder.is_directory() || name.starts_with(".") || name.starts_with("build") ||
        name == "cli" || name == "tests" || name == "examples") {
      continue;
    }
    for (const fs::directory_entry& entry : fs::recursive_directory_iterator(folder)) {
      const std::string extension = entry.path().extension().string();
      if (!std::set<std::string>{".cpp", ".h", ".cu", ".cuh"}.contains(extension)) continue;
      for (Literal& literal : literals_of(read_file(entry.path()))) {
        found.emplace_back(entry.path(), std::move(literal));
      }
    }
  }
  return found;
}

bool has_flag(const std::string& text) {
  for (std::size_t at = 0; (at = text.find("--", at)) != std::string::npos; ++at) {
    if (at + 2 < text.size() && std::islower(static_cast<unsigned char>(text[at + 2])) != 0)
      return true;
  }
  return false;
}

}  // namespace

TEST_CASE("no literal below cli/ has a flag but those of other programs, and what files hold") {
  const std::vector<std::string> exceptions = {
      "gzip --test",
      "zstd --test",
      "cmake --preset release",
      "quire doctor --verify passed",           // a proof that lies in a cache
      "kernels that wait for doctor --verify",  // an option in checkpoints
      "quire generate --model {} --prompt ",    // a command in model cards
  };
  std::set<std::string> used;
  const auto literals = literals_below_cli();
  CHECK(literals.size() > 5000);
  for (const auto& [path, literal] : literals) {
    if (!has_flag(literal.text)) continue;
    INFO(path.string() << ": \"" << literal.text << "\"");
    bool excepted = false;
    for (const std::string& exception : exceptions) {
      if (!contains(literal.text, exception)) continue;
      excepted = true;
      used.insert(exception);
    }
    CHECK(excepted);
  }
  CHECK(used.size() == exceptions.size());
}

TEST_CASE("every field that a message below cli/ names has a flag, and what has one is named") {
  const std::string options = read_file(fs::path(QUIRE_SOURCES) / "docs/options.md");
  const auto has_option = [&](const std::string& field) {
    const std::string flag = flag_of(field);
    return contains(options, "`" + flag.substr(0, flag.find(' ')) + "`") ||
           contains(options, "`" + flag.substr(0, flag.find(' ')) + " ");
  };
  std::size_t fields = 0;
  for (const auto& [path, literal] : literals_below_cli()) {
    INFO(path.string() << ": \"" << literal.text << "\"");
    if (literal.before == "field_name(") CHECK(has_option(literal.text));
    if (path.filename() == "model_card.cpp") continue;  // Markdown
    for (std::size_t begin, end = std::string::npos;
         (begin = literal.text.find('`', end + 1)) != std::string::npos; ++fields) {
      end = literal.text.find('`', begin + 1);
      if (end == std::string::npos) break;
      CHECK(has_option(literal.text.substr(begin + 1, end - begin - 1)) == literal.named);
    }
  }
  CHECK(fields > 60);
}

TEST_CASE("a field's flag is its name with hyphens, or what a table says") {
  CHECK(flag_of("max_new_tokens") == "--max-new-tokens");
  CHECK(flag_of("seed") == "--seed");
  CHECK(flag_of("max_seconds") == "--max-time");
  CHECK(flag_of("zero") == "--zero 1");
}
