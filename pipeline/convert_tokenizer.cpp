#include "pipeline/convert_tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "base/error.h"
#include "base/file.h"
#include "tokenizer/impl.h"
#include "tokenizer/tokenizer.h"

namespace quire {

namespace fs = std::filesystem;

GgufVocabulary gguf_vocabulary(const fs::path& tokenizer_folder) {
  const TokenizerParts parts = read_tokenizer_files(tokenizer_folder);
  const Tokenizer tokenizer = Tokenizer::load(tokenizer_folder);
  GgufVocabulary vocabulary;
  const auto size = static_cast<std::size_t>(tokenizer.vocab_size());
  vocabulary.tokens.resize(size);
  vocabulary.types.resize(size, GgufVocabulary::kNormal);
  for (std::size_t i = 0; i < parts.ids.size(); ++i) {
    vocabulary.tokens[static_cast<std::size_t>(parts.ids[i])] =
        parts.tokens[static_cast<std::int64_t>(i)];
  }
  for (const AddedToken& token : parts.added) {
    const std::optional<TokenId> id = tokenizer.token_to_id(token.content);
    if (!id) continue;
    vocabulary.tokens[static_cast<std::size_t>(*id)] = token.content;
    vocabulary.types[static_cast<std::size_t>(*id)] =
        token.special ? GgufVocabulary::kControl : GgufVocabulary::kUserDefined;
  }
  for (std::size_t i = 0; i + 1 < parts.merges.size(); i += 2) {
    const auto at = static_cast<std::int64_t>(i);
    vocabulary.merges.push_back(fmt::format("{} {}", parts.merges[at], parts.merges[at + 1]));
  }
  for (const auto& [role, content] : parts.roles) {
    for (const auto& [name, id] :
         {std::pair("bos_token", &vocabulary.bos), std::pair("eos_token", &vocabulary.eos),
          std::pair("unk_token", &vocabulary.unknown),
          std::pair("pad_token", &vocabulary.padding)}) {
      if (role == name) *id = tokenizer.token_to_id(content);
    }
  }
  return vocabulary;
}

std::string llmc_tokenizer(const fs::path& tokenizer_folder) {
  const Tokenizer tokenizer = Tokenizer::load(tokenizer_folder);
  constexpr std::uint32_t kMagic = 20240328, kVersion = 2;
  const auto refuse = [&](const std::string& why) {
    throw Error(
        Fault::bad_data,
        "llm.c's tokenizer.bin has no place for the tokenizer in " + tokenizer_folder.string(),
        {why}, "`format` safetensors, gguf or pytorch keeps it"_named);
  };
  const std::optional<TokenId> end = tokenizer.end_of_text();
  if (!end) refuse("it has no <|endoftext|>");
  std::array<std::uint32_t, 256> header{};
  header[0] = kMagic;
  header[1] = kVersion;
  header[2] = static_cast<std::uint32_t>(tokenizer.vocab_size());
  header[3] = static_cast<std::uint32_t>(*end);
  std::string text(sizeof header, '\0');
  std::memcpy(text.data(), header.data(), sizeof header);
  for (TokenId id = 0; id < tokenizer.vocab_size(); ++id) {
    const std::string_view token = tokenizer.token_bytes(id);
    constexpr std::size_t kMost = 255;
    if (token.size() > kMost) {
      refuse(fmt::format("token {} has {} bytes; {} are the most", id, token.size(), kMost));
    }
    text += static_cast<char>(token.size());
    text += token;
  }
  return text;
}

void copy_tokenizer(const fs::path& from, const fs::path& to) {
  for (const char* name : {"tokenizer.json", "vocab.json", "merges.txt", "tokenizer_config.json",
                           "special_tokens_map.json", "added_tokens.json", "chat_template.jinja"}) {
    std::error_code ignored;
    if (fs::exists(from / name, ignored)) write_file(to / name, read_file(from / name));
  }
}

}  // namespace quire
