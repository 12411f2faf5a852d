// Prepared folders: which shards belong together, as manifest.json has it. It is a JSON object;
// what is read again of it are the names and the checksums of its "shards".
// The rest is for people and programs.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/text.h"
#include "tokens/shards.h"

namespace quire {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

bool holds_shards(const fs::path& folder) {
  std::error_code failed;
  const fs::directory_iterator entries(folder, failed);
  return !failed && std::any_of(begin(entries), end(entries), [](const fs::directory_entry& e) {
    return e.path().extension() == kShardExtension;
  });
}

void open_folder(const fs::path& folder, std::vector<TokenShard>& shards) {
  const std::string again =
      "quire data prepare PATH... `tokenizer` DIR `overwrite_output_dir` -o "_named;
  const fs::path manifest = folder / kShardManifest;
  std::error_code ignored;
  if (!fs::exists(manifest, ignored)) {
    throw Error(Fault::bad_data, folder.string() + " was not prepared to its end",
                {"there are shards and no " + std::string(kShardManifest)},
                again + in_shell(folder.string()));
  }
  std::vector<std::pair<std::string, std::string>> listed;  // file and checksum
  try {
    const Json json = parse_json<Json>(read_file(manifest));
    for (const Json& shard : json.at("shards")) {
      listed.emplace_back(shard.at("file").get<std::string>(),
                          shard.at("checksum").get<std::string>());
    }
  } catch (const Json::exception& error) {
    throw Error(Fault::bad_data, manifest.string() + " is damaged", {json_trouble(error)},
                again + in_shell(folder.string()));
  }
  for (const auto& [file, checksum] : listed) {
    if (fs::path(file).filename() != file) {
      throw Error(Fault::bad_data, manifest.string() + " is damaged",
                  {"'" + file + "' is not a file of the folder"});
    }
    TokenShard shard(folder / file);
    if (hash_text(shard.checksum()) != checksum) {
      throw Error(Fault::bad_data, shard.path().string() + " is not the shard that was prepared",
                  {fmt::format("its checksum is {}, {} says {}", hash_text(shard.checksum()),
                               kShardManifest, checksum)},
                  again + in_shell(folder.string()));
    }
    shards.push_back(std::move(shard));
  }
}

}  // namespace

bool is_prepared(const fs::path& path) {
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) return holds_shards(path);
  return path.extension() == kShardExtension && fs::exists(path, ignored);
}

std::vector<TokenShard> open_shards(const std::vector<std::string>& paths) {
  std::vector<TokenShard> shards;
  std::error_code ignored;
  for (const fs::path path : paths) {
    if (!is_prepared(path)) {
      throw Error(
          Fault::usage, "token shards and text cannot be trained on together",
          {path.string() + " holds no shards"},
          "quire data prepare " + in_shell(path.string()) + " `tokenizer` DIR -o DIR"_named);
    }
    if (fs::is_directory(path, ignored)) {
      open_folder(path, shards);
    } else {
      shards.emplace_back(path);
    }
  }
  for (const TokenShard& shard : shards) {
    if (shard.vocabulary().fingerprint == shards[0].vocabulary().fingerprint) continue;
    throw Error(Fault::bad_data, shards[0].path().string() + " and " + shard.path().string() +
                                     " were made with different tokenizers");
  }
  return shards;
}

void check_tokenizer(const std::vector<TokenShard>& shards, const ShardVocabulary& tokenizer) {
  for (const TokenShard& shard : shards) {
    const ShardVocabulary& vocabulary = shard.vocabulary();
    if (vocabulary.fingerprint == tokenizer.fingerprint) continue;
    throw Error(
        Fault::bad_data, shard.path().string() + " was made with another tokenizer than this one",
        {fmt::format("the shard's has {} ids and the fingerprint {}", with_commas(vocabulary.size),
                     hash_text(vocabulary.fingerprint)),
         fmt::format("this one has {} and {}", with_commas(tokenizer.size),
                     hash_text(tokenizer.fingerprint))},
        "the `tokenizer` of quire data prepare, or prepare the text again with this one"_named);
  }
}

Json ShardWriter::write_manifest(const Json& text, const Json& origin) const {
  Json manifest = {{"version", 1}, {"records", records()}, {"tokens", tokens()}};
  manifest.update(text);
  manifest.update(
      {{"bytes_per_id", bytes_per_id()},
       {"labels", labelled()},
       {"tokenizer",
        {{"vocab_size", vocabulary_.size}, {"fingerprint", hash_text(vocabulary_.fingerprint)}}}});
  manifest.update(origin);
  Json& shards = manifest["shards"] = Json::array();
  for (const Written& shard : shards_) {
    shards.push_back({{"file", shard.file},
                      {"records", shard.records},
                      {"tokens", shard.tokens},
                      {"checksum", hash_text(shard.checksum)}});
  }
  write_file(folder_ / kShardManifest, json_text(manifest, 2) + "\n");
  return manifest;
}

}  // namespace quire
