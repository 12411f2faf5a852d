#include "corpus/csv.h"

#include <optional>

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
        "error: DIR/x.csv is UTF-16, Quire reads UTF-8\n"
        "  try: `encoding` utf-16, or iconv -f utf-16 -t utf-8 DIR/x.csv > utf8.csv");
  CHECK(complaint("a,b\n1,\"open\nand\",\"more\nand\" shut\n") ==
        "error: DIR/x.csv line 4: there is text after the closing quote of field 3, which opens on "
        "line 3\n  try: write a quote inside a field twice");
  CHECK(complaint("a,b\n1,\"open\nand\nshut\",3\n") ==
        "error: DIR/x.csv line 2: the row has 3 fields, the header has 2; the quote that opens on "
        "line 2 closes on line 4");
}

TEST_CASE("a column that is not there: columns, rows, encoding, line ends and what to try") {
  CHECK(no_column("emoji,name,group\r\n\xF0\x9F\x98\x80,grinning face,Smileys\r\nx,tree,Nature\r\n",
                  "text", "emoji_df.csv") ==
        "error: DIR/emoji_df.csv has no column 'text'\n"
        "  columns: emoji, name, group (2 rows, UTF-8, CRLF)\n"
        "  try: `template_text` \"{name} => {emoji}\"");
  CHECK(no_column("Anime,Character,Quote\na,b,c\n", "quotes") ==
        "error: DIR/x.csv has no column 'quotes'\n"
        "  columns: Anime, Character, Quote (1 row, UTF-8, LF)\n"
        "  try: `text_column` 'Quote'");
  CHECK(no_column("id,body\n1,A line that is long enough to be taken for prose.\n", "text")
            .find("`text_column` 'body'") != std::string::npos);
  CHECK(no_column("only\n\xFFx\n", "text") ==
        "error: DIR/x.csv has no column 'text'\n  columns: only (1 row, not all UTF-8, LF)\n"
        "  try: `text_column` 'only'");
  CHECK(
      no_column("a;b\n1;2\n", "quotes") ==
      "error: DIR/x.csv has no column 'quotes'\n  columns: a, b (1 row, delimiter ';', UTF-8, LF)\n"
      "  try: `template_text` \"{a} => {b}\"");
  CHECK(no_column("a,a,b\n1,2,3\n", "a") ==
        "error: DIR/x.csv has more than one column 'a'\n  columns: a, a, b\n"
        "  try: give them different names in the first row");
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
        "  try: quire keywords - `text_column` 'a'");
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
    CHECK(error.next().ends_with("`template_text` \"{name} => {emoji}\""));
  }
}

namespace {

struct Opened {
  quire::ReadingReport report;
  Rows rows;  // with the header
  char delimiter = 0;
};

Opened open(const std::string& text, const quire::TextFormat& format = {},
            const std::string& name = "x.csv") {
  const ScratchFolder folder;
  Opened opened;
  CsvReader csv(folder.write(name, text), format, &opened.report);
  opened.delimiter = csv.delimiter();
  opened.rows.push_back(csv.columns());
  std::vector<std::string> fields;
  while (csv.next(fields)) opened.rows.push_back(fields);
  return opened;
}

}  // namespace

TEST_CASE("another delimiter is seen where the table is one with it alone, and reported") {
  for (const char delimiter : {';', '\t', '|'}) {
    const std::string d(1, delimiter);
    INFO("'" << d << "'");
    const Opened opened =
        open("kind" + d + "text\na" + d + "\"one, two" + d + "\n\"\nb" + d + "x,y,z\n");
    CHECK(opened.delimiter == delimiter);
    CHECK(opened.rows == Rows{{"kind", "text"}, {"a", "one, two" + d + "\n"}, {"b", "x,y,z"}});
    REQUIRE(opened.report.delimiters.size() == 1);
    CHECK(opened.report.delimiters[0].delimiter == delimiter);
  }
  CHECK(open("a,b\n1,2\n", {}, "x.tsv").delimiter == ',');
  CHECK(open("a;b\n").delimiter == ';');
  for (const char* text : {"a,b\n1;2,3\n", "text\none; two\nthree; four\n", "a,b;c\n1,2;3\n",
                           "to be; or not\nx\ny\nz\n"}) {
    const Opened opened = open(text);
    CHECK(opened.delimiter == ',');
    CHECK(opened.report.delimiters.empty());
  }
}

