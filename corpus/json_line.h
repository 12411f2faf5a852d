// One line of a .jsonl file: an object, and errors that name file, line and field.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace quire {

class JsonLine {
 public:
  /// Throws Error(bad_data) for what is not a JSON object. What is not UTF-8 is read as U+FFFD.
  JsonLine(const std::filesystem::path& path, std::size_t line, std::string_view text);

  std::size_t line() const { return line_; }  ///< from 1
  bool invalid_utf8() const { return invalid_utf8_; }

  bool has(const std::string& name) const { return json_.contains(name); }
  bool is_null(const std::string& name) const { return has(name) && json_[name].is_null(); }

  /// A string; a number or truth value as written; null as nothing; a list of these joined by ", ".
  /// Throws Error(bad_data) that lists the fields: `command` and `option` are what it tells to try.
  std::string text(const std::string& name, const std::string& command,
                   const std::string& option) const;
  /// The entries of a list as texts; those of anything else between commas. Throws as text() does.
  std::vector<std::string> list(const std::string& name, const std::string& command,
                                const std::string& option) const;
  /// A list of token ids. `labels` may be -100 too.
  std::vector<std::int32_t> ids(const char* name, bool labels) const;

  [[noreturn]] void fail(const std::string& why, const std::vector<std::string>& details = {},
                         const std::string& next = {}) const;

 private:
  std::string text_of(const std::string& name, const nlohmann::json& value) const;
  [[noreturn]] void throw_no_field(const std::string& name, const std::string& command,
                                   const std::string& option) const;

  const std::filesystem::path& path_;
  std::size_t line_;
  bool invalid_utf8_;
  nlohmann::json json_;
};

/// Every line of a file that is not blank, in order.
void for_each_json_line(const std::filesystem::path& path,
                        const std::function<void(const JsonLine&)>& take);

/// The parts of "a, b,c" without the white space around them; none is empty.
std::vector<std::string> split_at_commas(std::string_view text);

}  // namespace quire
