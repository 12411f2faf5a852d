#include "corpus/encoding.h"

#include "corpus/input_file.h"
#include "corpus/reading_report.h"
#include "tests/support/catch.h"
#include "tests/support/scratch.h"

using quire::Fault;
using quire::InputFile;
using quire::to_utf8;
using quire::test::ScratchFolder;

namespace {

// As UTF-16, little-endian: of ASCII and, where `high` is not 0, units with that high byte.
std::string utf16le(const std::string& text) {
  std::string bytes;
  for (const char c : text) bytes += {c, '\0'};
  return bytes;
}

}  // namespace

TEST_CASE("text of other encodings becomes UTF-8") {
  CHECK(to_utf8("Caf\xE9 \x93open\x94 \x80", "cp1252", "x") == "Café “open” €");
  CHECK(to_utf8("Caf\xE9 \xA4", "latin-1", "x") == "Café ¤");
  CHECK(to_utf8("Caf\xE9 \xA4", "ISO_8859-15", "x") == "Café €");
  CHECK(to_utf8("\x93\xFA\x96\x7B", "shift_jis", "x") == "日本");
  CHECK(to_utf8(utf16le("ab\n"), "utf-16le", "x") == "ab\n");
  CHECK(to_utf8("\xFF\xFE" + utf16le("ab"), "UTF-16", "x") == "ab");
  CHECK(to_utf8(utf16le("ab"), "utf-16", "x") == "ab");  // ICU alone would read it big-endian
  CHECK(to_utf8("caf\xC3\xA9 \xE9", "utf8", "x") == "caf\xC3\xA9 \xE9");
  CHECK(to_utf8("", "cp1252", "x").empty());
}

TEST_CASE("long texts are converted whole, pairs of surrogates at any place") {
  for (std::size_t before = 0; before < 3; ++before) {
    std::string bytes(2 * before, '\0'), expected(before, '\0');
    for (int i = 0; i < 9000; ++i) {
      bytes += std::string("\x3D\xD8\x00\xDE", 4);
      expected += "\xF0\x9F\x98\x80";
    }
    CHECK(to_utf8(bytes, "utf-16le", "x") == expected);
  }
}

TEST_CASE("bytes that are no character of the encoding are refused with their line") {
  const ScratchFolder folder;
  const std::string half = utf16le("one\ntwo ") + std::string("\x3D\xD8", 2) + utf16le("x");
  CHECK(folder.message_of(Fault::bad_data, [&] { to_utf8(half, "utf-16le", "x.txt"); })
            .find("error: x.txt line 2 is not utf-16le\n  the bytes ") == 0);
  CHECK(folder.message_of(Fault::bad_data, [&] { to_utf8("a\x00z", "utf-16be", "x"); })
            .find("error: x line 1 is not utf-16be") == 0);
  CHECK(folder.message_of(Fault::usage, [&] { quire::check_encoding("cp125"); })
            .find("error: there is no encoding 'cp125'\n  known are") == 0);
  CHECK(folder.message_of(Fault::usage, [&] { quire::check_encoding("latn-1"); })
            .ends_with("try: `encoding` latin-1"));
  for (const char* name : {"", "utf-8", "UTF8", "utf-8-sig", "Latin1", "windows-1251", "gb18030"}) {
    CHECK_NOTHROW(quire::check_encoding(name));
  }
}

TEST_CASE("UTF-16 without a mark is known by its zeros") {
  CHECK(quire::wide_without_mark(utf16le("quote,who\n")) == std::string("utf-16le"));
  std::string big;
  for (const char c : std::string("quote,who\n")) big += {'\0', c};
  CHECK(quire::wide_without_mark(big) == std::string("utf-16be"));
  for (const std::string& text :
       {std::string("plain text"), std::string("a\0b", 3), std::string(40, '\0'), std::string(),
        std::string("a,b\nx\0y,\"\0\"\n", 12)}) {
    CHECK(quire::wide_without_mark(text) == std::string());
  }
}

