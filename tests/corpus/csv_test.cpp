#include "corpus/csv.h"

#include "tests/support/catch.h"
#include "tests/support/fixtures.h"
#include "tests/support/scratch.h"

using quire::CsvReader;
using quire::Fault;
using quire::test::ScratchFolder;

namespace {

using Rows = std::vector<std::vector<std::string>>;

// The header and all rows.
Rows read(const std::string& text, const std::string& name = "x.csv") {
  const ScratchFolder folder;
  CsvReader csv(folder.write(name, text));
  Rows rows{csv.columns()};
  std::vector<std::string> fields;
  while (csv.next(fields)) rows.push_back(fields);
  return rows;
}

std::string complaint(const std::string& text) {
  const ScratchFolder folder;
  const auto path = folder.write("x.csv", text);
  return folder.message_of(Fault::bad_data, [&] {
    CsvReader csv(path);
    std::vector<std::string> fields;
    while (csv.next(fields)) {}
  });
}

std::string no_column(const std::string& text, const std::string& column,
                      const std::string& name = "x.csv") {
  const ScratchFolder folder;
  const auto path = folder.write(name, text);
  return folder.message_of(Fault::bad_data, [&] { CsvReader(path).column(column); });
}

}  // namespace

TEST_CASE("rows end in any way, the last one with or without an end") {
  const Rows expected = {{"a", "b"}, {"1", "2"}, {"3", ""}};
  CHECK(read("a,b\n1,2\n3,\n") == expected);
  CHECK(read("a,b\n1,2\n3,") == expected);
  CHECK(read("a,b\r\n1,2\r\n3,\r\n") == expected);
  CHECK(read("a,b\r1,2\r3,\r") == expected);
  CHECK(read("\xEF\xBB\xBF"
             "a,b\n1,2\n3,\n") == expected);
  CHECK(read("\n\na,b\r\n\r\n1,2\n\n\n3,\n\n") == expected);
  CHECK(read("a\tb\n1\t2\n3\t\n", "x.tsv") == expected);
  CHECK(read("a\tb\n1\t2\n3\t\n", "X.TSV") == expected);
  CHECK(read("a,b\n") == Rows{{"a", "b"}});
}

TEST_CASE("quotes hold delimiters, line ends and quotes") {
  CHECK(read("a,b\n\"x,y\",\"he said \"\"no\"\"\"\n") ==
        Rows{{"a", "b"}, {"x,y", "he said \"no\""}});
  CHECK(read("a,b\n\"one\ntwo\r\nthree\rfour\",\"\"\n") ==
        Rows{{"a", "b"}, {"one\ntwo\nthree\nfour", ""}});
  CHECK(read("\"a \"\"1\"\"\",b\n\"\"\"\",x") == Rows{{"a \"1\"", "b"}, {"\"", "x"}});
  // Within an unquoted field a quote is a character, and spaces belong to the field.
  CHECK(read("a,b\n5\" disk, \"x\"\n") == Rows{{"a", "b"}, {"5\" disk", " \"x\""}});
  CHECK(read(std::string("a,b\nx\0y,\"\0\"\n", 12)) ==
        Rows{{"a", "b"}, {std::string("x\0y", 3), std::string("\0", 1)}});
  CHECK(read("a\n\"\"\n") == Rows{{"a"}, {""}});
}

TEST_CASE("rows remember the line they begin on, after quoted line ends too") {
  const ScratchFolder folder;
  CsvReader csv(folder.write("x.csv", "a,b\r\n\"1\r\n2\n3\",x\n\ny,z\n"));
  std::vector<std::string> fields;
  REQUIRE(csv.next(fields));
  CHECK(csv.line() == 2);
  REQUIRE(csv.next(fields));
  CHECK(csv.line() == 6);
}

TEST_CASE("damaged tables are refused with the line") {
  CHECK(complaint("a,b\n1,2\n3,\"open\n4,5\n6,7\n") ==
        "error: DIR/x.csv line 3: the quote that opens here is never closed\n"
        "  try: close it, or write a quote inside a field twice");
  CHECK(complaint("a,b\n\"1\n\n\",\"open\n4,5\n").find("x.csv line 4: the quote that opens here") !=
        std::string::npos);
  CHECK(complaint("a,\"b") ==
        "error: DIR/x.csv line 1: the quote that opens here is never closed\n"
        "  try: close it, or write a quote inside a field twice");
  CHECK(complaint("a,b\n\n1,\"x\" y\n") ==
        "error: DIR/x.csv line 3: there is text after the closing quote of field 2\n"
        "  try: write a quote inside a field twice");
  CHECK(complaint("a,b\n1,2\n1,2,3\n") ==
        "error: DIR/x.csv line 3: the row has 3 fields, the header has 2");
  CHECK(complaint("a,b\n1\n") == "error: DIR/x.csv line 2: the row has 1 field, the header has 2");
  CHECK(complaint("") == "error: DIR/x.csv is empty\n  the first row must name the columns");
  CHECK(complaint("\xEF\xBB\xBF\r\n\n") ==
        "error: DIR/x.csv is empty\n  the first row must name the columns");
  CHECK(complaint("\xFF\xFE"
                  "a") ==
        "error: DIR/x.csv is UTF-16, Quire reads UTF-8\n  try: iconv -f UTF-16 -t UTF-8 DIR/x.csv "
        "> utf8.csv");
}

