#include "corpus/csv.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <utility>

#include "base/nearest.h"
#include "base/text.h"
#include "corpus/file_kind.h"

namespace quire {
namespace {

constexpr std::size_t kRowsAhead = 100;  // rows, to find out how a file is written

std::string join(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ", ") + word;
  return text;
}

/// `only`: the table's only column.
bool looks_like_data(const std::string& name, bool only) {
  constexpr std::size_t kLong = 64;  // bytes
  const auto words = 1 + std::count(name.begin(), name.end(), ' ');
  const bool sentence = words > 2 && (name.ends_with('.') || name.ends_with('!') ||
                                      name.ends_with("\xE2\x80\xA6"));  // an ellipsis
  return name.size() > kLong || sentence || name.find('\n') != std::string::npos ||
         (only && (words > 2 || name.find(',') != std::string::npos));
}

bool is_number(const std::string& text) {
  double value = 0;
  const auto [end, trouble] = std::from_chars(text.data(), text.data() + text.size(), value);
  return !text.empty() && trouble == std::errc() && end == text.data() + text.size();
}

}  // namespace

std::string delimiter_name(char delimiter) {
  return delimiter == '\t' ? "tab" : std::string(1, delimiter);
}

std::string csv_field(std::string_view text, char delimiter) {
  const auto is_edge = [](char c) { return c == ' ' || c == '\t'; };
  // At the start of a file these bytes would be a byte-order mark.
  const auto is_mark = [](char c) { return c == '\xEF' || c == '\xFE' || c == '\xFF'; };
  const bool plain =
      text.find_first_of("\"\r\n") == std::string_view::npos &&
      text.find(delimiter) == std::string_view::npos &&
      (text.empty() || (!is_edge(text.front()) && !is_edge(text.back()) && !is_mark(text.front())));
  if (plain) return std::string(text);
  std::string field = "\"";
  for (const char c : text) {
    if (c == '"') field += '"';
    field += c;
  }
  return field + '"';
}

CsvReader::CsvReader(const std::filesystem::path& path, const TextFormat& format,
                     ReadingReport* report)
    : path_(path),
      file_(std::in_place, path, format),
      text_(without_byte_order_mark(file_->text(), path)),
      report_(report),
      usual_delimiter_(lower_extension(unpacked_name(path)) == ".tsv" ? '\t' : ','),
      has_byte_order_mark_(text_.size() < file_->text().size()) {
  begin(format);
}

CsvReader::CsvReader(const std::string& name, std::string text, const TextFormat& format,
                     ReadingReport* report)
    : path_(name),
      memory_(names_utf8(format.encoding) ? std::move(text)
                                          : to_utf8(text, format.encoding, path_)),
      text_(without_byte_order_mark(memory_, path_)),
      report_(report),
      has_byte_order_mark_(text_.size() < memory_.size()) {
  begin(format);
}

void CsvReader::begin(const TextFormat& format) {
  delimiter_ = format.delimiter != 0 ? format.delimiter : usual_delimiter_;
  read_separator_line(format.delimiter);
  if (format.delimiter == 0 && body_ == 0) delimiter_ = find_delimiter();
  if (report_ != nullptr && format.delimiter == 0 && delimiter_ != usual_delimiter_) {
    report_->delimiters.push_back({path_, delimiter_});
  }
  has_header_ = format.header;
  if (!read_row(columns_)) {
    throw Error(Fault::bad_data, path_.string() + " is empty",
                {has_header_ ? "the first row must name the columns" : "there is no row"});
  }
  if (has_header_) {
    if (report_ != nullptr) look_at_header();
    return;
  }
  for (std::size_t i = 0; i < columns_.size(); ++i) columns_[i] = std::to_string(i + 1);
  // The row is read again.
  place_ = {.at = place_.row_begin,
            .line = place_.row_line,
            .row_line = place_.row_line,
            .row_begin = place_.row_begin,
            .row_end = place_.row_begin};
}

