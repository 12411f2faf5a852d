#include "tokenizer/tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <utility>

#include "base/error.h"
#include "base/text.h"
#include "base/utf8.h"
#include "tokenizer/byte_alphabet.h"
#include "tokenizer/impl.h"
#include "tokenizer/llmc_file.h"
#include "tokenizer/splitter.h"
#include "tokenizer/workspace.h"

namespace quire {

static_assert(std::endian::native == std::endian::little,
              "pieces are compared as little-endian words");

const std::array<PieceKey, 16> PieceKey::masks = [] {
  std::array<PieceKey, 16> table{};
  for (std::size_t length = 0; length < 16; ++length) {
    unsigned char bytes[16] = {};
    std::fill_n(bytes, length, static_cast<unsigned char>(0xFF));
    std::memcpy(&table[length], bytes, 16);
  }
  return table;
}();

std::unique_ptr<Workspace, Tokenizer::Impl::GiveBack> Tokenizer::Impl::take_workspace() const {
  std::unique_ptr<Workspace> workspace;
  {
    const std::lock_guard lock(pool_mutex_);
    if (!pool_.empty()) {
      workspace = std::move(pool_.back());
      pool_.pop_back();
    }
  }
  if (!workspace) workspace = std::make_unique<Workspace>();
  return {workspace.release(), GiveBack{*this}};
}

void Tokenizer::Impl::GiveBack::operator()(Workspace* workspace) const {
  const std::lock_guard lock(tokenizer.pool_mutex_);
  tokenizer.pool_.emplace_back(workspace);
}

namespace {

using TakeIds = std::function<void(std::span<const TokenId>)>;

/// Encodes one text. `text` is valid UTF-8; `segment`s of it hold no added tokens.
class Encoder {
 public:
  Encoder(const Tokenizer::Impl& tokenizer, Workspace& workspace, std::string_view text,
          const TakeIds& take)
      : tokenizer_(tokenizer),
        workspace_(workspace),
        readable_end_(text.data() + text.size()),
        take_(take) {}

  void encode_segment(std::string_view segment) {
    TokenId* const begin = workspace_.tokens.data();
    TokenId* const full = begin + workspace_.tokens.size() - PieceKey::max_length - 1;
    TokenId* to = begin;
    for_each_piece(segment, [&](const char* piece, std::size_t length) {
      if (length <= PieceKey::max_length) {
        const PieceKey key = key_of(piece, length);
        PieceCache::Entry& entry = workspace_.cache.slot(key);
        if (entry.key == key) {
          std::memcpy(to, entry.ids, sizeof entry.ids);
          to += entry.count;
        } else {
          const std::size_t count = encode_piece({piece, length}, to);
          remember(entry, key, to, count);
          to += count;
        }
        if (to < full) return;
      }
      give(begin, to);
      to = begin;
      if (length > PieceKey::max_length) encode_long_piece({piece, length});
    });
    give(begin, to);
  }

 private:
  void give(const TokenId* begin, const TokenId* end) const {
    if (begin != end) take_({begin, end});
  }
  PieceKey key_of(const char* piece, std::size_t length) const {
    return readable_end_ - piece >= 16 ? PieceKey::from_readable16(piece, length)
                                       : PieceKey::from(piece, length);
  }

  static void remember(PieceCache::Entry& entry, const PieceKey& key, const TokenId* ids,
                       std::size_t count) {
    if (count > PieceCache::max_ids) return;
    entry.key = key;
    std::copy_n(ids, count, entry.ids);
    entry.count = static_cast<std::uint32_t>(count);
  }

  void encode_long_piece(std::string_view piece) {
    std::vector<TokenId>& ids = workspace_.long_piece;
    ids.resize(piece.size());
    const std::size_t count = encode_piece(piece, ids.data());
    give(ids.data(), ids.data() + count);
    constexpr std::size_t keep = 1 << 16;  // a giant piece's memory is not kept for the next call
    if (ids.capacity() > keep) std::vector<TokenId>().swap(ids);
  }

  /// Writes at most one id a byte and returns their number.
  std::size_t encode_piece(std::string_view piece, TokenId* ids) {
    if (tokenizer_.whole_pieces_first) {
      ids[0] = tokenizer_.index.find(tokenizer_.names, printable(piece));
      if (ids[0] >= 0) return 1;
    }
    std::size_t count = 0;
    std::size_t begin = 0;
    for (std::size_t end = 1; end < piece.size(); ++end) {
      if (tokenizer_.junctions.contains(piece[end - 1], piece[end])) continue;
      count += encode_part(piece.substr(begin, end - begin), ids + count);
      begin = end;
    }
    // What is left of a piece that has no cut was looked up already.
    return begin == 0 ? merge(piece, ids) : count + encode_part(piece.substr(begin), ids + count);
  }

