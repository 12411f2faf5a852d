// The entries of a GGUF file that make a tokenizer:
//
//   tokenizer.ggml.model, .pre    "gpt2": byte-level BPE; "gpt-2": with GPT-2's pieces
//   tokenizer.ggml.tokens         by id, in the printable alphabet, added ones as they are; rows of the
//                                 embedding that are no token's are "[PAD50300]"
//   tokenizer.ggml.token_type     1 normal, 2 unknown, 3 control (special), 4 user-defined (added),
//                                 5 unused, 6 a byte
//   tokenizer.ggml.merges         "left right"
//   tokenizer.ggml.bos_token_id, eos_, unknown_, padding_, seperator_ (so spelled), mask_token_id
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/text.h"
#include "pipeline/model_tokenizer.h"

namespace quire {
namespace {

constexpr std::int32_t kNormal = GgufVocabulary::kNormal, kControl = GgufVocabulary::kControl,
                       kUserDefined = GgufVocabulary::kUserDefined,
                       kUnused = GgufVocabulary::kUnused, kUnknown = 2, kByte = 6;
constexpr std::size_t kLongestByte = 2;  // as the printable alphabet writes it, in UTF-8
constexpr const char* kTokens = "tokenizer.ggml.tokens";
constexpr const char* kTypes = "tokenizer.ggml.token_type";
constexpr const char* kMerges = "tokenizer.ggml.merges";
constexpr const char* kModel = "tokenizer.ggml.model";
constexpr const char* kPieces = "tokenizer.ggml.pre";

struct Role {
  const char* name;   ///< in tokenizer_config.json
  const char* entry;  ///< here
};
constexpr Role kRoles[] = {{"bos_token", "tokenizer.ggml.bos_token_id"},
                           {"eos_token", "tokenizer.ggml.eos_token_id"},
                           {"unk_token", "tokenizer.ggml.unknown_token_id"},
                           {"sep_token", "tokenizer.ggml.seperator_token_id"},
                           {"pad_token", "tokenizer.ggml.padding_token_id"},
                           {"mask_token", "tokenizer.ggml.mask_token_id"}};

/// What stands in rows that are no token's.
std::string filling(std::size_t id) {
  return fmt::format("[PAD{}]", id);
}

class GgufVocabularyReader {
 public:
  explicit GgufVocabularyReader(const Gguf& file)
      : file_(file), tokens_(file.strings(kTokens)), types_(file.integers(kTypes)) {}

  Tokenizer::Vocabulary read() {
    check_kind();
    if (tokens_.empty()) fail("has no tokenizer", fmt::format("there is no {}", kTokens));
    if (!types_.empty() && types_.size() != tokens_.size()) {
      fail("its tokenizer does not fit together",
           fmt::format("{} has {} entries, {} has {}", kTokens, tokens_.size(), kTypes,
                       types_.size()));
    }
    vocabulary_.source = file_.path().string();
    const std::vector<std::pair<const char*, std::size_t>> roles = read_roles();
    read_tokens(roles);
    read_merges();
    return std::move(vocabulary_);
  }

 private:
  [[noreturn]] void fail(const std::string& what, const std::string& why) const {
    throw Error(Fault::bad_data, file_.path().string() + ": " + what, {why},
                "the tokenizer's own files, named with `tokenizer`"_named);
  }
  [[noreturn]] void refuse(const char* list, std::size_t entry, const std::string& why) const {
    fail(fmt::format("entry {} of {} {}", entry, list, why),
         fmt::format("its entries count from 0"));
  }
  const std::string* text(const char* entry) const {
    const auto found = file_.metadata().find(entry);
    return found == file_.metadata().end() ? nullptr : &found->second;
  }

  // Files of 2023 have no kind of pieces: GPT-2's were the only ones. Phi-2's are the same.
  void check_kind() const {
    const std::string* const model = text(kModel);
    if (model != nullptr && *model != "gpt2") {
      fail(fmt::format("its tokenizer is '{}'", *model),
           "only GPT-2's byte-level BPE is supported");
    }
    const std::string* const pieces = text(kPieces);
    if (pieces != nullptr && *pieces != "gpt-2" && *pieces != "phi-2") {
      fail(fmt::format("its tokenizer cuts text into pieces as '{}'", *pieces),
           "only GPT-2's pieces are supported");
    }
  }

