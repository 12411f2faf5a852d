// Writing GGUF version 3 (gguf.h) as llama.cpp's convert_hf_to_gguf.py writes a GPT-2: its names,
// its metadata, matrices of blocks as [out, in], alignment 32.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "engine/formats/sink.h"

namespace quire {

/// A byte-level BPE vocabulary as GGUF has it: tokenizer.ggml.*.
struct GgufVocabulary {
  /// llama.cpp's numbers.
  static constexpr int kNormal = 1, kControl = 3, kUserDefined = 4, kUnused = 5;

  std::vector<std::string> tokens;  ///< by id, as vocab.json has them; special ones as they are
  std::vector<int> types;           ///< of each token
  std::vector<std::string> merges;  ///< "left right", in order of priority
  std::optional<int> bos, eos, unknown, padding;
  std::string pre = "gpt-2";  ///< the splitter
};

/// Tensors of parameter_list(config), whose types are wanted ones: vectors and the table of
/// positions become F32, and matrices whose rows do not fill blocks of a quantised type F16, both
/// as llama.cpp does it (of Q4_K, Q8_0 where that fits); `notes` gets a line about the latter. A vocabulary with fewer tokens than
/// the model has rows is filled up with unused ones, "[PAD1000]"; without one the file says that
/// there is none. Throws Error(bad_data) for what llama.cpp's GPT-2 has no place for: another
/// activation than gelu_new, other scales of the scores, more tokens than rows.
FileLayout gguf_layout(const Gpt2Config& config, std::vector<OutTensor> tensors,
                       const std::optional<GgufVocabulary>& vocabulary, const std::string& name,
                       std::vector<std::string>& notes);

}  // namespace quire
