// What the files of text are written like: said and used by every command that reads them.
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/json.h"
#include "tests/cli/train_workplace.h"
#include "tests/support/catch.h"
#include "tests/support/fixtures.h"

using namespace quire;
using namespace quire::test;
namespace fs = std::filesystem;
using Json = nlohmann::json;

namespace {

/// quire train on other data than the workplace's.
std::vector<std::string> train(const Workplace& work, const std::string& data,
                               const std::string& output, std::vector<std::string> more = {}) {
  std::vector<std::string> arguments = {
      "train",  "--config", work.config,    "--tokenizer",        work.tokenizer,
      "--data", data,       "--output-dir", work.folder / output, "--threads",
      "2"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

/// That it went well, with so many warnings, of which the first holds these parts.
void check_warns(const ProgramResult& result, int warnings,
                 const std::vector<std::string>& parts = {}) {
  INFO(result.err);
  CHECK(result.exit_code == 0);
  CHECK(count_of(result.err, "warning: ") == warnings);
  for (const std::string& part : parts) CHECK(contains(result.err, part));
}

Json inspect(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), {"data", "inspect", "--json"});
  const ProgramResult result = run_quire(arguments);
  INFO(result.err);
  REQUIRE(result.exit_code == 0);
  return parse_json<Json>(result.out);
}

}  // namespace

TEST_CASE("a model of a few records learns to end them") {
  const Workplace work;
  const std::vector<std::string> quotes = {
      "The fox jumps over the hen.", "A lazy dog sleeps.",      "Hens are brown and quick.",
      "Nothing jumps like a fox.",   "Over the dog it went.",   "The number is ten.",
      "A hen and a fox, a dog.",     "It sleeps, and it jumps."};
  std::string table = "text\n";
  for (const std::string& quote : quotes) table += "\"" + quote + "\"\n";
  const std::string data = work.folder.write("few.csv", table);
  const ProgramResult result =
      run_quire(train(work, data, "model",
                      {"--packing", "none", "--epochs", "100", "--lr", "1e-2", "--dropout", "0"}));
  INFO(result.err);
  REQUIRE(result.exit_code == 0);
  CHECK(contains(result.err, "7 records"));
  CHECK(contains(result.err, "held out 1 record"));
  int ended = 0;
  for (const std::string& quote : quotes) {
    const ProgramResult next =
        run_quire({"generate", "--model", work.folder / "model", "--prompt", quote,
                   "--max-new-tokens", "1", "--logprobs", "1", "--json"});
    REQUIRE(next.exit_code == 0);
    const Json best = parse_json<Json>(next.out)["top_logprobs"][0][0];
    ended += best["token"] == "<|endoftext|>" && std::exp(best["logprob"].get<double>()) > 0.9;
  }
  CHECK(ended >= 7);
}

TEST_CASE("where nothing can be held out, or scored, it is said") {
  const Workplace work;
  const std::string one = work.folder.write("one.csv", "text\nThe fox jumps over the lazy dog.\n");
  const std::vector<std::string> few = {"--packing", "none", "--max-steps", "1"};
  const ProgramResult alone = run_quire(train(work, one, "one", few));
  check_warns(alone, 0, {"nothing is held out: there is no second record", "1 record, "});
  std::vector<std::string> without = few;
  without.insert(without.end(), {"--validation-split", "0"});
  CHECK(!contains(run_quire(train(work, one, "none", without)).err, "nothing is held out"));

  const std::string short_ones =
      work.folder.write("short.jsonl", "{\"input_ids\": [1]}\n{\"input_ids\": [1, 2, 3]}\n");
  check_warns(run_quire(train(work, short_ones, "short", few)), 1,
              {"warning: nothing of what is held out can be scored (1 record without a target)"});
}

