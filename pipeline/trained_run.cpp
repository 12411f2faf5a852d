#include "pipeline/trained_run.h"

#include <fmt/format.h>

#include <utility>

#include "base/error.h"
#include "pipeline/model_path.h"
#include "pipeline/model_tokenizer.h"
#include "tokens/shards.h"

namespace quire {

namespace fs = std::filesystem;

TrainedRun::TrainedRun(std::string run, bool validation, TrainOptions options,
                       const DataCallbacks& callbacks)
    : run_(std::move(run)),
      validation_(validation),
      options_(std::move(options)),
      on_left_out_(callbacks.on_left_out),
      tokenizer_(tokenizer_of(resolve_model(run_))),
      data_(load_train_data(options_, tokenizer_, callbacks)) {
  if (tokens().size() > 0) return;
  throw Error(Fault::usage, "the run in " + run_ + " held nothing out",
              {"its `validation_split` was "_named + fmt::format("{}", options_.validation_split)},
              "quire train with a larger `validation_split`"_named);
}

CorpusOptions TrainedRun::corpus(bool as_completion) const {
  CorpusOptions corpus = options_.corpus;
  const bool separate = !options_.validation_paths.empty();
  ReadingReport told;  // when the tokens were read
  if (separate && validation_) corpus.paths = options_.validation_paths;
  if (separate && !validation_) {
    corpus.paths = without_validation(corpus.paths, options_.validation_paths, told, on_left_out_);
  }
  if (is_prepared(corpus.paths[0])) {
    throw Error(Fault::usage, "the run in " + run_ + " was trained on shards, which hold no text",
                {corpus.paths[0] + " was tokenized by quire data prepare"},
                "`paths` with the text that it was made of"_named);
  }
  corpus.loss_on_completion = as_completion;
  return corpus;
}

void TrainedRun::for_each_of_part(const CorpusOptions& corpus, const TakeRecord& take) const {
  const HeldOut& held = data_.held_out;
  std::size_t r = 0;
  for_each_record(corpus, [&](Record&& record, const RecordPlace& place) {
    const std::size_t at = r++;
    if (!held.records.empty()) {  // one set of files, split in two
      if (held.cut > 0 && at == held.cut_record) return;
      if (held.records[at] != validation_) return;
    }
    take(std::move(record), place);
  });
}

std::vector<Record> TrainedRun::records(bool as_completion) const {
  std::vector<Record> records;
  for_each_of_part(corpus(as_completion), [&](Record&& record, const RecordPlace&) {
    records.push_back(std::move(record));
  });
  return records;
}

std::set<std::size_t> TrainedRun::lines_of(const fs::path& table) const {
  std::set<std::size_t> lines;
  for_each_of_part(corpus(/*as_completion=*/false), [&](Record&&, const RecordPlace& place) {
    std::error_code not_there;
    if (fs::equivalent(*place.file, table, not_there)) lines.insert(place.line);
  });
  if (!lines.empty()) return lines;
  throw Error(Fault::usage,
              fmt::format("{} has no rows that the run in {} {}", table.string(), run_,
                          validation_ ? "held out" : "learned from"),
              {fmt::format("it read {}", fmt::join(options_.corpus.paths, " "))});
}

std::string TrainedRun::title() const {
  return fmt::format("data that {} {}", run_, validation_ ? "held out" : "learned from");
}

}  // namespace quire
