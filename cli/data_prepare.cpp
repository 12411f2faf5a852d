// quire data prepare: text in, token shards out.
//
// The text goes through in batches of records, or of parts of one, so that memory holds one batch.
// Every shard takes its name when it is whole, and manifest.json comes last:
// what was interrupted is known as such.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <span>
#include <utility>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/text.h"
#include "cli/command.h"
#include "cli/corpus_flags.h"
#include "cli/help_text.h"
#include "cli/option_names.h"
#include "cli/signals.h"
#include "cli/terminal.h"
#include "cli/train_flags.h"
#include "pipeline/get_model.h"
#include "pipeline/model_tokenizer.h"
#include "tokens/shards.h"

namespace quire {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr std::size_t kBatchBytes = 1 << 25;  // of text
constexpr const char* kValidationFolder = "validation";
constexpr std::size_t kRecordBytes = 88;  // of a record beside its text

struct PrepareCommand {
  CorpusOptions corpus;
  CorpusFlags corpus_flags;
  std::vector<std::string> validation;
  bool is_validation = false;  // these files are what is prepared now
  std::string tokenizer;
  std::int64_t block_size = 0;
  Overflow overflow = Overflow::truncate;
  fs::path output;
  std::int64_t shard_tokens = 1 << 26;  // 128 MiB of 16-bit ids
  int threads = 0;
  bool overwrite = false, json = false;
};

/// Thrown out of the reading of records.
struct Interrupted {};

/// Records that have more tokens than a row of training: what of them --packing none and records
/// do not use. Shards hold them whole.
struct Longer {
  std::int64_t block_size = 0;  // of a row; 0: not known
  Overflow overflow = Overflow::truncate;
  std::int64_t seen = 0, records = 0, tokens = 0, unused = 0;
  std::int64_t begun = 0;  // tokens of a record that goes on

