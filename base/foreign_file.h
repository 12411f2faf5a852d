// What a file is that stands where another kind was expected: most often what came of a download.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace quire {

struct ForeignFile {
  std::string what;  ///< "it is a Git LFS pointer: …"
  std::string next;  ///< what to do about it
};

/// By a file's first bytes: a Git LFS pointer, a web page, something packed (gzip, Zstandard, xz,
/// zip), a PyTorch pickle, GGUF or HDF5. nullopt: none of these.
std::optional<ForeignFile> recognise_foreign(std::string_view beginning);

}  // namespace quire
