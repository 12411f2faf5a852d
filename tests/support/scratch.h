// A folder of its own for each test, and the errors that come of what lies in it.
#pragma once

#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include "base/error.h"
#include "tests/support/catch.h"

namespace quire::test {

/// An empty folder, removed with all that is in it.
class ScratchFolder {
 public:
  ScratchFolder() {
    static std::atomic<int> number{0};
    path_ = std::filesystem::temp_directory_path() /
            ("quire-test-" + std::to_string(::getpid()) + "-" + std::to_string(number++));
    std::filesystem::create_directories(path_);
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  ~ScratchFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }

  /// Writes a file, and the folders above it.
  std::filesystem::path write(const std::string& name, std::string_view content) const {
    const std::filesystem::path path = path_ / name;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path, std::ios::binary) << content;
    return path;
  }

  /// The whole message of an Error, with DIR for this folder: what a person would read.
  std::string message(const Error& error) const {
    std::string text = error.message();
    const std::string name = path_.string();
    for (std::size_t at; (at = text.find(name)) != std::string::npos;) {
      text.replace(at, name.size(), "DIR");
    }
    return text;
  }

  /// The message of the Error that a call throws;
  /// a failed test when it throws none or of another fault.
  template <class Call>
  std::string message_of(Fault fault, const Call& call) const {
    try {
      call();
    } catch (const Error& error) {
      CHECK(error.fault() == fault);
      return message(error);
    }
    FAIL("no exception");
    return {};
  }

 private:
  std::filesystem::path path_;
};

}  // namespace quire::test