  void look(const TokenRecords& corpus) {
    for (std::size_t r = 1; r < corpus.offsets.size(); ++r) {
      ++seen;
      const std::int64_t length =
          std::exchange(begun, 0) + corpus.offsets[r] - corpus.offsets[r - 1];
      if (block_size == 0 || length <= block_size) continue;
      if (overflow == Overflow::error) {
        throw Error(Fault::bad_data,
                    fmt::format("record {} has {}, a row has {}", with_commas(seen),
                                counted(length, "token"), with_commas(block_size)),
                    {}, "--overflow split or truncate, or a larger --block-size");
      }
      ++records;
      tokens += length;
      unused += overflow == Overflow::truncate ? length - (block_size - 1) : 0;
    }
    begun += std::ssize(corpus.ids) - corpus.offsets.back();
  }
  /// A warning where the size of a row was named; of a context that was found it is a note, since
  /// most training packs into a stream.
  void tell(bool named) const {
    if (unused == 0) return;
    const std::string line = fmt::format(
        "{} longer than a row of {}: with --packing none or records {} of their {} "
        "are not used\n  try: quire train --overflow split, or --packing stream",
        records == 1 ? "1 record is" : with_commas(records) + " records are",
        counted(block_size, "token"), with_commas(unused), counted(tokens, "token"));
    named ? warn(line) : note(line);
  }
};

void add_flags(Flags& flags, PrepareCommand& c) {
  c.corpus_flags.add_paths(flags, c.corpus);
  add_validation_file(flags, c.validation,
                      "prepared beside it, into the folder validation in DIR, with its files left "
                      "out of the data");
  c.corpus_flags.add_to(flags, c.corpus);
  flags.group("Tokens");
  flags.add(kVocabularyNames, c.tokenizer, "DIR",
            "a folder with a tokenizer, or a Hub name in the cache");
  flags.add("shard-tokens", c.shard_tokens, "N", "a shard ends with the record that reaches N",
            at_least(1));
  flags.add(kBlockNames, c.block_size, "T",
            "tokens a row will have in training, to tell which records are longer; 0 is the "
            "context of the model beside the tokenizer",
            at_least(0));
  add_overflow(flags, c.overflow,
               "how quire train will take a longer record: cut, which is warned of, or gone on "
               "with in further rows; or none is prepared");
  flags.group("Output");
  flags.add(kOutputFolderNames, c.output, "DIR", "gets shard-00000.tokens, ..., and manifest.json");
  flags.add(kOverwriteFolderNames, c.overwrite, "replace the shards that are there");
  flags.add("threads", c.threads, "N", "0 is one per core; the result is the same",
            between(0, 1024));
  flags.add("json", c.json,
            "the manifest as one JSON line on stdout, and one for --validation-file");
  flags.add_quiet();
  flags.example(
      fmt::format("quire data prepare samples/quotes.csv --text-column quote --tokenizer {} -o "
                  "quotes-tokens",
                  kBundledModel));
  flags.example(fmt::format("quire train --model {} --data quotes-tokens --output-dir my-model",
                            kBundledModel));
  flags.example(where_models_come_from());
}

void prepare_folder(const PrepareCommand& c) {
  make_folder(c.output);
  if (fs::is_empty(c.output)) return;
  if (!c.overwrite) {
    throw Error(Fault::usage, c.output.string() + " is not empty", {},
                "another --output-dir, or --overwrite-output-dir");
  }
  fs::remove(c.output / kShardManifest);  // first: what is left from here on is no data set
  for (const fs::directory_entry& entry : fs::directory_iterator(c.output)) {
    if (entry.path().extension() == kShardExtension) fs::remove(entry.path());
  }
}

/// What the manifest tells of where the shards come from.
Json origin_of(const PrepareCommand& c, const Flags& flags, const std::vector<StepCount>& cleaned) {
  Json options = parse_json<Json>(flags.resolved_json());
  for (const char* name : {"data", "validation_file", "output_dir", "overwrite_output_dir", "json",
                           "quiet", "threads"}) {
    options.erase(name);
  }
  return {
      {"cleaning", to_json(cleaned)}, {"data", c.corpus.paths}, {"options", std::move(options)}};
}

/// Takes records, tokenizes them in batches and hands those on.
struct Batches {
  int threads;
  const Tokenizer& tokenizer;
  Longer& longer;
  ShardWriter& writer;
  ProgressLine progress = {};
  std::int64_t text_bytes = 0, invalid_utf8 = 0, records = 0;  // invalid_utf8: records
  // While it works.
  const std::size_t tokenized_bytes = bytes_tokenized(threads);
  std::vector<Record> batch;
  std::size_t batch_bytes = 0, held_bytes = 0;  // held: of those, what is in batch now
  bool invalid = false;                         // something in the record so far

  void add(Record&& record, const RecordPlace& place) {
    const bool more = record.more;
    invalid |= place.invalid_utf8 || !is_utf8(record.text);
    if (!more) invalid_utf8 += std::exchange(invalid, false);
    text_bytes += std::ssize(record.text);
    const std::size_t bytes = bytes_of(record);
    batch_bytes += bytes + (more ? 0 : kRecordBytes);
    held_bytes += bytes;
    batch.push_back(std::move(record));
    // A batch ends with a record, since labels in it give all of its shards labels. Of a record
    // that fills the batch, what is there goes ahead.
    if (batch_bytes < kBatchBytes || (more && held_bytes < tokenized_bytes)) return;
    flush();
    if (!more) batch_bytes = 0;
  }

