#include "cli/train_data.h"

#include <utility>

namespace quire {
namespace {

TokenizedCorpus corpus_of_ids(const std::vector<Record>& records) {
  TokenizedCorpus corpus;
  bool labelled = false;
  for (const Record& record : records) {
    if (record.input_ids.empty()) {
      throw Error(Fault::usage, "text cannot be trained on without a tokenizer",
                  {"the model's folder has none"}, "--tokenizer DIR");
    }
    labelled |= !record.labels.empty();
  }
  for (const Record& record : records) {
    const std::vector<std::int32_t>& labels =
        record.labels.empty() ? record.input_ids : record.labels;
    corpus.ids.insert(corpus.ids.end(), record.input_ids.begin(), record.input_ids.end());
    if (labelled) corpus.labels.insert(corpus.labels.end(), labels.begin(), labels.end());
    corpus.offsets.push_back(static_cast<std::int64_t>(corpus.ids.size()));
  }
  return corpus;
}

TokenRecords to_records(TokenizedCorpus corpus) {
  return {.ids = std::move(corpus.ids),
          .labels = std::move(corpus.labels),
          .offsets = std::move(corpus.offsets)};
}

}  // namespace

TrainData load_train_data(const TrainOptions& options, const std::optional<Tokenizer>& tokenizer) {
  TokenizedCorpus corpus;
  {
    const std::vector<Record> records = read_records(options.corpus);
    corpus =
        tokenizer ? tokenize(records, *tokenizer, options.device.threads) : corpus_of_ids(records);
  }
  TokenizedCorpus train, validation;
  split(corpus, options.validation_split,
        options.training.data_seed.value_or(options.training.seed), train, validation);
  return {.train = to_records(std::move(train)), .validation = to_records(std::move(validation))};
}

}  // namespace quire
