#include <fmt/format.h>

#include <algorithm>
#include <span>
#include <utility>

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
  const Record* record;
  std::string_view text;
  bool last;  // of the record
};

// Large texts are cut, so that a single book keeps all threads busy; but for those with a prompt,
// whose end is counted from the record's beginning.
void cut(const Record& record, std::vector<Piece>& pieces) {
  constexpr std::size_t kPiece = 1 << 18;  // 256 KiB: some 20 ms of encoding
  std::string_view text = record.text;
  while (text.size() > 2 * kPiece && record.prompt_bytes == 0) {
    std::size_t at = kPiece;
    while (at < text.size() && !can_cut(text, at)) ++at;
    if (at == text.size()) break;
    pieces.push_back({&record, text.substr(0, at), /*last=*/false});
    text.remove_prefix(at);
  }
  pieces.push_back({&record, text, /*last=*/true});
}

/// `labels` are the record's ids; those of tokens that end within the prompt become -100.
void ignore_prompt(const Record& record, const Tokenizer& tokenizer,
                   std::span<std::int32_t> labels) {
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

void check_ids(std::span<const Record> records, int vocab_size, std::int64_t before) {
  for (const Record& record : records) {
    ++before;
    const auto& ids = record.input_ids;
    const auto other = std::ranges::find_if(ids, [&](auto id) { return id >= vocab_size; });
    if (other == ids.end()) continue;
    throw Error(Fault::bad_data,
                fmt::format("record {} has the token id {}", with_commas(before), *other),
                {fmt::format("the tokenizer has {} ids, from 0", with_commas(vocab_size))},
                "encode the data with this model's tokenizer");
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

void tokenize(std::span<const Record> records, const std::optional<Tokenizer>& tokenizer,
              int threads, const TakeTokens& take, bool labels, std::int64_t before) {
  labels |= have_labels(records);
  if (tokenizer) check_ids(records, tokenizer->vocab_size(), before);
  std::vector<Piece> pieces;
  for (const Record& record : records) cut(record, pieces);
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
  const std::optional<TokenId> end_of_text = tokenizer ? tokenizer->end_of_text() : std::nullopt;
  const auto encode = [&](const Piece& piece, TokenRecords& to) {
    const Record& record = *piece.record;
    const std::size_t first = to.ids.size();
    const bool ends = piece.last && !record.more;
    if (!record.input_ids.empty()) {
      to.ids.insert(to.ids.end(), record.input_ids.begin(), record.input_ids.end());
    } else {
      tokenizer->encode(piece.text, SpecialTokens::parse, to.ids);
      const bool ended = to.ids.size() > first && to.ids.back() == end_of_text;
      if (end_of_text && ends && !ended) to.ids.push_back(*end_of_text);
    }
    if (labels) {
      const std::span<const std::int32_t> own =
          record.labels.empty() ? std::span(to.ids).subspan(first) : std::span(record.labels);
      to.labels.insert(to.labels.end(), own.begin(), own.end());
      if (record.prompt_bytes > 0)
        ignore_prompt(record, *tokenizer, std::span(to.labels).subspan(first));
    }
    if (ends) to.offsets.push_back(std::ssize(to.ids));
  };
  std::vector<TokenRecords> parts(batches.size() - 1);
  parallel_for(threads, parts.size(), [&](std::size_t b) {
    for (std::size_t p = batches[b]; p < batches[b + 1]; ++p) encode(pieces[p], parts[b]);
  });
  for (TokenRecords& part : parts) take(std::exchange(part, {}));
}

void RecordBatches::add(Record&& record) {
  bytes_ += sizeof record + bytes_of(record);
  records_.push_back(std::move(record));
  if (bytes_ >= enough_) flush();
}

void RecordBatches::flush() {
  if (!records_.empty()) take_(records_, before_);
  before_ += std::ranges::count(records_, false, &Record::more);
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
