// Hashes beside those that sha256sum, git hash-object and base64 print.
#include "hub/digest.h"

#include "tests/support/catch.h"
#include "tests/support/scratch.h"

using namespace quire;

namespace {

std::string digest(DigestKind kind, const std::string& text) {
  Digest digest(kind, text.size());
  for (const char c : text) digest.add({&c, 1});
  return digest.hex();
}

}  // namespace

TEST_CASE("hub: the hashes of git and of Git LFS") {
  CHECK(digest(DigestKind::git_blob, "") == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391");
  CHECK(digest(DigestKind::git_blob, "hello\n") == "ce013625030ba8dba906f756967f9e9ca394464a");
  CHECK(digest(DigestKind::sha256, "") ==
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK(digest(DigestKind::sha256, "hello\n") ==
        "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03");
  const test::ScratchFolder scratch;
  const auto file = scratch.write("a", "hello\n");
  CHECK(digest_of_file(DigestKind::git_blob, file) == "ce013625030ba8dba906f756967f9e9ca394464a");
  CHECK(digest_of_file(DigestKind::sha256, file, [](std::size_t) { return false; }).empty());
  CHECK_THROWS_AS(digest_of_file(DigestKind::sha256, scratch / "none"), Error);
}

TEST_CASE("hub: which hash a name is") {
  CHECK(kind_of_digest(std::string(40, 'a')) == DigestKind::git_blob);
  CHECK(kind_of_digest(std::string(64, '0')) == DigestKind::sha256);
  for (const std::size_t size : {0, 39, 41, 63, 65})
    CHECK_FALSE(kind_of_digest(std::string(size, 'a')));
  CHECK_FALSE(kind_of_digest(std::string(40, 'A')));
  CHECK_FALSE(kind_of_digest(std::string(40, '/')));
}

TEST_CASE("hub: base64") {
  CHECK(base64("").empty());
  CHECK(base64("a") == "YQ==");
  CHECK(base64("ab") == "YWI=");
  CHECK(base64("abc") == "YWJj");
  CHECK(base64(std::string("\0\xff\xfe\n", 4)) == "AP/+Cg==");
  CHECK(base64(std::string(100, 'x')).find('\n') == std::string::npos);
}
