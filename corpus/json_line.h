// One line of a .jsonl file: an object, and errors that name file, line and field.
//
// JSON as it is met: NaN, Infinity and -Infinity, which Python writes, may stand where a field is
// not used; half a surrogate pair alone ("\ud83d") is U+FFFD, as a byte that is not UTF-8; numbers
// become text as they are written, "1.50" and 25 digits too.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "corpus/reading_report.h"
#include "corpus/text_format.h"

namespace quire {

class JsonLine {
 public:
  /// Throws Error(bad_data) for what is not a JSON object, and for a zero byte,
  /// behind which nothing would be read. `text` must outlive it.
  JsonLine(const std::filesystem::path& path, std::size_t line, std::string_view text);
  JsonLine(const JsonLine&) = delete;
  JsonLine& operator=(const JsonLine&) = delete;

  std::size_t line() const { return line_; }  ///< from 1
  bool invalid_utf8() const { return invalid_utf8_; }
  bool lone_surrogate() const { return lone_surrogate_; }

  bool has(const std::string& name) const { return json_.contains(name); }
  bool is_null(const std::string& name) const { return has(name) && json_[name].is_null(); }

  /// A string; a number or truth value as written; null as nothing; a list of these joined by ", ".
  /// Throws Error(bad_data) that lists the fields: `command` and `option` are what it tells to try;
  /// and for a field that is there twice, of which a parser would keep the last.
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
  const nlohmann::json& member(const std::string& name, const std::string& command,
                               const std::string& option) const;
  /// `written` is the value's own part of the line.
  std::string text_of(const std::string& name, const nlohmann::json& value,
                      std::string_view written) const;
  void require_once(const std::string& name) const;
  [[noreturn]] void throw_no_field(const std::string& name, const std::string& command,
                                   const std::string& option) const;

  const std::filesystem::path& path_;
  std::size_t line_;
  bool invalid_utf8_, lone_surrogate_ = false;
  std::string valid_;         // where the line is not UTF-8
  std::string_view written_;  // all of it
  nlohmann::json json_;
};

/// Every line of a file that is not blank, in order.
void for_each_json_line(const std::filesystem::path& path,
                        const std::function<void(const JsonLine&)>& take,
                        const TextFormat& format = {}, ReadingReport* report = nullptr);

/// The parts of "a, b,c" without the white space around them; none is empty.
std::vector<std::string> split_at_commas(std::string_view text);

}  // namespace quire
