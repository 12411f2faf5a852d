// BPE training: begin with the 256 bytes, and as long as there is room in the vocabulary join the
// pair of neighbouring tokens that occurs most often into a new token.
//
// Only distinct pieces are kept, with their counts. For each pair we know how often it occurs and
// in which pieces, so that a merge touches those pieces alone. A heap gives the most frequent pair;
// its entries are corrected when they come up, as counts of pairs already in it only fall. Of pairs
// that are equally frequent the one with the lower left id, then the lower right id, goes first: as
// in the Hugging Face trainer, so that the same text gives the same merges.
#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <queue>
#include <unordered_map>
#include <unordered_set>

#include "base/error.h"
#include "base/parallel.h"
#include "base/text.h"
#include "tokenizer/byte_alphabet.h"
#include "tokenizer/piece_counts.h"
#include "tokenizer/tokenizer.h"

namespace quire {
namespace {

using Token = std::uint32_t;

std::uint64_t key_of(Token left, Token right) {
  return std::uint64_t{left} << 32 | right;
}

/// Pairs by their key; open addressing, never removed.
class PairTable {
 public:
  struct Pair {
    std::uint64_t key = 0;
    std::int64_t count = 0;
    std::vector<std::uint32_t> words;  // where it occurs, or occurred
    bool changed = false;              // its count grew during this merge
  };

  /// The index of the pair, made if it is new.
  std::uint32_t index(std::uint64_t key) {
    if (pairs_.size() * 2 >= slots_.size()) grow();
    std::uint32_t& slot = slots_[slot_of(key)];
    if (slot == free_slot) {
      slot = size();
      pairs_.push_back({.key = key});
    }
    return slot;
  }
  Pair& operator[](std::uint32_t index) { return pairs_[index]; }
  std::uint32_t size() const { return static_cast<std::uint32_t>(pairs_.size()); }

 private:
  static constexpr std::uint32_t free_slot = 0xFFFFFFFF;

  /// Where the pair is, or the free place that it would take.
  std::size_t slot_of(std::uint64_t key) const {
    const std::size_t mask = slots_.size() - 1;
    std::size_t i = (key * 0x9E3779B97F4A7C15u >> 20) & mask;
    while (slots_[i] != free_slot && pairs_[slots_[i]].key != key) i = (i + 1) & mask;
    return i;
  }
  void grow() {
    slots_.assign(slots_.size() * 2, free_slot);
    for (std::uint32_t index = 0; index < size(); ++index) {
      slots_[slot_of(pairs_[index].key)] = index;
    }
  }

  std::vector<std::uint32_t> slots_ = std::vector<std::uint32_t>(1 << 14, free_slot);
  std::vector<Pair> pairs_;
};

class Trainer {
 public:
  Trainer(const PieceCounts& pieces, const BpeTrainingOptions& options) : options_(options) {
    std::array<Token, 256> token_of_byte{};
    for (const std::uint8_t byte : bytes_in_alphabet_order()) {
      const char character = static_cast<char>(byte);
      token_of_byte[byte] = static_cast<Token>(tokens_.size());
      add_token(printable({&character, 1}));
    }
    pieces.for_each([&](const PieceCounts::Entry& entry) {
      if (entry.length < 2) return;
      words_.push_back({symbols_.size(), entry.length, static_cast<std::int64_t>(entry.count)});
      for (const char byte : entry.piece()) {
        symbols_.push_back(token_of_byte[static_cast<unsigned char>(byte)]);
      }
    });
    for (std::uint32_t w = 0; w < words_.size(); ++w) {
      const Token* symbols = symbols_.data() + words_[w].begin;
      for (std::uint32_t i = 0; i + 1 < words_[w].length; ++i) {
        occurs(key_of(symbols[i], symbols[i + 1]), w);
      }
    }
    push_changed();
  }

  Tokenizer train() {
    const std::size_t room =
        static_cast<std::size_t>(options_.vocab_size) - options_.special_tokens.size();
    const std::int64_t least = std::max(1, options_.min_frequency);
    const std::unordered_set<std::string> specials(options_.special_tokens.begin(),
                                                   options_.special_tokens.end());
    while (tokens_.size() < room && !heap_.empty()) {
      const Candidate top = heap_.top();
      heap_.pop();
      const std::int64_t count = pairs_[top.pair].count;
      if (count != top.count) {
        if (count >= least) heap_.push({count, top.key, top.pair});
        continue;
      }
      if (count < least) break;
      const auto left = static_cast<Token>(top.key >> 32);
      const auto right = static_cast<Token>(top.key);
      std::string name = tokens_[left] + tokens_[right];
      if (specials.count(name) != 0) continue;  // a vocabulary cannot hold the string twice
      vocabulary_.merges.emplace_back(tokens_[left], tokens_[right]);
      merge(top.pair, left, right, add_token(std::move(name)));
    }
    vocabulary_.tokens = std::move(tokens_);
    vocabulary_.tokens.insert(vocabulary_.tokens.end(), options_.special_tokens.begin(),
                              options_.special_tokens.end());
    vocabulary_.special_tokens = options_.special_tokens;
    return Tokenizer::from_vocabulary(vocabulary_);
  }

