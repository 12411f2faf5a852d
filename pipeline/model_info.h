// What a file or folder of weights holds, told by its headers: no weight is read.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/formats/adapter_config.h"
#include "engine/formats/source.h"
#include "engine/model/config.h"
#include "pipeline/tokenizer_info.h"

namespace quire {

/// What a tensor is to a GPT-2.
enum class TensorKind : std::uint8_t {
  parameter,
  tied_head,  ///< lm_head.weight, which the config ties to wte.weight
  old_mask,   ///< a buffer of old versions of transformers
  other,      ///< no GPT-2 has it; all tensors of what is none
};

struct ModelInfo {
  TensorSource source;
  std::string format;  ///< "safetensors", "PyTorch", "GGUF", "llm.c", "TensorFlow"
  std::vector<std::filesystem::path> files;  ///< that hold the tensors
  std::uintmax_t file_bytes = 0;
  /// tie_word_embeddings is what is stored and the config say; what the values say, nobody read.
  std::optional<Gpt2Config> config = {};
  std::string config_from =
      {};  ///< "config.json", or what of the weights says it: "metadata", "shapes"
  std::optional<AdapterConfig> adapter = {};
  std::string foreign = {};               ///< why it is no GPT-2; empty: it is one
  std::vector<std::string> trouble = {};  ///< why a GPT-2 cannot be loaded from it; a line each
  std::vector<TensorKind> kinds = {};     ///< of the source's tensors
  std::int64_t parameters = 0;  ///< elements of those; of what is no GPT-2, of all tensors
  std::optional<TokenizerInfo> tokenizer = {};
};

/// Reads the headers of what open_source() opens, and of an adapter's folder. Throws Error(bad_data)
/// for what cannot be read; another kind of model is none of that.
ModelInfo model_info(const std::filesystem::path& folder_or_file);

/// "GPT-2 124M" of the config of OpenAI's models; "" of others.
std::string openai_size(const Gpt2Config& config);

/// Tensors, elements and bytes of a type.
struct TypeCount {
  std::int64_t tensors = 0, elements = 0;
  std::uint64_t bytes = 0;
};
std::map<std::string, TypeCount> type_counts(const TensorSource& source);

}  // namespace quire