TEST_CASE("UTF-32 is known by its numbers, or by its mark") {
  std::string little, big;
  for (const char c : std::string("text,who\nhi,me\n")) {
    little += {c, '\0', '\0', '\0'};
    big += {'\0', '\0', '\0', c};
  }
  little += std::string("\x00\xF6\x01\x00", 4);  // U+1F600
  CHECK(quire::wide_without_mark(little) == std::string("utf-32le"));
  CHECK(quire::wide_without_mark(big) == std::string("utf-32be"));
  CHECK(quire::wide_without_mark(little.substr(0, little.size() - 1)) == std::string());
  CHECK(quire::wide_without_mark(little + std::string("\0\0\x11\0", 4)) == std::string());
  const auto says = [](const std::string& text) {
    return ScratchFolder().message_of(Fault::bad_data,
                                      [&] { quire::without_byte_order_mark(text, "x.csv"); });
  };
  CHECK(says(little) ==
        "error: x.csv is UTF-32, Quire reads UTF-8\n"
        "  it has no byte-order mark, and every four bytes are a character\n"
        "  try: `encoding` utf-32le, or iconv -f utf-32le -t utf-8 x.csv > utf8.csv");
  for (const std::string& mark : {std::string("\xFF\xFE\0\0", 4), std::string("\0\0\xFE\xFF", 4)}) {
    CHECK(says(mark + big).find("x.csv is UTF-32, Quire reads UTF-8\n  try: `encoding` utf-32,") !=
          std::string::npos);
  }
  CHECK(to_utf8(little, "utf-32le", "x") == "text,who\nhi,me\n😀");
}

TEST_CASE("what a download left, a workbook or a model is not read as text") {
  const auto says = [](const std::string& text, const std::string& name) {
    return ScratchFolder().message_of(Fault::bad_data,
                                      [&] { quire::without_byte_order_mark(text, name); });
  };
  const std::string pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4\nsize 7\n";
  for (const char* name : {"x.txt", "x.csv", "x.jsonl.gz", "standard input"}) {
    CHECK(says(pointer, name) ==
          "error: " + std::string(name) +
              " is no text\n  it is a Git LFS pointer, not the file of 7 "
              "bytes itself\n  try: git lfs pull in the folder that was cloned");
  }
  CHECK(says("\xEF\xBB\xBF" + pointer, "x.txt").find("Git LFS") != std::string::npos);
  CHECK(says("\x1F\x8B\x08", "x.csv").find("packed with gzip") != std::string::npos);
  CHECK(says("PK\x03\x04", "x.csv").find("a spreadsheet's workbook") != std::string::npos);
  const std::string page = "<!DOCTYPE html>\n<html>";
  for (const char* name : {"x.csv", "x.tsv.gz", "x.jsonl"}) {
    CHECK(says(page, name).find("a web page") != std::string::npos);
  }
  for (const char* name : {"x.txt", "standard input", "x.html"}) {
    CHECK(quire::without_byte_order_mark(page, name) == page);
  }
}

TEST_CASE("a file is read in the encoding that is asked for, but for one with UTF-8's mark") {
  const ScratchFolder folder;
  CHECK(InputFile(folder.write("a.txt", "\xE9"), {.encoding = "latin-1"}).text() == "é");
  CHECK(InputFile(folder.write("b.txt", "\xEF\xBB\xBFé"), {.encoding = "latin-1"}).text() ==
        "\xEF\xBB\xBFé");
  CHECK(InputFile(folder.path() / "a.txt").text() == "\xE9");
}

TEST_CASE("lines that are not UTF-8 are counted, with the first, and their encoding is guessed") {
  quire::ReadingReport report;
  report.look("a.txt", 1, "all ASCII\n");
  CHECK(!report.utf8_too);
  report.look("a.txt", 5, "one\nCaf\xE9 ol\xE9\nthree\nna\xEFve");
  CHECK(report.not_utf8.lines == 2);
  CHECK(report.not_utf8.file == "a.txt");
  CHECK(report.not_utf8.line == 6);
  CHECK(report.guess.likely() == "latin-1");
  CHECK(!report.utf8_too);
  report.look("b.txt", 1, "it\x92s");
  CHECK(report.not_utf8.lines == 3);
  CHECK(report.not_utf8.file == "a.txt");
  CHECK(report.guess.likely() == "cp1252");
  report.look("b.txt", 2, "é");
  CHECK(report.utf8_too);

  quire::EncodingGuess russian, wide;
  russian.add("\xCF\xF0\xE8\xE2\xE5\xF2, \xEC\xE8\xF0");  // in cp1251
  CHECK(russian.likely().empty());
  wide.add(std::string("\x1F\x04\x40\x04 \0\xE9", 7));
  CHECK(wide.likely() == "utf-16");
}

