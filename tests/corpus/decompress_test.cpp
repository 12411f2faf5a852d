// Packed files: what is in them, and every way in which they can be broken.
#include "corpus/decompress.h"

#include <cstdlib>

#include "corpus/csv.h"
#include "corpus/input_file.h"
#include "corpus/records.h"
#include "tests/corpus/unpacked.h"
#include "tests/support/catch.h"
#include "tests/support/packed.h"
#include "tests/support/scratch.h"

using namespace quire;
using namespace quire::test;

namespace {

struct Format {
  Compression compression;
  std::string extension, table, lines, library, unpack;
  bool built_in;
};

std::vector<Format> formats() {
#ifdef QUIRE_WITH_ZSTD
  const bool zstd = true;
#else
  const bool zstd = false;
#endif
  return {{Compression::gzip, ".gz", kGzipTable, kGzipLines, "zlib", "gunzip --keep", true},
          {Compression::zstd, ".zst", kZstdTable, kZstdLines, "libzstd", "unzstd", zstd}};
}

std::vector<std::string> unpacked_texts(const std::filesystem::path& path) {
  std::vector<std::string> texts;
  for (const Record& record : read_records({.paths = {path.string()}})) {
    texts.push_back(record.text);
  }
  return texts;
}

}  // namespace

TEST_CASE("every kind of file is read packed") {
  const ScratchFolder folder;
  for (const Format& f : formats()) {
    if (!f.built_in) continue;
    INFO(f.extension);
    const std::string name = "from " + std::string(f.extension == ".gz" ? "gzip" : "zstd");
    using Texts = std::vector<std::string>;
    CHECK(unpacked_texts(folder.write("a.txt" + f.extension, f.table)) ==
          Texts{"text\n" + name + "\n"});
    CHECK(unpacked_texts(folder.write("a.csv" + f.extension, f.table)) == Texts{name});
    CHECK(unpacked_texts(folder.write("a.tsv" + f.extension, f.table)) == Texts{name});
    CHECK(CsvReader(folder / ("a.tsv" + f.extension)).delimiter() == '\t');
    CHECK(unpacked_texts(folder.write("a.jsonl" + f.extension, f.lines)) ==
          Texts{"a line " + name});
    CHECK(unpacked_texts(folder.write("two.csv" + f.extension, f.table + f.table)) ==
          Texts{name, "text", name});  // two members, one after the other
  }
  // A folder's packed texts are found too.
  if (formats()[0].built_in && formats()[1].built_in)
    CHECK(unpacked_texts(folder.path()).size() == 2);
}

TEST_CASE("a packed file that is damaged or cut off is an error with its name") {
  const ScratchFolder folder;
  for (const Format& f : formats()) {
    if (!f.built_in) continue;
    INFO(f.extension);
    const auto message = [&](const std::string& bytes) {
      const auto path = folder.write("a.txt" + f.extension, bytes);
      return folder.message_of(Fault::bad_data, [&] { unpacked_texts(path); });
    };
    const std::string start = "error: cannot unpack DIR/a.txt" + f.extension + "\n  ";
    for (std::size_t size = 1; size < f.table.size(); ++size) {
      INFO("cut to " << size);
      CHECK(message(f.table.substr(0, size)).find(start + "it ends before its end") == 0);
    }
    for (std::size_t at = f.table.size() - 4; at < f.table.size(); ++at) {
      std::string changed = f.table;
      changed[at] = static_cast<char>(changed[at] ^ 0x10);
      CHECK(message(changed).find(start) == 0);  // checksum or size
    }
    CHECK(message("plain text, and long enough").find(start) == 0);
    CHECK(message(f.table + "and more behind it").find(start) == 0);
    CHECK(message(f.table.substr(0, 9)).find("--test DIR/a.txt") != std::string::npos);
  }
}

TEST_CASE("a packed file that this build cannot read is refused with the command that unpacks it") {
  const ScratchFolder folder;
  for (const Format& f : formats()) {
    if (f.built_in) continue;
    const auto path = folder.write("a.txt" + f.extension, f.table);
    CHECK(folder.message_of(Fault::device, [&] { unpacked_texts(path); }) ==
          "error: this build of Quire cannot unpack DIR/a.txt" + f.extension +
              "\n  it was built without " + f.library + "\n  try: " + f.unpack + " DIR/a.txt" +
              f.extension);
  }
  CHECK(quire::test::unpacked("as it is", Compression::none, "name") == "as it is");
}

TEST_CASE("packed files unpack to the same whichever way they are divided") {
  for (const Format& f : formats()) {
    if (!f.built_in) continue;
    INFO(f.extension);
    const std::string packed = f.table + f.lines;  // two members
    const std::string whole = quire::test::unpacked(packed, f.compression, "name");
    const auto in_pieces = [&](std::size_t first, std::size_t others) {
      std::string text;
      Unpacker unpacker(f.compression, "name");
      for (std::size_t at = 0; at < packed.size();) {
        const std::size_t size = std::min(at == 0 ? first : others, packed.size() - at);
        unpacker.add(std::string_view(packed).substr(at, size),
                     [&](std::string_view part) { text += part; });
        at += size;
      }
      unpacker.finish();
      return text;
    };
    for (std::size_t at = 1; at <= packed.size(); ++at) {
      INFO("divided at " << at);
      CHECK(in_pieces(at, packed.size()) == whole);
    }
    CHECK(in_pieces(1, 1) == whole);
    CHECK(in_pieces(3, 7) == whole);
    for (std::size_t size = 0; size < packed.size(); ++size) {
      if (size == f.table.size()) continue;  // the end of a member
      Unpacker unpacker(f.compression, "name");
      unpacker.add(std::string_view(packed).substr(0, size), [](std::string_view) {});
      CHECK_THROWS_AS(unpacker.finish(), Error);
    }
  }
}

TEST_CASE("a file that unpacks to more than memory holds is the text that was packed") {
  const ScratchFolder folder;
  // Packed 200 times smaller: one piece of the file is many of text.
  std::string text;
  while (text.size() < (9 << 20)) text += std::to_string(text.size() >> 12) + " the same again\n";
  for (const Format& f : formats()) {
    if (!f.built_in) continue;
    const bool gzip = f.compression == Compression::gzip;
    const std::string path = folder.write("large.txt", text);
    const std::string packer = gzip ? "gzip -k " : "zstd -q -k ";
    if (std::system((packer + path + " 2> /dev/null").c_str()) != 0) {
      WARN("SKIPPED: no " << packer << "here");
      continue;
    }
    const InputFile file(path + f.extension);
    CHECK((file.text() == text));
    file.let_go(file.text());
    CHECK((file.text() == text));
  }
}