// "sep=;" in the first line, in quotes or not.
void CsvReader::read_separator_line(char asked) {
  const std::size_t end = std::min(text_.find_first_of("\r\n"), text_.size());
  std::string_view line = text_.substr(0, end);
  if (line.size() >= 2 && line.starts_with('"') && line.ends_with('"')) {
    line = line.substr(1, line.size() - 2);
  }
  if (line.size() != 5 || lower_ascii(line.substr(0, 4)) != "sep=") return;
  // Zero stands for "found out" everywhere else, and half a character separates nothing.
  if (line[4] == '\0' || line[4] == '"' || !is_ascii(line.substr(4))) return;
  if (asked == 0) delimiter_ = line[4];
  body_ = place_.at =
      end == text_.size() ? end : end + (text_.substr(end).starts_with("\r\n") ? 2 : 1);
  place_.line = 2;
}

bool CsvReader::look_ahead(char delimiter, std::size_t rows,
                           const std::function<void(const std::vector<std::string>&)>& take) {
  const Place start = place_;
  const char own = std::exchange(delimiter_, delimiter);
  ReadingReport* const report = std::exchange(report_, nullptr);
  std::vector<std::string> fields;
  bool all_read = true;
  try {
    for (; rows > 0 && read_row(fields); --rows) take(fields);
  } catch (const Error&) {  // it is thrown again when the row is reached
    all_read = false;
  }
  place_ = start;
  delimiter_ = own;
  report_ = report;
  return all_read;
}

CsvReader::Shape CsvReader::shape_with(char delimiter) {
  Shape shape;
  const bool all_read = look_ahead(delimiter, kRowsAhead + 1, [&](const auto& fields) {
    const bool first = shape.columns == 0;
    if (first) shape.columns = fields.size();
    shape.rows += !first;
    shape.same += !first && fields.size() == shape.columns;
  });
  shape.rows += !all_read;  // one that is none with this delimiter
  return shape;
}

char CsvReader::find_delimiter() {
  const Shape usual = shape_with(usual_delimiter_);
  if (usual.columns > 1 && usual.whole()) return usual_delimiter_;
  char best = usual_delimiter_, doubtful = 0;
  std::size_t most = 1;
  for (const char other : {';', '\t', '|', ','}) {
    if (other == usual_delimiter_) continue;
    const Shape shape = shape_with(other);
    if (shape.columns < 2) continue;
    // One row of ten may be broken: it is an error, with its line, when it is read.
    const bool fits = usual.columns == 1 ? 10 * shape.same >= 9 * shape.rows : shape.whole();
    if (fits && shape.columns > most) {
      best = other;
      most = shape.columns;
    } else if (usual.columns == 1 && 2 * shape.same >= shape.rows) {
      doubtful = other;
    }
  }
  if (most == 1 && doubtful != 0) {
    const std::string other = delimiter_name(doubtful);
    throw Error(Fault::bad_data,
                fmt::format("{}: its rows look delimited by '{}', but not all alike",
                            path_.string(), other),
                {"taken as they are, they have one column"},
                fmt::format("{0} '{1}', or {0} '{2}' for one column", field_name("delimiter"),
                            other, delimiter_name(usual_delimiter_)));
  }
  return best;
}

// Names of columns are short, no sentences, no numbers above others, and stand in no other row.
void CsvReader::look_at_header() {
  bool again = false;
  std::vector<std::size_t> numbers(columns_.size());  // rows with one below a number
  std::size_t rows = 0;
  look_ahead(delimiter_, kRowsAhead, [&](const auto& fields) {
    ++rows;
    const std::size_t common = std::min(fields.size(), columns_.size());
    for (std::size_t i = 0; i < common; ++i) {
      again |= fields[i] == columns_[i] && fields[i] != "";
      numbers[i] += is_number(columns_[i]) && is_number(fields[i]);
    }
  });
  const bool only = columns_.size() == 1;
  const bool number = rows > 0 && std::find(numbers.begin(), numbers.end(), rows) != numbers.end();
  if (again || number ||
      std::any_of(columns_.begin(), columns_.end(),
                  [&](const std::string& name) { return looks_like_data(name, only); })) {
    report_->headers.push_back({path_, std::string(row_text())});
  }
}

// " (…)" where a field of the row goes over several lines: a quote may have been opened too early.
std::string CsvReader::lines_of_quote() const {
  if (quote_opened_ == quote_closed_) return "";
  return fmt::format("; the quote that opens on line {} closes on line {}", quote_opened_,
                     quote_closed_);
}