TEST_CASE("text of other encodings becomes the same whichever way it is divided") {
  struct Case {
    std::string encoding, bytes;
  };
  // Half characters, half pairs, shifted states and byte-order marks at every end of a piece.
  const std::string grin = "\x3D\xD8" + std::string("\x00\xDE", 2);
  const std::vector<Case> cases = {{"cp1252", "Caf\xE9 \x93open\x94\r\n \x80"},
                                   {"shift_jis", "\x93\xFA\x96\x7B a\xB1\n\x93\xFA"},
                                   {"gb18030", "\x84\x31\xA4\x37 \xC4\xE3\xBA\xC3\n"},
                                   {"iso-2022-jp", "a\x1B$B\x46|K\\\x1B(Bz\n"},
                                   {"utf-7", "a +2D3eAA- b\n"},
                                   {"utf-16le", utf16le("ab\n") + grin + utf16le("c")},
                                   {"utf-16", "\xFF\xFE" + utf16le("ab\n") + grin},
                                   {"utf-16", utf16le("without a mark\n") + grin},
                                   {"utf-32", std::string("\0\0\xFE\xFF\0\0\0a\0\1\xF6\0", 12)}};
  for (const Case& c : cases) {
    INFO(c.encoding);
    const std::string whole = to_utf8(c.bytes, c.encoding, "x");
    CHECK(whole.size() > 4);
    for (std::size_t at = 0; at <= c.bytes.size(); ++at) {
      for (const std::size_t step : {std::size_t{1}, c.bytes.size()}) {
        INFO("divided at " << at << ", then every " << step);
        quire::Utf8Converter converter(c.encoding, c.bytes, "x");
        std::string text;
        converter.add(std::string_view(c.bytes).substr(0, at), text);
        for (std::size_t from = at; from < c.bytes.size(); from += step) {
          converter.add(std::string_view(c.bytes).substr(from, step), text);
        }
        converter.finish(text);
        CHECK(text == whole);
      }
    }
  }
}

TEST_CASE("what is no character is told with its line whichever way a text is divided") {
  const ScratchFolder folder;
  const std::string bytes = "\x93\xFA one\ntwo \x96\x7B\n\x93\xFA \x81\x20 four\n";
  const auto message = [&](std::size_t at) {
    return folder.message_of(Fault::bad_data, [&] {
      quire::Utf8Converter converter("shift_jis", bytes, "x.txt");
      std::string text;
      converter.add(std::string_view(bytes).substr(0, at), text);
      converter.add(std::string_view(bytes).substr(at), text);
      converter.finish(text);
    });
  };
  const std::string whole = message(0);
  CHECK(whole.find("error: x.txt line 3 is not shift_jis\n  the bytes 81") == 0);
  for (std::size_t at = 1; at <= bytes.size(); ++at) CHECK(message(at) == whole);
  CHECK(folder.message_of(Fault::bad_data, [&] { to_utf8("a\n\x93", "shift_jis", "x"); })
            .find("error: x line 2 is not shift_jis\n  the bytes 93 ") == 0);
}

TEST_CASE("a file beyond what memory holds is converted as a whole one is") {
  const ScratchFolder folder;
  std::string bytes, expected;
  while (bytes.size() < (5 << 20)) {
    const std::string number = std::to_string(bytes.size());
    bytes += "caf\xE9 " + number + "\r\n";
    expected += "café " + number + "\r\n";
  }
  const InputFile file(folder.write("large.txt", bytes), {.encoding = "cp1252"});
  CHECK(file.text() == expected);
  file.let_go(file.text());
  CHECK(file.text() == expected);
}
