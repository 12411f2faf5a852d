// Comma-separated values in and out, row by row, as RFC 4180 has them.
//
// A row ends with "\n", "\r\n" or "\r", outside of quotes. A field in quotes may hold the
// delimiter, line ends (each becomes "\n") and quotes written twice. A quote inside an unquoted
// field is an ordinary character, as most programs read it. Blank lines and lines of blanks are
// passed over. Every row has as many fields as the first. We have our own reader because those at
// hand do not say on which line the quote began that nobody closed,
// and that line is what a person needs.
//
// The delimiter is the one of the format; or that of a first line "sep=;", which spreadsheets
// write; or ',' ('\t' for .tsv), unless the first 100 rows are a table with ';', '\t', '|' or ','
// and none with it. What was found and what a person might have meant otherwise goes
// into a ReadingReport.
#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "corpus/encoding.h"
#include "corpus/input_file.h"
#include "corpus/reading_report.h"

namespace quire {

/// Throws Error(bad_data) with file and line for text after a closing quote, a quote that is never
/// closed, a row with another number of fields than the header, a file without a header, and one
/// column whose rows look delimited, if not all.
class CsvReader {
 public:
  /// .gz and .zst are unpacked. A report must outlive the reader.
  explicit CsvReader(const std::filesystem::path& path, const TextFormat& format = {},
                     ReadingReport* report = nullptr);
  /// Text that is in memory already; errors call it `name`.
  CsvReader(const std::string& name, std::string text, const TextFormat& format = {},
            ReadingReport* report = nullptr);
  CsvReader(const CsvReader&) = delete;
  CsvReader& operator=(const CsvReader&) = delete;

  const std::vector<std::string>& columns() const { return columns_; }
  /// Reads the next row into `fields`; false at the end.
  bool next(std::vector<std::string>& fields);
  /// The same, but what is wrong with this row alone goes into `trouble`, and the next call reads
  /// on behind it. Throws where the trouble is a quote that took in further lines.
  bool next(std::vector<std::string>& fields, std::optional<Error>& trouble);
  std::size_t line() const { return place_.row_line; }  ///< where the last row began, from 1
  const std::filesystem::path& path() const { return path_; }

  /// For writing the table again as it was: the last row (or the header, before the first; nothing
  /// without one) byte for byte, without its line end; and what it takes around it.
  std::string_view row_text() const {
    return text_.substr(place_.row_begin, place_.row_end - place_.row_begin);
  }
  std::string_view separator_line() const { return text_.substr(0, body_); }  ///< "sep=;\n", or ""
  bool has_header() const { return has_header_; }
  char delimiter() const { return delimiter_; }
  std::string_view line_end() const { return place_.crlf ? "\r\n" : "\n"; }  ///< of the rows so far
  bool has_byte_order_mark() const { return has_byte_order_mark_; }

  /// The index of a column. Throws Error(bad_data) that lists the columns, the nearest name and
  /// what to try, behind `command` and the path where there is one: the right value of the field
  /// `option`, or a template where it trains. Call it before next(): it reads the rest of the file
  /// to describe it.
  std::size_t column(const std::string& name, const std::string& command = {},
                     const std::string& option = "text_column");
  /// The same of the column that holds the texts: where none is named, "text" or the only one.
  std::size_t text_column(const std::string& name, const std::string& command = {},
                          const std::string& option = "text_column");
  /// The error that column() throws.
  [[noreturn]] void throw_no_column(const std::string& name, const std::string& command = {},
                                    const std::string& option = "text_column");

 private:
  /// How the first rows look with a delimiter.
  struct Shape {
    std::size_t columns = 0, rows = 0, same = 0;  ///< rows: without the first; with as many fields
    bool whole() const { return same == rows; }
  };
  /// Where reading stands, to come back to.
  struct Place {
    std::size_t at = 0, line = 1;
    std::size_t row_line = 0, row_begin = 0, row_end = 0;
    bool crlf = false;  // seen at the end of a row
  };
  /// Calls take(fields) for some rows from here on, as they are with a delimiter, and comes back.
  /// False: it did so at one that is none.
  bool look_ahead(char delimiter, std::size_t rows,
                  const std::function<void(const std::vector<std::string>&)>& take);
  void begin(const TextFormat& format);
  void read_separator_line(char asked);
  char find_delimiter();
  Shape shape_with(char delimiter);
  void look_at_header();
  bool skip_blank_line();
  bool read_row(std::vector<std::string>& fields);
  void end_row();
  std::size_t read_quoted(std::string& field);
  std::string lines_of_quote() const;
  [[noreturn]] void fail(std::size_t line, const std::string& why,
                         const std::string& next = {}) const;

  std::filesystem::path path_;
  std::optional<InputFile> file_;
  std::string memory_;     // without a file
  std::string_view text_;  // all of either, without the byte-order mark
  ReadingReport* report_ = nullptr;
  char delimiter_ = ',', usual_delimiter_ = ',';  // usual: by the file's name
  bool has_header_ = true;
  bool has_byte_order_mark_ = false;
  std::size_t body_ = 0;  // where the header is, or the first row
  Place place_;
  std::size_t kept_ = 0;                             // what is before it was let go
  std::size_t quote_opened_ = 0, quote_closed_ = 0;  // lines: the row's first field over several
  bool row_over_ = false;  // place_ is where another row begins, whatever the last one was
  std::vector<std::string> columns_;
};

/// ";", or "tab".
std::string delimiter_name(char delimiter);

/// A field as it is written: in quotes where it has the delimiter, a quote or a line end, where
/// white space at its ends would be lost in some programs, and where it might begin with a
/// byte-order mark.
std::string csv_field(std::string_view text, char delimiter = ',');

}  // namespace quire
