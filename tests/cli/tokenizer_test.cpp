// quire tokenizer: train, encode and decode through the program.
#include <nlohmann/json.hpp>

#include "base/json.h"
#include "tests/cli/program.h"
#include "tests/support/catch.h"

using quire::test::contains;
using quire::test::ProgramOptions;
using quire::test::ProgramResult;
using quire::test::run_quire;
using quire::test::ScratchFolder;

namespace {

const char* const kText =
    "The wind went over the hill and the hill let it.\n"
    "The hill was there before the wind, the wind was there before the hill had a name.\n";

// A tokenizer of 300 tokens learned from kText, in scratch/tok.
std::string trained(const ScratchFolder& scratch) {
  const std::string text = scratch.write("text.txt", kText);
  const ProgramResult result = run_quire(
      {"tokenizer", "train", "--vocab-size", "272", "--output-dir", scratch / "tok", text});
  REQUIRE(result.exit_code == 0);
  CHECK(result.out.empty());
  CHECK(result.err.find("272 tokens from 132 B in 1 file") != std::string::npos);
  return scratch / "tok";
}

ProgramResult with_input(const std::vector<std::string>& arguments, const std::string& input) {
  ProgramOptions options;
  options.input = input;
  return run_quire(arguments, options);
}

}  // namespace

TEST_CASE("what is encoded decodes to the same bytes") {
  const ScratchFolder scratch;
  const std::string tokenizer = trained(scratch);
  for (const char* file : {"vocab.json", "merges.txt", "tokenizer.json"}) {
    CHECK(std::filesystem::exists(std::filesystem::path(tokenizer) / file));
  }
  const std::string text = "The hill, naïve 日本 😀\r\n\n  over\t";
  const ProgramResult ids = with_input({"tokenizer", "encode", "--tokenizer", tokenizer}, text);
  REQUIRE(ids.exit_code == 0);
  CHECK(ids.err.empty());
  CHECK(ids.out.find_first_not_of("0123456789 \n") == std::string::npos);
  const ProgramResult back = with_input({"tokenizer", "decode", "--tokenizer", tokenizer}, ids.out);
  CHECK(back.out == text);

  // The same from files, and with --jsonl.
  const ProgramResult from_file =
      run_quire({"tokenizer", "encode", "--tokenizer", tokenizer, scratch.write("in.txt", text)});
  CHECK(from_file.out == ids.out);
  const std::string line = quire::json_text(nlohmann::json{{"text", text}});
  const ProgramResult json_ids = with_input(
      {"tokenizer", "encode", "--jsonl", "--tokenizer", tokenizer}, line + "\n\n" + line);
  const ProgramResult from_json =
      with_input({"tokenizer", "decode", "--jsonl", "--tokenizer", tokenizer}, json_ids.out);
  CHECK(from_json.exit_code == 0);
  const std::string first = from_json.out.substr(0, from_json.out.find('\n'));
  CHECK(quire::parse_json<nlohmann::json>(first)["text"] == text);
  CHECK(from_json.out == first + "\n" + first + "\n");
}

TEST_CASE("many ids are printed as few are") {
  const ScratchFolder scratch;
  const std::string tokenizer = trained(scratch);
  const std::string one = with_input({"tokenizer", "encode", "--tokenizer", tokenizer}, "7").out;
  const std::string id = one.substr(0, one.size() - 1);
  REQUIRE(id.find(' ') == std::string::npos);
  for (const std::size_t count :
       {1, 4095, 4096, 4097, 8193, 20000}) {  // ids come in pieces of about 4,000
    INFO(count << " ids");
    const std::string text(count, '7');  // no two of them are merged
    std::string spaced, list;
    for (std::size_t i = 0; i < count; ++i) {
      spaced += (i > 0 ? " " : "") + id;
      list += (i > 0 ? ", " : "") + id;
    }
    const ProgramResult ids = with_input({"tokenizer", "encode", "--tokenizer", tokenizer}, text);
    CHECK((ids.out == spaced + "\n"));
    const ProgramResult json_ids =
        with_input({"tokenizer", "encode", "--jsonl", "--tokenizer", tokenizer},
                   quire::json_text(nlohmann::json{{"text", text}}));
    CHECK((json_ids.out == "{\"ids\": [" + list + "]}\n"));
    CHECK((with_input({"tokenizer", "decode", "--tokenizer", tokenizer}, ids.out).out == text));
  }
}

