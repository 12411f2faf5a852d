// A Hugging Face model folder: config.json, generation_config.json, model.safetensors (or shards
// with model.safetensors.index.json). The tokenizer's files are the tokenizer's business.
#pragma once

#include <filesystem>
#include <string>

#include "engine/model/config.h"
#include "engine/model/parameters.h"

namespace quire {

Gpt2Config read_config(const std::filesystem::path& config_json);
std::string config_to_json(const Gpt2Config& config, DType dtype);

enum class WeightStorage {
  as_stored,  ///< matrices keep the file's type, mapped where the device can read host memory
  f32,        ///< everything becomes float32 in device memory of our own: what training wants
};

struct LoadedModel {
  Gpt2Config config;
  Parameters parameters;
};

/// Loads a folder (or a .safetensors file with config.json beside it). Names with or without
/// "transformer."; attn.bias and attn.masked_bias buffers are ignored; a missing lm_head.weight
/// means tied; one that equals wte stays tied. Vectors (biases, layernorms) are always f32 in memory.
/// Checks every shape against the config and every value for NaN and infinity (named with tensor
/// and index). Throws Error(bad_data).
LoadedModel load_model(Device& device, const std::filesystem::path& folder, WeightStorage storage);

/// Saves config.json, generation_config.json and model.safetensors so that transformers loads them.
/// `dtype` is f32, f16 or bf16. Each file is replaced atomically; the weights come last.
void save_model(Device& device, const std::filesystem::path& folder, const Gpt2Config& config,
                const Parameters& parameters, DType dtype);

}  // namespace quire
