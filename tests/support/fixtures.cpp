#include "tests/support/fixtures.h"

#include <cstdlib>

namespace quire::test {
namespace {

std::filesystem::path folder_of(const char* variable, const char* otherwise) {
  const char* value = std::getenv(variable);
  return value != nullptr ? value : otherwise;
}

}  // namespace

std::filesystem::path test_data(const std::string& name) {
  return folder_of("QUIRE_TEST_DATA", QUIRE_DEFAULT_TEST_DATA) / name;
}

std::filesystem::path fixtures_root() {
  return folder_of("QUIRE_FIXTURES", QUIRE_DEFAULT_FIXTURES);
}

std::filesystem::path cases_root() {
  return folder_of("QUIRE_CASES", QUIRE_DEFAULT_CASES);
}

}  // namespace quire::test
