// Bytes under a path, without a disk.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <string>

#include "tests/fuzz/targets.h"

namespace quire::test {

/// A file in memory that MappedFile can open. Linux only, like the fuzzers.
class MemoryFile {
 public:
  MemoryFile(const void* data, std::size_t size)
      : descriptor_(::memfd_create("fuzz", MFD_CLOEXEC)) {
    QUIRE_FUZZ_REQUIRE(descriptor_ >= 0);
    QUIRE_FUZZ_REQUIRE(::write(descriptor_, data, size) == static_cast<ssize_t>(size));
  }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;
  ~MemoryFile() { ::close(descriptor_); }
  std::string path() const { return "/proc/self/fd/" + std::to_string(descriptor_); }

 private:
  int descriptor_;
};

}  // namespace quire::test
