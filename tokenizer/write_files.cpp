// Writing a tokenizer's files, so that transformers (4 and 5) and the tokenizers library load them:
// the same vocabulary once as tokenizer.json and once as vocab.json + merges.txt, and the two small
// files that say which tokens are special.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/json.h"
#include "tokenizer/byte_alphabet.h"
#include "tokenizer/impl.h"

namespace quire {
namespace {

using nlohmann::ordered_json;

std::string in_quotes(std::string_view text) {
  return json_text(ordered_json(text));
}

std::string indented(const ordered_json& tree) {
  return json_text(tree, 2) + "\n";
}

ordered_json flags_of(const AddedToken& token) {
  return {{"content", token.content},   {"single_word", token.single_word},
          {"lstrip", token.strip_left}, {"rstrip", token.strip_right},
          {"normalized", token.second}, {"special", token.special}};
}

/// "name": id of all, with `between` them.
std::string vocabulary_of(const StringList& names, const std::string& between) {
  std::string text;
  for (std::size_t i = 0; i < names.size(); ++i) {
    text += (i > 0 ? between : "") + in_quotes(names[i]) + ": " + std::to_string(i);
  }
  return text;
}

std::string tokenizer_json(const Tokenizer::Impl& tokenizer, const StringList& names) {
  ordered_json added = ordered_json::array();
  for (const AddedToken& token : tokenizer.added) {
    ordered_json entry = {{"id", token.id}};
    entry.update(flags_of(token));
    added.push_back(entry);
  }
  const ordered_json byte_level = {{"type", "ByteLevel"},
                                   {"add_prefix_space", false},
                                   {"trim_offsets", true},
                                   {"use_regex", true}};
  ordered_json tree;
  tree["version"] = "1.0";
  tree["truncation"] = nullptr;
  tree["padding"] = nullptr;
  tree["added_tokens"] = std::move(added);
  tree["normalizer"] = nullptr;
  tree["pre_tokenizer"] = byte_level;
  tree["post_processor"] = nullptr;
  tree["decoder"] = byte_level;
  tree["model"] = {{"type", "BPE"},
                   {"dropout", nullptr},
                   {"unk_token", nullptr},
                   {"continuing_subword_prefix", ""},
                   {"end_of_word_suffix", ""},
                   {"fuse_unk", false},
                   {"byte_fallback", false},
                   {"ignore_merges", tokenizer.whole_pieces_first}};

  // The two long lists are appended inside the model: a tree of them would be slow.
  std::string text = json_text(tree, 2);
  text.erase(text.rfind("\n  }\n}"));
  text += ",\n    \"vocab\": {\n      " + vocabulary_of(names, ",\n      ");
  text += "\n    },\n    \"merges\": [";
  const char* separator = "\n";
  for (const MergeTable::Merge& merge : tokenizer.merges.merges()) {
    text += separator;
    text += "      [" + in_quotes(names[merge.left]) + ", " + in_quotes(names[merge.right]) + "]";
    separator = ",\n";
  }
  return text + "\n    ]\n  }\n}\n";
}

}  // namespace

TokenRoles roles_of(const Tokenizer::Impl& tokenizer) {
  if (!tokenizer.roles.empty()) return tokenizer.roles;
  const std::string end_of_text = "<|endoftext|>";
  for (const AddedToken& token : tokenizer.added) {
    if (token.content == end_of_text && token.special) {
      return {{"bos_token", end_of_text}, {"eos_token", end_of_text}, {"unk_token", end_of_text}};
    }
  }
  return {};
}

void write_tokenizer_files(const Tokenizer::Impl& tokenizer, const std::filesystem::path& folder,
                           int model_max_length) {
  const StringList& names = tokenizer.names;
  std::string merges = "#version: 0.2\n";
  for (const MergeTable::Merge& merge : tokenizer.merges.merges()) {
    merges.append(names[merge.left]).append(" ").append(names[merge.right]).append("\n");
  }

  ordered_json special = ordered_json::object();
  for (const auto& [role, content] : roles_of(tokenizer)) special[role] = content;
  ordered_json others = ordered_json::array();  // special without a role
  for (const AddedToken& token : tokenizer.added) {
    const auto named = [&](const ordered_json& content) { return content == token.content; };
    if (token.special && std::none_of(special.begin(), special.end(), named)) {
      others.push_back(token.content);
    }
  }
  if (!others.empty()) special["additional_special_tokens"] = std::move(others);

  ordered_json configuration = {{"add_prefix_space", false}};
  ordered_json decoder = ordered_json::object();
  for (const AddedToken& token : tokenizer.added) {
    decoder[std::to_string(token.id)] = flags_of(token);
  }
  configuration["added_tokens_decoder"] = std::move(decoder);
  // Named as null where there is none: transformers would add GPT-2's "<|endoftext|>" otherwise.
  for (const char* role : {"bos_token", "eos_token", "unk_token", "pad_token"}) {
    configuration[role] = nullptr;
  }
  configuration.update(special);
  configuration["clean_up_tokenization_spaces"] = false;
  configuration["errors"] = "replace";
  configuration["model_max_length"] = model_max_length;
  configuration["tokenizer_class"] = "GPT2Tokenizer";

  make_folder(folder);
  write_file(folder / "vocab.json", "{" + vocabulary_of(names, ", ") + "}\n");
  write_file(folder / "merges.txt", merges);
  write_file(folder / "tokenizer.json", tokenizer_json(tokenizer, names));
  write_file(folder / "special_tokens_map.json", indented(special));
  write_file(folder / "tokenizer_config.json", indented(configuration));
}

}  // namespace quire
