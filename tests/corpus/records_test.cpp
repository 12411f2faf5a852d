#include "corpus/records.h"

#include "tests/support/catch.h"
#include "tests/support/fixtures.h"
#include "tests/support/scratch.h"

namespace fs = std::filesystem;
using quire::CorpusOptions;
using quire::Fault;
using quire::Record;
using quire::test::ScratchFolder;

namespace {

using Texts = std::vector<std::string>;

Texts texts_of(const CorpusOptions& options) {
  Texts texts;
  for (const Record& record : quire::read_records(options)) texts.push_back(record.text);
  return texts;
}

Texts texts_of(const fs::path& path) {
  return texts_of(CorpusOptions{.paths = {path.string()}});
}

std::string complaint(const ScratchFolder& folder, const CorpusOptions& options,
                      Fault fault = Fault::bad_data) {
  return folder.message_of(fault, [&] { quire::read_records(options); });
}

std::string complaint(const ScratchFolder& folder, const fs::path& path) {
  return complaint(folder, CorpusOptions{.paths = {path.string()}});
}

}  // namespace

TEST_CASE("a text file is one record, without byte-order mark and carriage returns") {
  const ScratchFolder folder;
  CHECK(texts_of(folder.write("a.txt", "\xEF\xBB\xBFone\r\ntwo\r\n\r\nthree\r\n")) ==
        Texts{"one\ntwo\n\nthree\n"});
  CHECK(texts_of(folder.write("b.TXT", "a\rb\r\r\nc\r")) == Texts{"a\nb\n\nc\n"});
  const std::string odd = std::string("nul \0", 5) + " and \xFF byte";
  CHECK(texts_of(folder.write("c.txt", odd)) == Texts{odd});
}

TEST_CASE("line by line, every line that is not blank is a record") {
  const ScratchFolder folder;
  const auto path = folder.write("a.txt", "one\r\n\n  \t\n two \nthree");
  CHECK(texts_of({.paths = {path.string()}, .line_by_line = true}) ==
        Texts{"one", " two ", "three"});
}

TEST_CASE("folders are read in the order of their paths, patterns too") {
  const ScratchFolder folder;
  folder.write("b.txt", "b");
  folder.write("a/2.txt", "a2");
  folder.write("a/10.txt", "a10");
  folder.write("a/deep/x.txt", "deep");
  folder.write("a/notes.md", "no");
  folder.write(".hidden/y.txt", "no");
  folder.write("z.csv", "text\nfrom a table\n");
  CHECK(texts_of(folder.path()) == Texts{"a10", "a2", "deep", "b"});
  CHECK(texts_of(folder / "a/*.txt") == Texts{"a10", "a2"});
  CHECK(texts_of(folder / "[az]*") == Texts{"a10", "a2", "deep", "from a table"});
  CHECK(texts_of({.paths = {(folder / "b.txt").string(), (folder / "a").string()}}) ==
        Texts{"b", "a10", "a2", "deep"});
  CHECK(texts_of(folder / "**/*.txt") == Texts{"a10", "a2", "deep", "b"});
  CHECK(texts_of(folder / "**/?eep/*") == Texts{"deep"});
  CHECK(texts_of(folder / "a/**/*.txt") == Texts{"a10", "a2", "deep"});
  folder.write("what?.txt", "named");  // a file whose name is a pattern
  CHECK(texts_of(folder / "what?.txt") == Texts{"named"});
}

TEST_CASE("a folder without texts gives its tables and JSON lines") {
  const ScratchFolder folder;
  folder.write("b.csv", "text\nfrom b\n");
  folder.write("deep/a.tsv", "n\ttext\n1\tfrom a\n");
  folder.write("a.JSONL", "{\"text\": \"a line\"}\n");
  folder.write("notes.md", "no");
  CHECK(texts_of(folder.path()) == Texts{"a line", "from b", "from a"});
  folder.write("x.txt", "text");
  CHECK(texts_of(folder.path()) == Texts{"text"});
}

