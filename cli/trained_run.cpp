#include "cli/trained_run.h"

#include <fmt/format.h>

#include <utility>

#include "cli/corpus_flags.h"
#include "cli/model_path.h"
#include "tokens/shards.h"

namespace quire {

namespace fs = std::filesystem;

namespace {

TrainOptions options_of(const std::string& run, const fs::path& folder,
                        const std::vector<std::string>& data) {
  const fs::path config =
      (fs::is_directory(folder) ? folder : folder.parent_path()) / "quire_config.json";
  if (!fs::exists(config)) {
    throw Error(Fault::usage, "--split is of a training run, and " + run + " is none",
                {"there is no " + config.string() + ", which quire train writes"},
                "--run DIR, the output folder of a run");
  }
  TrainOptions options;
  Flags flags("train", "", "");
  options.add_to(flags);
  if (!flags.parse({"--config-file=" + config.string(), "--output-dir=" + folder.string()})) {
    throw Error(Fault::internal, "the options of a run ask for help");
  }
  if (!data.empty()) options.corpus.paths = data;
  options.finish(flags);
  options.json = true;  // what cleaning did was told when it was trained
  return options;
}

}  // namespace

void SplitFlags::add_to(Flags& flags, const std::string& help) {
  flags.add_choice("split", split, {"none", "validation", "train"}, help);
  flags.add("run", run, "DIR", "the training run that --split is of, if not that of --model");
}

TrainedRun::TrainedRun(const SplitFlags& flags, const std::string& model,
                       const std::vector<std::string>& data)
    : run_(flags.run.empty() ? model : flags.run), validation_(flags.split == "validation") {
  const fs::path folder = resolve_model(run_);
  options_ = options_of(run_, folder, data);
  tokenizer_ = Tokenizer::load(tokenizer_folder(folder));
  data_ = load_train_data(options_, tokenizer_);
  if (tokens().size() > 0) return;
  throw Error(Fault::usage, "the run in " + run_ + " held nothing out",
              {"its --validation-split was " + fmt::format("{}", options_.validation_split)},
              "quire train with a larger --validation-split");
}

CorpusOptions TrainedRun::corpus(bool as_completion) const {
  CorpusOptions corpus = options_.corpus;
  const bool separate = !options_.validation_paths.empty();
  ReadingReport told;  // when the tokens were read
  if (separate && validation_) corpus.paths = options_.validation_paths;
  if (separate && !validation_) {
    corpus.paths = without_validation(corpus.paths, options_.validation_paths, told);
  }
  if (is_prepared(corpus.paths[0])) {
    throw Error(Fault::usage, "the run in " + run_ + " was trained on shards, which hold no text",
                {corpus.paths[0] + " was tokenized by quire data prepare"},
                "--data with the text that it was made of");
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
