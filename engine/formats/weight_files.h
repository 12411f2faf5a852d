// The weight files of a model folder, one or several, as one set of named tensors.
#pragma once

#include <deque>
#include <filesystem>
#include <map>
#include <string>

#include "engine/formats/safetensors.h"

namespace quire {

/// The name without "transformer.", with which transformers' GPT2Model and GPT2LMHeadModel differ.
std::string bare_name(const std::string& name);

/// Finds and maps the weights: model.safetensors, else the shards of model.safetensors.index.json,
/// or the .safetensors file that the path names. Old attention masks ("h.0.attn.bias") are passed
/// over. Throws Error(bad_data): what is missing,
/// or which other format is there and how to convert it.
class WeightFiles {
 public:
  explicit WeightFiles(const std::filesystem::path& folder_or_file);

  const std::filesystem::path& path() const { return path_; }  ///< the file, or the index
  std::filesystem::path folder() const { return path_.parent_path(); }
  const std::map<std::string, const FileTensor*>& tensors() const {
    return tensors_;
  }                                                            ///< by bare name
  const FileTensor* find(const std::string& bare_name) const;  ///< nullptr: not there
  void rename(const std::string& from, const std::string& to);
  /// The path of the file that a tensor lies in.
  std::string source(const FileTensor& tensor) const;

 private:
  void open_shards();
  void add(const Safetensors& file, const FileTensor& tensor);

  std::filesystem::path path_;
  std::deque<Safetensors> files_;
  std::map<std::string, const FileTensor*> tensors_;
};

}  // namespace quire
