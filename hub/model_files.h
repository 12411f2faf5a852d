// Which of a model's files on the Hub are wanted here.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace quire {

struct WantedFiles {
  std::vector<std::string> files;  ///< in the order of getting: small ones first
  /// Of these, the one that names further files: "model.safetensors.index.json", or empty.
  std::string index;
};

/// Config, tokenizer, adapter and weights: safetensors, else pytorch_model.bin, else the one .gguf that
/// there is. What `include` names comes besides, by patterns as a shell has them, in which '*' goes
/// beyond '/'; where it names weights, no others are chosen. Throws Error(bad_data) where there is no
/// model, no file for a pattern, or a name that leads out of a folder, and Error(usage) for several .gguf.
WantedFiles choose_model_files(const std::vector<std::string>& names,
                               const std::vector<std::string>& include, const std::string& model);

/// The files that an index names, each once. `index` is what `file` of `model` holds, `names` all files
/// that there are. Throws Error(bad_data) for what is no index, and for a name that leads out of a
/// folder or is not there.
std::vector<std::string> shards_of_index(std::string_view index, const std::string& file,
                                         const std::vector<std::string>& names,
                                         const std::string& model);

}  // namespace quire
