// All that tokenize() hands out, in one piece.
#pragma once

#include "corpus/records.h"

namespace quire::test {

inline TokenRecords tokenized(std::span<const Record> records, const Tokenizer& tokenizer,
                              int threads, bool labels = false, std::int64_t before = 0) {
  TokenRecords all;
  const auto take = [&](const TokenRecords& part) {
    const std::int64_t ids = std::ssize(all.ids);
    all.ids.insert(all.ids.end(), part.ids.begin(), part.ids.end());
    all.labels.insert(all.labels.end(), part.labels.begin(), part.labels.end());
    for (const std::int64_t end : std::span(part.offsets).subspan(1)) {
      all.offsets.push_back(ids + end);
    }
  };
  tokenize(records, tokenizer, threads, take, labels, before);
  return all;
}

}  // namespace quire::test