TEST_CASE("special tokens are one id, or plain text with --plain") {
  const ScratchFolder scratch;
  const std::string tokenizer = trained(scratch);
  const std::string text = "<|endoftext|>";
  CHECK(with_input({"tokenizer", "encode", "--tokenizer", tokenizer}, text).out == "271\n");
  const ProgramResult plain =
      with_input({"tokenizer", "encode", "--plain", "--tokenizer", tokenizer}, text);
  CHECK(plain.out.size() > 4);
  CHECK(with_input({"tokenizer", "decode", "--tokenizer", tokenizer}, "271").out == text);
  CHECK(with_input({"tokenizer", "decode", "--skip-special-tokens", "--tokenizer", tokenizer},
                   "271 39")
            .out == "H");
}

TEST_CASE("special tokens can be named") {
  const ScratchFolder scratch;
  const std::string text = scratch.write("text.txt", kText);
  REQUIRE(run_quire({"tokenizer", "train", "--vocab-size", "270", "--special-token", "<a>",
                     "--special-token", "<b>", "-o", scratch / "tok", text, "--quiet"})
              .err.empty());
  CHECK(with_input({"tokenizer", "encode", "--tokenizer", scratch / "tok"}, "<a><b>").out ==
        "268 269\n");
}

TEST_CASE("the same vocabulary with any number of threads") {
  const ScratchFolder scratch;
  const std::string text = scratch.write("text.txt", kText);
  const auto merges = [&](const std::string& threads) {
    const std::string folder = scratch / ("tok" + threads);
    REQUIRE(run_quire({"tokenizer", "train", "--vocab-size", "272", "--threads", threads, "-o",
                       folder, text})
                .exit_code == 0);
    return run_quire({"tokenizer", "encode", "--tokenizer", folder, text}).out;
  };
  CHECK(merges("1") == merges("3"));
}

TEST_CASE("a tokenizer that is there is not replaced unasked") {
  const ScratchFolder scratch;
  const std::string tokenizer = trained(scratch);
  const std::vector<std::string> again = {"tokenizer", "train",   "--vocab-size",      "260",
                                          "-o",        tokenizer, scratch / "text.txt"};
  const ProgramResult refused = run_quire(again);
  CHECK(refused.exit_code == 2);
  CHECK(contains(refused.err, "holds a tokenizer already"));
  std::vector<std::string> forced = again;
  forced.push_back("--overwrite-output-dir");
  CHECK(run_quire(forced).exit_code == 0);
}

TEST_CASE("what cannot be encoded or decoded is named with its place") {
  const ScratchFolder scratch;
  const std::string tokenizer = trained(scratch);
  const auto error_of = [&](std::vector<std::string> arguments, const std::string& input) {
    arguments.insert(arguments.begin(), "tokenizer");
    arguments.insert(arguments.end(), {"--tokenizer", tokenizer});
    const ProgramResult result = with_input(arguments, input);
    return std::to_string(result.exit_code) + " " + result.err;
  };
  CHECK(error_of({"decode"}, "1 2 x3")
            .starts_with(
                "3 error: standard input: 'x3' is not a token id\n  it is item 3 of the input\n"));
  CHECK(error_of({"decode"}, "272").starts_with("3 error: standard input: there is no token 272"));
  CHECK(error_of({"decode"}, "-1").starts_with("3 error: standard input: there is no token -1"));
  CHECK(error_of({"decode"}, "99999999999999999999").starts_with("3 error"));
  CHECK(error_of({"decode", "--jsonl"}, "{\"ids\": [1, 2.5]}")
            .starts_with("3 error: standard input:1"));
  CHECK(error_of({"decode", "--jsonl"}, "{\"ids\": [1]}\n\n{\"idz\": []}")
            .starts_with("3 error: standard input:3 has no field 'ids'"));
  CHECK(error_of({"encode", "--jsonl"}, "text")
            .starts_with("3 error: standard input:1 is not a JSON"));
  CHECK(error_of({"encode", scratch / "none.txt"}, "").starts_with("3 error"));
}

