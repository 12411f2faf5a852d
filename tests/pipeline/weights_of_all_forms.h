// The fixtures' model tiny-char in every form in which it lies there, and copies of them with a
// value of another kind in one place.
#pragma once

#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "base/file.h"
#include "engine/formats/weight_files.h"
#include "tests/support/fixtures.h"
#include "tests/support/scratch.h"

namespace quire::test {

struct Form {
  const char* path;    ///< in the fixtures' models/
  const char* format;  ///< as quire info calls it
  const char* type;    ///< of matrices
};
inline constexpr Form kForms[] = {
    {"tiny-char", "safetensors", "F32"},
    {"tiny-char-formats/bf16", "safetensors", "BF16"},
    {"tiny-char-formats/bin-legacy", "PyTorch", "F16"},
    {"tiny-char-formats/bin-zip", "PyTorch", "F32"},
    {"tiny-char-formats/fp16-lm-head-buffers", "safetensors", "F16"},
    {"tiny-char-formats/hub-layout", "safetensors", "F32"},
    {"tiny-char-formats/sharded", "safetensors", "F16"},
    {"tiny-char-gguf/tiny-char-f32.gguf", "GGUF", "F32"},
    {"tiny-char-gguf/tiny-char-f16.gguf", "GGUF", "F16"},
    {"tiny-char-gguf/tiny-char-q8_0.gguf", "GGUF", "Q8_0"},
    {"tiny-char-llmc/model_fp32.bin", "llm.c", "F32"},
    {"tiny-char-llmc/model_bf16.bin", "llm.c", "BF16"},
    {"tiny-char-tf", "TensorFlow", "F32"},
};

inline std::filesystem::path path_of(const Form& form) {
  return fixtures_root() / "models" / form.path;
}

inline const FileTensor& tensor_of(const TensorSource& source, const std::string& bare) {
  for (const FileTensor& tensor : source.tensors()) {
    if (bare_name(tensor.name) == bare) return tensor;
  }
  throw Error(Fault::bad_data, "no tensor " + bare);
}

/// A copy of a form in the folder, whose tensor has other bytes from element `stored` on, in the
/// order in which they lie; what is opened instead of path_of(form).
inline std::filesystem::path with_bytes(const ScratchFolder& folder, const Form& form,
                                        const std::string& bare, std::int64_t stored,
                                        std::string_view bytes) {
  namespace fs = std::filesystem;
  const fs::path from = path_of(form);
  const bool alone = fs::is_regular_file(from);
  const fs::path to = folder / from.filename().string();
  fs::copy(from, to, fs::copy_options::recursive);
  const TensorSource source = open_source(to);
  const FileTensor& tensor = tensor_of(source, bare);
  const ElementType& type = *tensor.type;
  const auto at = tensor.bytes.data() - tensor.file->bytes().data() +
                  stored / type.block_elements * type.block_bytes;
  const fs::path file = tensor.file->path();
  fs::permissions(file, fs::perms::owner_all);
  if (!alone) fs::permissions(to, fs::perms::owner_all);
  std::fstream out(file, std::ios::in | std::ios::out | std::ios::binary);
  out.seekp(at);
  out.write(bytes.data(), std::ssize(bytes));
  REQUIRE(out.good());
  return to;
}

/// NaN as that type has it; of a block, what all of it is multiplied with.
inline std::string nan_of(const std::string& type) {
  if (type == "F32") return std::string("\x00\x00\xc0\x7f", 4);
  return type == "BF16" ? std::string("\xc0\x7f", 2) : std::string("\x00\x7e", 2);
}

}  // namespace quire::test
