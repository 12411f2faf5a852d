// What a data file is, by its name: "quotes.csv.gz" is a table that gzip packed.
#pragma once

#include <filesystem>
#include <string>

#include "corpus/decompress.h"

namespace quire {

enum class FileKind { text, table, json_lines };

/// ".txt" of "A.TXT".
std::string lower_extension(const std::filesystem::path& path);

/// By the last extension: .gz or .zst.
Compression compression_of(const std::filesystem::path& path);
/// "a.csv" of "a.csv.gz"; other names as they are.
std::filesystem::path unpacked_name(const std::filesystem::path& path);

/// Whether kind_of() knows it.
bool is_read(const std::filesystem::path& path);
/// Throws Error(bad_data) for other kinds: with the command that converts them, where there is one,
/// or with what is read.
FileKind kind_of(const std::filesystem::path& path);

}  // namespace quire