void CsvReader::fail(std::size_t line, const std::string& why, const std::string& next) const {
  throw Error(Fault::bad_data, path_.string() + " line " + std::to_string(line) + ": " + why, {},
              next);
}

// It stands behind the opening quote; ends behind the closing one. Returns the opening one's line.
std::size_t CsvReader::read_quoted(std::string& field) {
  std::size_t& at = place_.at;
  const std::size_t opened = place_.line;
  while (true) {
    const std::size_t stop = text_.find_first_of("\"\r\n", at);
    if (stop == std::string_view::npos) {
      fail(opened, "the quote that opens here is never closed",
           "close it, or write a quote inside a field twice");
    }
    field.append(text_.substr(at, stop - at));
    at = stop + 1;
    if (text_[stop] == '"') {
      if (at == text_.size() || text_[at] != '"') {
        if (place_.line > opened && quote_opened_ == 0) {
          quote_opened_ = opened;
          quote_closed_ = place_.line;
        }
        return opened;
      }
      field += '"';
      ++at;
      continue;
    }
    if (text_[stop] == '\r' && at < text_.size() && text_[at] == '\n') ++at;
    field += '\n';
    ++place_.line;
  }
}

// A line without anything but spaces and, where they do not delimit, tabs.
bool CsvReader::skip_blank_line() {
  std::size_t& at = place_.at;
  const std::size_t end =
      std::min(text_.find_first_not_of(delimiter_ == '\t' ? " " : " \t", at), text_.size());
  if (end < text_.size() && text_[end] != '\n' && text_[end] != '\r') return false;
  at = end;
  if (at == text_.size()) return true;
  at += text_.substr(at).starts_with("\r\n") ? 2 : 1;
  ++place_.line;
  return true;
}

bool CsvReader::read_row(std::vector<std::string>& fields) {
  std::size_t& at = place_.at;
  const std::size_t first = place_.line;
  std::size_t blank = 0;
  while (at < text_.size() && skip_blank_line()) ++blank;
  if (at == text_.size()) return false;
  for (std::size_t i = 0; i < blank && report_ != nullptr; ++i) {
    report_->blank_rows.add(path_, first + i);
  }
  quote_opened_ = quote_closed_ = 0;
  row_over_ = false;
  place_.row_line = place_.line;
  place_.row_begin = at;
  std::size_t count = 0;
  while (true) {
    std::size_t opened = place_.line;
    if (count == fields.size()) fields.emplace_back();
    std::string& field = fields[count++];  // reused from row to row
    field.clear();
    if (at < text_.size() && text_[at] == '"') {
      ++at;
      opened = read_quoted(field);
    } else {
      const std::size_t start = at;
      while (at < text_.size() && text_[at] != delimiter_ && text_[at] != '\n' && text_[at] != '\r')
        ++at;
      field.append(text_.substr(start, at - start));
    }
    place_.row_end = at;
    if (at == text_.size()) break;
    const char end = text_[at++];
    if (end == delimiter_) continue;
    if (end != '\n' && end != '\r') {
      const std::size_t line = place_.line;
      if (place_.row_line == line) end_row();
      fail(line,
           fmt::format("there is text after the closing quote of field {}{}", count,
                       opened < line ? fmt::format(", which opens on line {}", opened) : ""),
           "write a quote inside a field twice");
    }
    if (end == '\r' && at < text_.size() && text_[at] == '\n') {
      place_.crlf = true;
      ++at;
    }
    ++place_.line;
    break;
  }
  fields.resize(count);
  row_over_ = true;
  return true;
}

// To the next line, from anywhere in a row that is given up.
void CsvReader::end_row() {
  place_.at = std::min(text_.find_first_of("\r\n", place_.at), text_.size());
  if (place_.at < text_.size()) place_.at += text_.substr(place_.at).starts_with("\r\n") ? 2 : 1;
  ++place_.line;
  row_over_ = true;
}

