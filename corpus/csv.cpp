#include "corpus/csv.h"

#include <algorithm>

#include "base/nearest.h"
#include "base/text.h"
#include "corpus/file_kind.h"

namespace quire {
namespace {

std::string lower(std::string text) {
  for (char& c : text) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return text;
}

std::string join(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ", ") + word;
  return text;
}

}  // namespace

std::string_view without_byte_order_mark(std::string_view text, const std::filesystem::path& path) {
  if (text.starts_with("\xEF\xBB\xBF")) return text.substr(3);
  if (text.starts_with("\xFF\xFE") || text.starts_with("\xFE\xFF")) {
    throw Error(
        Fault::bad_data, path.string() + " is UTF-16, Quire reads UTF-8", {},
        "iconv -f UTF-16 -t UTF-8 " + path.string() + " > utf8" + path.extension().string());
  }
  return text;
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

CsvReader::CsvReader(const std::filesystem::path& path)
    : path_(path),
      file_(path),
      text_(without_byte_order_mark(file_->text(), path)),
      delimiter_(lower_extension(unpacked_name(path)) == ".tsv" ? '\t' : ','),
      has_byte_order_mark_(text_.size() < file_->text().size()) {
  read_header();
}

CsvReader::CsvReader(const std::string& name, std::string text)
    : path_(name),
      memory_(std::move(text)),
      text_(without_byte_order_mark(memory_, path_)),
      has_byte_order_mark_(text_.size() < memory_.size()) {
  read_header();
}

void CsvReader::read_header() {
  if (!read_row(columns_)) {
    throw Error(Fault::bad_data, path_.string() + " is empty",
                {"the first row must name the columns"});
  }
}

void CsvReader::fail(std::size_t line, const std::string& why, const std::string& next) const {
  throw Error(Fault::bad_data, path_.string() + " line " + std::to_string(line) + ": " + why, {},
              next);
}

// at_ is behind the opening quote; ends behind the closing one.
void CsvReader::read_quoted(std::string& field) {
  const std::size_t opened = line_;
  while (true) {
    const std::size_t stop = text_.find_first_of("\"\r\n", at_);
    if (stop == std::string_view::npos) {
      fail(opened, "the quote that opens here is never closed",
           "close it, or write a quote inside a field twice");
    }
    field.append(text_.substr(at_, stop - at_));
    at_ = stop + 1;
    if (text_[stop] == '"') {
      if (at_ == text_.size() || text_[at_] != '"') return;
      field += '"';
      ++at_;
      continue;
    }
    if (text_[stop] == '\r' && at_ < text_.size() && text_[at_] == '\n') ++at_;
    field += '\n';
    ++line_;
  }
}

bool CsvReader::read_row(std::vector<std::string>& fields) {
  while (at_ < text_.size() && (text_[at_] == '\n' || text_[at_] == '\r')) {  // blank lines
    at_ += text_.substr(at_).starts_with("\r\n") ? 2 : 1;
    ++line_;
  }
  if (at_ == text_.size()) return false;
  row_line_ = line_;
  row_begin_ = at_;
  std::size_t count = 0;
  while (true) {
    if (count == fields.size()) fields.emplace_back();
    std::string& field = fields[count++];  // reused from row to row
    field.clear();
    if (at_ < text_.size() && text_[at_] == '"') {
      ++at_;
      read_quoted(field);
    } else {
      const std::size_t start = at_;
      while (at_ < text_.size() && text_[at_] != delimiter_ && text_[at_] != '\n' &&
             text_[at_] != '\r')
        ++at_;
      field.append(text_.substr(start, at_ - start));
    }
    row_end_ = at_;
    if (at_ == text_.size()) break;
    const char end = text_[at_++];
    if (end == delimiter_) continue;
    if (end != '\n' && end != '\r') {
      fail(line_, "there is text after the closing quote of field " + std::to_string(count),
           "write a quote inside a field twice");
    }
    if (end == '\r' && at_ < text_.size() && text_[at_] == '\n') {
      crlf_ = true;
      ++at_;
    }
    ++line_;
    break;
  }
  fields.resize(count);
  return true;
}

bool CsvReader::next(std::vector<std::string>& fields) {
  if (!read_row(fields)) return false;
  if (fields.size() != columns_.size()) {
    fail(row_line_, "the row has " + std::to_string(fields.size()) +
                        (fields.size() == 1 ? " field" : " fields") + ", the header has " +
                        std::to_string(columns_.size()));
  }
  return true;
}

std::size_t CsvReader::column(const std::string& name, const std::string& command,
                              const std::string& option) {
  const auto found = std::find(columns_.begin(), columns_.end(), name);
  if (found == columns_.end()) throw_no_column(name, command, option);
  if (std::find(found + 1, columns_.end(), name) != columns_.end()) {
    throw Error(Fault::bad_data, path_.string() + " has more than one column '" + name + "'",
                {"columns: " + join(columns_)});
  }
  return static_cast<std::size_t>(found - columns_.begin());
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
  std::vector<std::string> details;
  details.push_back("columns: " + join(columns_) + " (" + with_commas(rows) +
                    (rows == 1 ? " row, " : " rows, ") +
                    (is_utf8(text_) ? "UTF-8" : "not all UTF-8") + (crlf_ ? ", CRLF)" : ", LF)"));

  const bool trains = command == "quire train";
  std::string choice;
  std::vector<std::string> lowered;
  for (const std::string& column : columns_) lowered.push_back(lower(column));
  const std::string close = nearest(lower(name), lowered);
  const std::size_t longest =
      static_cast<std::size_t>(std::max_element(bytes.begin(), bytes.end()) - bytes.begin());
  constexpr std::size_t kProse =
      32;  // bytes a row, beyond which a column is text rather than a label
  if (columns_.size() == 1 && columns_[0].find(';') != std::string::npos) {
    details.push_back(
        "the fields seem to be separated by ';': Quire reads ',' (.csv) and tabs (.tsv)");
  } else if (!close.empty()) {
    const auto index = std::find(lowered.begin(), lowered.end(), close) - lowered.begin();
    choice = option + " '" + columns_[static_cast<std::size_t>(index)] + "'";
  } else if (!option.ends_with("text-column")) {
    // Only texts can be told by their length.
  } else if (!trains || columns_.size() == 1 || (rows > 0 && bytes[longest] / rows >= kProse)) {
    choice = option + " '" + columns_[longest] + "'";
  } else {  // short labels: one tells the other
    const bool swap = bytes[0] < bytes[1];
    choice = "--template \"{" + columns_[swap ? 1 : 0] + "} => {" + columns_[swap ? 0 : 1] + "}\"";
  }
  const std::string whole =
      command + (trains ? " --model DIR --data " : " ") + (file_ ? path_.string() : "-") + " ";
  throw Error(Fault::bad_data, path_.string() + " has no column '" + name + "'", details,
              choice.empty() ? "" : whole + choice);
}

}  // namespace quire