TEST_CASE("what is too long for a row is cut with a word, gone on with, or refused") {
  QUIRE_CASE(record, "long_record.jsonl");
  const Workplace work;  // rows of 32
  const std::string said =
      "1 record is longer than a row of 32 tokens: 69 of its 100 tokens are not used";
  for (const char* packing : {"none", "records"}) {
    INFO(packing);
    const auto run = [&](const char* overflow) {
      return run_quire(train(work, record, std::string(packing) + overflow,
                             {"--packing", packing, "--overflow", overflow, "--max-steps", "1"}));
    };
    check_warns(run("truncate"), 1, {"warning: " + said, "try: --overflow split"});
    check_warns(run("split"), 0);
    const ProgramResult refused = run("error");
    CHECK(refused.exit_code == 3);
    CHECK(contains(refused.err, "error: 1 record is longer than a row of 32 tokens"));

    const std::vector<std::string> options = {
        record, "--tokenizer", work.tokenizer, "--packing", packing, "--block-size", "32"};
    std::vector<std::string> split = options;
    split.insert(split.end(), {"--overflow", "split"});
    const Json cut = inspect(options)["epoch"], whole = inspect(split)["epoch"];
    CHECK(cut["records_cut"] == 1);
    CHECK(cut["tokens_unused"] == 69);
    CHECK(whole["tokens_unused"] == 0);
    if (std::string(packing) == "none") CHECK(whole["rows"] == 4);  // 99 targets
    std::vector<std::string> shown = {"data", "inspect"};
    shown.insert(shown.end(), options.begin(), options.end());
    CHECK(contains(run_quire(shown).out, said + "; --overflow split uses them"));
  }
  check_warns(run_quire(train(work, record, "stream", {"--overflow", "split", "--max-steps", "1"})),
              0, {"--overflow split changes nothing"});
}

