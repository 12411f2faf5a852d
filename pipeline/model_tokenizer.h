// The tokenizer of a model, wherever its format keeps it: in files beside the weights (tokenizer.h),
// or in the file of weights itself, as GGUF does. Engine sees no text, so the two meet here.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "engine/formats/gguf.h"
#include "engine/formats/gguf_writer.h"
#include "tokenizer/tokenizer.h"

namespace quire {

/// Whether a resolved model (model_path.h) has one: its file, its folder or, of an adapter without
/// one, the model that it adapts.
bool has_tokenizer(const std::filesystem::path& resolved_model);

/// Where the one is read from that --tokenizer has `named`, if anything, or else the model's own: a
/// folder of files, or a file. A file of weights has the one inside it, or the one beside it.
std::filesystem::path tokenizer_place(const std::filesystem::path& resolved_model,
                                      const std::string& named = {});

/// That one. Throws Error(bad_data) where there is none, or a broken one: file and entry.
Tokenizer tokenizer_of(const std::filesystem::path& resolved_model, const std::string& named = {});

/// The same for --tokenizer alone: what --model takes, or a folder or a file that has a tokenizer and
/// no model.
Tokenizer named_tokenizer(const std::string& name);

/// What `name` stands for there: a folder or a file, as resolve_model() has them for a model.
std::filesystem::path resolve_tokenizer(const std::string& name);

/// The context of the model that lies there with it; 0 where there is none.
std::int64_t context_beside(const std::filesystem::path& resolved_tokenizer);

/// A tokenizer as GGUF has it. Throws Error(bad_data) for one that it has no place for: with
/// pieces that are not made of merges.
GgufVocabulary gguf_vocabulary(const Tokenizer& tokenizer);

/// The one in a GGUF file. Throws Error(bad_data) where its entries are missing, do not fit
/// together, or are another tokenizer's than GPT-2's.
Tokenizer gguf_tokenizer(const Gguf& file);

}  // namespace quire
