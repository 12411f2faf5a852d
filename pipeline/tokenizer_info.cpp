#include "pipeline/tokenizer_info.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <nlohmann/json.hpp>
#include <string_view>

#include "base/file.h"
#include "base/json.h"
#include "tokenizer/llmc_file.h"

namespace quire {
namespace {

namespace fs = std::filesystem;

/// Goes through JSON by its strings and marks, and passes over all else: a vocabulary of 1 MB takes
/// 2 ms, where the JSON library's own readers take 10.
class Scanner {
 public:
  explicit Scanner(std::string_view text) : text_(text) {}

  /// Goes into the whole, which is an object.
  bool enter() { return next() == "{"; }
  /// Behind the bracket of the object or list that the object it is in has under that name.
  bool enter(std::string_view name) {
    int depth = 0;
    bool named = false;
    for (std::string_view token, before; !(token = next()).empty(); before = token) {
      if (depth == 0 && token == ":") named = before.substr(1, before.size() - 2) == name;
      if (depth == 0 && token == ",") named = false;
      if (opens(token) && depth == 0 && named) return true;
      depth += opens(token) ? 1 : closes(token) ? -1 : 0;
      if (depth < 0) return false;
    }
    return false;
  }
  /// Members of the object it is in, which has no objects in it.
  std::int64_t count() {
    std::int64_t members = 0;
    for (std::string_view token; !closes(token = next()) && !token.empty();) {
      members += token == ":" ? 1 : 0;
    }
    return members;
  }
  /// The text of the object or list it is in, brackets and all.
  std::string_view whole() {
    const std::size_t begin = at_ - 1;
    int depth = 1;
    for (std::string_view token; depth > 0 && !(token = next()).empty();) {
      depth += opens(token) ? 1 : closes(token) ? -1 : 0;
    }
    return text_.substr(begin, at_ - begin);
  }

 private:
  static bool opens(std::string_view token) { return token == "{" || token == "["; }
  static bool closes(std::string_view token) { return token == "}" || token == "]"; }
  static constexpr std::array<bool, 256> marks() {
    std::array<bool, 256> table = {};
    for (const unsigned char mark : {'"', '{', '}', '[', ']', ':', ','}) table[mark] = true;
    return table;
  }

  /// A string with its quotes, or a mark; empty: the end.
  std::string_view next() {
    static constexpr std::array<bool, 256> kMarks = marks();
    while (at_ < text_.size() && !kMarks[static_cast<unsigned char>(text_[at_])]) ++at_;
    if (at_ == text_.size()) return {};
    const std::size_t begin = at_++;
    if (text_[begin] != '"') return text_.substr(begin, 1);
    while (at_ < text_.size() && text_[at_] != '"') at_ += text_[at_] == '\\' ? 2 : 1;
    at_ = std::min(at_ + 1, text_.size());
    return text_.substr(begin, at_ - begin);
  }

