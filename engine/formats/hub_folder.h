// A Hugging Face model folder: config.json, generation_config.json, model.safetensors (or shards
// with model.safetensors.index.json). The tokenizer's files are the tokenizer's business.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "engine/formats/packed_weights.h"
#include "engine/formats/weight_files.h"
#include "engine/model/config.h"
#include "engine/model/parameters.h"

namespace quire {

/// Reads a config.json of model_type gpt2; fields that are not there have transformers' defaults.
/// Throws Error(bad_data) naming the file, the field and its value.
Gpt2Config read_config(const std::filesystem::path& config_json);
/// config.json as transformers writes it for a GPT2LMHeadModel whose weights are stored as `dtype`.
std::string config_to_json(const Gpt2Config& config, DType dtype);
/// generation_config.json: the special tokens' ids.
std::string generation_config_to_json(const Gpt2Config& config);

/// A model's files before anything of them is loaded.
struct OpenedModel {
  WeightFiles files;
  Gpt2Config config;                       ///< tie_word_embeddings is what the weights say
  std::vector<NamedParameter> parameters;  ///< of that config
  std::vector<const FileTensor*> tensors;  ///< for each of the parameters, in its shape
  std::vector<std::string> notes;          ///< as LoadedModel has them
};
/// What load_model() does first, and says of names, tied heads and shapes. No value is looked at.
OpenedModel open_model(const std::filesystem::path& folder_or_file);

/// Types of matrices in memory. Those of other tensors are what load_model() says.
enum class WeightStorage {
  /// As in the file: mapped where the device can read host memory, and laid out anew while it
  /// decodes (weights_in_place.h); matrices of layers [out, in] where the file has them so, and blocks of Q8_0 and Q4_0 packed where it has products with them. All
  /// other blocks become float32.
  as_stored,
  /// The same, but all blocks become float32 and all matrices of layers [in, out]: for what is to be
  /// changed or written.
  plain,
  f32,   ///< everything becomes float32 in device memory of our own: what training wants
  int8,  ///< in blocks (packed_weights.h), rounded where the file has something else; as the
  int4,  ///< file has them where rows do not fill blocks
};
/// What int8 and int4 stand for; nullopt for the others.
std::optional<Quantisation> quantisation_of(WeightStorage storage);

struct LoadedModel {
  Gpt2Config config;  ///< tie_word_embeddings is what the weights say
  Parameters parameters;
  std::vector<std::string> notes;  ///< for people: what was decided or left out, a line each
};

/// Loads a folder or a file of weights, in any format of open_source(). As transformers does it:
///  - names come with or without "transformer."; attn.bias and attn.masked_bias are ignored
///  - a missing lm_head.weight means tied; one that equals wte stays tied where the config says so;
///  one
///    that differs is kept, with a note; a missing wte is taken from the head where the config ties
///    them
///  - without a config.json the weights say what the model is, or their shapes, with a note
///  - tensors that no GPT-2 has are left out, with a note; but blocks beyond n_layer are an error
/// Vectors (biases, layernorms) are always f32 in memory. Checks every shape against the config and
/// every value for NaN and infinity (named with tensor and index). Throws Error(bad_data), and
/// Error(no_space) before anything is read where the device's own memory is too small; and what
/// check_quantised() throws.
LoadedModel load_model(Device& device, const std::filesystem::path& folder, WeightStorage storage);

/// Saves config.json, generation_config.json and model.safetensors so that transformers loads them;
/// makes the folder when it is not there. `dtype` is f32, f16 or bf16. Each file is replaced
/// atomically, none before all weights are written, the weights last. Throws Error(diverged) for
/// weights that are not finite, Error(no_space) when the disk is full;
/// the old files are then as they were.
void save_model(Device& device, const std::filesystem::path& folder, const Gpt2Config& config,
                const Parameters& parameters, DType dtype);

}  // namespace quire