 private:
  struct Word {
    std::size_t begin;     // in symbols_
    std::uint32_t length;  // shrinks as symbols merge
    std::int64_t count;
  };
  struct Candidate {
    std::int64_t count;
    std::uint64_t key;
    std::uint32_t pair;
    bool operator<(const Candidate& other) const {
      return count != other.count ? count < other.count : key > other.key;
    }
  };

  /// The id of a token; two different merges can make the same one.
  Token add_token(std::string name) {
    const auto [found, is_new] = ids_.emplace(name, static_cast<Token>(tokens_.size()));
    if (is_new) tokens_.push_back(std::move(name));
    return found->second;
  }

  void occurs(std::uint64_t key, std::uint32_t word) {
    const std::uint32_t index = pairs_.index(key);
    PairTable::Pair& pair = pairs_[index];
    pair.count += words_[word].count;
    if (pair.words.empty() || pair.words.back() != word) pair.words.push_back(word);
    if (!pair.changed) changed_.push_back(index);
    pair.changed = true;
  }

  void push_changed() {
    for (const std::uint32_t index : changed_) {
      PairTable::Pair& pair = pairs_[index];
      pair.changed = false;
      if (pair.count >= options_.min_frequency) heap_.push({pair.count, pair.key, index});
    }
    changed_.clear();
  }

  void merge(std::uint32_t pair, Token left, Token right, Token merged) {
    const std::vector<std::uint32_t> words = std::move(pairs_[pair].words);
    pairs_[pair].words.clear();
    const auto gone = [&](Token a, Token b, std::uint32_t word) {
      pairs_[pairs_.index(key_of(a, b))].count -= words_[word].count;
    };
    for (const std::uint32_t w : words) {
      Token* symbols = symbols_.data() + words_[w].begin;
      const std::uint32_t length = words_[w].length;
      std::uint32_t to = 0;
      for (std::uint32_t from = 0; from < length;) {
        if (from + 1 == length || symbols[from] != left || symbols[from + 1] != right) {
          symbols[to++] = symbols[from++];
          continue;
        }
        if (to > 0) {
          gone(symbols[to - 1], left, w);
          occurs(key_of(symbols[to - 1], merged), w);
        }
        if (from + 2 < length) {
          gone(right, symbols[from + 2], w);
          occurs(key_of(merged, symbols[from + 2]), w);
        }
        symbols[to++] = merged;
        from += 2;
      }
      words_[w].length = to;
    }
    pairs_[pair].count = 0;
    push_changed();
  }

  const BpeTrainingOptions& options_;
  std::vector<std::string> tokens_;  // printable
  std::unordered_map<std::string, Token> ids_;
  std::vector<Word> words_;
  std::vector<Token> symbols_;
  PairTable pairs_;
  std::vector<std::uint32_t> changed_;
  std::priority_queue<Candidate> heap_;
  Tokenizer::Vocabulary vocabulary_;
};

void check(const BpeTrainingOptions& options) {
  const std::size_t least = 256 + options.special_tokens.size();
  if (options.vocab_size < 0 || static_cast<std::size_t>(options.vocab_size) < least) {
    throw Error(Fault::usage,
                fmt::format("a vocabulary of {} tokens is too small", options.vocab_size),
                {fmt::format("the 256 bytes and {} special tokens need {}",
                             options.special_tokens.size(), least)},
                "`vocab_size` "_named + std::to_string(std::max<std::size_t>(least, 1000)));
  }
  std::unordered_set<std::string> seen;
  for (const std::string& special : options.special_tokens) {
    std::string bytes;
    const bool is_byte = append_bytes_of_printable(special, bytes) && bytes.size() == 1;
    if (special.empty() || is_byte || !seen.insert(special).second) {
      throw Error(Fault::usage, "'" + special + "' cannot be a special token",
                  {special.empty() ? "it is empty"
                   : is_byte       ? "single characters are tokens already"
                                   : "it is named twice"});
    }
  }
}

PieceCounts count_pieces(std::span<const std::filesystem::path> files,
                         const BpeTrainingOptions& options) {
  const int threads = options.threads > 0 ? options.threads : available_threads();
  PieceCounter counter(options.special_tokens, threads);
  std::string chunk(std::size_t{4} << 20, '\0');
  for (const std::filesystem::path& path : files) {
    std::ifstream file(path, std::ios::binary);
    const bool readable = file.good() && !std::filesystem::is_directory(path);
    while (readable && file) {
      file.read(chunk.data(), static_cast<std::streamsize>(chunk.size()));
      counter.add_chunk(std::string_view(chunk).substr(0, static_cast<std::size_t>(file.gcount())));
    }
    if (!readable || !file.eof()) {
      throw Error(Fault::bad_data, "cannot read " + path.string(),
                  {std::filesystem::exists(path) ? "it is not a readable file" : "no such file"});
    }
    counter.end_text();
  }
  return counter.take();
}

}  // namespace

Tokenizer train_bpe(std::span<const std::filesystem::path> files,
                    const BpeTrainingOptions& options) {
  check(options);
  const PieceCounts pieces = count_pieces(files, options);
  if (pieces.size() == 0) {
    throw Error(
        Fault::bad_data, "nothing to train a tokenizer on",
        {counted(files.size(), "file") + (files.size() == 1 ? " holds" : " hold") + " no text"});
  }
  return Trainer(pieces, options).train();
}

}  // namespace quire
