// Texts to be measured, out of every kind of file.
#include "corpus/samples.h"

#include "corpus/json_line.h"
#include "tests/support/catch.h"
#include "tests/support/scratch.h"

using namespace quire;
using quire::test::ScratchFolder;

namespace {

using Texts = std::vector<std::string>;

Texts texts_of(const SampleOptions& options) {
  Texts texts;
  for (Sample& sample : read_samples(options)) texts.push_back(std::move(sample.text));
  return texts;
}

}  // namespace

TEST_CASE("texts of a .txt lie between lines of three hyphens") {
  const ScratchFolder scratch;
  const auto read = [&](const std::string& content, bool line_by_line = false) {
    const std::string path = scratch.write("t.txt", content);
    return texts_of({.paths = {path}, .line_by_line = line_by_line});
  };
  CHECK(read("a\nb\n---\nc\n") == Texts{"a\nb", "c"});
  CHECK(read("a\r\n---\r\nb") == Texts{"a", "b"});
  CHECK(read("a\n\n\n---\n\n") == Texts{"a\n\n", ""});
  CHECK(read("---\na\n---\n") == Texts{"", "a"});
  CHECK(read("\n---\n \n---\na") == Texts{"", " ", "a"});
  CHECK(read("----\n --- \na") == Texts{"----\n --- \na"});
  CHECK(read("\xEF\xBB\xBF---\na") == Texts{"", "a"});
  CHECK(read("a\n \n---\nb\n", true) == Texts{"a", "---", "b"});
}

TEST_CASE("keywords stand between commas, or in a list") {
  CHECK(split_at_commas(" a b,c ,, \n d") == Texts{"a b", "c", "d"});
  CHECK(split_at_commas(" , ").empty());
  const ScratchFolder scratch;
  const std::string table = scratch.write("t.csv", "k,t\n\"a, b\",one\n,two\n");
  const auto rows = read_samples({.paths = {table}, .text_column = "t", .keywords_column = "k"});
  REQUIRE(rows.size() == 2);
  CHECK(rows[0].keywords == Texts{"a", "b"});
  CHECK(rows[1].keywords.empty());
  const std::string lines = scratch.write("t.jsonl",
                                          "{\"t\": \"one\", \"k\": [\"a, b\", 3]}\n{\"t\": 2, "
                                          "\"k\": \"c,d\"}\n{\"t\": \"\", \"k\": null}");
  const auto objects = read_samples({.paths = {lines}, .text_column = "t", .keywords_column = "k"});
  REQUIRE(objects.size() == 3);
  CHECK(objects[0].keywords == Texts{"a, b", "3"});
  CHECK(objects[1].text == "2");
  CHECK(objects[1].keywords == Texts{"c", "d"});
  CHECK(objects[2].keywords.empty());
}

TEST_CASE("files of samples that are broken are refused with their line") {
  const ScratchFolder scratch;
  const auto complaint = [&](const std::string& name, const std::string& content,
                             const std::string& keywords = "") {
    const std::string path = scratch.write(name, content);
    return scratch.message_of(
        Fault::bad_data, [&] { read_samples({.paths = {path}, .keywords_column = keywords}); });
  };
  CHECK(complaint("a.jsonl", "{\"text\": \"a\"}\n\n{\"text\": ")
            .find("a.jsonl line 3: it is not valid JSON") != std::string::npos);
  CHECK(complaint("b.jsonl", "[1]") ==
        "error: DIR/b.jsonl line 1: it holds a JSON array, not an object");
  CHECK(complaint("c.jsonl", "{\"txt\": \"a\"}") ==
        "error: DIR/c.jsonl line 1: there is no field 'text'\n"
        "  fields: txt\n"
        "  try: `text_column` 'txt'");
  CHECK(complaint("d.jsonl", "{\"text\": \"a\"}", "words") ==
        "error: DIR/d.jsonl line 1: there is no field 'words'\n"
        "  fields: text");
  CHECK(complaint("e.csv", "text,id\n\"a") ==
        "error: DIR/e.csv line 2: the quote that opens here is never closed\n"
        "  try: close it, or write a quote inside a field twice");
  CHECK(complaint("f.csv", "text,id\n") ==
        "error: DIR/f.csv holds no text\n"
        "  there is nothing to measure");
}
