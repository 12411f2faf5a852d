// Comma-separated values in and out, row by row, as RFC 4180 has them.
//
// A row ends with "\n", "\r\n" or "\r", outside of quotes. A field in quotes may hold the
// delimiter, line ends (each becomes "\n") and quotes written twice. A quote inside an unquoted
// field is an ordinary character, as most programs read it. Blank lines are passed over. Every row
// has as many fields as the first. We have our own reader because those at hand do not say on which
// line the quote began that nobody closed, and that line is what a person needs.
#pragma once

#include <cstddef>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "corpus/input_file.h"

namespace quire {

/// Throws Error(bad_data) with file and line for text after a closing quote, a quote that is never
/// closed, a row with another number of fields than the header, and a file without a header.
class CsvReader {
 public:
  /// The delimiter is ',' or '\t' by the file's extension; .gz and .zst are unpacked.
  explicit CsvReader(const std::filesystem::path& path);
  /// Text that is in memory already, with commas; errors call it `name`.
  CsvReader(const std::string& name, std::string text);
  CsvReader(const CsvReader&) = delete;
  CsvReader& operator=(const CsvReader&) = delete;

  const std::vector<std::string>& columns() const { return columns_; }
  /// Reads the next row into `fields`; false at the end.
  bool next(std::vector<std::string>& fields);
  std::size_t line() const { return row_line_; }  ///< where the last row began, from 1
  const std::filesystem::path& path() const { return path_; }

  /// For writing the table again as it was: the last row (or the header, before the first) byte for
  /// byte, without its line end; and what it takes around it.
  std::string_view row_text() const { return text_.substr(row_begin_, row_end_ - row_begin_); }
  char delimiter() const { return delimiter_; }
  std::string_view line_end() const { return crlf_ ? "\r\n" : "\n"; }  ///< of the rows so far
  bool has_byte_order_mark() const { return has_byte_order_mark_; }

  /// The index of a column. Throws Error(bad_data) that lists the columns, the nearest name and
  /// what to try: `command` with the right `option`, or with a template where it trains. Call it
  /// before next(): it reads the rest of the file to describe it.
  std::size_t column(const std::string& name, const std::string& command = "quire train",
                     const std::string& option = "--text-column");
  /// The error that column() throws.
  [[noreturn]] void throw_no_column(const std::string& name,
                                    const std::string& command = "quire train",
                                    const std::string& option = "--text-column");

 private:
  void read_header();
  bool read_row(std::vector<std::string>& fields);
  void read_quoted(std::string& field);
  [[noreturn]] void fail(std::size_t line, const std::string& why,
                         const std::string& next = {}) const;

  std::filesystem::path path_;
  std::optional<InputFile> file_;
  std::string memory_;     // without a file
  std::string_view text_;  // all of either, without the byte-order mark
  char delimiter_ = ',';
  bool has_byte_order_mark_ = false;
  std::size_t at_ = 0;
  std::size_t line_ = 1;
  std::size_t row_line_ = 0, row_begin_ = 0, row_end_ = 0;
  bool crlf_ = false;  // seen at the end of a row
  std::vector<std::string> columns_;
};

/// A field as it is written: in quotes where it has the delimiter, a quote or a line end, where
/// white space at its ends would be lost in some programs, and where it might begin with a
/// byte-order mark.
std::string csv_field(std::string_view text, char delimiter = ',');

/// Drops a UTF-8 byte-order mark. Throws Error(bad_data) naming the file for one of UTF-16.
std::string_view without_byte_order_mark(std::string_view text, const std::filesystem::path& path);

}  // namespace quire
