// A file that comes in parts, over several processes where need be.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "base/file.h"

namespace quire {

/// NAME.incomplete beside the name that it gets in the end. What was written stays where the object
/// goes without commit(). Failures throw Error: no_space when the disk is full, bad_data otherwise.
class PartialFile {
 public:
  /// Opens what is there, or an empty file.
  explicit PartialFile(std::filesystem::path name);

  const std::filesystem::path& path() const { return incomplete_; }
  std::uint64_t size() const { return size_; }
  void append(std::string_view bytes);
  void clear();    ///< without a byte from now on
  void discard();  ///< no file from now on
  /// Flushed to disk, under its name, and the folder flushed.
  void commit();

 private:
  [[noreturn]] void fail(const char* action) const;

  std::filesystem::path name_, incomplete_;
  Descriptor descriptor_;
  std::uint64_t size_ = 0;
};

/// A file of others' that is held while something is done: they wait. Where the file system has no locks, nobody does.
class FileLock {
 public:
  /// Makes the file, and the folders above it. Not held yet.
  explicit FileLock(const std::filesystem::path& file);
  /// Whether it is held now.
  bool try_lock();

 private:
  Descriptor descriptor_;
};

}  // namespace quire
