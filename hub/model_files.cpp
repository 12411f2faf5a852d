#include "hub/model_files.h"

#include <fnmatch.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "base/error.h"
#include "base/json.h"
#include "base/text.h"
#include "hub/client.h"

namespace quire {
namespace {

using Json = nlohmann::json;
using Names = std::vector<std::string>;

constexpr const char* kSmallFiles[] = {
    "config.json",
    "generation_config.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "adapter_config.json",
};

/// Whole, and the index of the same in parts; the first kind that is there is taken.
constexpr struct {
  const char* whole;
  const char* index;
} kWeights[] = {
    {"model.safetensors", "model.safetensors.index.json"},
    {"adapter_model.safetensors", ""},
    {"pytorch_model.bin", "pytorch_model.bin.index.json"},
    {"adapter_model.bin", ""},
};

bool has(const Names& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

bool holds_weights(const std::string& name) {
  for (const char* end : {".safetensors", ".bin", ".gguf", ".index.json"}) {
    if (name.ends_with(end)) return true;
  }
  return false;
}

void add(WantedFiles& wanted, const std::string& name) {
  if (!has(wanted.files, name)) wanted.files.push_back(name);
}

/// Those without a folder: a repository may have more in folders of their own.
Names gguf_files(const Names& names) {
  Names found;
  for (const std::string& name : names) {
    if (name.ends_with(".gguf") && name.find('/') == std::string::npos) found.push_back(name);
  }
  return found;
}

void choose_weights(WantedFiles& wanted, const Names& names, const std::string& model) {
  for (const auto& [whole, index] : kWeights) {
    if (has(names, whole)) return add(wanted, whole);
    if (*index == '\0' || !has(names, index)) continue;
    wanted.index = index;
    return add(wanted, index);
  }
  const Names gguf = gguf_files(names);
  if (gguf.size() > 1) {
    std::string list;
    for (const std::string& name : gguf) list += (list.empty() ? "" : ", ") + name;
    throw Error(Fault::usage, model + " has several models in GGUF", {list},
                "one of them with `include`"_named);
  }
  if (!gguf.empty()) return add(wanted, gguf[0]);
  std::string list;
  for (std::size_t i = 0; i < names.size() && i < 12; ++i) list += (i == 0 ? "" : ", ") + names[i];
  throw Error(Fault::bad_data, model + " on the Hub holds no weights that Quire reads",
              {"wanted: model.safetensors, pytorch_model.bin or a .gguf",
               names.empty() ? "it has no files" : "it has " + list});
}

void refuse_unsafe(const std::string& name, const std::string& where) {
  if (is_safe_file_name(name)) return;
  throw Error(Fault::bad_data, where + " names a file " + in_quotes(name.substr(0, 200)),
              {"which would lie outside the model's folder: nothing of it is used"});
}

}  // namespace

WantedFiles choose_model_files(const Names& names, const Names& include, const std::string& model) {
  WantedFiles wanted;
  for (const char* name : kSmallFiles) {
    if (has(names, name)) add(wanted, name);
  }
  Names asked;
  for (const std::string& pattern : include) {
    const std::size_t before = asked.size();
    for (const std::string& name : names) {
      if (::fnmatch(pattern.c_str(), name.c_str(), 0) == 0) asked.push_back(name);
    }
    if (asked.size() == before) {
      throw Error(Fault::bad_data, model + " on the Hub has no file " + in_quotes(pattern));
    }
  }
  if (std::none_of(asked.begin(), asked.end(), holds_weights)) {
    choose_weights(wanted, names, model);
  }
  for (const std::string& name : asked) add(wanted, name);
  for (const std::string& name : wanted.files) refuse_unsafe(name, model + " on the Hub");
  std::stable_partition(wanted.files.begin(), wanted.files.end(), [](const std::string& name) {
    return !holds_weights(name) || name.ends_with(".json");
  });
  return wanted;
}

Names shards_of_index(std::string_view index, const std::string& file, const Names& names,
                      const std::string& model) {
  const std::string where = file + " of " + model;
  const auto json = parse_json_or_discard<Json>(index);
  if (!json.is_object() || !json.contains("weight_map") || !json["weight_map"].is_object()) {
    throw Error(Fault::bad_data, where + " is no index of weights",
                {"wanted: \"weight_map\" with the file of each tensor"});
  }
  std::set<std::string> shards;
  for (const auto& [tensor, shard] : json["weight_map"].items()) {
    std::string name;
    if (!read_json(shard, name)) {
      throw Error(Fault::bad_data, where + " names no file for " + in_quotes(tensor));
    }
    refuse_unsafe(name, where);
    if (!has(names, name)) {
      throw Error(Fault::bad_data, where + " names " + name + ", which is not there");
    }
    shards.insert(name);
  }
  return {shards.begin(), shards.end()};
}

}  // namespace quire
