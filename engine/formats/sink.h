// Files of named tensors, being written, whatever their format.
//
// A format is a function that turns tensors into the layout of a file: texts (headers, padding) and
// tensors one after another, all sizes of which are known before anything is written. write() then
// makes the tensors' data in pieces of about a mebibyte, on several threads, each from the file
// that it lies in to its place in the new one: converted, transposed or as it is. No tensor is ever
// in memory as a whole.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/file.h"
#include "engine/formats/source.h"

namespace quire {

/// A tensor as a new file is to hold it.
struct OutTensor {
  std::string name;         ///< in the new file
  const ElementType* type;  ///< there; quantised ones want rows of whole blocks
  /// As Hugging Face has it. That of `from`, or with fewer or more rows.
  std::vector<std::int64_t> shape;
  bool transposed = false;       ///< as FileTensor::transposed, in the new file
  FileTensor from;               ///< what it holds: of a file, or of memory (where `file` is null)
  std::vector<float> more = {};  ///< what rows that `from` has not hold; zeros after its end

  /// `from` as it is.
  static OutTensor of(const FileTensor& from, std::string name);
  std::size_t bytes() const;
  /// Elements that lie side by side: what blocks of quantised types divide.
  std::int64_t row() const;
};

/// What a file holds, one after another.
class FileLayout {
 public:
  void add(std::string text);
  void add(OutTensor tensor);
  /// Zeros up to the next multiple.
  void align(std::size_t multiple);
  std::size_t size() const { return size_; }

  /// Makes what goes to some places only when the CRC-32 of each tensor is known, in their order.
  struct Patch {
    std::size_t offset;
    std::string text;
  };
  std::function<std::vector<Patch>(const std::vector<std::uint32_t>& checksums)> patches = {};

  struct Part {
    std::size_t offset;
    std::variant<std::string, OutTensor> content;
  };
  const std::vector<Part>& parts() const { return parts_; }

 private:
  std::vector<Part> parts_;
  std::size_t size_ = 0;
};

struct WriteOptions {
  int threads = 0;  ///< 0: all that are available
  /// Throws Error(bad_data) for NaN and infinity in what is converted; else they are passed on.
  bool must_be_finite = false;
  /// Called with the bytes of each piece that was written, by one thread at a time. False: stop.
  std::function<bool(std::size_t bytes)> go_on = {};
};

/// Thrown by write() when go_on() said so.
struct WriteStopped {};

/// Fills a file that nothing was written to; commit() is the caller's. Throws Error(bad_data) with
/// tensor and element for a finite number that the new type cannot hold, and what AtomicFile throws.
void write(AtomicFile& file, const FileLayout& layout, const WriteOptions& options = {});

}  // namespace quire
