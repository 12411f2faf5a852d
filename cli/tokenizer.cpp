// quire tokenizer train|encode|decode: byte-level BPE on the command line. add and convert are in
// tokenizer_files.cpp.
//
// encode reads text and writes ids, decode the reverse; both on standard input and output or with
// files named, and with --jsonl one {"text": …} or {"ids": […]} a line. The text is taken byte for
// byte: a final newline is part of it, and decode adds none.
#include <fmt/format.h>
#include <stdlib.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <utility>

#include "base/decimal.h"
#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/text.h"
#include "cli/command.h"
#include "cli/corpus_flags.h"
#include "cli/flags.h"
#include "cli/help_text.h"
#include "cli/option_names.h"
#include "cli/output_file.h"
#include "cli/terminal.h"
#include "corpus/encoding.h"
#include "corpus/file_kind.h"
#include "corpus/json_text.h"
#include "pipeline/model_tokenizer.h"
#include "pipeline/requests.h"
#include "tokenizer/tokenizer.h"

namespace quire {
namespace {

namespace fs = std::filesystem;

struct Input {
  std::string name;  // for errors
  // What it lies in: a file as it is mapped, or text that was read or converted.
  std::optional<MappedFile> file;
  std::string read;

  std::string_view text() const { return file ? file->text() : read; }
  void to_utf8_from(const std::string& encoding) {
    if (names_utf8(encoding)) return;
    read = to_utf8(text(), encoding, name);
    file.reset();
  }
};

std::vector<Input> read_inputs(std::vector<std::string> files) {
  if (files.empty()) files = {"-"};
  std::vector<Input> inputs;
  inputs.reserve(files.size());
  for (const std::string& file : files) {
    inputs.push_back(file == "-" ? Input{"standard input", {}, read_standard_input()}
                                 : Input{file, MappedFile(file), {}});
  }
  return inputs;
}

// Calls take(line, its number) for each line that is not blank.
template <class Take>
void for_each_line(const Input& input, Take take) {
  std::string_view rest = input.text();
  for (std::size_t number = 1; !rest.empty(); ++number) {
    const std::string_view line = take_until('\n', rest);
    if (line.find_first_not_of(" \t\r") != std::string_view::npos) take(line, number);
  }
}

std::string place(const Input& input, std::size_t line) {
  return input.name + ":" + std::to_string(line);
}

// The field of a line of JSON as it is met: corpus/json_line.h.
nlohmann::json parse_line(const Input& input, std::size_t number, std::string_view line,
                          const char* field, ReadingReport& report) {
  const std::string where = place(input, number);
  std::string repaired;
  if (!is_utf8(line)) line = repaired = replace_invalid_utf8(line);
  const StrictJson strict = strict_json(line);
  if (strict.lone_surrogate) report.surrogates.add(input.name, number);
  nlohmann::json object;
  std::string why;
  try {
    object = parse_json<nlohmann::json>(strict.text.empty() ? line : strict.text);
    if (!object.is_object()) why = fmt::format("it holds a JSON {}", object.type_name());
  } catch (const nlohmann::json::exception& error) {
    why = json_line_trouble(error);
  }
  if (!why.empty()) {
    throw Error(
        Fault::bad_data, where + " is not a JSON object",
        {why, "with --jsonl every line is an object with the field '" + std::string(field) + "'"});
  }
  if (!object.contains(field)) {
    throw Error(Fault::bad_data, where + " has no field '" + field + "'");
  }
  return std::move(object[field]);
}

// Output is gathered into pieces of about this many bytes.
constexpr std::size_t kPiece = 1 << 15;

/// Ids in decimal, `between` them, gathered for an output.
class IdText {
 public:
  IdText(OutputFile& output, std::string_view between) : output_(output), between_(between) {}

  void add(std::span<const TokenId> ids) {
    while (!ids.empty()) {
      const auto some = ids.first(std::min(ids.size(), kPiece / kLongest));
      ids = ids.subspan(some.size());
      reserve(some.size() * (kLongest + between_.size()));
      char* to = text_.data() + size_;
      for (const TokenId id : some) {
        if (!first_) to = std::copy(between_.begin(), between_.end(), to);
        first_ = false;
        to = put_decimal(to, static_cast<std::uint32_t>(id));
      }
      size_ = static_cast<std::size_t>(to - text_.data());
    }
  }
  /// As it is; ids after it are the first of a list.
  void add(std::string_view text) {
    reserve(text.size());
    std::copy(text.begin(), text.end(), text_.data() + size_);
    size_ += text.size();
    first_ = true;
  }
  void flush() {
    output_.write(std::string_view(text_).substr(0, size_));
    size_ = 0;
  }

