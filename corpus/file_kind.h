// What a data file is, by its extension.
#pragma once

#include <filesystem>
#include <string>

namespace quire {

enum class FileKind { text, table, json_lines };

/// ".txt" of "A.TXT".
std::string lower_extension(const std::filesystem::path& path);

/// Throws Error(bad_data) for other kinds: with the command that converts them, where there is one,
/// or with what is read.
FileKind kind_of(const std::filesystem::path& path);

}  // namespace quire
