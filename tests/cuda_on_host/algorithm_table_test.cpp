// What is kept of --autotune, and what becomes of a file that is damaged, another's, or in a folder
// that nobody can write.
#include "kernels/cuda/algorithm_table.h"

#include <filesystem>
#include <fstream>

#include "base/file.h"
#include "tests/support/cache.h"
#include "tests/support/catch.h"
#include "tests/support/compare.h"

namespace quire::test {
namespace {

namespace fs = std::filesystem;
using cuda::Algorithm;
using cuda::AlgorithmTable;
using cuda::CardKey;

const CardKey kCard{"a card", "13.0", "abc"};
const Algorithm kSome{1, 0xfedcba9876543210, 3}, kOther{9};

struct Tables {
  CacheFolder cache;
  std::vector<std::string> warnings;

  AlgorithmTable open(const CardKey& card = kCard, const std::string& library = "lib 1",
                      bool autotune = false) {
    return {
        card, library, {autotune, [this](const std::string& line) { warnings.push_back(line); }}};
  }
  std::string take_warning() {
    if (warnings.size() != 1) return std::to_string(warnings.size()) + " warnings";
    const std::string line = warnings.front();
    warnings.clear();
    return line;
  }
};

TEST_CASE("a table is there for the next process, and the first to choose is right") {
  Tables tables;
  AlgorithmTable first = tables.open(), second = tables.open();
  CHECK(first.fingerprint().empty());
  CHECK(first.add("64x1x1 = odd", kSome) == kSome);
  // A process that began before the line was written takes it when it comes to add its own.
  CHECK(second.add("64x1x1 = odd", kOther) == kSome);
  CHECK(second.add("another", kOther) == kOther);
  const AlgorithmTable later = tables.open();
  REQUIRE(later.find("64x1x1 = odd") != nullptr);
  CHECK(*later.find("64x1x1 = odd") == kSome);
  CHECK(*later.find("another") == kOther);
  CHECK(later.find("64x1x1") == nullptr);
  CHECK(later.fingerprint() == second.fingerprint());
  CHECK(later.fingerprint() != first.fingerprint());
  CHECK(tables.warnings.empty());
}

TEST_CASE("a table of another driver, build or library is told and not used") {
  Tables tables;
  tables.open().add("key", kSome);
  const auto refused = [&](const CardKey& card, const std::string& library,
                           const std::string& why) {
    const AlgorithmTable table = tables.open(card, library);
    CHECK(table.find("key") == nullptr);
    CHECK(tables.take_warning() == table.path().string() + " has " + why +
                                       ": products take the default algorithms; `autotune` times "
                                       "them anew");
  };
  refused({"a card", "13.1", "abc"}, "lib 1", "'driver 13.0', and this is 'driver 13.1'");
  refused({"a card", "13.0", "abd"}, "lib 1", "'build abc', and this is 'build abd'");
  refused(kCard, "lib 2", "'library lib 1', and this is 'library lib 2'");
  // Another card has a table of its own.
  CHECK(tables.open({"b card", "13.0", "abc"}).find("key") == nullptr);
  CHECK(tables.warnings.empty());
  // A table that was copied from it is no better.
  const fs::path own = tables.open().path(), other = tables.open({"b card", "13.0", "abc"}).path();
  fs::copy_file(own, other);
  refused({"b card", "13.0", "abc"}, "lib 1", "'card a card', and this is 'card b card'");
  // Where products are timed it is written anew.
  tables.open(kCard, "lib 2", true).add("key", kOther);
  CHECK(tables.take_warning().ends_with(
      "products take the default algorithms until they are timed anew"));
  CHECK(*tables.open(kCard, "lib 2").find("key") == kOther);
}

TEST_CASE("a damaged table is told and not used, wherever it is damaged") {
  Tables tables;
  AlgorithmTable good = tables.open();
  good.add("a key", kSome);
  good.add("b key", kOther);
  const std::string text = read_file(good.path());
  std::vector<std::string> broken = {"", "\n", "quire autotune table 2\n", text + "x"};
  for (std::size_t at = 0; at < text.size(); ++at) {
    broken.push_back(text.substr(0, at));
    broken.push_back(text);
    broken.back()[at] ^= 1;
  }
  for (const std::string& content : broken) {
    std::ofstream(good.path(), std::ios::binary) << content;  // 500 files: not flushed to disk
    const AlgorithmTable table = tables.open();
    INFO(content);
    REQUIRE(table.fingerprint().empty());
    REQUIRE(tables.take_warning().starts_with(good.path().string() + " is damaged: "));
  }
  fs::remove(good.path());
  fs::create_directory(good.path());
  CHECK(tables.open().fingerprint().empty());
  CHECK(tables.take_warning().find(" cannot be read: ") != std::string::npos);
}

TEST_CASE("a table that cannot be written is told once, and serves its own process") {
  Tables tables;
  const fs::path file = tables.cache.path().parent_path() / "file";
  write_file(file, "in the way");
  setenv("QUIRE_CACHE_DIR", file.c_str(), 1);
  AlgorithmTable table = tables.open(kCard, "lib 1", true);
  const std::string warning = tables.take_warning();
  INFO(warning);
  CHECK(warning.starts_with(
      "the table of `autotune` cannot be kept, so another run may choose other algorithms: "));
  CHECK(warning.find(file.string()) != std::string::npos);
  CHECK(table.add("key", kSome) == kSome);
  CHECK(*table.find("key") == kSome);
  CHECK(tables.warnings.empty());
}

}  // namespace
}  // namespace quire::test