TEST_CASE("one row of ten may be broken where a delimiter is found, and is refused with its line") {
  std::string text = "kind;text\n";
  for (int row = 0; row < 12; ++row) text += row == 5 ? "a;b;c\n" : "a;b\n";
  CHECK(complaint(text) == "error: DIR/x.csv line 7: the row has 3 fields, the header has 2");
  CHECK(complaint("kind;text\na;b\na;b\na\n") ==
        "error: DIR/x.csv: its rows look delimited by ';', but not all alike\n"
        "  taken as they are, they have one column\n"
        "  try: `delimiter` ';', or `delimiter` ',' for one column");
}

TEST_CASE("a delimiter that is asked for is used, whatever the table looks like") {
  CHECK(open("kind;text\na;b\na;b\na\n", {.delimiter = ','}).rows.size() == 4);
  CHECK(open("a,b\n1,2\n", {.delimiter = ';'}).rows == Rows{{"a,b"}, {"1,2"}});
  CHECK(open("sep=|\na;b\n1;2\n", {.delimiter = ';'}).rows == Rows{{"a", "b"}, {"1", "2"}});
}

TEST_CASE("the line in which spreadsheets name the delimiter is no header") {
  const Rows expected = {{"a,", "b"}, {"1", "2,"}};
  for (const char* first : {"sep=;\n", "SEP=;\r\n", "\"sep=;\"\r", "\xEF\xBB\xBFsep=;\n"}) {
    INFO(first);
    const Opened opened = open(std::string(first) + "a,;b\n1;2,\n");
    CHECK(opened.rows == expected);
    CHECK(opened.report.delimiters.size() == 1);
  }
  CHECK(open("sep=\n1\n").rows == Rows{{"sep="}, {"1"}});
  // Nothing that could stand between fields: a zero, which says "found out", a quote, half an "é".
  for (const char byte : {'\0', '"', '\xC3'}) {
    const std::string first = std::string("sep=") + byte;
    CHECK(open(first + "\n1\n").rows == Rows{{first}, {"1"}});
  }
  CsvReader csv("memory", "sep=;\na;b\n\n1;2\n");
  CHECK(csv.separator_line() == "sep=;\n");
  std::vector<std::string> fields;
  REQUIRE(csv.next(fields));
  CHECK(csv.line() == 4);
}

TEST_CASE("without a header the columns have numbers, and the first row is data") {
  const Opened opened = open("\n\"x\ny\",2\n3,4\n", {.header = false});
  CHECK(opened.rows == Rows{{"1", "2"}, {"x\ny", "2"}, {"3", "4"}});
  CHECK(opened.report.headers.empty());
  CHECK(opened.report.blank_rows.lines == 1);
  CsvReader csv("memory", "a,b\n1,2\n", {.header = false});
  CHECK(csv.row_text().empty());
  CHECK(csv.column("2") == 1);
  std::vector<std::string> fields;
  REQUIRE(csv.next(fields));
  CHECK(csv.line() == 1);
  CHECK(csv.row_text() == "a,b");
  CHECK(complaint("1,2\n1,2\n1\n").find("line 3: the row has 1 field") != std::string::npos);
}