bool CsvReader::next(std::vector<std::string>& fields, std::optional<Error>& trouble) {
  trouble.reset();
  try {
    return next(fields);
  } catch (const Error& error) {
    // A row of another length may be several that a quote made one.
    if (!row_over_ || quote_opened_ != quote_closed_) throw;
    trouble = error;
    return true;
  }
}

bool CsvReader::next(std::vector<std::string>& fields) {
  constexpr std::size_t kLetGo = 1 << 22;  // bytes at a time
  if (file_ && place_.at - kept_ >= kLetGo) {
    file_->let_go(text_.substr(kept_, place_.at - kept_));
    kept_ = place_.at;
  }
  if (!read_row(fields)) return false;
  if (fields.size() != columns_.size()) {
    fail(place_.row_line,
         fmt::format("the row has {} {}, the header has {}{}", fields.size(),
                     fields.size() == 1 ? "field" : "fields", columns_.size(), lines_of_quote()));
  }
  return true;
}

std::size_t CsvReader::column(const std::string& name, const std::string& command,
                              const std::string& option) {
  const auto found = std::find(columns_.begin(), columns_.end(), name);
  if (found == columns_.end()) throw_no_column(name, command, option);
  if (std::find(found + 1, columns_.end(), name) != columns_.end()) {
    throw Error(Fault::bad_data, path_.string() + " has more than one column '" + name + "'",
                {"columns: " + join(columns_)}, "give them different names in the first row");
  }
  return static_cast<std::size_t>(found - columns_.begin());
}

std::size_t CsvReader::text_column(const std::string& name, const std::string& command,
                                   const std::string& option) {
  if (name.empty() && columns_.size() == 1) return 0;
  return column(name.empty() ? "text" : name, command, option);
}

void CsvReader::throw_no_column(const std::string& name, const std::string& command,
                                const std::string& option) {
  std::size_t rows = 0;
  std::vector<std::size_t> bytes(columns_.size());
  std::vector<std::string> fields;
  while (next(fields)) {
    ++rows;
    for (std::size_t i = 0; i < fields.size(); ++i) bytes[i] += fields[i].size();
  }
  const bool usual = delimiter_ == ',' || delimiter_ == '\t';
  const std::string found =
      fmt::format("columns: {} ({}, {}{}, {})", join(columns_), counted(rows, "row"),
                  usual ? "" : "delimiter '" + delimiter_name(delimiter_) + "', ",
                  is_utf8(text_) ? "UTF-8" : "not all UTF-8", place_.crlf ? "CRLF" : "LF");
  const bool trains = command.empty() || command.starts_with("quire train");
  std::string choice;
  std::vector<std::string> lowered;
  for (const std::string& column : columns_) lowered.push_back(lower_ascii(column));
  const std::string close = nearest(lower_ascii(name), lowered);
  const std::size_t longest =
      static_cast<std::size_t>(std::max_element(bytes.begin(), bytes.end()) - bytes.begin());
  constexpr std::size_t kProse =
      32;  // bytes a row, beyond which a column is text rather than a label
  if (columns_.size() == 1 && columns_[0].find(';') != std::string::npos) {
    choice = "`delimiter` ';'"_named;
  } else if (!close.empty()) {
    const auto index = std::find(lowered.begin(), lowered.end(), close) - lowered.begin();
    choice = field_name(option) + " " + in_quotes(columns_[index]);
  } else if (!option.ends_with("text_column")) {
    // Only texts can be told by their length.
  } else if (!trains || columns_.size() == 1 || columns_[0].empty() || columns_[1].empty() ||
             (rows > 0 && bytes[longest] / rows >= kProse)) {
    choice = field_name(option) + " " + in_quotes(columns_[longest]);
  } else if (columns_[0] != columns_[1]) {  // short labels: one tells the other
    const bool swap = bytes[0] < bytes[1];
    choice = "`template_text` "_named +
             in_quotes("{" + columns_[swap ? 1 : 0] + "} => {" + columns_[swap ? 0 : 1] + "}", '"');
  }
  const std::string whole =
      command.empty() ? "" : command + " " + (file_ ? in_shell(path_.string()) : "-") + " ";
  throw Error(Fault::bad_data, path_.string() + " has no column '" + name + "'", {found},
              choice.empty() ? "" : whole + choice);
}

}  // namespace quire
