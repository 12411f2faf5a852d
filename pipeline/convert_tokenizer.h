// The tokenizer of a folder, as files of other programs have it.
#pragma once

#include <filesystem>
#include <string>

#include "engine/formats/gguf_writer.h"

namespace quire {

/// Throws Error(bad_data) as Tokenizer::load() does.
GgufVocabulary gguf_vocabulary(const std::filesystem::path& tokenizer_folder);

/// The content of llm.c's tokenizer.bin: 256 uint32 (a magic number, version 2, tokens, the id of
/// the end of text), then each token's length in a byte and its bytes. Throws Error(bad_data) for
/// tokens of more than 255 bytes, too.
std::string llmc_tokenizer(const std::filesystem::path& tokenizer_folder);

/// Copies a tokenizer's files from one folder to another.
void copy_tokenizer(const std::filesystem::path& from, const std::filesystem::path& to);

}  // namespace quire
