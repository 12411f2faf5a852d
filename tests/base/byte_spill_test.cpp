// What is spilled is read as what is in memory.
#include "base/byte_spill.h"

#include <cstdlib>
#include <filesystem>

#include "base/error.h"
#include "tests/support/catch.h"
#include "tests/support/scratch.h"

using namespace quire;
using quire::test::ScratchFolder;

namespace {

constexpr std::size_t kMiB = 1 << 20;

std::string made_up(std::size_t bytes) {
  std::string text(bytes, '\0');
  std::uint32_t state = 1;
  for (char& c : text) {
    state = state * 1664525 + 1013904223;
    c = static_cast<char>(state >> 24);
  }
  return text;
}

}  // namespace

TEST_CASE("bytes beyond 4 MiB are read at any place, and the file leaves no name") {
  const ScratchFolder folder;
  for (const std::size_t size : {std::size_t{0}, kMiB, 4 * kMiB, 9 * kMiB + 5}) {
    const std::string bytes = made_up(size);
    ByteSpill spill(folder.path());
    for (std::size_t at = 0; at < size; at += 777'777) {
      spill.add(std::string_view(bytes).substr(at, 777'777));
    }
    REQUIRE(spill.size() == size);
    for (std::size_t at = 0; at <= size; at += kMiB) {
      for (const std::size_t from : {at - std::min<std::size_t>(at, 3), at}) {
        std::string got(std::min<std::size_t>(7, size - from), '?');
        spill.read(from, got);
        CHECK(got == bytes.substr(from, 7));
      }
    }
    std::string whole(size, '?');
    spill.read(0, whole);
    CHECK(whole == bytes);
    whole.clear();
    spill.for_each_block([&](std::string_view block) { whole += block; });
    CHECK(whole == bytes);
    CHECK(spill.map() == bytes);
    spill.let_go(spill.map());
    CHECK(spill.map() == bytes);  // it is there again
    CHECK(spill.size() == size);
    CHECK(std::filesystem::is_empty(folder.path()));
    spill.clear();
    CHECK(spill.size() == 0);
  }
}

TEST_CASE("a spill goes where TMPDIR says, and says so where that cannot be") {
  const ScratchFolder folder;
  const char* before = std::getenv("TMPDIR");
  const std::string old = before == nullptr ? "" : before;
  ::setenv("TMPDIR", (folder / "none").c_str(), 1);
  CHECK(scratch_folder() == folder / "none");
  const std::string message = folder.message_of(Fault::bad_data, [] {
    ByteSpill spill;
    spill.add(std::string(5 * kMiB, 'x'));
  });
  ::unsetenv("TMPDIR");
  CHECK((scratch_folder() == "/var/tmp" || scratch_folder() == "/tmp"));
  if (before != nullptr) ::setenv("TMPDIR", old.c_str(), 1);
  CHECK(message ==
        "error: cannot create a file in DIR/none\n  No such file or directory\n"
        "  try: TMPDIR=FOLDER, where there is room for such files");
}
