#include "base/file.h"

#include <unistd.h>

#include <filesystem>

#include "base/error.h"
#include "tests/support/catch.h"
#include "tests/support/scratch.h"

namespace fs = std::filesystem;

using quire::test::ScratchFolder;

TEST_CASE("a file that is not committed leaves the old content and no litter") {
  const ScratchFolder folder;
  const fs::path path = folder / "a.txt";
  quire::write_file(path, "old");
  {
    quire::AtomicFile file(path);
    file.write("new");
  }
  CHECK(quire::read_file(path) == "old");
  CHECK(std::distance(fs::directory_iterator(folder.path()), fs::directory_iterator()) == 1);
}

TEST_CASE("writes larger than the gathering buffer arrive whole") {
  const ScratchFolder folder;
  const fs::path path = folder / "b.bin";
  std::string text(3'000'001, 'x');
  text.back() = 'y';
  quire::AtomicFile file(path);
  file.write("head");
  file.write(text);
  file.commit();
  CHECK(quire::read_file(path) == "head" + text);
}

TEST_CASE("a missing file, a folder and an unwritable place are named") {
  const ScratchFolder folder;
  try {
    quire::read_file(folder / "none");
    FAIL("no exception");
  } catch (const quire::Error& error) {
    CHECK(error.fault() == quire::Fault::bad_data);
    CHECK(std::string(error.what()).find("none") != std::string::npos);
  }
  CHECK_THROWS_AS(quire::MappedFile(folder.path()), quire::Error);
  CHECK_THROWS_AS(quire::write_file(folder / "no" / "such" / "file", "x"), quire::Error);
}

TEST_CASE("a full disk is reported as no space") {
  if (!fs::exists("/dev/full")) return;
  // /dev/full cannot be replaced atomically, so the check is on the error's class alone, through a
  // link whose temporary file would be created beside it.
  const ScratchFolder folder;
  const fs::path path = folder / "link";
  fs::create_symlink("/dev/full", folder / ("link.tmp-" + std::to_string(::getpid())));
  try {
    quire::write_file(path, "x");
    FAIL("no exception");
  } catch (const quire::Error& error) {
    CHECK(error.fault() == quire::Fault::no_space);
  }
}