  void flush() {
    if (interrupted()) throw Interrupted();
    const bool labels = have_labels(batch);
    for (std::span<const Record> rest = batch; !rest.empty();) {
      std::size_t count = 0;
      for (std::size_t bytes = 0; count < rest.size() && bytes < tokenized_bytes; ++count) {
        bytes += bytes_of(rest[count]);
      }
      const auto take = [&](const TokenRecords& part) {
        longer.look(part);
        writer.add(part);
        records += part.size();
      };
      tokenize(rest.first(count), tokenizer, threads, take, labels, records);
      rest = rest.subspan(count);
    }
    batch.clear();
    held_bytes = 0;
    if (progress.due()) {
      progress.show(fmt::format("{}, {} of text", counted(records, "record"),
                                human_bytes(static_cast<double>(text_bytes))));
    }
  }
};

int prepare(PrepareCommand& c, const Flags& flags) {
  const fs::path origin = resolve_tokenizer(c.tokenizer);
  const Tokenizer tokenizer = named_tokenizer(c.tokenizer);
  Longer longer{.block_size = c.block_size > 0 ? c.block_size : context_beside(origin),
                .overflow = c.overflow};
  if (longer.overflow == Overflow::error && longer.block_size == 0) {
    throw Error(Fault::usage, "--overflow error: how long is a row?",
                {origin.string() + " holds no model that says so"}, "--block-size 1024");
  }
  ReadingReport report;
  CorpusOptions corpus = c.corpus;
  // What is wrong with the names is refused before the folder is touched.
  if (c.validation.empty() || c.is_validation) {
    find_files(corpus.paths);
  } else {
    corpus.paths = without_validation(corpus.paths, c.validation, report, note_left_out);
  }
  prepare_folder(c);

  const InterruptGuard interrupts("finishing these records");
  const Stopwatch watch;
  ShardWriter writer(c.output, vocabulary_of(tokenizer), c.shard_tokens);
  Batches batches{.threads = c.threads, .tokenizer = tokenizer, .longer = longer, .writer = writer};
  corpus.report = &report;
  corpus.part_bytes = kPartBytes;
  std::vector<StepCount> cleaned;
  try {
    cleaned = for_each_record(corpus, [&](Record&& record, const RecordPlace& place) {
      batches.add(std::move(record), place);
    });
    batches.flush();
    writer.finish();
  } catch (const Interrupted&) {
    batches.progress.clear();
    note(fmt::format(
        "interrupted: {} is not finished\n  try: the same command with --overwrite-output-dir",
        c.output.string()));
    return interrupt_exit_code();
  }
  const std::int64_t text_bytes = batches.text_bytes;
  const Json text = {{"text_bytes", text_bytes},
                     {"records_with_invalid_utf8", batches.invalid_utf8},
                     {"longer_than_a_row",
                      {{"block_size", longer.block_size},
                       {"records", longer.records},
                       {"tokens_unused", longer.unused}}}};
  const Json manifest = writer.write_manifest(text, origin_of(c, flags, cleaned));
  batches.progress.clear();

  const double seconds = watch.seconds();
  note_cleaning(cleaned);
  longer.tell(c.block_size > 0);
  tell(report);
  note(fmt::format("{}, {} ({} bits each) from {} of text in {}, {}/s: saved in {}",
                   counted(writer.records(), "record"), counted(writer.tokens(), "token"),
                   8 * writer.bytes_per_id(), human_bytes(static_cast<double>(text_bytes)),
                   human_duration(seconds), human_bytes(static_cast<double>(text_bytes) / seconds),
                   c.output.string()));
  if (!c.is_validation) {
    note(fmt::format(
        "  try: quire train --data {}{} --tokenizer {} ...", in_shell(c.output.string()),
        c.validation.empty()
            ? ""
            : " --validation-file " + in_shell((c.output / kValidationFolder).string()),
        in_shell(c.tokenizer)));
  }
  if (c.json) print(json_text(manifest) + "\n");
  return 0;
}

}  // namespace

int run_data_prepare(const std::vector<std::string>& arguments) {
  PrepareCommand c;
  Flags flags("data prepare", "PATH... --tokenizer DIR -o DIR [OPTION...]",
              "Tokenizes text ahead of time, into shards that quire train maps into memory.");
  add_flags(flags, c);
  if (!flags.parse(arguments)) return 0;
  c.corpus_flags.finish(c.corpus);
  if (c.corpus.paths.empty()) flags.refuse("no data is named: what shall be prepared?");
  if (c.tokenizer.empty()) flags.refuse("--tokenizer is missing: which vocabulary?");
  if (c.output.empty()) flags.refuse("--output-dir is missing: where shall the shards go?");
  try {
    const int code = prepare(c, flags);
    if (code != 0 || c.validation.empty()) return code;
    c.corpus.paths = c.validation;
    c.output /= kValidationFolder;
    c.is_validation = true;
    return prepare(c, flags);
  } catch (const fs::filesystem_error& error) {
    throw Error(Fault::bad_data, "cannot work in " + c.output.string(), {error.what()});
  }
}

}  // namespace quire
