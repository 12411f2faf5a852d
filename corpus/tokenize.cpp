#include <algorithm>
#include <span>

#include "base/error.h"
#include "base/hash.h"
#include "base/parallel.h"
#include "base/text.h"
#include "corpus/records.h"
#include "tokens/shards.h"

namespace quire {
namespace {

// A piece of a record's text that one thread encodes.
struct Piece {
  std::size_t record;
  std::string_view text;
};

// Large texts are cut, so that a single book keeps all threads busy.
void cut(std::size_t record, std::string_view text, std::vector<Piece>& pieces) {
  constexpr std::size_t kPiece = 1 << 18;  // 256 KiB: some 20 ms of encoding
  while (text.size() > 2 * kPiece) {
    std::size_t at = kPiece;
    while (at < text.size() && !can_cut(text, at)) ++at;
    if (at == text.size()) break;
    pieces.push_back({record, text.substr(0, at)});
    text.remove_prefix(at);
  }
  pieces.push_back({record, text});
}

/// `labels` are the record's ids; those of tokens that end within the prompt become -100.
void ignore_prompt(const Record& record, const Tokenizer& tokenizer,
                   std::span<std::int32_t> labels) {
  if (record.prompt_bytes == 0) return;
  // In the bytes that the tokens stand for, where what is not UTF-8 has become U+FFFD.
  const std::size_t prompt =
      replace_invalid_utf8(std::string_view(record.text).substr(0, record.prompt_bytes)).size();
  std::size_t end = 0;
  for (std::int32_t& label : labels) {
    end += tokenizer.token_bytes(label).size();
    if (end > prompt) return;
    label = kIgnoredTarget;
  }
}

}  // namespace

std::size_t bytes_of(const Record& record) {
  return record.text.size() +
         (record.input_ids.size() + record.labels.size()) * sizeof(std::int32_t);
}

std::size_t bytes_tokenized(int threads) {
  constexpr std::size_t kLeast = 1 << 23, kOfThread = 1 << 20;
  return std::max(
      kLeast, kOfThread * static_cast<std::size_t>(threads > 0 ? threads : available_threads()));
}

bool have_labels(std::span<const Record> records) {
  return std::any_of(records.begin(), records.end(), [](const Record& record) {
    return !record.labels.empty() || record.prompt_bytes > 0;
  });
}

TokenRecords tokenize(std::span<const Record> records, const Tokenizer& tokenizer, int threads,
                      bool labels, std::int64_t before) {
  labels |= have_labels(records);
  std::vector<Piece> pieces;
  for (std::size_t r = 0; r < records.size(); ++r) cut(r, records[r].text, pieces);
  // Neighbouring pieces go together: a quote of 100 bytes alone is too little to hand to a thread.
  constexpr std::size_t kBatch = 1 << 18;  // bytes
  std::vector<std::size_t> batches{0};     // first piece of each, and the end
  std::size_t bytes = 0;
  for (std::size_t p = 0; p < pieces.size(); ++p) {
    bytes += pieces[p].text.size() + 1;
    if (bytes >= kBatch || p + 1 == pieces.size()) {
      batches.push_back(p + 1);
      bytes = 0;
    }
  }
  std::vector<std::vector<TokenId>> encoded(batches.size() - 1);
  std::vector<std::size_t> counts(pieces.size());  // ids of each piece
  parallel_for(threads, encoded.size(), [&](std::size_t b) {
    for (std::size_t p = batches[b]; p < batches[b + 1]; ++p) {
      const std::size_t old_size = encoded[b].size();
      tokenizer.encode(pieces[p].text, SpecialTokens::parse, encoded[b]);
      counts[p] = encoded[b].size() - old_size;
    }
  });

  TokenRecords corpus;
  std::size_t total = 0;
  for (const auto& ids : encoded) total += ids.size();
  for (const Record& record : records) total += record.input_ids.size() + 1;
  corpus.ids.reserve(total);
  if (labels) corpus.labels.reserve(total);
  const std::optional<TokenId> end_of_text = tokenizer.end_of_text();
  std::size_t batch = 0, taken = 0, piece = 0;
  for (std::size_t r = 0; r < records.size(); ++r) {
    const Record& record = records[r];
    const std::size_t first = corpus.ids.size();
    for (; piece < pieces.size() && pieces[piece].record == r; ++piece) {
      if (piece == batches[batch + 1]) {
        std::vector<TokenId>().swap(
            encoded[batch]);  // freed on the way, so that the ids do not exist twice
        ++batch;
        taken = 0;
      }
      const auto begin = encoded[batch].begin() + static_cast<std::ptrdiff_t>(taken);
      corpus.ids.insert(corpus.ids.end(), begin,
                        begin + static_cast<std::ptrdiff_t>(counts[piece]));
      taken += counts[piece];
    }
    if (!record.input_ids.empty()) {
      for (const std::int32_t id : record.input_ids) {
        if (id < tokenizer.vocab_size()) continue;
        throw Error(Fault::bad_data,
                    "record " + with_commas(before + static_cast<std::int64_t>(r) + 1) +
                        " has the token id " + std::to_string(id),
                    {"the tokenizer has " + with_commas(tokenizer.vocab_size()) + " ids, from 0"},
                    "encode the data with this model's tokenizer");
      }
      corpus.ids.insert(corpus.ids.end(), record.input_ids.begin(), record.input_ids.end());
    } else if (end_of_text && !record.more &&
               (corpus.ids.size() == first || corpus.ids.back() != *end_of_text)) {
      corpus.ids.push_back(*end_of_text);
    }
    if (labels) {
      const auto ids = corpus.ids.begin() + static_cast<std::ptrdiff_t>(first);
      if (record.labels.empty()) {
        corpus.labels.insert(corpus.labels.end(), ids, corpus.ids.end());
        ignore_prompt(record, tokenizer, std::span(corpus.labels).subspan(first));
      } else {
        corpus.labels.insert(corpus.labels.end(), record.labels.begin(), record.labels.end());
      }
    }
    if (!record.more) corpus.offsets.push_back(static_cast<std::int64_t>(corpus.ids.size()));
  }
  return corpus;
}

void RecordBatches::add(Record&& record) {
  bytes_ += sizeof record + bytes_of(record);
  records_.push_back(std::move(record));
  if (bytes_ >= enough_) flush();
}

void RecordBatches::flush() {
  if (!records_.empty()) take_(records_);
  records_.clear();
  bytes_ = 0;
}

ShardVocabulary vocabulary_of(const Tokenizer& tokenizer) {
  std::string all;
  for (TokenId id = 0; id < tokenizer.vocab_size(); ++id) {
    const std::string_view bytes = tokenizer.token_bytes(id);
    all += std::to_string(bytes.size()) + (tokenizer.is_special(id) ? '!' : ':');
    all += bytes;
  }
  return {.size = tokenizer.vocab_size(), .fingerprint = hash64(all)};
}

}  // namespace quire
