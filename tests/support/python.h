// A Python with the ecosystem's packages, for the tests that ask the real libraries. Tests that
// find none are skipped by name.
#pragma once

#include <array>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/catch.h"

namespace quire::test {

/// Standard output of a command, and whether it ended well.
inline std::pair<std::string, bool> output_of(const std::string& command) {
  FILE* pipe = ::popen((command + " 2>/dev/null").c_str(), "r");
  if (pipe == nullptr) return {"", false};
  std::string text;
  std::array<char, 4096> part;
  while (const std::size_t count = std::fread(part.data(), 1, part.size(), pipe)) {
    text.append(part.data(), count);
  }
  return {text, ::pclose(pipe) == 0};
}

/// $QUIRE_PYTHON or python3, where it has these packages; else empty.
inline std::string python_with(const std::vector<std::string>& packages) {
  const char* variable = std::getenv("QUIRE_PYTHON");
  const std::string python = variable != nullptr ? variable : "python3";
  std::string look = "'" + python +
                     "' -c \"from importlib.util import find_spec as f; import sys; "
                     "sys.exit(not all(map(f, sys.argv[1:])))\"";
  for (const std::string& package : packages) look += " " + package;
  return output_of(look).second ? python : "";
}

}  // namespace quire::test

/// Ends the test as skipped. Catch2 2 knows no skipping: there the test says so by name and ends.
#ifdef QUIRE_CATCH2_V2
#define QUIRE_SKIP(why)     \
  WARN("SKIPPED: " << why); \
  return
#else
#define QUIRE_SKIP(why) SKIP(why)
#endif
