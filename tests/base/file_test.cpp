#include "base/file.h"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "base/error.h"
#include "tests/support/catch.h"
#include "tests/support/scratch.h"

namespace fs = std::filesystem;

using quire::Fault;
using quire::MappedFile;
using quire::ScratchFile;
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

namespace {

/// Root may write everywhere: while this exists, the process is nobody.
struct AsNobody {
  AsNobody() {
    if (::getuid() == 0) is_nobody = ::seteuid(65534) == 0;
  }
  ~AsNobody() {
    if (is_nobody && ::seteuid(0) != 0) std::abort();
  }
  bool is_nobody = false;
};

}  // namespace

TEST_CASE("a file that is not there gets the nearest one that is") {
  const ScratchFolder folder;
  folder.write("requests.jsonl", "{}");
  fs::create_directories(folder / "sweeps.json");
  const auto message = [&](const std::string& name) {
    return folder.message_of(Fault::bad_data, [&] { quire::read_file(folder / name); });
  };
  const std::string none = "\n  No such file or directory";
  CHECK(message("request.jsonl") ==
        "error: cannot open DIR/request.jsonl" + none + "\n  did you mean DIR/requests.jsonl?");
  CHECK(message("other.txt") == "error: cannot open DIR/other.txt" + none);
  CHECK(message("sweep.json") == "error: cannot open DIR/sweep.json" + none);  // no file
  CHECK(message("sweeps.json") == "error: cannot read DIR/sweeps.json\n  it is a folder");
}

TEST_CASE("a folder that cannot be made or written into is named with the reason, and not made") {
  const ScratchFolder scratch;
  const fs::path file = scratch.write("file", "x");
  const auto refused = [&](const fs::path& folder, const std::string& what,
                           const std::string& why) {
    for (const auto& action : {quire::check_writable, quire::make_folder}) {
      try {
        action(folder);
        FAIL("no exception for " + folder.string());
      } catch (const quire::Error& error) {
        CHECK(error.fault() == Fault::bad_data);
        CHECK(error.what() == "cannot " + what + " the folder " + folder.string());
        REQUIRE(error.details().size() == 1);
        CHECK(error.details()[0] == why);
      }
    }
  };
  refused(file, "create", "a file has that name");
  refused(file / "a" / "b", "create", file.string() + ": a file has that name");
  refused(scratch / std::string(300, 'n'), "create", "File name too long");

  fs::create_directories(scratch / "locked");
  fs::permissions(scratch.path(), fs::perms(0755));
  fs::permissions(scratch / "locked", fs::perms(0555));
  {
    const AsNobody nobody;
    refused(scratch / "locked", "write into", "Permission denied");
    refused(scratch / "locked" / "a/b/", "create",
            (scratch / "locked").string() + ": Permission denied");
  }
  fs::permissions(scratch / "locked", fs::perms(0755));
  CHECK_FALSE(fs::exists(scratch / "locked/a"));

  quire::check_writable(scratch / "new/one/");
  CHECK_FALSE(fs::exists(scratch / "new"));
  quire::make_folder(scratch / "new/one/");
  quire::make_folder(scratch / "new/one");  // it is there
  CHECK(fs::is_directory(scratch / "new/one"));
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

TEST_CASE("what a mapped file let go is there when it is read again") {
  const ScratchFolder folder;
  std::string text(3 << 20, 'x');
  for (std::size_t i = 0; i < text.size(); i += 1000) text[i] = static_cast<char>(i % 251);
  const MappedFile file(folder.write("a", text));
  CHECK((file.text() == text));
  file.let_go(0, text.size());
  CHECK((file.text() == text));
  file.let_go(1 << 20, (1 << 20) + 10);
  file.let_go(5, 5);
  CHECK((file.text() == text));
}

TEST_CASE("a scratch file has no name and gives back what it got") {
  const ScratchFolder folder;
  {
    ScratchFile file(folder.path());
    file.write("one ");
    file.write("two");
    std::string text(5, '?');
    file.read(2, text);
    CHECK(text == "e two");
    CHECK(std::filesystem::is_empty(folder.path()));
    CHECK(folder.message_of(Fault::bad_data, [&] { file.read(3, text); }).find("cannot read") !=
          std::string::npos);
  }
  CHECK(folder.message_of(Fault::bad_data, [&] { ScratchFile file(folder.path() / "no"); })
            .find("cannot create a file in") != std::string::npos);
}