  /// Ids by role, as far as they are there.
  std::vector<std::pair<const char*, std::size_t>> read_roles() const {
    std::vector<std::pair<const char*, std::size_t>> roles;
    for (const Role& role : kRoles) {
      const std::string* const value = text(role.entry);
      if (value == nullptr) continue;
      std::size_t id = 0;
      const char* const end = value->data() + value->size();
      const auto [stop, trouble] = std::from_chars(value->data(), end, id);
      if (trouble != std::errc() || stop != end || id >= tokens_.size()) {
        fail(fmt::format("{} is {}", role.entry, *value),
             fmt::format("its ids run from 0 to {}", tokens_.size() - 1));
      }
      roles.emplace_back(role.name, id);
    }
    return roles;
  }

  void read_tokens(const std::vector<std::pair<const char*, std::size_t>>& roles) {
    std::size_t least = 0;  // tokens: those that something names
    for (const auto& role : roles) least = std::max(least, role.second + 1);
    std::size_t count = tokens_.size();
    while (count > least && !types_.empty() && types_[count - 1] == kUnused &&
           tokens_[count - 1] == filling(count - 1)) {
      --count;
    }
    for (std::size_t id = 0; id < count; ++id) {
      const std::string_view token = tokens_[id];
      if (token.empty()) refuse(kTokens, id, "is empty");
      if (!is_utf8(token)) refuse(kTokens, id, "is not UTF-8");
      vocabulary_.tokens.emplace_back(token);
      if (types_.empty()) continue;
      const std::int32_t type = types_[id];
      if (type < kNormal || type > kByte) refuse(kTypes, id, fmt::format("is {}, no type", type));
      if (type != kUserDefined && type != kControl && type != kUnknown) continue;
      vocabulary_.added_tokens.push_back({.content = std::string(token),
                                          .id = static_cast<TokenId>(id),
                                          .special = type != kUserDefined,
                                          .second = type == kUserDefined});
    }
    for (const auto& [name, id] : roles) {
      // A line's end may end a text and is an ordinary token all the same.
      if (!types_.empty() && (types_[id] == kNormal || types_[id] == kByte)) continue;
      vocabulary_.roles.emplace_back(name, tokens_[id]);
      vocabulary_.special_tokens.emplace_back(tokens_[id]);
    }
  }

  void read_merges() {
    const std::vector<std::string_view>& merges = file_.strings(kMerges);
    const auto is_merged = [](const std::string& name) { return name.size() > kLongestByte; };
    if (merges.empty() && types_.empty() &&
        std::any_of(vocabulary_.tokens.begin(), vocabulary_.tokens.end(), is_merged)) {
      fail("its tokenizer has no merges", fmt::format("there is no {}", kMerges));
    }
    vocabulary_.merges.reserve(merges.size());
    for (std::size_t i = 0; i < merges.size(); ++i) {
      const std::size_t space = merges[i].find(' ');
      if (space == std::string_view::npos || space == 0 || space + 1 == merges[i].size() ||
          merges[i].find(' ', space + 1) != std::string_view::npos || !is_utf8(merges[i])) {
        refuse(kMerges, i, "is not a pair of tokens");
      }
      vocabulary_.merges.emplace_back(merges[i].substr(0, space), merges[i].substr(space + 1));
    }
  }

  const Gguf& file_;
  const std::vector<std::string_view>& tokens_;
  const std::vector<std::int32_t>& types_;
  Tokenizer::Vocabulary vocabulary_;
};

}  // namespace

GgufVocabulary gguf_vocabulary(const Tokenizer& tokenizer) {
  Tokenizer::Vocabulary all = tokenizer.vocabulary();
  if (all.whole_pieces_first) {
    throw Error(Fault::bad_data, "GGUF has no place for this tokenizer",
                {"it takes pieces that are tokens before it merges (\"ignore_merges\"), which "
                 "llama.cpp's GPT-2 does not"});
  }
  GgufVocabulary result;
  result.types.assign(all.tokens.size(), kNormal);
  for (const AddedToken& token : all.added_tokens) {
    result.types[static_cast<std::size_t>(token.id)] = token.special ? kControl : kUserDefined;
  }
  result.merges.reserve(all.merges.size());
  for (const auto& [left, right] : all.merges) result.merges.push_back(left + " " + right);
  for (const auto& [role, content] : all.roles) {
    for (const auto& [name, id] :
         {std::pair("bos_token", &result.bos), std::pair("eos_token", &result.eos),
          std::pair("unk_token", &result.unknown), std::pair("pad_token", &result.padding)}) {
      if (role == name) *id = tokenizer.token_to_id(content);
    }
  }
  result.tokens = std::move(all.tokens);
  return result;
}

Tokenizer gguf_tokenizer(const Gguf& file) {
  return Tokenizer::from_vocabulary(GgufVocabularyReader(file).read());
}

}  // namespace quire
