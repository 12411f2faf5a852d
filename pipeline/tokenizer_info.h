// The size and the special tokens of a tokenizer, told by its files without loading it: GPT-2's own
// takes 35 ms to load.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>

#include "engine/formats/source.h"

namespace quire {

struct TokenizerInfo {
  std::string file;       ///< "tokenizer.json"; of a GGUF the weights' own
  std::int64_t size = 0;  ///< its largest id + 1; 0: the file holds no vocabulary
  std::map<std::int64_t, std::string> special;  ///< id -> text; empty text: it is not known
};

/// Of the weights' folder: tokenizer.json, vocab.json, OpenAI's encoder.json, llm.c's tokenizer.bin,
/// the first that is there; or of the weights themselves. nullopt: there is none.
std::optional<TokenizerInfo> tokenizer_info(const TensorSource& weights);

}  // namespace quire
