#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "base/byte_spill.h"
#include "base/error.h"
#include "base/text.h"
#include "corpus/csv.h"
#include "corpus/encoding.h"
#include "corpus/file_kind.h"
#include "corpus/input_file.h"
#include "corpus/json_line.h"
#include "corpus/records.h"
#include "corpus/template.h"

namespace quire {
namespace {

namespace fs = std::filesystem;

// What becomes a record's text, where it is made of several fields.
std::optional<Template> template_of(const CorpusOptions& options) {
  if (options.template_text.empty()) {
    if (!options.loss_on_completion) return std::nullopt;
    throw Error(Fault::usage, "`loss_on_completion` needs a template"_named,
                {"what comes before its last column is the prompt"},
                "`template_text` \"{prompt} {completion}\""_named);
  }
  if (!options.text_column.empty()) {
    throw Error(Fault::usage, "`template_text` and `text_column` exclude each other"_named,
                {"a template of one column is \"{" + options.text_column + "}\""});
  }
  return Template(options.template_text);
}

// Hands out what has been read, cleaned.
class Output {
 public:
  Output(const CleaningOptions& cleaning, const TakeRecord& take)
      : cleaner_(cleaning), take_(take) {}
  void add(Record&& record, const RecordPlace& place) {
    read_ += !record.more;
    if (gathers_ && (record.more || !ends_.empty())) {
      gathered_.add(record.text);
      ends_.push_back(gathered_.size());
      if (!record.more) hand_out_gathered(place);
      return;
    }
    if (!cleaner_.clean(record)) return;
    taken_ += !record.more;
    take_(std::move(record), place);
  }
  /// Whether parts of a record wait for the last one, since cleaning needs all of it.
  void gather(bool parts) { gathers_ = parts; }
  void add_text(std::string&& text, const RecordPlace& place) {
    if (text.empty()) return;
    add({.text = std::move(text)}, place);
  }
  std::int64_t read() const { return read_; }
  std::int64_t taken() const { return taken_; }
  const std::vector<StepCount>& counts() const { return cleaner_.counts(); }

 private:
  void hand_out_gathered(const RecordPlace& place) {
    const ForEachPart parts = [&](const std::function<void(std::string&&, bool)>& take) {
      std::size_t begin = 0;
      for (const std::size_t end : ends_) {
        std::string text(end - begin, '\0');
        gathered_.read(begin, text);
        take(std::move(text), end == ends_.back());
        begin = end;
      }
    };
    taken_ += cleaner_.clean_parts(parts, [&](std::string&& text, bool last) {
      take_({.text = std::move(text), .more = !last}, place);
    });
    gathered_.clear();
    ends_.clear();
  }

  Cleaner cleaner_;
  const TakeRecord& take_;
  bool gathers_ = false;
  ByteSpill gathered_;             // of one record
  std::vector<std::size_t> ends_;  // of its parts
  std::int64_t read_ = 0, taken_ = 0;
};

bool is_blank_text(std::string_view text) {
  return text.find_first_not_of(" \t\n") == std::string_view::npos;
}

bool parts_wait(const CorpusOptions& options, const InputFile& file, std::string_view text) {
  if (!needs_all(options.cleaning, /*utf8=*/false)) return false;
  if (needs_all(options.cleaning, /*utf8=*/true)) return true;
  TextBlocks blocks(file, text);
  while (blocks.next()) {
    if (!is_utf8(blocks.block())) return true;
  }
  return false;
}

// One document of a .txt, gathered.
class Document {
 public:
  /// `part_bytes`: 0 where it must be handed out whole.
  Document(const fs::path& path, Output& output, std::size_t part_bytes)
      : place_{.file = &path, .line = 1}, output_(output), part_bytes_(part_bytes) {}
  void reserve(std::size_t bytes) { text_.reserve(bytes); }
  void add(std::string_view text) {
    text_ += text;
    if (part_bytes_ == 0 || text_.size() <= part_bytes_) return;
    std::size_t at = text_.size() - 1;
    while (at > looked_ && !can_cut(text_, at)) --at;
    if (at > looked_) {
      output_.add({.text = text_.substr(0, at), .more = true}, place_);
      parts_ = true;
      text_.erase(0, at);
    }
    looked_ = text_.size() - 1;
  }
  /// The next one begins in `next_line`.
  void end(bool keep_blank, std::size_t next_line) {
    if (keep_blank || parts_ || !is_blank_text(text_)) output_.add_text(std::move(text_), place_);
    text_.clear();
    place_.line = next_line;
    looked_ = 0;
    parts_ = false;
  }