TEST_CASE("what a folder holds beside what is read is reported") {
  const ScratchFolder folder;
  folder.write("data/a.csv", "text\none\n");
  folder.write("data/b.csv.gz", "");
  folder.write("data/deep/c.PDF", "");
  folder.write("data/README", "");
  folder.write("data/.hidden.pdf", "");
  folder.write("plain/a.txt", "two");
  quire::ReadingReport report;
  const auto look = [&](std::vector<std::string> paths) {
    report = {};
    for (std::string& path : paths) path = (folder / path).string();
    quire::find_files(paths, &report);
    return report.skipped.size();
  };
  using Kinds = std::map<std::string, std::int64_t>;
  CHECK(look({"plain"}) == 0);
  CHECK(look({"plain", "data"}) == 1);
  CHECK(report.skipped[0].folder == folder / "data");
  CHECK(report.skipped[0].kinds == Kinds{{"", 1}, {".pdf", 1}});
  CHECK_FALSE(report.skipped[0].texts_alone);
  CHECK(report.skipped[0].pattern.empty());
  folder.write("data/deep/x.txt", "three");  // now the tables are passed over as well
  CHECK(look({"data"}) == 1);
  CHECK(report.skipped[0].kinds == Kinds{{"", 1}, {".csv", 1}, {".gz", 1}, {".pdf", 1}});
  CHECK(report.skipped[0].texts_alone);
  CHECK(report.skipped[0].pattern == (folder / "data/**/*.csv").string());
  CHECK(look({"data/a.csv", "data/deep/*.txt"}) == 0);  // named one by one
  // Whoever reads records gets it, too.
  quire::read_records({.paths = {(folder / "data").string()}, .report = &report});
  CHECK(report.skipped.size() == 1);
}

TEST_CASE("a line divides a text into documents") {
  const ScratchFolder folder;
  const auto path = folder.write("a.txt", "***\r\none\r\ntwo\n***\n \n***\n*** three\n***");
  CorpusOptions options{.paths = {path.string()}, .document_separator = "***"};
  CHECK(texts_of(options) == Texts{"one\ntwo\n", "*** three\n"});
  std::vector<std::size_t> lines;
  for_each_record(options,
                  [&](Record&&, const quire::RecordPlace& place) { lines.push_back(place.line); });
  CHECK(lines == std::vector<std::size_t>{2, 7});
  options.document_separator = "<|endoftext|>";
  CHECK(texts_of(options).size() == 1);
  options.line_by_line = true;
  CHECK(complaint(folder, options, Fault::usage).find("exclude each other") != std::string::npos);
}

TEST_CASE("what is not there, or not read, is said with what to do") {
  const ScratchFolder folder;
  folder.write("quotes.csv", "text\nx\n");
  fs::create_directories(folder / "empty");
  CHECK(complaint(folder, folder / "quote.csv") ==
        "error: there is no file or folder DIR/quote.csv\n  did you mean DIR/quotes.csv?");
  CHECK(complaint(folder, folder / "no/such.txt") ==
        "error: there is no file or folder DIR/no/such.txt\n  there is no folder DIR/no either");
  CHECK(complaint(folder, folder / "*.txt") == "error: no file matches 'DIR/*.txt'");
  folder.write("pictures/a.png", "");
  folder.write("pictures/b.png", "");
  CHECK(complaint(folder, folder / "pictures") ==
        "error: the folder DIR/pictures holds no .txt, .csv, .tsv or .jsonl\n"
        "  it holds 2 × .png");
  folder.write("prepared/shard-00000.tokens", "");
  CHECK(complaint(folder, folder / "prepared") ==
        "error: the folder DIR/prepared holds no .txt, .csv, .tsv or .jsonl\n"
        "  it holds 1 × .tokens\n  try: quire train `paths` DIR/prepared");
  CHECK(complaint(folder, folder / "empty") ==
        "error: the folder DIR/empty holds no .txt, .csv, .tsv or .jsonl\n  it is empty");
  CHECK(complaint(folder, folder / "**/*.doc") == "error: no file matches 'DIR/**/*.doc'");
  CHECK(complaint(folder, folder / "none/**/*.txt") ==
        "error: no file matches 'DIR/none/**/*.txt'");
  CHECK(complaint(folder, folder.write("a.docx", "")) ==
        "error: DIR/a.docx is of a kind that is not read: .docx\n"
        "  read are .txt, .csv, .tsv and .jsonl, each with .gz or .zst too, and folders of these");
  CHECK(complaint(folder, folder.write("README", "")).find("DIR/README has no extension") !=
        std::string::npos);
  CHECK(complaint(folder, folder.write("a.tokens", "")) ==
        "error: DIR/a.tokens holds tokens, not text\n"
        "  shards are trained on by themselves, not together with files of text\n"
        "  try: quire train `paths` DIR/a.tokens");
  CHECK(complaint(folder, folder.write("a.parquet", "")) ==
        "error: DIR/a.parquet is of a kind that is not read: .parquet\n"
        "  read are .txt, .csv, .tsv and .jsonl, each with .gz or .zst too, and folders of these\n"
        "  try: python3 -c \"import pandas; "
        "pandas.read_parquet('DIR/a.parquet').to_json('DIR/a.jsonl', "
        "orient='records', lines=True, force_ascii=False)\"");
  CHECK(complaint(folder, folder.write("a.json.gz", ""))
            .find("read_json('DIR/a.json.gz').to_json('DIR/a.jsonl'") != std::string::npos);
  CHECK(complaint(folder, CorpusOptions{}, Fault::usage).find("no data is named") !=
        std::string::npos);
  // A file of a wrong kind is found before the others are read.
  folder.write("bad.csv", "a\n\"");
  CHECK(complaint(folder, CorpusOptions{.paths = {(folder / "bad.csv").string(),
                                                  (folder / "a.docx").string()}})
            .find("a.docx") != std::string::npos);
}