 private:
  static constexpr std::size_t kLongest = kDecimalRoom;

  void reserve(std::size_t more) {
    if (size_ > kPiece) flush();
    if (text_.size() < size_ + more) text_.resize(size_ + more);
  }

  OutputFile& output_;
  std::string_view between_;
  std::string text_;
  std::size_t size_ = 0;  // of text_, used
  bool first_ = true;
};

TokenId checked_id(std::int64_t id, const Tokenizer& tokenizer, const std::string& where) {
  if (id < 0 || id >= tokenizer.vocab_size()) {
    throw Error(Fault::bad_data, fmt::format("{}: there is no token {}", where, id),
                {fmt::format("the vocabulary has ids 0 to {}", tokenizer.vocab_size() - 1)});
  }
  return static_cast<TokenId>(id);
}

std::vector<TokenId> parse_ids(const Input& input, const Tokenizer& tokenizer) {
  std::vector<TokenId> ids;
  std::string_view rest = input.text();
  for (std::string_view item; !(item = take_item(rest)).empty();) {
    std::int64_t id = 0;
    const auto [stop, trouble] = std::from_chars(item.data(), item.data() + item.size(), id);
    if (trouble != std::errc() || stop != item.data() + item.size()) {
      throw Error(Fault::bad_data, fmt::format("{}: '{}' is not a token id", input.name, item),
                  {fmt::format("it is item {} of the input", ids.size() + 1)});
    }
    ids.push_back(checked_id(id, tokenizer, input.name));
  }
  return ids;
}

/// In a folder that goes away with it: copies of files in UTF-8.
class ConvertedFiles {
 public:
  ConvertedFiles() {
    std::string name = (fs::temp_directory_path() / "quire-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) {
      throw Error(Fault::bad_data,
                  "cannot create a folder in " + fs::temp_directory_path().string(),
                  {std::strerror(errno)}, "TMPDIR=DIR");
    }
    folder_ = name;
  }
  ConvertedFiles(const ConvertedFiles&) = delete;
  ConvertedFiles& operator=(const ConvertedFiles&) = delete;
  ~ConvertedFiles() {
    std::error_code ignored;
    fs::remove_all(folder_, ignored);
  }
  fs::path add(const fs::path& file, const std::string& encoding) {
    const fs::path copy = folder_ / std::to_string(files_++);
    write_file(copy, to_utf8(MappedFile(file).text(), encoding, file));
    return copy;
  }

 private:
  fs::path folder_;
  int files_ = 0;
};

/// What encode and decode share.
struct Conversion {
  std::string vocabulary;
  std::vector<std::string> files;
  bool jsonl = false;
  OutputFile output;
  ReadingReport report;

