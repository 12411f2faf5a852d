// Bytes that are too many for memory: beyond 4 MiB they lie in a file without a name.
#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/file.h"

namespace quire {

/// Gathers bytes, to be read in any order. What is wrong with the file throws as ScratchFile does.
class ByteSpill {
 public:
  /// Files lie in `folder`; without one in scratch_folder().
  explicit ByteSpill(std::filesystem::path folder = {}) : folder_(std::move(folder)) {}
  ByteSpill(const ByteSpill&) = delete;
  ByteSpill& operator=(const ByteSpill&) = delete;

  void add(std::string_view bytes);
  template <class T>
  void add_values(std::span<const T> values) {
    add({reinterpret_cast<const char*>(values.data()), values.size_bytes()});
  }
  template <class T>
  void add_value(const T& value) {
    add_values(std::span<const T>(&value, 1));
  }
  std::size_t size() const { return in_file_ + memory_.size(); }
  /// Bytes offset … offset + to.size() - 1, which must be there.
  void read(std::size_t offset, std::span<char> to) const;
  /// Values first … first + to.size() - 1, where all have this type.
  template <class T>
  void read_values(std::size_t first, std::span<T> to) const {
    read(first * sizeof(T), {reinterpret_cast<char*>(to.data()), to.size_bytes()});
  }
  /// All of them in order, block by block.
  void for_each_block(const std::function<void(std::string_view)>& take) const;
  /// All of them at once; where they are in a file, mapped. Nothing can be added from then on.
  std::string_view map();
  /// A part of map() needs no memory for now, where it is mapped. It can be read again.
  void let_go(std::string_view part) const;
  void clear();

 private:
  void flush();

  std::filesystem::path folder_;
  std::string memory_;  // behind what is in the file
  std::size_t in_file_ = 0;
  std::optional<ScratchFile> file_;
  std::optional<MappedFile> mapped_;
};

}  // namespace quire