  std::size_t encode_part(std::string_view part, TokenId* ids) {
    if (part.size() > PieceKey::max_length) return merge(part, ids);
    const PieceKey key = key_of(part.data(), part.size());
    PieceCache::Entry& entry = workspace_.cache.slot(key);
    if (entry.key == key) {
      std::copy_n(entry.ids, entry.count, ids);
      return entry.count;
    }
    const std::size_t count = merge(part, ids);
    remember(entry, key, ids, count);
    return count;
  }

  std::size_t merge(std::string_view part, TokenId* ids) {
    for (std::size_t i = 0; i < part.size(); ++i) {
      ids[i] = tokenizer_.byte_ids[static_cast<unsigned char>(part[i])];
    }
    return workspace_.bpe.merge(tokenizer_.merges, {ids, part.size()});
  }

  const Tokenizer::Impl& tokenizer_;
  Workspace& workspace_;
  const char* readable_end_;
  const TakeIds& take_;
};

void check_id(const Tokenizer::Impl& tokenizer, TokenId id) {
  if (id >= 0 && id < tokenizer.size()) return;
  throw Error(Fault::bad_data, fmt::format("token id {} is not in the vocabulary", id),
              {fmt::format("its ids run from 0 to {}", tokenizer.size() - 1)},
              "use the tokenizer of the model that made these ids");
}

}  // namespace

Tokenizer Tokenizer::load(const std::filesystem::path& folder) {
  return Tokenizer(build_tokenizer(read_tokenizer_files(folder)));
}

Tokenizer Tokenizer::from_vocabulary(const Vocabulary& vocabulary) {
  TokenizerParts parts;
  for (std::size_t i = 0; i < vocabulary.tokens.size(); ++i) {
    parts.tokens.push_back(vocabulary.tokens[i]);
    parts.ids.push_back(static_cast<std::int64_t>(i));
  }
  for (const auto& [left, right] : vocabulary.merges) {
    parts.merges.push_back(left);
    parts.merges.push_back(right);
  }
  parts.tokens_source = parts.merges_source = vocabulary.source;
  parts.added = vocabulary.added_tokens;
  if (const std::string* special = make_special(parts, vocabulary.special_tokens)) {
    throw Error(Fault::bad_data, "special token '" + *special + "' is not in " + vocabulary.source);
  }
  parts.roles = vocabulary.roles;
  parts.whole_pieces_first = vocabulary.whole_pieces_first;
  return Tokenizer(build_tokenizer(std::move(parts)));
}

Tokenizer::Vocabulary Tokenizer::vocabulary() const {
  Vocabulary all;
  const auto name = [&](TokenId id) { return std::string(impl_->names[id]); };
  all.tokens.reserve(impl_->names.size());
  for (TokenId id = 0; id < impl_->size(); ++id) all.tokens.push_back(name(id));
  all.merges.reserve(impl_->merges.merges().size());
  for (const MergeTable::Merge& merge : impl_->merges.merges()) {
    all.merges.emplace_back(name(merge.left), name(merge.right));
  }
  all.added_tokens = impl_->added;
  all.roles = roles_of(*impl_);
  all.whole_pieces_first = impl_->whole_pieces_first;
  return all;
}

Tokenizer Tokenizer::with_added(const std::vector<AddedToken>& tokens,
                                const TokenRoles& roles) const {
  Vocabulary all = vocabulary();
  for (const AddedToken& token : tokens) {
    if (token.content.empty()) {
      throw Error(Fault::usage, "a token to add is empty", {}, "leave it out, or write its text");
    }
    const auto same = [&](const auto& other) { return other == token.content; };
    const auto known = std::find_if(all.added_tokens.begin(), all.added_tokens.end(),
                                    [&](const AddedToken& other) { return same(other.content); });
    if (known != all.added_tokens.end()) {
      known->special |= token.special;
      continue;
    }
    const auto place = std::find_if(all.tokens.begin(), all.tokens.end(), same);
    all.added_tokens.push_back(token);
    all.added_tokens.back().id = static_cast<TokenId>(place - all.tokens.begin());
    if (place == all.tokens.end()) all.tokens.push_back(token.content);
  }
  for (const auto& named : roles) {
    if (std::find(all.tokens.begin(), all.tokens.end(), named.second) == all.tokens.end()) {
      throw Error(Fault::usage, fmt::format("the {} '{}' is no token", named.first, named.second),
                  {}, "add it as a special token");
    }
    const auto place = std::find_if(all.roles.begin(), all.roles.end(),
                                    [&](const auto& entry) { return entry.first == named.first; });
    if (place == all.roles.end()) {
      all.roles.push_back(named);
    } else {
      place->second = named.second;
    }
    all.special_tokens.push_back(named.second);
  }
  return from_vocabulary(all);
}

std::vector<TokenId> Tokenizer::encode(std::string_view text, SpecialTokens special) const {
  std::vector<TokenId> ids;
  encode(text, special, ids);
  return ids;
}

void Tokenizer::encode(std::string_view text, SpecialTokens special,
                       std::vector<TokenId>& append_to) const {
  encode(text, special, [&](std::span<const TokenId> ids) {
    append_to.insert(append_to.end(), ids.begin(), ids.end());
  });
}

void Tokenizer::encode(std::string_view text, SpecialTokens special, const TakeIds& take) const {
  std::string repaired;
  if (!is_utf8(text)) text = repaired = replace_invalid_utf8(text);
  const auto workspace = impl_->take_workspace();
  Encoder encoder(*impl_, *workspace, text, take);
  const Impl::Finders& finders =
      special == SpecialTokens::parse ? impl_->find_added : impl_->find_plain;
  const auto split = [&](const AddedTokenFinder& finder, std::string_view part,
                         const auto& between) {
    std::size_t taken = 0;
    AddedTokenFinder::Match match = finder.find(part, 0, 0);
    while (match.id >= 0) {
      if (match.begin > taken) between(part.substr(taken, match.begin - taken));
      take({&match.id, 1});
      taken = match.end;
      match = finder.find(part, match.resume, taken);
    }
    between(part.substr(taken));
  };
  split(finders.first, text, [&](std::string_view rest) {
    split(finders.second, rest, [&](std::string_view segment) { encoder.encode_segment(segment); });
  });
}

std::string Tokenizer::decode(std::span<const TokenId> ids, bool skip_special_tokens) const {
  std::string bytes;
  for (const TokenId id : ids) {
    check_id(*impl_, id);
    if (skip_special_tokens && impl_->special[id]) continue;
    bytes.append(impl_->bytes[id]);
  }
  if (is_utf8(bytes)) return bytes;
  return replace_invalid_utf8(bytes);
}

std::string_view Tokenizer::token_bytes(TokenId id) const {
  check_id(*impl_, id);
  return impl_->bytes[id];
}

int Tokenizer::vocab_size() const {
  return impl_->size();
}

std::optional<TokenId> Tokenizer::token_to_id(std::string_view token) const {
  const TokenId id = impl_->index.find(impl_->names, token);
  if (id < 0) return std::nullopt;
  return id;
}

bool Tokenizer::is_special(TokenId id) const {
  check_id(*impl_, id);
  return impl_->special[id];
}

std::optional<TokenId> Tokenizer::end_of_text() const {
  return token_to_id("<|endoftext|>");
}

void Tokenizer::save(const std::filesystem::path& folder, int model_max_length) const {
  write_tokenizer_files(*impl_, folder, model_max_length);
}

bool Tokenizer::save_llmc(const std::filesystem::path& file) const {
  write_llmc_tokenizer(*impl_, file);
  try {
    const Vocabulary all = vocabulary(), again = load(file).vocabulary();
    const auto same = [](const AddedToken& a, const AddedToken& b) {
      return a.id == b.id && a.content == b.content;
    };
    return all.tokens == again.tokens && all.merges == again.merges && !all.whole_pieces_first &&
           std::equal(all.added_tokens.begin(), all.added_tokens.end(), again.added_tokens.begin(),
                      again.added_tokens.end(), same);
  } catch (const Error&) {
    return false;
  }
}

std::string StreamDecoder::push(TokenId id) {
  if (!skip_special_tokens_ || !tokenizer_.is_special(id)) {
    pending_.append(tokenizer_.token_bytes(id));
  }
  const std::size_t finished = utf8::finished_prefix(pending_);
  const std::string text = replace_invalid_utf8(std::string_view(pending_).substr(0, finished));
  pending_.erase(0, finished);
  return text;
}

std::string StreamDecoder::finish() {
  return replace_invalid_utf8(std::exchange(pending_, {}));
}

}  // namespace quire
