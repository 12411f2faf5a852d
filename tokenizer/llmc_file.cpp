#include "tokenizer/llmc_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <optional>
#include <string>
#include <system_error>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/foreign_file.h"
#include "base/text.h"
#include "tokenizer/byte_alphabet.h"
#include "tokenizer/derive_merges.h"

namespace quire {
namespace {

namespace fs = std::filesystem;

constexpr std::int32_t kFirstVersion = 1, kVersion = 2;
constexpr std::int32_t kEndOfTextOfFirst = 50256;
constexpr std::size_t kHeader = 256;  // int32s
constexpr std::size_t kHeaderBytes = kHeader * sizeof(std::int32_t);
constexpr const char* kName = "tokenizer.bin";

bool begins_as_one(std::string_view text) {
  std::int32_t magic = 0;
  if (text.size() < sizeof magic) return false;
  std::memcpy(&magic, text.data(), sizeof magic);
  return magic == kLlmcTokenizerMagic;
}

/// Bytes as they can stand in a message: in the printable alphabet.
std::string shown(std::string_view bytes) {
  return "'" + printable(bytes) + "'";
}

struct Contents {
  std::vector<std::string_view> tokens;  // by id, inside the file
  std::size_t end_of_text;
};

Contents contents_of(const MappedFile& mapped) {
  const std::string file = mapped.path().string();
  const std::string_view text = mapped.text();
  if (!begins_as_one(text)) {
    const auto foreign = recognise_foreign(text.substr(0, 1024));
    fail(file, "not a tokenizer of llm.c",
         {foreign ? foreign->what : fmt::format("it does not begin with {}", kLlmcTokenizerMagic)},
         foreign ? foreign->next : std::string());
  }
  std::array<std::int32_t, kHeader> header{};
  if (text.size() < sizeof header) {
    fail(file, fmt::format("ends at byte {}", text.size()),
         {fmt::format("its header alone has {} bytes", sizeof header)});
  }
  std::memcpy(header.data(), text.data(), sizeof header);
  const std::int32_t version = header[1], count = header[2];
  if (version != kFirstVersion && version != kVersion) {
    fail(file, fmt::format("its version is {}", version), {"versions 1 and 2 are read"});
  }
  const std::int32_t end_of_text = version == kFirstVersion ? kEndOfTextOfFirst : header[3];
  // A token takes two bytes or more.
  if (count <= 0 || count > static_cast<std::int32_t>(MergeTable::max_tokens) ||
      static_cast<std::size_t>(count) > (text.size() - sizeof header) / 2) {
    fail(file, fmt::format("it claims {} tokens", count),
         {fmt::format("it has {} bytes", text.size())});
  }
  if (end_of_text < 0 || end_of_text >= count) {
    fail(file, fmt::format("its end-of-text token has id {}", end_of_text),
         {fmt::format("its ids run from 0 to {}", count - 1)});
  }
  Contents contents{{}, static_cast<std::size_t>(end_of_text)};
  contents.tokens.reserve(static_cast<std::size_t>(count));
  std::size_t at = sizeof header;
  for (std::int32_t id = 0; id < count; ++id) {
    const std::size_t length = at < text.size() ? static_cast<unsigned char>(text[at]) : 1;
    if (length == 0) fail(file, fmt::format("token {} is empty", id), {});
    if (at + 1 + length > text.size()) {
      fail(file, fmt::format("ends inside token {} of {}", id, count),
           {fmt::format("it has {} bytes", text.size())});
    }
    contents.tokens.push_back(text.substr(at + 1, length));
    at += 1 + length;
  }
  if (at != text.size()) {
    fail(file, fmt::format("goes on behind its {} tokens", count),
         {fmt::format("it has {} bytes, its tokens end at byte {}", text.size(), at)});
  }
  return contents;
}

void refuse_twins(const std::string& file, const std::vector<std::string_view>& tokens) {
  std::unordered_map<std::string_view, std::size_t> ids;
  ids.reserve(tokens.size());
  for (std::size_t id = 0; id < tokens.size(); ++id) {
    const auto [entry, is_new] = ids.emplace(tokens[id], id);
    if (is_new) continue;
    fail(file, fmt::format("token {} is there twice", shown(tokens[id])),
         {fmt::format("with id {} and with id {}", entry->second, id)});
  }
}

/// Whether a token of several bytes stands before `end`, which then ends the vocabulary proper.
bool has_merged_before(const std::vector<std::string_view>& tokens, std::size_t end) {
  const auto last = tokens.begin() + static_cast<std::ptrdiff_t>(end);
  return std::any_of(tokens.begin(), last, [](std::string_view token) { return token.size() > 1; });
}

[[noreturn]] void refuse_odd(const std::string& file, const std::vector<std::string_view>& tokens,
                             const DerivedMerges::Odd& odd) {
  constexpr std::size_t kShown = 8;
  std::string parts;
  for (std::size_t i = 0; i < odd.parts.size() && i < kShown; ++i) {
    parts += (i == 0 ? "" : ", ") + shown(tokens[static_cast<std::size_t>(odd.parts[i])]);
  }
  if (odd.parts.size() > kShown) parts += ", …";
  const auto id = static_cast<std::size_t>(odd.id);
  fail(file, fmt::format("token {} {} does not show which merge made it", id, shown(tokens[id])),
       {fmt::format("the tokens before it leave {} parts of it: {}", odd.parts.size(), parts),
        "the file has no merges; they can be told where ids rise in the order of merges, as "
        "GPT-2's"},
       "put the model's tokenizer.json, or its vocab.json and merges.txt, beside it");
}

}  // namespace

bool is_llmc_tokenizer(const fs::path& file) {
  std::string beginning(sizeof kLlmcTokenizerMagic, '\0');
  std::ifstream in(file, std::ios::binary);
  in.read(beginning.data(), static_cast<std::streamsize>(beginning.size()));
  return in && begins_as_one(beginning);
}

fs::path llmc_tokenizer_in(const fs::path& folder) {
  std::error_code ignored;
  if (fs::exists(folder / kName, ignored)) return folder / kName;
  std::vector<fs::path> found;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, ignored)) {
    if (entry.path().filename().string().ends_with(std::string("_") + kName)) {
      found.push_back(entry.path());
    }
  }
  return found.size() == 1 ? found[0] : fs::path();
}