TEST_CASE("data without any text is an error") {
  const ScratchFolder folder;
  CHECK(complaint(folder, folder.write("a.txt", "")) ==
        "error: DIR/a.txt holds no text\n  there is nothing to learn from");
  CHECK(complaint(folder, folder.write("bom.txt", "\xEF\xBB\xBF")).find("holds no text") !=
        std::string::npos);
  CHECK(complaint(folder, folder.write("a.csv", "text\n\"\"\n")).find("holds no text") !=
        std::string::npos);
  CHECK(complaint(folder, folder.write("a.jsonl", "\n\n")).find("holds no text") !=
        std::string::npos);
  CHECK(complaint(folder, CorpusOptions{.paths = {(folder / "a.txt").string(),
                                                  (folder / "a.csv").string()}}) ==
        "error: the 2 data files hold no text\n  there is nothing to learn from");
}

TEST_CASE("a table gives one column or a template of several") {
  const ScratchFolder folder;
  const auto path = folder.write("x.csv", "text,name\nhello,Ann\n,Bob\n\"a\r\nb\",\n");
  CHECK(texts_of(path) == Texts{"hello", "a\nb"});
  CHECK(texts_of({.paths = {path.string()}, .text_column = "name"}) == Texts{"Ann", "Bob"});
  CHECK(texts_of({.paths = {path.string()}, .template_text = "{name}: {text}\\n{{{name}}}"}) ==
        Texts{"Ann: hello\n{Ann}", "Bob: \n{Bob}", ": a\nb\n{}"});
  CHECK(texts_of(folder.write("one.csv", "whatever\nx\n")) == Texts{"x"});
  CHECK(complaint(folder,
                  CorpusOptions{.paths = {path.string()}, .template_text = "{nam} => {text}"}) ==
        "error: DIR/x.csv has no column 'nam'\n  columns: text, name (3 rows, UTF-8, LF)\n"
        "  try: `text_column` 'name'");
}

TEST_CASE("templates that make no sense are refused") {
  const ScratchFolder folder;
  const std::string path = folder.write("x.csv", "a,b\n1,2\n").string();
  const auto message = [&](const std::string& text) {
    return complaint(folder, CorpusOptions{.paths = {path}, .template_text = text}, Fault::usage);
  };
  CHECK(message("plain") ==
        "error: the template \"plain\" names no column\n"
        "  columns are named in braces; {{ and }} stand for braces\n"
        "  try: `template_text` \"{keywords} => {quote}\"");
  CHECK(message("{a").find("opens a brace that is never closed") != std::string::npos);
  CHECK(message("a}").find("closes a brace that was never opened") != std::string::npos);
  CHECK(message("{}").find("has empty braces") != std::string::npos);
  CHECK(message("{{a}}").find("names no column") != std::string::npos);
  CHECK(complaint(folder,
                  CorpusOptions{.paths = {path}, .text_column = "a", .template_text = "{a}"},
                  Fault::usage)
            .find("exclude each other") != std::string::npos);
}

