// gzip and zstd in memory, through zlib and libzstd.
//
// Both are optional when Quire is built: without one, its files are refused with the command that
// unpacks them.
#pragma once

#include <string>
#include <string_view>

namespace quire {

enum class Compression { none, gzip, zstd };

/// What was packed: all members or frames of it, one after the other, each with its own checksum.
/// Errors call the file `name`. Throws Error(bad_data) for what is damaged or ends too soon, and
/// Error(device) where the library was not built in.
std::string decompress(std::string_view packed, Compression compression, const std::string& name);

}  // namespace quire
