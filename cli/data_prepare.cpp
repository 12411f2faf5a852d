// quire data prepare: text in, token shards out.
//
// The text goes through in batches, so that memory holds one batch and one shard. Every shard takes
// its name when it is whole, and manifest.json comes last: what was interrupted is known as such.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/text.h"
#include "cli/corpus_flags.h"
#include "cli/data.h"
#include "cli/model_path.h"
#include "cli/signals.h"
#include "cli/terminal.h"
#include "corpus/token_shards.h"

namespace quire {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr std::size_t kBatchBytes = 1 << 25;  // of text; all threads have work in it

struct PrepareCommand {
  CorpusOptions corpus;
  CorpusFlags corpus_flags;
  std::string tokenizer;
  fs::path output;
  std::int64_t shard_tokens = 1 << 26;  // 128 MiB of 16-bit ids
  int threads = 0;
  bool overwrite = false, json = false;
};

/// Thrown out of the reading of records.
struct Interrupted {};

void add_flags(Flags& flags, PrepareCommand& c) {
  flags.positional("PATH", c.corpus.paths);
  flags.group("Data");
  c.corpus_flags.add_to(flags, c.corpus);
  flags.group("Tokens");
  flags.add("tokenizer,model", c.tokenizer, "DIR",
            "a folder with a tokenizer, or a Hub name in the cache");
  flags.add("shard-tokens", c.shard_tokens, "N", "a shard ends with the record that reaches N",
            at_least(1));
  flags.group("Output");
  flags.add("output-dir,o", c.output, "DIR", "gets shard-00000.tokens, ..., and manifest.json");
  flags.add("overwrite", c.overwrite, "replace the shards that are there");
  flags.add("threads", c.threads, "N", "0 is one per core; the result is the same",
            between(0, 1024));
  flags.add("json", c.json, "the manifest as one JSON line on stdout");
  flags.add_quiet();
  flags.example(
      "quire data prepare samples/quotes.csv --text-column quote --tokenizer storyteller -o "
      "quotes-tokens");
  flags.example("quire train --model storyteller --data quotes-tokens --output-dir my-model");
}

void prepare_folder(const PrepareCommand& c) {
  std::error_code failed;
  fs::create_directories(c.output, failed);
  if (failed) {
    throw Error(Fault::bad_data, "cannot create the folder " + c.output.string(),
                {failed.message()});
  }
  if (fs::is_empty(c.output)) return;
  if (!c.overwrite) {
    throw Error(Fault::usage, c.output.string() + " is not empty", {},
                "another --output-dir, or --overwrite");
  }
  fs::remove(c.output / kShardManifest);  // first: what is left from here on is no data set
  for (const fs::directory_entry& entry : fs::directory_iterator(c.output)) {
    if (entry.path().extension() == kShardExtension) fs::remove(entry.path());
  }
}

Json manifest_of(const PrepareCommand& c, const Flags& flags, const Tokenizer& tokenizer,
                 const ShardWriter& writer, const std::vector<StepCount>& cleaned,
                 std::int64_t text_bytes, std::int64_t invalid_utf8) {
  Json shards = Json::array();
  for (const ShardWriter::Written& shard : writer.shards()) {
    shards.push_back({{"file", shard.file},
                      {"records", shard.records},
                      {"tokens", shard.tokens},
                      {"checksum", hash_text(shard.checksum)}});
  }
  Json cleaning = Json::array();
  for (const StepCount& count : cleaned) {
    cleaning.push_back(
        {{"step", name_of(count.step)}, {"changed", count.changed}, {"dropped", count.dropped}});
  }
  Json options = parse_json<Json>(flags.resolved_json());
  for (const char* name : {"output_dir", "overwrite", "json", "quiet", "threads"}) {
    options.erase(name);
  }
  return {
      {"version", 1},
      {"records", writer.records()},
      {"tokens", writer.tokens()},
      {"text_bytes", text_bytes},
      {"records_with_invalid_utf8", invalid_utf8},
      {"bytes_per_id", writer.bytes_per_id()},
      {"labels", writer.labelled()},
      {"tokenizer",
       {{"vocab_size", tokenizer.vocab_size()}, {"fingerprint", hash_text(writer.tokenizer())}}},
      {"cleaning", std::move(cleaning)},
      {"data", c.corpus.paths},
      {"options", std::move(options)},
      {"shards", std::move(shards)}};
}

int prepare(PrepareCommand& c, const Flags& flags) {
  const Tokenizer tokenizer = Tokenizer::load(resolve_tokenizer(c.tokenizer));
  find_files(c.corpus.paths);  // refused before the folder is touched
  prepare_folder(c);

  const InterruptGuard interrupts;
  const auto start = std::chrono::steady_clock::now();
  ShardWriter writer(c.output, tokenizer, c.shard_tokens);
  ProgressLine progress;
  std::vector<Record> batch;
  std::size_t batch_bytes = 0;
  std::int64_t text_bytes = 0, invalid_utf8 = 0, records = 0;
  const auto flush = [&] {
    if (interrupted()) throw Interrupted();
    writer.add(tokenize(batch, tokenizer, c.threads));
    records += std::ssize(batch);
    batch.clear();
    batch_bytes = 0;
    if (progress.due()) {
      progress.show(fmt::format("{}, {} of text", counted(records, "record"),
                                human_bytes(static_cast<double>(text_bytes))));
    }
  };
  std::vector<StepCount> cleaned;
  try {
    cleaned = for_each_record(c.corpus, [&](Record&& record, const RecordPlace& place) {
      invalid_utf8 += place.invalid_utf8 || !is_utf8(record.text);
      text_bytes += std::ssize(record.text);
      batch_bytes += sizeof record + record.text.size() +
                     (record.input_ids.size() + record.labels.size()) * sizeof(std::int32_t);
      batch.push_back(std::move(record));
      if (batch_bytes >= kBatchBytes) flush();
    });
    flush();
    writer.finish();
  } catch (const Interrupted&) {
    progress.clear();
    note(fmt::format("interrupted: {} is not finished\n  try: the same command with --overwrite",
                     c.output.string()));
    return interrupt_exit_code();
  }
  const Json manifest = manifest_of(c, flags, tokenizer, writer, cleaned, text_bytes, invalid_utf8);
  const auto dump = [&](int indent) { return json_text(manifest, indent) + "\n"; };
  write_file(c.output / kShardManifest, dump(2));
  progress.clear();

  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  note_cleaning(cleaned);
  if (invalid_utf8 > 0) {
    warn(fmt::format("{} had bytes that are not UTF-8: they are learnt as U+FFFD",
                     counted(invalid_utf8, "record")));
  }
  note(fmt::format("{}, {} ({} bits each) from {} of text in {}, {}/s: saved in {}",
                   counted(writer.records(), "record"), counted(writer.tokens(), "token"),
                   8 * writer.bytes_per_id(), human_bytes(static_cast<double>(text_bytes)),
                   human_duration(seconds), human_bytes(static_cast<double>(text_bytes) / seconds),
                   c.output.string()));
  note(fmt::format("  try: quire train --data {} --tokenizer {} ...", c.output.string(),
                   c.tokenizer));
  if (c.json) print(dump(-1));
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
  const auto missing = [&](const char* what) {
    throw Error(Fault::usage, what, {}, flags.help_command());
  };
  if (c.corpus.paths.empty()) missing("no data is named: what shall be prepared?");
  if (c.tokenizer.empty()) missing("--tokenizer is missing: which vocabulary?");
  if (c.output.empty()) missing("--output-dir is missing: where shall the shards go?");
  try {
    return prepare(c, flags);
  } catch (const fs::filesystem_error& error) {
    throw Error(Fault::bad_data, "cannot work in " + c.output.string(), {error.what()});
  }
}

}  // namespace quire
