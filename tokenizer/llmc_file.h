// llm.c's tokenizer.bin: a vocabulary for decoding, and the end-of-text token.
//
// 256 int32 (a magic number; version 1 or 2; how many tokens; in version 2 the id of the
// end-of-text token, which is 50256 in version 1; zeros), then for each token by id a u8 length and its
// bytes. Merges are not in it: derive_merges.h tells them. Nor is it said which tokens were added to
// the vocabulary: taken for those are the end-of-text token and all behind it, or, of a
// vocabulary whose end-of-text token stands before its merges, the last that merges cannot make.
#pragma once

#include <cstdint>
#include <filesystem>

#include "tokenizer/impl.h"

namespace quire {

/// What its header begins with.
inline constexpr std::int32_t kLlmcTokenizerMagic = 20240328;

/// Whether a file begins as one.
bool is_llmc_tokenizer(const std::filesystem::path& file);

/// The one that a folder has: tokenizer.bin, or as llm.c's own downloads are called
/// NAME_tokenizer.bin; empty where there is none, or several of those.
std::filesystem::path llmc_tokenizer_in(const std::filesystem::path& folder);

/// Throws Error(bad_data) naming file and token: a file that is cut off or longer than its tokens, tokens
/// that are empty, there twice, or whose merges cannot be told.
void read_llmc_tokenizer(const std::filesystem::path& path, TokenizerParts& parts);

/// Version 2. Throws Error(bad_data) where there is no end-of-text token, and for a token of more than
/// 255 bytes.
void write_llmc_tokenizer(const Tokenizer::Impl& tokenizer, const std::filesystem::path& path);

}  // namespace quire
