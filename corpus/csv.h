// Comma-separated values, row by row, as RFC 4180 has them.
//
// A row ends with "\n", "\r\n" or "\r", outside of quotes. A field in quotes may hold the
// delimiter, line ends (each becomes "\n") and quotes written twice. A quote inside an unquoted
// field is an ordinary character, as most programs read it. Blank lines are passed over. Every row
// has as many fields as the first. We have our own reader because those at hand do not say on which
// line the quote began that nobody closed, and that line is what a person needs.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/file.h"

namespace quire {

/// Throws Error(bad_data) with file and line for text after a closing quote, a quote that is never
/// closed, a row with another number of fields than the header, and a file without a header.
class CsvReader {
 public:
  /// `delimiter` is ',' or '\t' by the file's extension.
  explicit CsvReader(const std::filesystem::path& path);

  const std::vector<std::string>& columns() const { return columns_; }
  /// Reads the next row into `fields`; false at the end.
  bool next(std::vector<std::string>& fields);
  std::size_t line() const { return row_line_; }  ///< where the last row began, from 1
  const std::filesystem::path& path() const { return file_.path(); }

  /// The index of a column. Throws Error(bad_data) that lists the columns, the nearest name and
  /// what to try. Call it before next(): it reads the rest of the file to describe it.
  std::size_t column(const std::string& name);
  /// The error that column() throws.
  [[noreturn]] void throw_no_column(const std::string& name);

 private:
  bool read_row(std::vector<std::string>& fields);
  void read_quoted(std::string& field);
  [[noreturn]] void fail(std::size_t line, const std::string& why,
                         const std::string& next = {}) const;

  MappedFile file_;
  std::string_view text_;
  char delimiter_;
  std::size_t at_ = 0;
  std::size_t line_ = 1;
  std::size_t row_line_ = 0;
  bool crlf_ = false;  // seen at the end of a row
  std::vector<std::string> columns_;
};

/// Drops a UTF-8 byte-order mark. Throws Error(bad_data) naming the file for one of UTF-16.
std::string_view without_byte_order_mark(std::string_view text, const std::filesystem::path& path);

}  // namespace quire