TEST_CASE("usage errors of the tokenizer commands") {
  const ScratchFolder scratch;
  CHECK(run_quire({"tokenizer"}).exit_code == 2);
  CHECK(run_quire({"tokenizer", "--help"}).exit_code == 0);
  CHECK(contains(run_quire({"tokenizer", "encoed"}).err, "did you mean quire tokenizer encode?"));
  CHECK(contains(run_quire({"tokenizer", "encode"}).err, "error: --tokenizer is missing"));
  CHECK(run_quire({"tokenizer", "encode", "--tokenizer", scratch / "none"}).exit_code == 3);
  CHECK(contains(run_quire({"tokenizer", "train", "x.txt"}).err, "error: --output-dir is missing"));
  CHECK(contains(run_quire({"tokenizer", "train", "-o", scratch / "t"}).err,
                 "error: there is no text to learn from"));
  const ProgramResult missing =
      run_quire({"tokenizer", "train", "-o", scratch / "t", scratch / "none.txt"});
  CHECK(missing.exit_code == 3);
  CHECK(contains(missing.err, "none.txt"));
  CHECK_FALSE(std::filesystem::exists(scratch / "t"));
  const ProgramResult empty =
      run_quire({"tokenizer", "train", "-o", scratch / "t", scratch.path().string()});
  CHECK(empty.exit_code == 3);
  CHECK(contains(empty.err, "there is no .txt file"));
}

TEST_CASE("lines of JSON and texts are read as they are met, and what is wrong is said") {
  const ScratchFolder scratch;
  const std::string tokenizer = trained(scratch);
  const auto encode = [&](const std::string& lines) {
    return with_input({"tokenizer", "encode", "--jsonl", "--tokenizer", tokenizer}, lines);
  };
  const ProgramResult result =
      encode("{\"text\": \"hill\", \"n\": NaN}\n{\"text\": \"hi \\ud83d\"}\n");
  CHECK(result.exit_code == 0);
  CHECK(result.out == encode("{\"text\": \"hill\"}\n{\"text\": \"hi \xEF\xBF\xBD\"}\n").out);
  CHECK(
      contains(result.err, "warning: 1 line has half a surrogate pair, in standard input line 2"));
  const ProgramResult stray = encode("{\"text\": \"hi \xE9\"}\n");
  CHECK(stray.out == encode("{\"text\": \"hi \xEF\xBF\xBD\"}\n").out);
  CHECK(contains(stray.err, "1 line has bytes that are not UTF-8"));
  const ProgramResult zero = encode(std::string("{\"text\": \"hi\"}\0{}\n", 18));
  CHECK(zero.exit_code == 3);
  CHECK(contains(zero.err, "standard input:1 is not a JSON object\n"));
  CHECK(contains(zero.err, "column 15: a NUL byte"));
  const ProgramResult ids =
      with_input({"tokenizer", "decode", "--jsonl", "--tokenizer", tokenizer}, "[1]\n");
  CHECK(contains(ids.err, "it holds a JSON array"));

  std::string wide;
  for (const char c : std::string_view("The hill\n")) wide += {c, '\0'};
  const ProgramResult refused = with_input({"tokenizer", "encode", "--tokenizer", tokenizer}, wide);
  CHECK(refused.exit_code == 3);
  CHECK(contains(refused.err, "standard input is UTF-16, Quire reads UTF-8"));
  CHECK(
      with_input({"tokenizer", "encode", "--encoding", "utf-16le", "--tokenizer", tokenizer}, wide)
          .exit_code == 0);
}