 private:
  RecordPlace place_;
  Output& output_;
  std::size_t part_bytes_;
  std::string text_;
  std::size_t looked_ = 0;  // there is no cut up to here
  bool parts_ = false;      // some were handed out
};

void read_text(const fs::path& path, const CorpusOptions& options, Output& output) {
  const InputFile file(path, options.format);
  const std::string_view text = without_byte_order_mark(file.text(), path);
  const std::string& separator = options.document_separator;
  const bool whole = !options.line_by_line && separator.empty();
  const bool parts = options.part_bytes > 0 && text.size() > options.part_bytes;
  output.gather(parts && parts_wait(options, file, text));
  Document document(path, output, parts ? options.part_bytes : 0);
  if (whole && !parts) document.reserve(text.size());
  std::size_t line_number = 1;
  for (TextBlocks blocks(file, text); blocks.next();) {
    const std::string_view block = blocks.block();
    if (options.report != nullptr) options.report->look(path, line_number, block);
    if (whole) {
      document.add(block);
      line_number += static_cast<std::size_t>(std::count(block.begin(), block.end(), '\n'));
      continue;
    }
    std::size_t begin = 0;
    for (std::size_t at = 0; at < block.size(); ++line_number) {
      const std::size_t end = std::min(block.find('\n', at), block.size());
      const std::size_t next = std::min(end + 1, block.size());
      const bool divides = !options.line_by_line && block.substr(at, end - at) == separator;
      if (options.line_by_line || divides) {
        document.add(block.substr(begin, (divides ? at : end) - begin));
        document.end(/*keep_blank=*/false, line_number + 1);
        begin = next;
      }
      at = next;
    }
    document.add(block.substr(begin));
  }
  document.end(/*keep_blank=*/whole, line_number);
}

// Of a table or of JSON lines: `values` are those of the template's fields, or the only one.
void add_fields(const CorpusOptions& options, const std::optional<Template>& pattern,
                const std::vector<std::string_view>& values, const RecordPlace& place,
                Output& output) {
  if (!pattern) return output.add_text(std::string(values[0]), place);
  output.add({.text = pattern->fill(values),
              .prompt_bytes = options.loss_on_completion ? pattern->prompt(values).size() : 0},
             place);
}

void read_table(const fs::path& path, const CorpusOptions& options,
                const std::optional<Template>& pattern, Output& output) {
  CsvReader csv(path, options.format, options.report);
  std::vector<std::size_t> indexes;
  if (!pattern) {
    indexes = {csv.text_column(options.text_column, options.command, options.column_option)};
  } else {
    for (const std::string& name : pattern->fields())
      indexes.push_back(csv.column(name, options.command, options.column_option));
  }
  std::vector<std::string> fields;
  std::vector<std::string_view> values(indexes.size());
  while (csv.next(fields)) {
    bool blank = true;
    for (std::size_t i = 0; i < indexes.size(); ++i) {
      values[i] = fields[indexes[i]];
      blank &= is_blank_text(values[i]);
      if (options.report != nullptr) options.report->look(path, csv.line(), values[i]);
    }
    if (!blank) {
      add_fields(options, pattern, values, {.file = &path, .line = csv.line()}, output);
    } else if (options.report != nullptr) {
      options.report->blank_rows.add(path, csv.line());
    }
  }
}

void read_json_lines(const fs::path& path, const CorpusOptions& options,
                     const std::optional<Template>& pattern, Output& output) {
  const std::string& column = options.text_column;
  const std::vector<std::string> names =
      pattern ? pattern->fields() : std::vector<std::string>{column.empty() ? "text" : column};
  const auto take = [&](const JsonLine& line) {
    const RecordPlace place{.file = &path,
                            .line = line.line(),
                            .invalid_utf8 = line.invalid_utf8() || line.lone_surrogate()};
    if (!pattern && options.text_column.empty() && line.has("input_ids")) {
      Record record;
      record.input_ids = line.ids("input_ids", false);
      if (line.has("labels")) {
        record.labels = line.ids("labels", true);
        if (record.labels.size() != record.input_ids.size()) {
          line.fail(fmt::format("there are {} labels for {} input_ids", record.labels.size(),
                                record.input_ids.size()),
                    {"labels are aligned with the ids; -100 stands where nothing is to be learnt"});
        }
      }
      if (!record.input_ids.empty()) output.add(std::move(record), place);
      return;
    }
    std::vector<std::string> values;
    values.reserve(names.size());
    for (const std::string& name : names)
      values.push_back(line.text(name, options.command, options.column_option));
    const bool blank =
        std::all_of(values.begin(), values.end(), [](const auto& v) { return v.empty(); });
    if (!blank) add_fields(options, pattern, {values.begin(), values.end()}, place, output);
  };
  for_each_json_line(path, take, options.format, options.report);
}

}  // namespace

std::vector<StepCount> for_each_record(const CorpusOptions& options, const TakeRecord& take) {
  const std::optional<Template> pattern = template_of(options);
  if (options.line_by_line && !options.document_separator.empty()) {
    throw Error(Fault::usage, "`line_by_line` and `document_separator` exclude each other"_named,
                {"each says what divides a .txt into records"}, "one of the two");
  }
  const std::vector<fs::path> files = find_files(options.paths, options.report);
  Output output(options.cleaning, take);
  for (const fs::path& path : files) {
    const FileKind kind = kind_of(path);
    if (kind == FileKind::text) read_text(path, options, output);
    if (kind == FileKind::table) read_table(path, options, pattern, output);
    if (kind == FileKind::json_lines) read_json_lines(path, options, pattern, output);
  }
  if (output.read() == 0) {
    throw Error(Fault::bad_data,
                files.size() == 1 ? files[0].string() + " holds no text"
                                  : "the " + with_commas(files.size()) + " data files hold no text",
                {"there is nothing to learn from"});
  }
  if (output.taken() == 0) {
    std::vector<std::string> details;
    for (const StepCount& count : output.counts()) {
      if (count.dropped > 0) {
        details.push_back(
            fmt::format("{} dropped {}", name_of(count.step), with_commas(count.dropped)));
      }
    }
    throw Error(Fault::bad_data,
                "`steps` left nothing of "_named + counted(output.read(), "record"), details,
                "fewer steps, or a larger `max_line_length`"_named);
  }
  return output.counts();
}

std::vector<Record> read_records(const CorpusOptions& options) {
  std::vector<Record> records;
  for_each_record(
      options, [&](Record&& record, const RecordPlace&) { records.push_back(std::move(record)); });
  return records;
}

}  // namespace quire
