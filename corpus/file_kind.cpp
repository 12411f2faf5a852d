#include "corpus/file_kind.h"

#include "base/error.h"

namespace quire {

std::string lower_extension(const std::filesystem::path& path) {
  std::string extension = path.extension().string();
  for (char& c : extension) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return extension;
}

FileKind kind_of(const std::filesystem::path& path) {
  const std::string extension = lower_extension(path);
  if (extension == ".txt") return FileKind::text;
  if (extension == ".csv" || extension == ".tsv") return FileKind::table;
  if (extension == ".jsonl") return FileKind::json_lines;

  const std::string name = path.string();
  std::filesystem::path converted = path;
  converted.replace_extension(".jsonl");
  std::string next;
  if (extension == ".parquet") {
    next = "python -c \"import pandas; pandas.read_parquet('" + name + "').to_json('" +
           converted.string() + "', orient='records', lines=True, force_ascii=False)\"";
  } else if (extension == ".json") {
    next = "python -c \"import pandas; pandas.read_json('" + name + "').to_json('" +
           converted.string() + "', orient='records', lines=True, force_ascii=False)\"";
  } else if (extension == ".gz") {
    next = "gunzip --keep " + name;
  } else if (extension == ".zst") {
    next = "unzstd " + name;
  }
  throw Error(Fault::bad_data,
              name + (extension.empty() ? " has no extension"
                                        : " is of a kind that is not read: " + extension),
              {"read are .txt, .csv, .tsv, .jsonl and folders of .txt"}, next);
}

}  // namespace quire