void read_llmc_tokenizer(const fs::path& path, TokenizerParts& parts) {
  const MappedFile mapped(path);
  const std::string file = path.string();
  parts.tokens_source = parts.merges_source = file;
  const auto [tokens, end_of_text] = contents_of(mapped);
  refuse_twins(file, tokens);

  // One byte is a token of the vocabulary proper, whatever ends a text.
  std::vector<bool> is_added(tokens.size());
  is_added[end_of_text] = tokens[end_of_text].size() > 1;
  if (is_added[end_of_text] && has_merged_before(tokens, end_of_text)) {
    std::fill(is_added.begin() + static_cast<std::ptrdiff_t>(end_of_text), is_added.end(), true);
  }
  // Without all bytes it is no vocabulary, which build_tokenizer() says.
  if (const std::optional<DerivedMerges> derived = derive_merges(tokens, is_added)) {
    const std::size_t odd = derived->odd.size();
    for (std::size_t i = 0; i < odd; ++i) {
      const auto id = static_cast<std::size_t>(derived->odd[i].id);
      if (id != tokens.size() - odd + i) refuse_odd(file, tokens, derived->odd[0]);
      is_added[id] = true;
    }
    for (const MergeTable::Merge& merge : derived->merges) {
      parts.merges.push_back(printable(tokens[static_cast<std::size_t>(merge.left)]));
      parts.merges.push_back(printable(tokens[static_cast<std::size_t>(merge.right)]));
    }
  }
  for (std::size_t id = 0; id < tokens.size(); ++id) {
    parts.ids.push_back(static_cast<std::int64_t>(id));
    if (!is_added[id]) {
      parts.tokens.push_back(printable(tokens[id]));
      continue;
    }
    if (!is_utf8(tokens[id])) {
      fail(file, fmt::format("token {} {} is not UTF-8", id, shown(tokens[id])),
           {"it is no part of a vocabulary of merges, and so a text by itself"});
    }
    parts.tokens.push_back(tokens[id]);
    parts.added.push_back(
        {.content = std::string(tokens[id]), .id = static_cast<TokenId>(id), .special = true});
  }
  if (!is_added[end_of_text]) return;
  for (const char* role : {"bos_token", "eos_token", "unk_token"}) {
    parts.roles.emplace_back(role, tokens[end_of_text]);
  }
}

void write_llmc_tokenizer(const Tokenizer::Impl& tokenizer, const fs::path& path) {
  std::string end_of_text;
  for (const auto& [role, content] : roles_of(tokenizer)) {
    if (role == "eos_token") end_of_text = content;
  }
  const std::int32_t end_id = tokenizer.index.find(tokenizer.names, end_of_text);
  if (end_id < 0) {
    throw Error(Fault::bad_data, "the tokenizer has no end-of-text token",
                {"llm.c's tokenizer.bin names one"},
                "quire tokenizer add, with '<|endoftext|>' as a special token");
  }
  std::array<std::int32_t, kHeader> header{kLlmcTokenizerMagic, kVersion, tokenizer.size(), end_id};
  std::string text(kHeaderBytes, '\0');
  std::memcpy(text.data(), header.data(), kHeaderBytes);
  for (std::int32_t id = 0; id < tokenizer.size(); ++id) {
    const std::string_view bytes = tokenizer.bytes[id];
    if (bytes.empty() || bytes.size() > UINT8_MAX) {
      throw Error(Fault::bad_data, fmt::format("token {} has {} bytes", id, bytes.size()),
                  {fmt::format("llm.c's tokenizer.bin has room for 1 to {}", UINT8_MAX)});
    }
    text += static_cast<char>(bytes.size());
    text += bytes;
  }
  write_file(path, text);
}

}  // namespace quire