TEST_CASE("JSON lines bring text, named fields or ids") {
  const ScratchFolder folder;
  const auto path = folder.write("x.jsonl",
                                 "\xEF\xBB\xBF{\"text\": \"a\\r\\u00e9\"}\r\n\n"
                                 "{\"input_ids\": [1, 2, 3], \"labels\": [-100, 2, 3]}\n"
                                 "{\"input_ids\": []}\n{\"text\": \"\"}\n"
                                 "{\"input_ids\": [4]}\n{\"text\": \"bad \xFF byte\"}");
  const std::vector<Record> records = quire::read_records({.paths = {path.string()}});
  REQUIRE(records.size() == 4);
  CHECK(records[0].text == "a\ré");
  CHECK(records[1].text.empty());
  CHECK(records[1].input_ids == std::vector<std::int32_t>{1, 2, 3});
  CHECK(records[1].labels == std::vector<std::int32_t>{-100, 2, 3});
  CHECK(records[2].labels.empty());
  CHECK(records[3].text == "bad \xEF\xBF\xBD byte");

  const std::string named =
      folder.write("n.jsonl", R"({"quote": "q", "keywords": ["a", "b"], "n": 1.5, "none": null})")
          .string();
  CHECK(texts_of({.paths = {named}, .text_column = "quote"}) == Texts{"q"});
  CHECK(texts_of({.paths = {named}, .template_text = "{keywords} => {quote} {n}{none}"}) ==
        Texts{"a, b => q 1.5"});
}

TEST_CASE("a field's name in a text, an inner object or beside it is no second field") {
  const ScratchFolder folder;
  const std::string lines =
      "{\"text\": \"a\", \"n\": {\"text\": \"b\"}, \"list\": [\"text\"], \"other\": 1, \"other\": "
      "2}\n";
  CHECK(texts_of({.paths = {folder.write("x.jsonl", lines).string()}}) == Texts{"a"});
}

TEST_CASE("lines of JSON that make no sense are refused with their number") {
  const ScratchFolder folder;
  const auto message = [&](const std::string& line) {
    const std::string text =
        complaint(folder, folder.write("x.jsonl", "{\"text\": \"fine\"}\n" + line + "\n"));
    const std::string start = "error: DIR/x.jsonl line 2: ";
    REQUIRE(text.substr(0, start.size()) == start);
    return text.substr(start.size());
  };
  CHECK(message("{\"text\": ").find("it is not valid JSON") == 0);
  CHECK(message("[1]") == "it holds a JSON array, not an object");
  CHECK(message("{\"txt\": \"a\"}") ==
        "there is no field 'text'\n  fields: txt\n"
        "  try: `text_column` 'txt'");
  CHECK(message("{}") == "there is no field 'text'\n  the object is empty");
  CHECK(message("{\"text\": {\"a\": 1}}") == "'text' is {\"a\":1}, not a text");
  CHECK(message(R"({"text": "a", "text": "b"})") == "the field 'text' is there 2 times");
  CHECK(message(R"({"te\u0078t": "a", "te\u0078t": "b"})") == "the field 'text' is there 2 times");
  CHECK(message(R"({"input_ids": [1], "input_ids": [2]})") ==
        "the field 'input_ids' is there 2 times");
  CHECK(message("{\"input_ids\": 7}") == "input_ids is 7, not a list");
  CHECK(message("{\"input_ids\": [1, -100]}") == "input_ids[1] is -100, not a token's id");
  CHECK(message("{\"input_ids\": [1.5]}") == "input_ids[0] is 1.5, not a token's id");
  CHECK(message("{\"input_ids\": [4294967296]}") == "input_ids[0] is 4294967296, not a token's id");
  CHECK(message("{\"input_ids\": [18446744073709551615]}").find("not a token's id") !=
        std::string::npos);
  CHECK(message("{\"input_ids\": [1, 2], \"labels\": [1, -1]}") ==
        "labels[1] is -1, neither a token's id nor -100");
  CHECK(message("{\"input_ids\": [1, 2], \"labels\": [1]}") ==
        "there are 1 labels for 2 input_ids\n"
        "  labels are aligned with the ids; -100 stands where nothing is to be learnt");
}

