#include "engine/formats/sink.h"

#include <fmt/format.h>
#include <zlib.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <mutex>
#include <utility>

#include "base/error.h"
#include "base/parallel.h"
#include "engine/formats/quantised.h"
#include "engine/model/elements.h"

namespace quire {
namespace {

/// Elements of a piece that lie in the new file as in the old one, whole blocks of every type: a
/// mebibyte of float32, which a core's cache keeps between its being checked and written.
constexpr std::int64_t kStraight = 1 << 18;
/// Elements after which the old file's pages are given back: each time stops all other threads, and
/// after every piece that took as long as the writing.
constexpr std::int64_t kLetGo = 32 * kStraight;
/// Elements of a piece that is transposed, about, and what the number of its rows is a multiple of:
/// columns of the old file, side by side there, whole blocks of every type.
constexpr std::int64_t kTransposed = 1 << 19, kColumns = 256;
/// Rows of the old file that are turned together: as many floats as a line of the cache has.
constexpr std::int64_t kLine = 16;

/// Rows of elements that lie side by side.
struct Rows {
  std::int64_t rows, row;
};
Rows rows_of(const std::vector<std::int64_t>& shape, bool transposed) {
  if (shape.size() != 2) return {1, shape.empty() ? 1 : shape.back()};
  return transposed ? Rows{shape[1], shape[0]} : Rows{shape[0], shape[1]};
}

std::int64_t count_of(const OutTensor& tensor) {
  std::int64_t count = 1;
  for (const std::int64_t extent : tensor.shape) count *= extent;
  return count;
}

bool turns(const OutTensor& tensor) {
  return tensor.shape.size() == 2 && tensor.transposed != tensor.from.transposed;
}

/// Elements first … first + count - 1 of a tensor, in the order in which they lie in the new file.
struct Piece {
  const OutTensor* tensor;
  std::size_t offset;  // in the file
  std::int64_t first, count;
  std::size_t number;  // of the tensor
};

/// Reused from piece to piece: fresh memory would be the kernel's zeros each time.
struct Workspace {
  std::vector<float> values, lines;
  std::vector<std::byte> bytes, raw_lines;
};

/// As to_string(shape) for the index of an element in the order of its shape.
std::string index_text(const OutTensor& tensor, std::int64_t lies_at) {
  if (tensor.shape.size() == 2 && tensor.transposed) {
    lies_at = lies_at % tensor.shape[0] * tensor.shape[1] + lies_at / tensor.shape[0];
  }
  return std::to_string(lies_at);
}

[[noreturn]] void throw_too_large(const OutTensor& tensor, std::int64_t lies_at, float value) {
  std::string type(tensor.type->name);
  std::string largest = "a block of that type multiplies its integers with a float16";
  if (tensor.type->dtype) {
    type = name_of(*tensor.type->dtype);
    largest = fmt::format("the largest number of that type is {}",
                          tensor.type->dtype == DType::f16 ? "65504" : "3.39e38");
  }
  throw Error(Fault::bad_data, fmt::format("tensor '{}' cannot be stored as {}", tensor.name, type),
              {fmt::format("element {} is {:f}; {}", index_text(tensor, lies_at), value, largest)},
              "store it as bfloat16 or float32");
}

/// Floats to the new type. `finite`: those that are not were refused before.
void convert(const OutTensor& tensor, std::int64_t first, std::span<const float> values,
             std::vector<std::byte>& to) {
  const ElementType& type = *tensor.type;
  const auto count = std::ssize(values);
  to.resize(static_cast<std::size_t>(count / type.block_elements * type.block_bytes));
  if (type.is_quantised) {
    const std::optional<std::size_t> large = quantise(type.name, values, to.data());
    if (large) throw_too_large(tensor, first + static_cast<std::int64_t>(*large), values[*large]);
    return;
  }
  write_elements(values, *type.dtype, to.data());
  const auto width = static_cast<std::int64_t>(size_of(*type.dtype));
  for (std::int64_t at = 0; at < count; ++at) {
    const auto bad = find_not_finite(to.data() + at * width, *type.dtype, count - at);
    if (!bad) return;
    at += *bad;
    const float value = values[static_cast<std::size_t>(at)];
    if (std::isfinite(value)) throw_too_large(tensor, first + at, value);
  }
}

/// A piece that lies in the new file as in the old one.
std::span<const std::byte> straight(const Piece& piece, bool must_be_finite, Workspace& space) {
  const OutTensor& tensor = *piece.tensor;
  const FileTensor& from = tensor.from;
  const std::int64_t there = std::clamp<std::int64_t>(from.count() - piece.first, 0, piece.count);
  if (must_be_finite && there > 0) from.check_finite(piece.first, there);
  if (there == piece.count && from.type == tensor.type) {
    const std::byte* begin = from.at(piece.first);
    return {begin, static_cast<std::size_t>(from.at(piece.first + piece.count) - begin)};
  }
  const auto count = static_cast<std::size_t>(piece.count), old = static_cast<std::size_t>(there);
  space.values.resize(count);
  if (old > 0) from.read_as_it_lies(piece.first, std::span(space.values).first(old));
  if (old < count) {
    const auto begin = static_cast<std::size_t>(piece.first + there - from.count());
    const std::span<const float> more =
        std::span(tensor.more).subspan(std::min(begin, tensor.more.size()));
    const std::size_t given = std::min(more.size(), count - old);
    std::copy_n(more.begin(), given, space.values.begin() + there);
    std::fill(space.values.begin() + there + static_cast<std::ptrdiff_t>(given), space.values.end(),
              0.0f);
  }
  convert(tensor, piece.first, space.values, space.bytes);
  return space.bytes;
}

/// Lines of `columns` elements each, `count` of them, become columns of rows that are `row` long.
template <class T>
void turn(const T* lines, std::int64_t count, std::int64_t columns, T* to, std::int64_t row) {
  for (std::int64_t c = 0; c < columns; ++c) {
    for (std::int64_t i = 0; i < count; ++i) to[c * row + i] = lines[i * columns + c];
  }
}

/// The same for elements where they lie in a file, from columns of lines that are `width` long.
template <class T>
void turn_raw(const FileTensor& from, std::int64_t column, std::int64_t columns, std::int64_t width,
              Workspace& space, std::int64_t row) {
  space.raw_lines.resize(static_cast<std::size_t>(kLine * columns) * sizeof(T));
  space.bytes.resize(static_cast<std::size_t>(columns * row) * sizeof(T));
  T* lines = reinterpret_cast<T*>(space.raw_lines.data());
  for (std::int64_t i = 0; i < row; i += kLine) {
    const std::int64_t together = std::min(kLine, row - i);
    for (std::int64_t k = 0; k < together; ++k) {
      std::memcpy(lines + k * columns, from.at((i + k) * width + column),
                  static_cast<std::size_t>(columns) * sizeof(T));
    }
    turn(lines, together, columns, reinterpret_cast<T*>(space.bytes.data()) + i, row);
  }
}

/// A piece of whole rows that are columns of the old file.
std::span<const std::byte> transposed(const Piece& piece, bool must_be_finite, Workspace& space) {
  const OutTensor& tensor = *piece.tensor;
  const FileTensor& from = tensor.from;
  const auto [width_out, row] = rows_of(tensor.shape, tensor.transposed);
  const std::int64_t width = width_out;  // a row of the old file
  const std::int64_t column = piece.first / row, columns = piece.count / row;
  if (must_be_finite) {
    for (std::int64_t i = 0; i < row; ++i) from.check_finite(i * width + column, columns);
  }
  if (from.type == tensor.type && !tensor.type->is_quantised) {
    if (tensor.type->block_bytes == 4) {
      turn_raw<std::uint32_t>(from, column, columns, width, space, row);
    } else {
      turn_raw<std::uint16_t>(from, column, columns, width, space, row);
    }
    return space.bytes;
  }
  space.values.resize(static_cast<std::size_t>(piece.count));
  space.lines.resize(static_cast<std::size_t>(kLine * columns));
  for (std::int64_t i = 0; i < row; i += kLine) {
    const std::int64_t together = std::min(kLine, row - i);
    for (std::int64_t k = 0; k < together; ++k) {
      from.read_as_it_lies(
          (i + k) * width + column,
          std::span(space.lines)
              .subspan(static_cast<std::size_t>(k * columns), static_cast<std::size_t>(columns)));
    }
    turn(space.lines.data(), together, columns, space.values.data() + i, row);
  }
  convert(tensor, piece.first, space.values, space.bytes);
  return space.bytes;
}

std::vector<Piece> pieces_of(const FileLayout& layout) {
  std::vector<Piece> pieces;
  std::size_t number = 0;
  for (const FileLayout::Part& part : layout.parts()) {
    const auto* tensor = std::get_if<OutTensor>(&part.content);
    if (tensor == nullptr) continue;
    const std::int64_t count = count_of(*tensor), row = tensor->row();
    std::int64_t size = kStraight;
    if (turns(*tensor))
      size = std::max(kTransposed / (row * kColumns), std::int64_t{1}) * row * kColumns;
    for (std::int64_t first = 0; first < count; first += size) {
      const std::int64_t blocks = first / tensor->type->block_elements;
      pieces.push_back({tensor,
                        part.offset + static_cast<std::size_t>(blocks * tensor->type->block_bytes),
                        first, std::min(size, count - first), number});
    }
    ++number;
  }
  return pieces;
}

/// The pages of the old file that a piece, or the last of the pieces of a tensor, has needed.
void let_go(const FileTensor& from, const std::byte* begin, std::size_t size) {
  if (from.file == nullptr || size == 0) return;
  const auto first = static_cast<std::size_t>(begin - from.file->bytes().data());
  from.file->let_go(first, first + size);
}

}  // namespace

OutTensor OutTensor::of(const FileTensor& from, std::string name) {
  return {.name = std::move(name),
          .type = from.type,
          .shape = from.shape,
          .transposed = from.transposed,
          .from = from};
}

std::size_t OutTensor::bytes() const {
  const std::optional<std::size_t> size = type->bytes_of(shape);
  if (!size || row() % type->block_elements != 0) {
    throw Error(Fault::internal,
                fmt::format("tensor '{}' of {} cannot be {}", name, to_string(shape), type->name));
  }
  return *size;
}

std::int64_t OutTensor::row() const {
  return rows_of(shape, transposed).row;
}

void FileLayout::add(std::string text) {
  const std::size_t offset = std::exchange(size_, size_ + text.size());
  parts_.push_back({offset, std::move(text)});
}

void FileLayout::add(OutTensor tensor) {
  const std::size_t offset = std::exchange(size_, size_ + tensor.bytes());
  parts_.push_back({offset, std::move(tensor)});
}

void FileLayout::align(std::size_t multiple) {
  if (size_ % multiple != 0) add(std::string(multiple - size_ % multiple, '\0'));
}

void write(AtomicFile& file, const FileLayout& layout, const WriteOptions& options) {
  file.reserve(layout.size());
  for (const FileLayout::Part& part : layout.parts()) {
    const auto* text = std::get_if<std::string>(&part.content);
    if (text != nullptr) file.write_at(part.offset, std::as_bytes(std::span(*text)));
  }
  const std::vector<Piece> pieces = pieces_of(layout);
  const std::size_t tensors = pieces.empty() ? 0 : pieces.back().number + 1;
  std::vector<std::atomic<std::size_t>> left(tensors);  // pieces of each
  for (const Piece& piece : pieces) ++left[piece.number];
  std::vector<std::uint32_t> sums(layout.patches ? pieces.size() : 0);
  std::vector<std::size_t> sizes(sums.size());
  std::mutex mutex;
  parallel_for(options.threads, pieces.size(), [&](std::size_t i) {
    thread_local Workspace space;
    const Piece& piece = pieces[i];
    const FileTensor& from = piece.tensor->from;
    const bool turned = turns(*piece.tensor);
    const std::span<const std::byte> bytes = turned
                                                 ? transposed(piece, options.must_be_finite, space)
                                                 : straight(piece, options.must_be_finite, space);
    if (!sums.empty()) {
      sums[i] = static_cast<std::uint32_t>(
          ::crc32_z(0, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size()));
      sizes[i] = bytes.size();
    }
    file.write_at(piece.offset, bytes);
    const std::int64_t end = piece.first + piece.count;
    if (!turned && end % kLetGo == 0 && end <= from.count()) {
      const std::byte* begin = from.at(end - kLetGo);
      let_go(from, begin, static_cast<std::size_t>(from.at(end) - begin));
    }
    if (--left[piece.number] == 0) let_go(from, from.bytes.data(), from.bytes.size());
    if (!options.go_on) return;
    const std::lock_guard lock(mutex);
    if (!options.go_on(bytes.size())) throw WriteStopped();
  });
  if (!layout.patches) return;
  std::vector<std::uint32_t> checksums(tensors, 0);
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    std::uint32_t& sum = checksums[pieces[i].number];
    sum = static_cast<std::uint32_t>(::crc32_combine(sum, sums[i], static_cast<z_off_t>(sizes[i])));
  }
  for (const FileLayout::Patch& patch : layout.patches(checksums)) {
    file.write_at(patch.offset, std::as_bytes(std::span(patch.text)));
  }
}

}  // namespace quire
