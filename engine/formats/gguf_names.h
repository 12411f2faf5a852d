// What GGUF calls a GPT-2's tensors and their types: llama.cpp's names and ggml.h's numbers, for
// reading and writing.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace quire {

struct GgufType {
  std::string_view name;  ///< of the ElementType
  std::uint32_t number;   ///< in ggml.h
  int file_type;          ///< of a file whose matrices have it: llama.cpp's LLAMA_FTYPE_…
};
/// Those that are read and written.
std::span<const GgufType> gguf_types();

/// "blk.3.attn_qkv.weight" -> "h.3.attn.c_attn.weight"; a name that no GPT-2 has as it is.
std::string hub_name_of_gguf(std::string_view gguf_name);

/// The way back, of a parameter's bare name (bare_name() in weight_files.h).
std::string gguf_name(std::string_view bare_name);

}  // namespace quire