TEST_CASE("real data sets are read whole") {
  QUIRE_FIXTURE(data, "data");
  CHECK(quire::read_records({.paths = {(data / "lambada_test.jsonl").string()}}).size() == 5153);
  CHECK(quire::read_records({.paths = {(data / "novels").string()}}).size() == 6);
  CHECK(
      quire::read_records({.paths = {(data / "anime-quotes.csv").string()}, .text_column = "Quote"})
          .size() == 4171);
}

TEST_CASE("a long record of a text file comes in parts that are the whole, cleaned alike") {
  const ScratchFolder folder;
  // Over several blocks of 4 MiB; a document without a cut, one of blanks, and short ones.
  std::string long_text;
  while (long_text.size() < (9 << 20)) {
    long_text += "cafe\xCC\x81 \xC3\x83\xC2\xA9\a and\a\r\nso on \nno end\ror \r\n\n";
  }
  std::string cut_nowhere(1 << 16, ' ');
  const auto path =
      folder.write("a.txt", long_text + "\n%\n" + cut_nowhere + "x\n%\r\n" + cut_nowhere + "\n%\n" +
                                "one\n%\n" + long_text + "\n");
  const auto same = [&](CorpusOptions options, std::size_t many, const fs::path& file) {
    options.paths = {file.string()};
    std::vector<Record> whole;
    const std::vector<quire::StepCount> counts = quire::for_each_record(
        options,
        [&](Record&& record, const quire::RecordPlace&) { whole.push_back(std::move(record)); });
    options.part_bytes = 1 << 12;
    std::vector<std::string> joined(1);
    std::size_t parts = 0;
    const std::vector<quire::StepCount> counts_of_parts =
        quire::for_each_record(options, [&](Record&& part, const quire::RecordPlace&) {
          ++parts;
          if (part.more && !joined.back().empty()) CHECK(part.text.front() == '\n');
          joined.back() += part.text;
          if (!part.more) joined.emplace_back();
        });
    REQUIRE(joined.size() == whole.size() + 1);
    for (std::size_t r = 0; r < whole.size(); ++r) CHECK((joined[r] == whole[r].text));
    CHECK(parts == many);
    REQUIRE(counts_of_parts.size() == counts.size());
    for (std::size_t step = 0; step < counts.size(); ++step) {
      CHECK(counts_of_parts[step].changed == counts[step].changed);
      CHECK(counts_of_parts[step].dropped == counts[step].dropped);
    }
  };
  using Step = quire::CleaningStep;
  const std::vector<Step> in_parts = {Step::nfc, Step::control, Step::repair_mojibake};
  // Of each long document a part for every block that it is in (3 and 4), and the end.
  same({.document_separator = "%"}, 11, path);
  same({.document_separator = "%", .cleaning = {.steps = in_parts}}, 11, path);
  same({.cleaning = {.steps = in_parts}}, 6, path);
  // Whether a document is to be dropped shows when its parts are known: the last one is the first.
  same({.document_separator = "%", .cleaning = {.steps = {Step::duplicates}}}, 7, path);
  same({.document_separator = "%",
        .cleaning = {.steps = {Step::nfc, Step::control, Step::repair_mojibake, Step::long_lines,
                               Step::duplicates}}},
       5, path);
  same({.cleaning = {.steps = {Step::long_lines}, .max_line_length = 1 << 17}}, 6, path);
  const auto one =
      folder.write("c.txt", "short\n%\n" + long_text + cut_nowhere + "\n%\n" + long_text + "\n");
  same({.document_separator = "%", .cleaning = {.steps = {Step::long_lines}}}, 5, one);
  // The normal form takes stray bytes along, whichever part they are in.
  const auto stray = folder.write("b.txt", long_text + "\xFF\n");
  same({.cleaning = {.steps = {Step::nfc}}}, 4, stray);
  same({.cleaning = {.steps = {Step::control}}}, 4, stray);
  std::string plain;
  while (plain.size() < (9 << 20)) plain += "so on\n";
  for (const char* const beginning : {"cafe\xCC\x81\n", "\xFF\n"}) {
    const auto mixed = folder.write("d.txt", std::string(beginning) + plain + "\xFF\n" + plain);
    same({.cleaning = {.steps = {Step::nfc}}}, 6, mixed);
    same({.cleaning = {.steps = {Step::nfc, Step::duplicates}}}, 6, mixed);
  }
}
