// What the names and shapes of tensors alone say of a model.
#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "engine/formats/source.h"

namespace quire {

/// A model's tensors by bare name.
using NamedFileTensors = std::map<std::string, const FileTensor*>;

/// Throws Error(bad_data) for tensors that have none of a GPT-2's names, but those of another
/// architecture (BERT, Llama, …).
void refuse_other_architecture(const std::filesystem::path& path, const NamedFileTensors& tensors);

/// The config of one of GPT-2's four sizes (12 blocks of 768, 24 of 1024, 36 of 1280, 48 of 1600),
/// whose heads have 64 channels each: the vocabulary, the positions and the MLP's width are those of
/// the tensors, all else is GPT2Config's default. Throws Error(bad_data) for any other size, with
/// what a config.json has to say.
Gpt2Config config_from_shapes(const std::filesystem::path& path, const NamedFileTensors& tensors);

/// The number of block h.N, or -1 for tensors outside of blocks. Absurd numbers are no block's.
int block_of(const std::string& bare_name);

}  // namespace quire