TEST_CASE("a column that is not there: columns, rows, encoding, line ends and what to try") {
  CHECK(no_column("emoji,name,group\r\n\xF0\x9F\x98\x80,grinning face,Smileys\r\nx,tree,Nature\r\n",
                  "text", "emoji_df.csv") ==
        "error: DIR/emoji_df.csv has no column 'text'\n"
        "  columns: emoji, name, group (2 rows, UTF-8, CRLF)\n"
        "  try: quire train --model DIR --data DIR/emoji_df.csv --template \"{name} => {emoji}\"");
  CHECK(no_column("Anime,Character,Quote\na,b,c\n", "quotes") ==
        "error: DIR/x.csv has no column 'quotes'\n"
        "  columns: Anime, Character, Quote (1 row, UTF-8, LF)\n"
        "  try: quire train --model DIR --data DIR/x.csv --text-column 'Quote'");
  CHECK(no_column("id,body\n1,A line that is long enough to be taken for prose.\n", "text")
            .find("--text-column 'body'") != std::string::npos);
  CHECK(no_column("only\n\xFFx\n", "text") ==
        "error: DIR/x.csv has no column 'text'\n  columns: only (1 row, not all UTF-8, LF)\n"
        "  try: quire train --model DIR --data DIR/x.csv --text-column 'only'");
  CHECK(no_column("a;b\n1;2\n", "a") ==
        "error: DIR/x.csv has no column 'a'\n  columns: a;b (1 row, UTF-8, LF)\n"
        "  the fields seem to be separated by ';': Quire reads ',' (.csv) and tabs (.tsv)");
  CHECK(no_column("a,a,b\n1,2,3\n", "a") ==
        "error: DIR/x.csv has more than one column 'a'\n  columns: a, a, b");
}

TEST_CASE("a table in memory is read as one in a file") {
  CsvReader csv("standard input",
                "\xEF\xBB\xBF"
                "a,b\n1,\"2\n");
  CHECK(csv.columns() == std::vector<std::string>{"a", "b"});
  std::vector<std::string> fields;
  const ScratchFolder folder;
  CHECK(folder.message_of(Fault::bad_data, [&] { csv.next(fields); })
            .find("error: standard input line 2: the quote that opens here is never closed") == 0);
  CsvReader other("standard input", "a,b\n1,2\n");
  CHECK(folder.message_of(Fault::bad_data, [&] { other.column("c", "quire keywords"); }) ==
        "error: standard input has no column 'c'\n  columns: a, b (1 row, UTF-8, LF)\n"
        "  try: quire keywords - --text-column 'a'");
}

TEST_CASE("a row is had as it was written, and so is what is around it") {
  CsvReader csv("memory",
                "\xEF\xBB\xBF"
                "a,\"b\"\r\n\r\n\"x\r\ny\",\"say \"\"no\"\"\"\r\n 1,2");
  CHECK(csv.row_text() == "a,\"b\"");
  CHECK(csv.line_end() == "\r\n");
  CHECK(csv.has_byte_order_mark());
  CHECK(csv.delimiter() == ',');
  std::vector<std::string> fields;
  REQUIRE(csv.next(fields));
  CHECK(csv.row_text() == "\"x\r\ny\",\"say \"\"no\"\"\"");
  REQUIRE(csv.next(fields));
  CHECK(csv.row_text() == " 1,2");
  CHECK(!csv.next(fields));

  const ScratchFolder folder;
  CsvReader tabs(folder.write("x.tsv", "a\tb\n"));
  CHECK(tabs.delimiter() == '\t');
  CHECK(tabs.line_end() == "\n");
  CHECK(!tabs.has_byte_order_mark());
}

TEST_CASE("a field that is written is read as it was") {
  CHECK(quire::csv_field("plain text") == "plain text");
  CHECK(quire::csv_field("") == "");
  CHECK(quire::csv_field("a,b") == "\"a,b\"");
  CHECK(quire::csv_field("a,b", '\t') == "a,b");
  CHECK(quire::csv_field("a\tb", '\t') == "\"a\tb\"");
  CHECK(quire::csv_field("say \"no\"") == "\"say \"\"no\"\"\"");
  CHECK(quire::csv_field("one\ntwo") == "\"one\ntwo\"");
  CHECK(quire::csv_field(" x") == "\" x\"");
  CHECK(quire::csv_field("x\t") == "\"x\t\"");
  CHECK(quire::csv_field("\xEF\xBB\xBFx") == "\"\xEF\xBB\xBFx\"");
}

TEST_CASE("real tables are read whole") {
  QUIRE_FIXTURE(data, "data");
  for (const auto& [name, columns, rows] :
       {std::tuple("anime-quotes.csv", 3u, 4171u), std::tuple("emoji_df.csv", 5u, 3664u)}) {
    CsvReader csv(data / name);
    CHECK(csv.columns().size() == columns);
    std::vector<std::string> fields;
    unsigned count = 0;
    while (csv.next(fields)) ++count;
    CHECK(count == rows);
  }
  try {
    CsvReader(data / "emoji_df.csv").column("text");
    FAIL("no exception");
  } catch (const quire::Error& error) {
    CHECK(error.details()[0] ==
          "columns: emoji, name, group, sub_group, codepoints (3,664 rows, UTF-8, LF)");
    CHECK(error.next().ends_with("--template \"{name} => {emoji}\""));
  }
}
