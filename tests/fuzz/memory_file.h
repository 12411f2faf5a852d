// Bytes under a path, without a disk.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <string>

#include "tests/fuzz/targets.h"

namespace quire::test {

/// A file in memory that MappedFile can open. Linux only, like the fuzzers.
class MemoryFile {
 public:
  MemoryFile(const void* data, std::size_t size) : MemoryFile() { set(data, size); }
  MemoryFile() : descriptor_(::memfd_create("fuzz", MFD_CLOEXEC)) {
    QUIRE_FUZZ_REQUIRE(descriptor_ >= 0);
  }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;
  ~MemoryFile() { ::close(descriptor_); }
  /// The file holds these bytes from now on.
  void set(const void* data, std::size_t size) {
    QUIRE_FUZZ_REQUIRE(::ftruncate(descriptor_, 0) == 0);
    QUIRE_FUZZ_REQUIRE(::pwrite(descriptor_, data, size, 0) == static_cast<ssize_t>(size));
  }
  std::string path() const { return "/proc/self/fd/" + std::to_string(descriptor_); }

 private:
  int descriptor_;
};

/// A folder in which one name is a file in memory: for readers that are given a folder.
class MemoryFolder {
 public:
  explicit MemoryFolder(const char* name) {
    std::string path = (std::filesystem::temp_directory_path() / "quire-fuzz-XXXXXX").string();
    QUIRE_FUZZ_REQUIRE(::mkdtemp(path.data()) != nullptr);
    path_ = path;
    std::filesystem::create_symlink(file_.path(), path_ / name);
  }
  MemoryFolder(const MemoryFolder&) = delete;
  MemoryFolder& operator=(const MemoryFolder&) = delete;
  ~MemoryFolder() { std::filesystem::remove_all(path_); }
  const std::filesystem::path& with(const void* data, std::size_t size) {
    file_.set(data, size);
    return path_;
  }
  const std::filesystem::path& path() const { return path_; }

 private:
  MemoryFile file_;
  std::filesystem::path path_;
};

}  // namespace quire::test
