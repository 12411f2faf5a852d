// The weight files of a model folder, one or several, as one set of named tensors.
#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "engine/formats/source.h"

namespace quire {

/// The name without "transformer.", with which transformers' GPT2Model and GPT2LMHeadModel differ.
std::string bare_name(const std::string& name);

/// Whether a bare name is that of a causal mask, "h.0.attn.bias", that old versions of transformers
/// stored: bool, u8 or float.
bool is_old_buffer(const std::string& bare_name);

/// Whether a folder holds a model's weights in a format that is read.
bool has_weights(const std::filesystem::path& folder);

/// Whether a file is, by its name and its beginning, one of such a format.
bool is_weight_file(const std::filesystem::path& file);

/// Finds and maps weights in any format that is read: a file of them, or those in a folder, where
/// model.safetensors comes before all others. Throws Error(bad_data): what is missing, or which
/// other format is there and how to convert it.
TensorSource open_source(const std::filesystem::path& folder_or_file);

/// A model's weights by bare name. Old attention masks ("h.0.attn.bias") are passed over. Throws
/// Error(bad_data) as open_source() does, for another architecture than GPT-2, and where nothing
/// says what the model's config is.
class WeightFiles {
 public:
  explicit WeightFiles(const std::filesystem::path& folder_or_file);

  const std::filesystem::path& path() const { return source_.path(); }
  std::filesystem::path folder() const { return path().parent_path(); }
  /// What config.json beside the weights says, or the file of weights itself, or their shapes.
  Gpt2Config config() const;
  /// Which of them, for messages: "config.json", "metadata", "shapes".
  std::string config_origin() const;
  /// By bare name.
  const std::map<std::string, const FileTensor*>& tensors() const { return tensors_; }
  const FileTensor* find(const std::string& bare_name) const;  ///< nullptr: not there
  void rename(const std::string& from, const std::string& to);

 private:
  TensorSource source_;
  std::map<std::string, const FileTensor*> tensors_;
};

}  // namespace quire