TEST_CASE("a header that looks like data is reported, and one that does not is not") {
  for (const char* text :
       {"\"First quote, with comma\"\nSecond\n", "The sea is wide\nThe sea is not\n",
        "joy,The sea is wide.\ncalm,The sea is not.\n", "joy,a\ncalm,b\njoy,c\n",
        "a,\"two\nlines\"\n1,2\n"}) {
    INFO(text);
    const Opened opened = open(text);
    REQUIRE(opened.report.headers.size() == 1);
    CHECK(std::string(text).starts_with(opened.report.headers[0].row));
  }
  const std::string paragraph = "id," + std::string(65, 'x') + "\n1,y\n";
  CHECK(open(paragraph).report.headers.size() == 1);
  CHECK(open("id," + std::string(64, 'x') + "\n1,y\n").report.headers.empty());
  for (const char* text : {"quote\nThe sea is wide.\n", "Full Name,No. of rows\na,b\n",
                           ",0,1\n0,a,b\n1,c,d\n", "a,b\n\"open", "text\n", "id,text\n1,\n"}) {
    INFO(text);
    const ScratchFolder folder;
    quire::ReadingReport report;
    CsvReader csv(folder.write("x.csv", text), {}, &report);
    CHECK(report.headers.empty());
  }
}

TEST_CASE("lines of blanks are passed over as blank lines are, and counted") {
  const Opened opened = open("a,b\n\n1,2\n   \n\t \n3,4\n\n  ");
  CHECK(opened.rows == Rows{{"a", "b"}, {"1", "2"}, {"3", "4"}});
  CHECK(opened.report.blank_rows.lines == 3);  // those behind the last row divide nothing
  CHECK(opened.report.blank_rows.line == 2);
  CHECK(open("a\tb\n \n\t\n", {}, "x.tsv").rows == Rows{{"a", "b"}, {"", ""}});
}

TEST_CASE("no template is advised of columns without a name, or of one name") {
  CHECK(no_column("Quote;\nfirst;\nsecond;\n", "text").ends_with("`text_column` 'Quote'"));
  CHECK(no_column(",Quote\n0,first\n1,second\n", "text").ends_with("`text_column` 'Quote'"));
  CHECK(no_column("quote,quote,who\na,b,c\n", "text") ==
        "error: DIR/x.csv has no column 'text'\n  columns: quote, quote, who (1 row, UTF-8, LF)");
}

TEST_CASE("a row that is wrong by itself is told, and the rows behind it are read") {
  const ScratchFolder folder;
  std::vector<std::string> fields;
  std::optional<quire::Error> trouble;
  CsvReader csv(
      folder.write("x.csv", "a,b\n1,2\n3\n\"x\" y,\"z\n5,6\r\n\"7\" 8\r\n9,10,11\n12,13"));
  std::vector<std::string> read;
  while (csv.next(fields, trouble)) {
    read.push_back(trouble ? std::to_string(csv.line()) + "!" : fields[0] + "," + fields[1]);
    if (trouble) CHECK(trouble->fault() == Fault::bad_data);
  }
  CHECK(read == std::vector<std::string>{"1,2", "3!", "4!", "5,6", "6!", "7!", "12,13"});

  // Behind a quote over several lines nobody knows which rows there were.
  for (const char* text :
       {"a,b\n1,\"2\n3,4\n5,\"6\n", "a,b\n1,\"2\n3,4\n5,\"x\"\n7,8\n", "a,b\n1,2\n3,\"4\n5,6\n"}) {
    CsvReader broken(folder.write("y.csv", text));
    CHECK_THROWS_AS(
        [&] {
          while (broken.next(fields, trouble)) CHECK_FALSE(trouble);
        }(),
        quire::Error);
  }
}

TEST_CASE("a number above numbers is no name of a column") {
  const ScratchFolder folder;
  const auto looks_like_data = [&](const std::string& text) {
    quire::ReadingReport report;
    CsvReader csv(folder.write("x.csv", text), {}, &report);
    return !report.headers.empty();
  };
  CHECK(looks_like_data("1,Hello world\n2,Good day\n"));
  CHECK(looks_like_data("Hello,0.5\nDay,-2e3\n"));
  CHECK_FALSE(looks_like_data("0,1\njoy,the sea\ncalm,the lake\n"));  // as pandas writes
  CHECK_FALSE(looks_like_data("1,2\n"));
  CHECK_FALSE(looks_like_data("n,1\n1,\n2,3\n"));
}
