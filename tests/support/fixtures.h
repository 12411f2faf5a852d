// Where test inputs lie: the project's own small set in tests/data, and the large reference set
// beside the project, which a user's clone does not have.
#pragma once

#include <filesystem>
#include <string>

#include "tests/support/catch.h"

namespace quire::test {

/// tests/data/NAME, in $QUIRE_TEST_DATA where the tests run on another machine. Always there.
std::filesystem::path test_data(const std::string& name);

/// $QUIRE_FIXTURES, or the folder set at configure time.
std::filesystem::path fixtures_root();

/// $QUIRE_CASES, or the folder set at configure time: small inputs
/// of which its README says what is right.
std::filesystem::path cases_root();

}  // namespace quire::test

/// Declares `variable` as the fixture of that name, or ends the test as skipped, saying what is
/// missing. Catch2 2 knows no skipping: there the test says so by name and ends.
/// QUIRE_CASE does the same with a case.
#ifdef QUIRE_CATCH2_V2
#define QUIRE_CASE(variable, name)                                           \
  const std::filesystem::path variable = quire::test::cases_root() / (name); \
  if (!std::filesystem::exists(variable)) {                                  \
    WARN("SKIPPED: no case " << variable.string() << " (set QUIRE_CASES)");  \
    return;                                                                  \
  }
#define QUIRE_FIXTURE(variable, name)                                             \
  const std::filesystem::path variable = quire::test::fixtures_root() / (name);   \
  if (!std::filesystem::exists(variable)) {                                       \
    WARN("SKIPPED: no fixture " << variable.string() << " (set QUIRE_FIXTURES)"); \
    return;                                                                       \
  }
#else
#define QUIRE_CASE(variable, name)                                           \
  const std::filesystem::path variable = quire::test::cases_root() / (name); \
  if (!std::filesystem::exists(variable)) {                                  \
    SKIP("no case " << variable.string() << " (set QUIRE_CASES)");           \
  }
#define QUIRE_FIXTURE(variable, name)                                           \
  const std::filesystem::path variable = quire::test::fixtures_root() / (name); \
  if (!std::filesystem::exists(variable)) {                                     \
    SKIP("no fixture " << variable.string() << " (set QUIRE_FIXTURES)");        \
  }
#endif
