// quire keywords as a user runs it.
#include <algorithm>
#include <csignal>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/json.h"
#include "corpus/csv.h"
#include "pipeline/resources.h"
#include "tests/cli/program.h"
#include "tests/support/catch.h"
#include "tests/support/fixtures.h"

using namespace quire;
using namespace quire::test;
using Json = nlohmann::json;

namespace {

const char* const kTable =
    "\xEF\xBB\xBFid,Quote,mood\r\n"
    "1,\"The king, and the crown.\r\nThe king ordered a \"\"golden\"\" door\",\"odd\"\r\n"
    "\r\n"
    "2,,calm\r\n"
    "3,of the and,\r\n"
    "4,silver lake,x";

ProgramResult keywords(std::vector<std::string> arguments, const ProgramOptions& options = {}) {
  arguments.insert(arguments.begin(), "keywords");
  return run_quire(arguments, options);
}

std::vector<std::string> files_in(const ScratchFolder& folder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder.path())) {
    names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace

TEST_CASE("rows go out as they came in, with their keywords behind") {
  const ScratchFolder folder;
  const std::string in = folder.write("in.csv", kTable), out = folder / "out.csv";
  const ProgramResult result = keywords({in, "--text-column", "Quote", "-o", out});
  INFO(result.err);
  REQUIRE(result.exit_code == 0);
  CHECK(result.out.empty());
  CHECK(contains(result.err, "8 keywords for 4 rows in "));
  const std::string expected =
      std::string("\xEF\xBB\xBFid,Quote,mood,keywords\r\n") +
      "1,\"The king, and the crown.\r\nThe king ordered a \"\"golden\"\" door\",\"odd\","
      "\"crown, king, king ordered, golden, door\"\r\n2,,calm,\r\n3,of the and,,\r\n"
      "4,silver lake,x,\"silver lake, silver, lake\"\r\n";
  CHECK(read_file(out) == expected);
  CHECK(files_in(folder) == std::vector<std::string>{"in.csv", "out.csv"});

  CHECK(keywords({in, "--text-column", "Quote"}).out == expected);
  CHECK(keywords({in, "--text-column", "Quote", "--threads", "1", "-o", "-"}).out == expected);
  CHECK(keywords({"-", "--text-column", "Quote"}, {.input = kTable}).out == expected);
  CHECK(keywords({in, "--text-column", "Quote", "--quiet"}).err.empty());
}

TEST_CASE("an output that is there is replaced only when asked for, in one step") {
  const ScratchFolder folder;
  const std::string in = folder.write("in.csv", "text\nsilver lake\n");
  const std::string out = folder.write("out.csv", "mine");
  check_refused(keywords({in, "-o", out}), 2, "out.csv is there already\n  try: another --output");
  CHECK(read_file(out) == "mine");
  CHECK(keywords({in, "-o", out, "--overwrite"}).exit_code == 0);
  CHECK(read_file(out) == "text,keywords\nsilver lake,\"silver lake, silver, lake\"\n");
  // A table may be replaced by its own, longer one; and what fails on the way leaves it as it was.
  CHECK(keywords({out, "--output-column", "more", "-o", out, "--overwrite", "--text-column", "text",
                  "--top", "1"})
            .exit_code == 0);
  CHECK(read_file(out) ==
        "text,keywords,more\nsilver lake,\"silver lake, silver, lake\",silver lake\n");
  const std::string broken = folder.write("broken.csv", "text\nsilver lake\n\"open\n");
  check_refused(keywords({broken, "-o", out, "--overwrite"}), 3,
                "broken.csv line 3: the quote that opens here is never closed");
  CHECK(contains(read_file(out), "more"));
  CHECK(files_in(folder) == std::vector<std::string>{"broken.csv", "in.csv", "out.csv"});
  check_refused(keywords({in, "-o", folder / "no" / "out.csv"}), 3, "cannot create ");
  CHECK(keywords({in}, {.output_file = "/dev/full"}).exit_code == 4);
}

TEST_CASE("Ctrl-C leaves no half table") {
  const ScratchFolder folder;
  std::string text = "text\n";  // 49 blocks, after each of which it looks
  for (int i = 0; i < 200'000; ++i) text += "The Silver lake of Ada Quill and the old tower\n";
  const std::string in = folder.write("in.csv", text);
  Program program({"keywords", in, "-o", folder / "out.csv", "--threads", "1"});
  REQUIRE(program.wait_for_file(folder / ("out.csv.tmp-" + std::to_string(program.process()))));
  program.send(SIGINT);
  const ProgramResult result = program.wait();
  CHECK(result.exit_code == 130);
  CHECK(contains(result.err, ": nothing is written"));
  CHECK(files_in(folder) == std::vector<std::string>{"in.csv"});
}

TEST_CASE("with --json a row is an object") {
  const ScratchFolder folder;
  const ProgramResult result = keywords(
      {folder.write("in.csv", kTable), "--text-column", "Quote", "--json", "--ngram", "1"});
  REQUIRE(result.exit_code == 0);
  const std::vector<Json> rows = json_lines(result.out);
  REQUIRE(rows.size() == 4);
  CHECK(rows[0]["Quote"] == "The king, and the crown.\nThe king ordered a \"golden\" door");
  CHECK(rows[0]["mood"] == "odd");
  CHECK(rows[0]["keywords"].size() == rows[0]["scores"].size());
  CHECK(rows[0]["keywords"][0] == "crown");
  for (std::size_t i = 1; i < rows[0]["scores"].size(); ++i) {
    CHECK(rows[0]["scores"][i - 1].get<double>() <= rows[0]["scores"][i].get<double>());
  }
  CHECK(rows[1] ==
        parse_json<Json>(
            R"({"id": "2", "Quote": "", "mood": "calm", "keywords": [], "scores": []})"));
  check_refused(keywords({folder.write("scores.csv", "text,scores\na,b\n"), "--json"}), 2,
                "with --json 'scores' is the name of the keywords' scores");
}

TEST_CASE("the options say which keywords") {
  const ScratchFolder folder;
  const auto column = [&](const std::string& text, std::vector<std::string> options) {
    options.insert(options.begin(), {folder.write("x.csv", "text\n\"" + text + "\"\n"), "--json"});
    const ProgramResult result = keywords(options);
    INFO(result.err);
    REQUIRE(result.exit_code == 0);
    return parse_json<Json>(result.out)["keywords"].get<std::vector<std::string>>();
  };
  using Words = std::vector<std::string>;
  CHECK(column("silver lake", {}) == Words{"silver lake", "silver", "lake"});
  CHECK(column("silver lake", {"--top", "1"}) == Words{"silver lake"});
  CHECK(column("silver lake", {"--ngram", "1"}) == Words{"silver", "lake"});
  CHECK(column("silver lake", {"--stopwords", folder.write("s.txt", "Silver\n")}) == Words{"lake"});
  CHECK(column("gardening, gardeting", {}).size() == 2);
  CHECK(column("gardening, gardeting", {"--dedup", "0.67"}).size() == 1);
  const std::string text =
      "Rain fell on the Harbour of Glass. The harbour master, Ada Quill, saw 3 boats. Ada Quill "
      "wrote "
      "it down.";
  CHECK(column(text, {})[1] == "Harbour of Glass");
  CHECK(column(text, {"--window", "3"})[1] == "Rain fell");
}

TEST_CASE("tables with tabs stay such") {
  const ScratchFolder folder;
  const std::string in = folder.write("in.tsv", "text\tn\nsilver lake\t1,5\n");
  CHECK(keywords({in}).out == "text\tn\tkeywords\nsilver lake\t1,5\tsilver lake, silver, lake\n");
  check_refused(keywords({in, "--text-column", "text", "-o", folder / "out.csv"}), 2,
                "is written with tabs between its fields");
  CHECK(keywords({in, "-o", folder / "out.tsv"}).exit_code == 0);
  CHECK(keywords({in, "--json", "-o", folder / "out.jsonl"}).exit_code == 0);
}

TEST_CASE("what cannot be read is refused, with what to do") {
  const ScratchFolder folder;
  const std::string in = folder.write("quotes.csv", "Anime,Quote\na,silver lake\n");
  check_refused(keywords({in, "--text-column", "Quotes"}), 3,
                "quotes.csv has no column 'Quotes'\n  columns: Anime, Quote (1 row, UTF-8, LF)\n"
                "  try: quire keywords " +
                    in + " --text-column 'Quote'");
  check_refused(keywords({in}), 3, "has no column 'text'");
  check_refused(keywords({folder / "quote.csv"}), 3, "did you mean " + in + "?");
  check_refused(keywords({folder.write("empty.csv", "")}), 3, "empty.csv is empty");
  check_refused(keywords({folder.write("a.csv", "text,b\n1,2\n1,2,3\n"), "-o", folder / "o.csv"}),
                3, "a.csv line 3: the row has 3 fields, the header has 2");
  CHECK(!std::filesystem::exists(folder / "o.csv"));
  check_refused(keywords({folder.write("utf16.csv", "\xFF\xFEt")}), 3, "utf16.csv is UTF-16");
  check_refused(keywords({folder.write("a.txt", "text")}), 2, "a.txt is not one table");
  check_refused(keywords({folder.write("k.csv", "text,keywords\na,b\n")}), 2,
                "k.csv has a column 'keywords' already\n  try: --output-column NAME");
  check_refused(keywords({in, "--stopwords", folder / "none.txt"}), 3, "none.txt");
  check_refused(keywords({}), 2, "there is no table to read");
  check_refused(keywords({in, in}), 2, "one table at a time");
  check_refused(keywords({in, "--text-colum", "Quote"}), 2, "did you mean --text-column?");
  check_refused(keywords({in, "--top", "0"}), 2, "--top");
  check_refused(keywords({in, "--dedup", "1.5"}), 2, "--dedup");
  check_refused(keywords({"-"}, {.input = "a,b\n1,2\n"}), 3, "standard input has no column 'text'");
}

TEST_CASE("a table without rows, and one that ends in its header, gets its column") {
  const ScratchFolder folder;
  const ProgramResult result = keywords({folder.write("x.csv", "text")});
  CHECK(result.exit_code == 0);
  CHECK(result.out == "text,keywords\n");
  CHECK(contains(result.err, "0 keywords for 0 rows"));
}

TEST_CASE("bytes that are not UTF-8 are kept, and said") {
  const ScratchFolder folder;
  const std::string in =
      folder.write("x.csv", "text,b\nsilver,\xE9\nsilver \xE9t\xE9,2\nl\xE9,3\nlake,\n");
  const ProgramResult result = keywords({in, "--text-column", "text", "--ngram", "1"});
  CHECK(result.exit_code == 0);
  CHECK(contains(result.out, "silver,\xE9,silver\n"));
  CHECK(contains(result.out, "silver \xE9t\xE9,2,silver\n"));
  CHECK(contains(result.err, "warning: 2 lines have bytes that are not UTF-8, the first in " + in +
                                 " line 3: these are read as U+FFFD; likely latin-1\n"
                                 "  try: --encoding latin-1\n"));
  CHECK(keywords({in, "--text-column", "text", "--json"}).exit_code == 0);
}

TEST_CASE("the example of --help works from a clone") {
  const std::filesystem::path quotes = find_resource("samples/quotes.csv");
  CHECK(
      contains(keywords({"--help"}).out, "quire keywords samples/quotes.csv --text-column quote"));
  const ScratchFolder folder;
  const std::string out = folder / "keywords.csv";
  const ProgramResult result = keywords({quotes.string(), "--text-column", "quote", "-o", out});
  CHECK(result.exit_code == 0);
  CHECK(contains(result.err, " for 465 rows in "));
  CsvReader table(out);
  CHECK(table.columns() == std::vector<std::string>{"quote", "character", "mood", "keywords"});
}

TEST_CASE("every row of a real table keeps its place, on any number of threads") {
  QUIRE_FIXTURE(path, "data/anime-quotes.csv");
  const ProgramResult one = keywords({path.string(), "--text-column", "Quote", "--threads", "1"});
  REQUIRE(one.exit_code == 0);
  CHECK(keywords({path.string(), "--text-column", "Quote", "--threads", "5"}).out == one.out);
  CsvReader before(path), after("the result", one.out);
  std::vector<std::string> row, longer;
  std::size_t rows = 0;
  for (; before.next(row); ++rows) {
    REQUIRE(after.next(longer));
    REQUIRE(longer.size() == row.size() + 1);
    longer.pop_back();
    CHECK(longer == row);
  }
  CHECK(!after.next(longer));
  CHECK(rows == 4171);  // more than a block of rows
}
