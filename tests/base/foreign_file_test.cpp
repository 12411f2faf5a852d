#include "base/foreign_file.h"

#include "tests/support/catch.h"

using namespace quire;
using namespace std::string_view_literals;

TEST_CASE("what a download left in a file's place is recognised by its first bytes") {
  const auto what = [](std::string_view text) {
    const auto foreign = recognise_foreign(text);
    if (foreign) CHECK_FALSE(foreign->next.empty());
    return foreign ? foreign->what : "";
  };
  CHECK(what("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 548105171\n") ==
        "it is a Git LFS pointer, not the file of 548105171 bytes itself");
  CHECK(what("\n <!DOCTYPE HTML><html>") == "it is a web page, not the file");
  CHECK(what("<html lang=\"en\">") == "it is a web page, not the file");
  CHECK(what("\x1F\x8B\x08\0\0\0\0\0\0\x03"sv) == "it is packed with gzip");
  CHECK(what("\x28\xB5\x2F\xFD") == "it is packed with Zstandard");
  CHECK(what("\xFD\x37zXZ\0"sv) == "it is packed with xz");
  CHECK(what("GGUF\x03\0\0\0"sv) == "it is a GGUF file");
  CHECK(what("PK\x03\x04") == "it is a PyTorch checkpoint or a zip archive");
  CHECK(what("\x80\x02}q") == "it is a PyTorch checkpoint or a zip archive");
  CHECK(what("\x89HDF\r\n\x1A\n") == "it is an HDF5 file, as Keras writes them");
  for (const std::string_view fits : {""sv, "GGUF is a format for weights"sv, "GGUF\n"sv, "{}"sv,
                                      " {\"a\": 1}"sv, "\x58\0\0\0\0\0\0\0{\"a\""sv}) {
    CHECK(what(fits).empty());
  }
}

TEST_CASE("an unusable file is told with what it is instead, else with why it cannot be used") {
  CHECK(unusable_file("a.json is not JSON", "version https://git-lfs.github.com/spec/v1", "why")
            .message() ==
        "error: a.json is not JSON\n  it is a Git LFS pointer, not the file itself\n"
        "  try: git lfs pull in the folder that was cloned");
  CHECK(unusable_file("a.json is not JSON", "{", "why").message() ==
        "error: a.json is not JSON\n  why");
}
