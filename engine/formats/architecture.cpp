#include "engine/formats/architecture.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "base/error.h"

namespace quire {
namespace {

/// A part of a name that one architecture's tensors have, in the implementations of transformers.
struct Mark {
  std::string_view part, architecture;
};
constexpr Mark kMarks[] = {
    {"gpt_neox.", "GPT-NeoX"},
    {".attn.attention.q_proj", "GPT-Neo"},
    {".attn.q_proj.weight", "GPT-J"},
    {"word_embeddings_layernorm", "BLOOM"},
    {".self_attention.query_key_value", "Falcon"},
    {"decoder.embed_positions", "OPT"},
    {".self_attn.q_proj", "Llama"},
    {"embed_tokens", "Llama"},
    {"embeddings.word_embeddings", "BERT"},
    {"encoder.layer.", "BERT"},
    {"shared.weight", "T5"},
};

/// The extent of a tensor of at least so many; 0 where there is none.
std::int64_t extent(const NamedFileTensors& tensors, const std::string& name, std::size_t i) {
  const auto tensor = tensors.find(name);
  return tensor == tensors.end() || tensor->second->shape.size() <= i ? 0
                                                                      : tensor->second->shape[i];
}

int as_int(std::int64_t number) {
  return static_cast<int>(std::min<std::int64_t>(number, INT32_MAX));
}

}  // namespace

int block_of(const std::string& bare_name) {
  if (!bare_name.starts_with("h.")) return -1;
  const std::size_t end = bare_name.find_first_not_of("0123456789", 2);
  if (end == 2 || end == std::string::npos || bare_name[end] != '.' || end > 9) return -1;
  return std::stoi(bare_name.substr(2, end - 2));
}

void refuse_other_architecture(const std::filesystem::path& path, const NamedFileTensors& tensors) {
  for (const auto& [name, tensor] : tensors) {
    if (name.find(".attn.c_attn.") != std::string::npos) return;
  }
  for (const Mark& mark : kMarks) {
    for (const auto& [name, tensor] : tensors) {
      if (name.find(mark.part) == std::string::npos) continue;
      throw Error(Fault::bad_data,
                  fmt::format("{} holds a {}, not a GPT-2", path.string(), mark.architecture),
                  {fmt::format("'{}' is one of its {} tensors; a GPT-2 has 'wte.weight', "
                               "'h.0.attn.c_attn.weight', …",
                               tensor->name, tensors.size())},
                  "a model whose config.json has \"model_type\": \"gpt2\"");
    }
  }
}

Gpt2Config config_from_shapes(const std::filesystem::path& path, const NamedFileTensors& tensors) {
  Gpt2Config config;
  const bool has_table = tensors.count("wte.weight") != 0;
  config.vocab_size = as_int(extent(tensors, has_table ? "wte.weight" : "lm_head.weight", 0));
  config.n_positions = as_int(extent(tensors, "wpe.weight", 0));
  config.n_embd = as_int(extent(tensors, "wpe.weight", 1));
  config.n_layer = 0;
  for (const auto& [name, tensor] : tensors) {
    config.n_layer = std::max(config.n_layer, block_of(name) + 1);
  }
  const int inner = as_int(extent(tensors, "h.0.mlp.c_fc.weight", 1));
  if (inner != std::int64_t{4} * config.n_embd) config.n_inner = inner;
  if (config.vocab_size <= config.bos_token_id) config.bos_token_id = config.eos_token_id = {};
  for (const char* name : {"gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl"}) {
    const Gpt2Config known = *Gpt2Config::preset(name);
    if (known.n_layer != config.n_layer || known.n_embd != config.n_embd) continue;
    config.n_head = known.n_head;
    return config;
  }
  throw Error(
      Fault::bad_data, path.string() + " has no config.json beside it",
      {fmt::format("its {} tensors are of {} blocks of {} channels, and do not say how many heads "
                   "these have; known are the sizes of GPT-2: 12 blocks of 768, 24 of 1024, 36 of "
                   "1280, 48 of 1600",
                   tensors.size(), config.n_layer, config.n_embd)},
      fmt::format("a config.json beside it: {{\"model_type\": \"gpt2\", \"vocab_size\": {}, "
                  "\"n_positions\": {}, \"n_embd\": {}, \"n_layer\": {}, \"n_head\": HEADS}}",
                  config.vocab_size, config.n_positions, config.n_embd, config.n_layer));
}

}  // namespace quire
