#include "corpus/input_file.h"

#include "corpus/file_kind.h"

namespace quire {

InputFile::InputFile(const std::filesystem::path& path)
    : file_(path), packed_(compression_of(path) != Compression::none) {
  if (packed_) unpacked_ = decompress(file_.text(), compression_of(path), path.string());
}

}  // namespace quire
