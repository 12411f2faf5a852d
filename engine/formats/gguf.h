// GGUF, the files of llama.cpp: metadata, tokens and tensors of a model in one.
//
// The file: "GGUF", u32 version (2 or 3), u64 tensors, u64 entries of metadata; these: a name, u32
// type, a value; for each tensor a name, u32 rank, u64 extents with the fastest first, u32 type, u64
// place in the data; the data, from the next multiple of general.alignment on. A string is its u64
// length and UTF-8.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "engine/formats/source.h"

namespace quire {

/// A GPT-2 in GGUF. Tensors have Hugging Face's names and shapes; matrices of blocks are transposed
/// (as is FileTensor::transposed). config() is from the metadata. Everything is checked before it is
/// used. Throws Error(bad_data) with file, tensor or entry, and numbers: other architectures and
/// types that are not read, too.
class Gguf : public TensorSource {
 public:
  explicit Gguf(const std::filesystem::path& path);

  /// "tokenizer.ggml.tokens", "tokenizer.ggml.merges": the strings of an array, inside the mapping;
  /// empty where there is none.
  const std::vector<std::string_view>& strings(const std::string& name) const;
  /// "tokenizer.ggml.token_type": the numbers of an array of i32; empty where there is none.
  const std::vector<std::int32_t>& integers(const std::string& name) const;

 private:
  std::unordered_map<std::string, std::vector<std::string_view>> strings_;
  std::unordered_map<std::string, std::vector<std::int32_t>> integers_;
};

}  // namespace quire