  void add_first(Flags& flags) {
    flags.add(
        kVocabularyNames, vocabulary, "DIR",
        "a folder or file with a tokenizer (.gguf, tokenizer.bin), or a Hub name in the cache");
  }
  void add_last(Flags& flags, const char* example) {
    output.add_to(flags, "OUT");
    flags.add_quiet();
    flags.positional("FILE", files);
    flags.example(example);
    flags.example(where_models_come_from());
  }
  Tokenizer begin(const Flags& flags) {
    if (vocabulary.empty()) flags.refuse("--tokenizer is missing: which vocabulary?");
    Tokenizer tokenizer = named_tokenizer(vocabulary);
    output.open();
    return tokenizer;
  }
};

int run_encode(const std::vector<std::string>& arguments) {
  Conversion c;
  std::string encoding;
  bool plain = false;
  Flags flags("tokenizer encode", "--tokenizer DIR [OPTION...] [FILE...]",
              "Turns text (standard input, or files) into token ids.");
  flags.group("Encode");
  c.add_first(flags);
  flags.add("plain", plain, "special tokens in the text are ordinary characters");
  flags.add("jsonl,json", c.jsonl, "lines of {\"text\": ...} in, lines of {\"ids\": [...]} out");
  add_encoding(flags, encoding);
  c.add_last(flags, "echo -n 'Once upon a time' | quire tokenizer encode --tokenizer gpt2");
  if (!flags.parse(arguments)) return 0;

  const Tokenizer tokenizer = c.begin(flags);
  const SpecialTokens special = plain ? SpecialTokens::plain : SpecialTokens::parse;
  check_encoding(encoding);
  IdText out(c.output, c.jsonl ? ", " : " ");
  const auto add_ids_of = [&](std::string_view text) {
    tokenizer.encode(text, special, [&](std::span<const TokenId> ids) { out.add(ids); });
  };
  for (Input& input : read_inputs(c.files)) {
    input.to_utf8_from(encoding);
    without_byte_order_mark(input.text(), input.name);  // throws for UTF-16; a mark is encoded, too
    c.report.look(input.name, 1, input.text());
    if (!c.jsonl) {
      add_ids_of(input.text());
      out.add("\n");
      out.flush();
      continue;
    }
    for_each_line(input, [&](std::string_view line, std::size_t number) {
      const nlohmann::json text = parse_line(input, number, line, "text", c.report);
      if (!text.is_string()) {
        throw Error(Fault::bad_data, place(input, number) + ": 'text' is not a string");
      }
      out.add("{\"ids\": [");
      add_ids_of(text.get_ref<const std::string&>());
      out.add("]}\n");
    });
    out.flush();
  }
  c.output.commit();
  tell(c.report);
  return 0;
}

int run_decode(const std::vector<std::string>& arguments) {
  Conversion c;
  bool skip_special = false;
  Flags flags("tokenizer decode", "--tokenizer DIR [OPTION...] [FILE...]",
              "Turns token ids (standard input, or files) into text.");
  flags.group("Decode");
  c.add_first(flags);
  flags.add("skip-special-tokens", skip_special, "leave special tokens out of the text");
  flags.add("jsonl,json", c.jsonl, "lines of {\"ids\": [...]} in, lines of {\"text\": ...} out");
  c.add_last(flags, "echo 7454 2402 257 640 | quire tokenizer decode --tokenizer gpt2");
  if (!flags.parse(arguments)) return 0;

  const Tokenizer tokenizer = c.begin(flags);
  for (const Input& input : read_inputs(c.files)) {
    if (!c.jsonl) {
      const std::string text = tokenizer.decode(parse_ids(input, tokenizer), skip_special);
      c.output.write(c.output.is_stdout() && stdout_is_terminal() ? text + "\n" : text);
      continue;
    }
    std::string out;
    for_each_line(input, [&](std::string_view line, std::size_t number) {
      const std::string where = place(input, number);
      std::vector<std::int64_t> list;
      if (!read_json(parse_line(input, number, line, "ids", c.report), list)) {
        throw Error(Fault::bad_data, where + ": 'ids' is not a list of whole numbers");
      }
      std::vector<TokenId> ids;
      ids.reserve(list.size());
      for (const std::int64_t id : list) ids.push_back(checked_id(id, tokenizer, where));
      out += "{\"text\": " + json_text(nlohmann::json(tokenizer.decode(ids, skip_special))) + "}\n";
      if (out.size() > kPiece) c.output.write(std::exchange(out, {}));
    });
    c.output.write(out);
  }
  tell(c.report);
  c.output.commit();
  return 0;
}

// Files as they are; of folders the .txt files below them, in the order of their names.
std::vector<fs::path> training_files(const std::vector<std::string>& names, ReadingReport& report) {
  std::vector<fs::path> files;
  for (const std::string& name : names) {
    if (!fs::is_directory(name)) {
      files.emplace_back(name);
      continue;
    }
    std::vector<fs::path> found;
    ReadingReport::Skipped skipped{.folder = name, .kinds = {}, .texts_alone = true, .pattern = {}};
    for (const auto& entry : fs::recursive_directory_iterator(name)) {
      if (!entry.is_regular_file()) continue;
      if (entry.path().extension() == ".txt") {
        found.push_back(entry.path());
      } else {
        ++skipped.kinds[lower_extension(entry.path())];
      }
    }
    if (!skipped.kinds.empty()) report.skipped.push_back(std::move(skipped));
    if (found.empty()) throw Error(Fault::bad_data, "there is no .txt file in " + name);
    std::sort(found.begin(), found.end());
    files.insert(files.end(), found.begin(), found.end());
  }
  return files;
}

double size_of(const std::vector<fs::path>& files) {
  double bytes = 0;
  for (const fs::path& file : files) {
    std::error_code trouble;
    const std::uintmax_t size = fs::file_size(file, trouble);
    if (trouble) throw Error(Fault::bad_data, "cannot read " + file.string(), {trouble.message()});
    bytes += static_cast<double>(size);
  }
  return bytes;
}

int run_train(const std::vector<std::string>& arguments) {
  BpeTrainingOptions options;
  std::vector<std::string> names;
  std::string encoding;
  fs::path output;
  int max_length = 1024;
  bool overwrite = false, json = false;
  Flags flags("tokenizer train", "--output-dir DIR [OPTION...] FILE...",
              "Learns a byte-level BPE vocabulary from text files, or folders of .txt files.");
  flags.group("Vocabulary");
  flags.add(kDataNames, names, "FILE...", "the same as FILE", ListStyle::several);
  flags.add("vocab-size", options.vocab_size, "N", "tokens, with the 256 bytes and special tokens",
            at_least(256));
  flags.add("min-frequency", options.min_frequency, "N", "pairs seen less often are not merged",
            at_least(1));
  flags.add("special-token", options.special_tokens, "TEXT", "a special token; repeatable");
  flags.add("model-max-length", max_length, "N", "noted in tokenizer_config.json", at_least(1));
  flags.group("Run");
  add_encoding(flags, encoding);
  flags.add(kOutputFolderNames, output, "DIR", "gets vocab.json, merges.txt, tokenizer.json");
  flags.add(kOverwriteFolderNames, overwrite, "replace a tokenizer that is there");
  flags.add("json", json, "one JSON line on stdout: tokens, files, bytes, seconds, the folder");
  flags.add("threads", options.threads, "N", "0 is one per core; the result is the same",
            between(0, 1024));
  flags.add_quiet();
  flags.positional("FILE", names);
  flags.example("quire tokenizer train --vocab-size 8000 --output-dir my-tokenizer books/*.txt");
  if (!flags.parse(arguments)) return 0;

  if (output.empty()) flags.refuse("--output-dir is missing");
  if (names.empty()) flags.refuse("there is no text to learn from", {"name files or folders"});
  if (!overwrite && Tokenizer::exists(output)) {
    throw Error(Fault::usage, output.string() + " holds a tokenizer already", {},
                "another --output-dir, or --overwrite-output-dir");
  }
  check_writable(output);
  check_encoding(encoding);
  ReadingReport report;
  std::vector<fs::path> files = training_files(names, report);
  const double bytes = size_of(files);
  std::optional<ConvertedFiles> converted;
  for (fs::path& file : files) {
    if (!names_utf8(encoding)) {
      if (!converted) converted.emplace();
      file = converted->add(file, encoding);
    } else {
      const MappedFile mapped(file);
      report.look(file, 1, without_byte_order_mark(mapped.text(), file));
    }
  }
  tell(report);
  const Stopwatch watch;
  const Tokenizer tokenizer = train_bpe(files, options);
  const double seconds = watch.seconds();
  tokenizer.save(output, max_length);
  note(fmt::format("{} tokens from {} in {}, in {}: saved in {}",
                   with_commas(tokenizer.vocab_size()), human_bytes(bytes),
                   counted(files.size(), "file"), human_duration(seconds), output.string()));
  if (tokenizer.vocab_size() < options.vocab_size) {
    warn(fmt::format("the text has pairs for {} tokens only, {} were asked for",
                     with_commas(tokenizer.vocab_size()), with_commas(options.vocab_size)));
  }
  if (json) {
    const nlohmann::ordered_json line = {{"tokens", tokenizer.vocab_size()},
                                         {"files", files.size()},
                                         {"bytes", static_cast<std::int64_t>(bytes)},
                                         {"seconds", seconds},
                                         {"output_dir", output.string()}};
    print(json_text(line) + "\n");
  }
  return 0;
}

const Command kActions[] = {
    {"train", "learn a vocabulary from text files", run_train},
    {"encode", "text to ids", run_encode},
    {"decode", "ids to text", run_decode},
    {"add", "more tokens behind the last id", run_tokenizer_add},
    {"convert", "the same tokenizer in other files", run_tokenizer_convert},
};

}  // namespace

const Command kTokenizerCommand = {"tokenizer",
                                   "train, encode, decode, add, convert: byte-level BPE", nullptr,
                                   "Byte-level BPE.", kActions};

}  // namespace quire
