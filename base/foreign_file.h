// What a file is that stands where another kind was expected: most often what came of a download.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"

namespace quire {

struct ForeignFile {
  enum class Kind { pointer, page, packed, archive, model };
  std::string what;  ///< "it is a Git LFS pointer: …"
  std::string next;  ///< what to do about it
  Kind kind;
};

/// By a file's first bytes: a Git LFS pointer, a web page, something packed (gzip, Zstandard, xz,
/// zip), a PyTorch pickle, GGUF or HDF5. nullopt: none of these.
std::optional<ForeignFile> recognise_foreign(std::string_view beginning);

/// Error(bad_data) for a file of this text that `message` says is not what it should be:
/// with what it is instead, where that is known, else with `why`.
Error unusable_file(const std::string& message, std::string_view text, const std::string& why);

}  // namespace quire
