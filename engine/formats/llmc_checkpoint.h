// llm.c's checkpoints, model.bin: a header of 256 int32, then all tensors in a fixed order.
#pragma once

#include <cstdint>
#include <filesystem>

#include "engine/formats/source.h"

namespace quire {

/// What its header begins with.
inline constexpr std::int32_t kLlmcMagic = 20240326;

/// Version 3 (float32) or 5 (bfloat16). Tensors have Hugging Face's names and shapes, matrices of
/// blocks are transposed (llm.c's Linear has [out, in]), and the rows that fill up the vocabulary
/// are left out. config() is from the header. Throws Error(bad_data) with file and numbers.
class LlmcCheckpoint : public TensorSource {
 public:
  explicit LlmcCheckpoint(const std::filesystem::path& path);
};

/// Whether a file begins as one.
bool begins_as_llmc(std::string_view beginning);

}  // namespace quire
