#include "corpus/file_kind.h"

#include <fmt/format.h>

#include <optional>

#include "base/error.h"
#include "base/text.h"
#include "tokens/shards.h"

namespace quire {
namespace {

std::optional<FileKind> known_kind(const std::filesystem::path& path) {
  const std::string extension = lower_extension(unpacked_name(path));
  if (extension == ".txt") return FileKind::text;
  if (extension == ".csv" || extension == ".tsv") return FileKind::table;
  if (extension == ".jsonl") return FileKind::json_lines;
  return std::nullopt;
}

}  // namespace

std::string lower_extension(const std::filesystem::path& path) {
  return lower_ascii(path.extension().string());
}

Compression compression_of(const std::filesystem::path& path) {
  const std::string extension = lower_extension(path);
  return extension == ".gz"    ? Compression::gzip
         : extension == ".zst" ? Compression::zstd
                               : Compression::none;
}

std::filesystem::path unpacked_name(const std::filesystem::path& path) {
  if (compression_of(path) == Compression::none) return path;
  return path.parent_path() / path.stem();
}

bool is_read(const std::filesystem::path& path) {
  return known_kind(path).has_value();
}

FileKind kind_of(const std::filesystem::path& path) {
  if (const std::optional<FileKind> kind = known_kind(path)) return *kind;

  const std::string name = path.string();
  const std::string extension = lower_extension(unpacked_name(path));
  if (extension == kShardExtension) {
    throw Error(Fault::bad_data, name + " holds tokens, not text",
                {"shards are trained on by themselves, not together with files of text"},
                "quire train `paths` "_named + in_shell(name));
  }
  // pandas reads .gz and .zst by itself.
  std::filesystem::path converted = unpacked_name(path);
  converted.replace_extension(".jsonl");
  const auto convert = [&](const std::string& read) {
    const std::string code = fmt::format(
        "import pandas; pandas.{}({}).to_json({}, orient='records', lines=True, force_ascii=False)",
        read, in_python(name), in_python(converted.string()));
    return "python3 -c " + in_quotes(code, '"');
  };
  const std::string next = extension == ".parquet" ? convert("read_parquet")
                           : extension == ".json"  ? convert("read_json")
                                                   : "";
  throw Error(
      Fault::bad_data,
      name + (extension.empty() ? " has no extension that tells what it holds"
                                : " is of a kind that is not read: " + extension),
      {"read are .txt, .csv, .tsv and .jsonl, each with .gz or .zst too, and folders of these"},
      next);
}

}  // namespace quire