TEST_CASE("preparing says what rows will not hold") {
  QUIRE_CASE(record, "long_record.jsonl");
  const Workplace work;
  const auto prepare = [&](std::vector<std::string> more) {
    std::vector<std::string> arguments = {
        "data",        "prepare",      "--data", record,
        "--tokenizer", work.tokenizer, "-o",     work.folder / "shards",
        "--overwrite"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run_quire(arguments);
  };
  check_warns(prepare({}), 0);  // no model, no context
  CHECK(prepare({"--overflow", "error"}).exit_code == 2);
  check_warns(prepare({"--block-size", "100"}), 0);
  check_warns(prepare({"--block-size", "32", "--overflow", "split"}), 0);
  check_warns(prepare({"--block-size", "32"}), 1,
              {"warning: 1 record is longer than a row of 32 tokens: with --packing none or "
               "records 69 of their 100 tokens are not used"});
  const Json manifest = parse_json<Json>(read_file(work.folder / "shards" / "manifest.json"));
  CHECK(manifest["longer_than_a_row"] ==
        Json({{"block_size", 32}, {"records", 1}, {"tokens_unused", 69}}));
  CHECK(manifest["tokens"] == 100);  // whole, all the same
  const ProgramResult refused = prepare({"--block-size", "32", "--overflow", "error"});
  CHECK(refused.exit_code == 3);
  CHECK(contains(refused.err, "error: record 1 has 100 tokens, a row has 32"));
  work.folder.write("tokenizer/config.json", R"({"n_positions": 32})");
  check_warns(prepare({}), 0, {"1 record is longer than a row of 32 tokens: "});
}

TEST_CASE("data is named with --data, without it, or both") {
  const Workplace work;
  const std::string a = work.folder.write("a.txt", "one\n"),
                    b = work.folder.write("b.txt", "two\n");
  CHECK(inspect({a})["records"] == 1);
  CHECK(inspect({"--data", a})["records"] == 1);
  CHECK(inspect({a, "--data", b})["samples"][1]["text"] == "two\n");
  for (const std::vector<std::string>& named :
       {std::vector<std::string>{a, b}, {"--data", a, b}, {a, "--data", b}}) {
    std::vector<std::string> arguments = {
        "data", "prepare", "--tokenizer", work.tokenizer, "-o", work.folder / "out", "--overwrite"};
    arguments.insert(arguments.begin() + 2, named.begin(), named.end());
    REQUIRE(run_quire(arguments).exit_code == 0);
    const Json manifest = parse_json<Json>(read_file(work.folder / "out" / "manifest.json"));
    CHECK(manifest["records"] == 2);
    CHECK(manifest["data"] == Json({a, b}));
  }
}

TEST_CASE("bytes that are not UTF-8 are warned of once by every command that reads text") {
  QUIRE_CASE(table, "csv-cp1252/in.csv");
  const Workplace work;
  const std::string model = work.folder / "model";
  const std::string wide = work.folder.write(
      "wide.json", R"({"n_layer": 1, "n_head": 2, "n_embd": 24, "n_positions": 64})");
  REQUIRE(run_quire(train(work, work.text, "model", {"--max-steps", "1", "--config", wide}))
              .exit_code == 0);
  const std::string texts = work.folder.write("texts.txt", "Plain.\n---\nIt\x92s 5 \x80.\n");
  const std::string prompt = work.folder.write("prompt.txt", "It\x92s");
  const std::vector<std::vector<std::string>> of_table = {
      train(work, table, "cp1252", {"--text-column", "quote", "--max-steps", "1"}),
      {"eval", "--model", model, "--data", table, "--text-column", "quote"},
      {"eval", "--texts", table, "--text-column", "quote"},
      {"data", "prepare", table, "--text-column", "quote", "--tokenizer", work.tokenizer, "-o",
       work.folder / "shards", "--overwrite"},
      {"keywords", table, "--text-column", "quote"},
      {"generate", "--model", model, "--requests", table, "--template", "{quote}: {who}",
       "--max-new-tokens", "1"}};
  const std::vector<std::pair<std::vector<std::string>, std::string>> of_texts = {
      {{"eval", "--texts", texts}, texts + " line 3"},
      {{"eval", "--texts", work.text, "--training-data", texts}, texts + " line 3"},
      {{"generate", "--model", model, "--prompt-file", prompt, "--max-new-tokens", "1"},
       prompt + " line 1"}};
  for (std::vector<std::string> command : of_table) {
    INFO(command[0]);
    check_warns(run_quire(command), 1,
                {"2 lines have bytes that are not UTF-8, the first in " + table.string() +
                     " line 2: these are read as U+FFFD; likely cp1252\n",
                 "  try: --encoding cp1252"});
    command.insert(command.end(), {"--encoding", "cp1252"});
    if (command[0] == "train") command.push_back("--overwrite-output-dir");
    check_warns(run_quire(command), 0);
  }
  // Where no column is named there are no records to look into, and no list of their trouble.
  check_warns(run_quire({"data", "inspect", table}), 1,
              {"3 lines have bytes that are not UTF-8, the first in " + table.string() +
               " line 2: these are read as U+FFFD; likely cp1252\n"});
  CHECK(
      !contains(run_quire({"data", "inspect", table, "--text-column", "quote"}).err, "not UTF-8"));
  for (auto [command, place] : of_texts) {
    INFO(command[0]);
    check_warns(run_quire(command), 1,
                {"1 line has bytes that are not UTF-8, in " + place +
                 ": these are read as U+FFFD; "
                 "likely cp1252\n"});
    command.insert(command.end(), {"--encoding", "cp1252"});
    check_warns(run_quire(command), 0);
  }
  ProgramOptions input{.input = "It\x92s"};
  check_warns(run_quire({"generate", "--model", model, "--max-new-tokens", "1"}, input), 1,
              {"in standard input line 1"});
  const ProgramResult read =
      run_quire({"keywords", table, "--text-column", "quote", "--encoding", "cp1252"});
  CHECK(contains(read.out, "Café “open” — until nine…,Zoë,"));
}

TEST_CASE("a vocabulary is learnt and used in the encoding that is named") {
  const ScratchFolder folder;
  std::string latin, utf8;
  for (int i = 0; i < 50; ++i) {
    latin += "caf\xE9 \x93" + std::to_string(i) + "\x94\n";
    utf8 += "café “" + std::to_string(i) + "”\n";
  }
  const std::string odd = folder.write("cp1252.txt", latin), even = folder.write("utf8.txt", utf8);
  const auto learn = [&](const std::string& file, const std::string& output,
                         std::vector<std::string> more = {}) {
    std::vector<std::string> arguments = {"tokenizer",     "train", "--vocab-size", "261", "-o",
                                          folder / output, file};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run_quire(arguments);
  };
  check_warns(learn(even, "even"), 0);
  check_warns(learn(odd, "converted", {"--encoding", "cp1252"}), 0);
  CHECK(file(folder / "converted", "tokenizer.json") == file(folder / "even", "tokenizer.json"));
  check_warns(learn(odd, "odd"), 1,
              {"50 lines have bytes that are not UTF-8, the first in " + odd +
               " line 1: these are "
               "read as U+FFFD; likely cp1252"});
  const auto encode = [&](const std::string& file, std::vector<std::string> more = {}) {
    std::vector<std::string> arguments = {"tokenizer", "encode", "--tokenizer", folder / "even",
                                          file};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run_quire(arguments);
  };
  const ProgramResult converted = encode(odd, {"--encoding", "cp1252"});
  check_warns(converted, 0);
  CHECK(converted.out == encode(even).out);
  check_warns(encode(odd), 1, {"the first in " + odd + " line 1"});
  const ProgramResult refused =
      learn(folder.write("wide.txt", std::string("a\0b\0c\0d\0", 8)), "wide");
  CHECK(refused.exit_code == 3);
  CHECK(contains(refused.err, "wide.txt is UTF-16, Quire reads UTF-8"));
}

TEST_CASE("encodings that are mixed, unknown or not the file's are told apart") {
  const ScratchFolder folder;
  QUIRE_CASE(mixed, "csv-mixed-encoding/in.csv");
  const ProgramResult inspected = run_quire({"data", "inspect", mixed, "--text-column", "quote"});
  CHECK(contains(inspected.out, "likely cp1252, among lines in UTF-8"));
  CHECK(inspect({mixed, "--text-column", "quote"})["trouble"]["invalid_utf8"]["likely_encoding"] ==
        "cp1252");
  QUIRE_CASE(wide, "csv-utf16le-nobom/in.csv");
  const ProgramResult refused = run_quire({"data", "inspect", wide, "--text-column", "quote"});
  CHECK(refused.exit_code == 3);
  CHECK(contains(refused.err, "is UTF-16, Quire reads UTF-8"));
  CHECK(contains(refused.err, "try: --encoding utf-16le"));
  const Json read = inspect({wide, "--text-column", "quote", "--encoding", "utf-16le"});
  CHECK(read["samples"][0]["text"] == "The bell rang.");
  CHECK(read["trouble"]["invalid_utf8"]["records"] == 0);

  const std::string text = folder.write("a.txt", "one\ntwo\n");
  CHECK(run_quire({"data", "inspect", text, "--encoding", "utf-16le"}).exit_code == 0);
  const std::string odd = folder.write("odd.txt", "odd");
  const ProgramResult half = run_quire({"data", "inspect", odd, "--encoding", "utf-16le"});
  CHECK(half.exit_code == 3);
  CHECK(contains(half.err, "odd.txt line 1 is not utf-16le"));
  const ProgramResult unknown = run_quire({"data", "inspect", text, "--encoding", "cp125"});
  CHECK(unknown.exit_code == 2);
  CHECK(contains(unknown.err, "there is no encoding 'cp125'"));
  const ProgramResult lines =
      run_quire({"generate", "--requests", folder.write("r.jsonl", "{\"prompt\": \"a\"}\n"),
                 "--delimiter", ";"});
  CHECK(lines.exit_code == 2);
  CHECK(contains(lines.err, "requests in JSON lines have neither"));
}

TEST_CASE("the delimiter of a table is seen, used and said; one that is named is used") {
  QUIRE_CASE(plain, "csv-semicolon/plain.csv");
  QUIRE_CASE(quoted, "csv-semicolon/in.csv");
  QUIRE_CASE(separated, "csv-sep-line/in.csv");
  const Workplace work;
  const ProgramResult result = run_quire(train(
      work, plain, "out", {"--text-column", "Quote", "--max-steps", "1", "--packing", "none"}));
  check_warns(result, 0, {plain.string() + ": the fields are separated by ';'"});
  CHECK(inspect({plain, "--text-column", "Quote"})["samples"][0]["text"] == "first thing said");
  CHECK(inspect({quoted, "--text-column", "Quote"})["samples"][0]["text"] ==
        "hi, this works;\n\" not sure why \"");
  CHECK(inspect({separated, "--text-column", "Quote"})["samples"][1]["text"] == "second");
  const std::string odd = work.folder.write("odd.csv", "a~b\n1~one\n2~two\n");
  CHECK(inspect({odd, "--delimiter", "~", "--text-column", "b"})["samples"][1]["text"] == "two");
  const std::string tabs = work.folder.write("tabs.csv", "a\tb\n1\tone\n");
  for (const char* tab : {"tab", "\\t", "\t"}) {
    CHECK(inspect({tabs, "--delimiter", tab, "--text-column", "b"})["samples"][0]["text"] == "one");
  }
  for (const char* no : {"ab", "\"", "\n", "é"}) {
    const ProgramResult refused = run_quire({"data", "inspect", odd, "--delimiter", no});
    CHECK(refused.exit_code == 2);
    CHECK(contains(refused.err, "cannot stand between fields"));
  }
  const ProgramResult keywords = run_quire({"keywords", separated, "--text-column", "Quote"});
  CHECK(keywords.out == "sep=;\nType;Quote;keywords\na;first;\nb;second;\n");
}

TEST_CASE("a table without a header loses no row in silence") {
  QUIRE_CASE(table, "csv-no-header/in.csv");
  const Workplace work;
  const std::vector<std::string> few = {"--max-steps", "1", "--packing", "none"};
  check_warns(run_quire(train(work, table, "out", few)), 1,
              {"but looks like data: \"First quote, with comma\"\n  try: --no-header"});
  const Json all = inspect({table, "--no-header"});
  CHECK(all["records"] == 3);
  CHECK(all["samples"][0]["text"] == "First quote, with comma");
  CHECK(all["columns"][0]["name"] == "1");
  const std::string two = work.folder.write("two.csv", "joy,the sea\ncalm,the lake\n");
  CHECK(inspect({two, "--no-header", "--template", "{1}: {2}"})["samples"][0]["text"] ==
        "joy: the sea");
  const ProgramResult keywords =
      run_quire({"keywords", two, "--no-header", "--text-column", "2", "--ngram", "1"});
  CHECK(keywords.out == "joy,the sea,sea\ncalm,the lake,lake\n");
}

TEST_CASE("columns of one name, blank rows and an unbalanced quote are told as they are") {
  QUIRE_CASE(twice, "csv-dup-header/in.csv");
  QUIRE_CASE(blank, "csv-blank-lines/in.csv");
  QUIRE_CASE(blanks, "csv-blank-lines/ws.csv");
  QUIRE_CASE(unbalanced, "csv-unbalanced-quote-reclosed/in.csv");
  const Json columns = inspect({twice, "--text-column", "who"})["columns"];
  REQUIRE(columns.size() == 3);
  for (const Json& column : columns) CHECK(column["filled"] == 2);
  CHECK(columns[0]["example"] == "a1");
  CHECK(columns[1]["example"] == "a2");
  CHECK(inspect({blank, "--text-column", "quote"})["records"] == 3);
  CHECK(inspect({blank, "--text-column", "quote"})["blank_rows"] == 4);
  CHECK(inspect({blanks, "--text-column", "quote"})["records"] == 2);
  CHECK(inspect({blanks, "--text-column", "quote"})["blank_rows"] == 1);
  const ProgramResult refused = run_quire({"data", "inspect", unbalanced});
  CHECK(refused.exit_code == 3);
  CHECK(contains(refused.err,
                 "line 32: there is text after the closing quote of field 2, which "
                 "opens on line 22"));
}

TEST_CASE("JSON lines are read as Python writes them, and as they were written") {
  QUIRE_CASE(nan, "jsonl/nan.jsonl");
  QUIRE_CASE(lone, "jsonl/lone.jsonl");
  QUIRE_CASE(zero, "json/nul_tail.jsonl");
  const Workplace work;
  CHECK(inspect({nan})["records"] == 2);
  const ProgramResult used = run_quire({"data", "inspect", nan, "--text-column", "n"});
  CHECK(used.exit_code == 3);
  CHECK(contains(used.err, "nan.jsonl line 1: 'n' is NaN, not a text"));
  check_warns(run_quire(train(work, lone, "out", {"--max-steps", "1"})), 1,
              {"1 line has half a surrogate pair, in " + lone.string() + " line 1"});
  CHECK(inspect({lone})["samples"][0]["text"] == "The captain waved and smiled \xEF\xBF\xBD");
  CHECK(inspect({lone})["samples"][1]["text"] == "She answered with a flag 😀 and a song");
  const ProgramResult refused = run_quire({"data", "inspect", zero});
  CHECK(refused.exit_code == 3);
  CHECK(contains(refused.err, "nul_tail.jsonl line 1: byte 15 of the line is zero"));
  const std::string numbers = work.folder.write(
      "n.jsonl", R"({"price": 1.50, "id": 1234567890123456789012345, "list": [1e3, "x", -0]})");
  CHECK(inspect({numbers, "--template", "{price}|{id}|{list}"})["samples"][0]["text"] ==
        "1.50|1234567890123456789012345|1e3, x, -0");
}

TEST_CASE("a carriage return alone ends a line, other separators of Unicode do not") {
  QUIRE_CASE(cr, "lines/cr.txt");
  QUIRE_CASE(unicode, "lines/u.txt");
  CHECK(inspect({cr, "--line-by-line"})["records"] == 3);
  CHECK(inspect({unicode, "--line-by-line"})["samples"][0]["text"] ==
        "alpha one\xE2\x80\xA9still alpha");
}

TEST_CASE("shards refuse what would have read their text otherwise") {
  const Workplace work;
  REQUIRE(run_quire({"data", "prepare", work.text, "--tokenizer", work.tokenizer, "-o",
                     work.folder / "shards"})
              .exit_code == 0);
  for (const std::vector<std::string>& late : std::vector<std::vector<std::string>>{
           {"--encoding", "cp1252"}, {"--delimiter", ";"}, {"--no-header"}}) {
    const ProgramResult refused = run_quire(train(work, work.folder / "shards", "out", late));
    CHECK(refused.exit_code == 2);
    CHECK(contains(refused.err, late[0] + " does nothing to shards"));
  }
}
