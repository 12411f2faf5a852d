// Reading and writing .safetensors files.
//
// The file: 8 bytes little-endian N; N bytes of JSON: name -> {"dtype", "shape", "data_offsets":
// [begin, end)} and "__metadata__" -> strings; then the data, offsets counted from its start. The
// tensors cover the data without overlap and without holes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/file.h"
#include "kernels/tensor.h"

namespace quire {

/// A tensor in a mapped file. Types that View has no DType for (BOOL, U8, I64, …) are listed too:
/// `dtype_name` is the file's word, and view() throws for them.
struct FileTensor {
  std::string name;
  std::string dtype_name;            ///< "F32", "F16", "BF16", "I32", "U8", "BOOL", …
  std::vector<std::int64_t> shape;   ///< any rank
  std::span<const std::byte> bytes;  ///< inside the mapping

  /// The elements in place. Throws Error(bad_data) for a type without a DType, for a rank above 4
  /// and where aligned() is false.
  ConstView view() const;
  /// True when view() has a DType for it.
  bool has_dtype() const;
  /// Its DType; throws Error(bad_data) where there is none.
  DType dtype() const;
  /// False where a foreign writer put the data at an address that its type cannot be read from.
  bool aligned() const;
};

/// "[2, 33]" of a shape of any rank.
std::string to_string(const std::vector<std::int64_t>& shape);

/// A mapped .safetensors file. Everything in the header is checked before anything is used: header
/// length, JSON, types, shapes against byte counts, offsets inside the file, no overlaps, no holes.
/// Throws Error(bad_data) with file, tensor and numbers.
class Safetensors {
 public:
  explicit Safetensors(const std::filesystem::path& path);

  const std::vector<FileTensor>& tensors() const { return tensors_; }  ///< in file order
  const FileTensor* find(const std::string& name) const;               ///< nullptr: not there
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  const std::filesystem::path& path() const { return file_.path(); }

 private:
  MappedFile file_;
  std::vector<FileTensor> tensors_;
  std::unordered_map<std::string, std::size_t> places_;  // in tensors_
  std::map<std::string, std::string> metadata_;
};

struct TensorToWrite {
  std::string name;
  ConstView view;  ///< host memory
  /// The type in the file; other float types are converted in passing. Empty: as in memory.
  std::optional<DType> stored_as = std::nullopt;
};

/// Writes atomically (base/file.h). Tensors are stored in the given order; the data starts at a
/// multiple of 64 bytes. Throws Error(bad_data) for a finite number that float16 cannot hold.
void write_safetensors(const std::filesystem::path& path, std::span<const TensorToWrite> tensors,
                       const std::map<std::string, std::string>& metadata = {{"format", "pt"}});
/// The same into a file that the caller commits, so that others can be replaced just before.
void write_safetensors(AtomicFile& file, std::span<const TensorToWrite> tensors,
                       const std::map<std::string, std::string>& metadata = {{"format", "pt"}});

}  // namespace quire
