// A cache folder of a test's own.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <optional>
#include <string>

#include "tests/support/scratch.h"

namespace quire::test {

/// While it lives QUIRE_CACHE_DIR is an empty folder.
class CacheFolder {
 public:
  CacheFolder() {
    if (const char* const before = std::getenv("QUIRE_CACHE_DIR")) before_ = before;
    setenv("QUIRE_CACHE_DIR", path().c_str(), 1);
  }
  CacheFolder(const CacheFolder&) = delete;
  CacheFolder& operator=(const CacheFolder&) = delete;
  ~CacheFolder() {
    if (before_) {
      setenv("QUIRE_CACHE_DIR", before_->c_str(), 1);
    } else {
      unsetenv("QUIRE_CACHE_DIR");
    }
  }
  std::filesystem::path path() const { return folder_ / "cache"; }

 private:
  ScratchFolder folder_;
  std::optional<std::string> before_;
};

}  // namespace quire::test
