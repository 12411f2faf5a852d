// What a Tokenizer holds. Built once by build_tokenizer(), then read by any number of threads; the
// only thing that changes is a pool of working memories, one for each encode() under way.
#pragma once

#include <array>
#include <bitset>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tokenizer/added_tokens.h"
#include "tokenizer/bpe.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/workspace.h"

namespace quire {

/// Many short strings, one after another in one allocation.
class StringList {
 public:
  void reserve(std::size_t strings, std::size_t characters) {
    ends_.reserve(strings);
    characters_.reserve(characters);
  }
  void push_back(std::string_view text) {
    characters_.append(text);
    ends_.push_back(static_cast<std::uint32_t>(characters_.size()));
  }
  std::size_t size() const { return ends_.size(); }
  std::string_view operator[](std::int64_t index) const {
    const auto i = static_cast<std::size_t>(index);
    const std::size_t begin = i == 0 ? 0 : ends_[i - 1];
    return std::string_view(characters_).substr(begin, ends_[i] - begin);
  }

 private:
  std::string characters_;
  std::vector<std::uint32_t> ends_;
};

/// The parts of a tokenizer as its files give them, before anything is checked.
struct TokenizerParts {
  StringList tokens;              ///< in the printable alphabet
  std::vector<std::int64_t> ids;  ///< of tokens[i]
  StringList merges;              ///< left, right, left, right, …
  std::vector<AddedToken> added;
  bool added_by_name_alone = false;  ///< their flags may stand in tokenizer_config.json
  TokenRoles roles;
  bool whole_pieces_first = false;  ///< "ignore_merges": a piece that is a token stays whole
  std::string tokens_source = "the vocabulary";  ///< for messages: the file that gave the tokens
  std::string merges_source = "the merges";
  std::vector<std::uint32_t> merge_lines;  ///< line of each merge in merges_source, or empty
};

/// Token names to ids, by open addressing over the names themselves.
class TokenIndex {
 public:
  void reserve(std::size_t tokens);
  /// Returns the id that has this name already, or -1 after adding.
  std::int32_t add(const StringList& names, std::int32_t id);
  std::int32_t find(const StringList& names, std::string_view name) const;

 private:
  /// Where the name is, or the free place that it would take.
  std::size_t slot_of(const StringList& names, std::string_view name) const;

  std::vector<std::int32_t> slots_ = {-1};
};

/// The pairs of bytes at which merges join: the last of the left token, the first of the right. No
/// merge reaches across two neighbours that are not such a pair, so a piece can be encoded in parts
/// cut there. Most Chinese characters, for instance, stand alone in GPT-2's merges: then a run of
/// them, which never comes again, is encoded as characters, which do.
class JunctionSet {
 public:
  void insert(char left, char right) { pairs_[index(left, right)] = true; }
  bool contains(char left, char right) const { return pairs_[index(left, right)]; }

 private:
  static std::size_t index(char left, char right) {
    return static_cast<std::size_t>(static_cast<unsigned char>(left)) << 8 |
           static_cast<unsigned char>(right);
  }
  std::bitset<65536> pairs_;
};

struct Tokenizer::Impl {
  int size() const { return static_cast<int>(names.size()); }

  StringList names;  // by id: as in vocabulary files
  StringList bytes;  // by id: what they stand for
  TokenIndex index;  // id of a name
  std::vector<bool> special;
  std::array<std::int32_t, 256> byte_ids{};
  MergeTable merges;
  JunctionSet junctions;          // of the merges
  std::vector<AddedToken> added;  // by id
  /// Those that are looked for over the whole text, and those in what is left of it.
  struct Finders {
    AddedTokenFinder first, second;
  };
  Finders find_added;  // all of them
  Finders find_plain;  // the special ones are text
  TokenRoles roles;
  bool whole_pieces_first = false;

  struct GiveBack {
    const Impl& tokenizer;
    void operator()(Workspace* workspace) const;
  };
  /// For the time of one encode().
  std::unique_ptr<Workspace, GiveBack> take_workspace() const;

 private:
  mutable std::mutex pool_mutex_;
  mutable std::vector<std::unique_ptr<Workspace>> pool_;
};

/// Checks the parts against one another and builds the tables. Throws Error(bad_data).
std::shared_ptr<const Tokenizer::Impl> build_tokenizer(TokenizerParts parts);

/// Error(bad_data) "FILE: what"; without another `next` it tells to take the files again.
[[noreturn]] void fail(const std::string& file, const std::string& what,
                       std::vector<std::string> details, const std::string& next = {});

/// Reads the parts from a folder or one file. Throws Error(bad_data).
TokenizerParts read_tokenizer_files(const std::filesystem::path& path);
/// Marks a token as special. One that no file gives an id is left out: it cannot be encoded.
bool make_special(TokenizerParts& parts, const std::string& content);
/// All of a list, in one pass over the tokens. The first that was left out, nullptr where there is none.
const std::string* make_special(TokenizerParts& parts, std::span<const std::string> contents);
/// The roles as read, or those of GPT-2 where there is an end-of-text token.
TokenRoles roles_of(const Tokenizer::Impl& tokenizer);
void write_tokenizer_files(const Tokenizer::Impl& tokenizer, const std::filesystem::path& folder,
                           int model_max_length);

}  // namespace quire