  std::string_view text_;
  std::size_t at_ = 0;
};

/// Tokens of {"id", "content"} beside a vocabulary; those that are "special" are.
void add_tokens(const nlohmann::json& tokens, TokenizerInfo& info) {
  if (!tokens.is_array()) return;
  for (const nlohmann::json& token : tokens) {
    std::int64_t id = 0;
    bool special = false;
    std::string text;
    if (!token.is_object() || !read_json(token.value("id", nlohmann::json()), id)) continue;
    if (id < 0 || id > INT32_MAX) continue;  // no tokenizer has such a one
    info.size = std::max(info.size, id + 1);
    if (read_json(token.value("special", nlohmann::json()), special) && special &&
        read_json(token.value("content", nlohmann::json()), text)) {
      info.special[id] = text;
    }
  }
}

/// {"999": {"content", "special"}} of tokenizer_config.json as a list with ids.
nlohmann::json decoder_tokens(const fs::path& folder) {
  nlohmann::json tokens = nlohmann::json::array();
  std::error_code ignored;
  if (!fs::exists(folder / "tokenizer_config.json", ignored)) return tokens;
  const nlohmann::json config =
      parse_json_or_discard<nlohmann::json>(read_file(folder / "tokenizer_config.json"));
  if (!config.is_object() || !config.contains("added_tokens_decoder")) return tokens;
  for (const auto& [id, token] : config["added_tokens_decoder"].items()) {
    std::int64_t number = -1;
    std::from_chars(id.data(), id.data() + id.size(), number);
    if (!token.is_object()) continue;
    tokens.push_back(token);
    tokens.back()["id"] = number;
  }
  return tokens;
}

/// GPT-2's one special token, in a vocabulary that has it.
void find_end_of_text(std::string_view vocabulary, TokenizerInfo& info) {
  constexpr std::string_view kEnd = "\"<|endoftext|>\"";
  const std::size_t at = vocabulary.find(kEnd);
  if (at == std::string_view::npos || !info.special.empty()) return;
  const std::size_t digit = vocabulary.find_first_of("0123456789", at + kEnd.size());
  if (digit == std::string_view::npos) return;
  std::int64_t id = 0;
  std::from_chars(vocabulary.data() + digit, vocabulary.data() + vocabulary.size(), id);
  info.special[id] = "<|endoftext|>";
}

void read_tokenizer_json(std::string_view text, TokenizerInfo& info) {
  Scanner vocabulary(text), added(text);
  if (vocabulary.enter() && vocabulary.enter("model") && vocabulary.enter("vocab")) {
    info.size = vocabulary.count();
  }
  if (added.enter() && added.enter("added_tokens")) {
    add_tokens(parse_json_or_discard<nlohmann::json>(added.whole()), info);
  }
}

void read_vocabulary(std::string_view text, const fs::path& folder, TokenizerInfo& info) {
  Scanner vocabulary(text);
  if (vocabulary.enter()) info.size = vocabulary.count();
  add_tokens(decoder_tokens(folder), info);
  find_end_of_text(text, info);
}

/// llm.c's: a header of 256 int32, the magic number, version, tokens and the end of text's id.
bool read_tokenizer_bin(std::string_view text, TokenizerInfo& info) {
  std::array<std::int32_t, 4> header = {};
  if (text.size() < sizeof header) return false;
  std::memcpy(header.data(), text.data(), sizeof header);
  if (header[0] != kLlmcTokenizerMagic || header[2] < 0) return false;
  info.size = header[2];
  if (header[1] >= 2) info.special[header[3]] = "";
  return true;
}

/// "[50257 values]" of a GGUF's metadata.
std::optional<TokenizerInfo> within(const TensorSource& weights) {
  const auto tokens = weights.metadata().find("tokenizer.ggml.tokens");
  if (tokens == weights.metadata().end()) return {};
  TokenizerInfo info{.file = weights.path().filename().string()};
  const std::string& text = tokens->second;
  std::from_chars(text.data() + 1, text.data() + text.size(), info.size);
  if (const auto& config = weights.config(); config && config->eos_token_id) {
    info.special[*config->eos_token_id] = "";
  }
  return info;
}

}  // namespace

std::optional<TokenizerInfo> tokenizer_info(const TensorSource& weights) {
  if (std::optional<TokenizerInfo> own = within(weights)) return own;
  const fs::path folder = weights.path().parent_path();
  std::error_code ignored;
  for (const char* name : {"tokenizer.json", "vocab.json", "encoder.json", "tokenizer.bin"}) {
    if (!fs::is_regular_file(folder / name, ignored)) continue;
    const MappedFile file(folder / name);
    TokenizerInfo info{.file = name};
    if (info.file == "tokenizer.json") {
      read_tokenizer_json(file.text(), info);
    } else if (info.file != "tokenizer.bin") {
      read_vocabulary(file.text(), folder, info);
    } else if (!read_tokenizer_bin(file.text(), info)) {
      continue;
    }
    return info;
  }
  return {};
}

}  // namespace quire
