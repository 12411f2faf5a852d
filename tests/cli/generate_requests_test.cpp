// Requests of a file that cannot be answered beside those that can, and a folder's own defaults.
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/json.h"
#include "tests/cli/letter_model.h"
#include "tests/cli/program.h"
#include "tests/support/catch.h"
#include "tests/support/fixtures.h"

using namespace quire;
using namespace quire::test;
using Json = nlohmann::json;

TEST_CASE("a request that cannot be answered is named, and the others are answered") {
  const ScratchFolder scratch;
  const std::string model = make_letter_model(scratch);
  const std::string path = scratch
                               .write("r.jsonl",
                                      "{\"prompt\": \"a\", \"temprature\": 2}\n"
                                      "{\"prompt\": \"h\", \"pad_token_id\": 39}\n"
                                      "{\"prompt\": \n"
                                      "{\"prompt_ids\": [1, 2], \"max_new_tokens\": 3}\n"
                                      "{\"prompt_ids\": [4000]}\n")
                               .string();
  const std::vector<std::string> generate = {"generate", "--model",    model, "-n",
                                             "4",        "--requests", path};
  const auto with = [&](std::vector<std::string> more) {
    more.insert(more.begin(), generate.begin(), generate.end());
    return run_quire(more);
  };
  const ProgramResult result = with({"--json"});
  CHECK(result.exit_code == 2);  // the first one's
  CHECK(contains(result.err,
                 "r.jsonl:1: there is no option 'temprature'\n  did you mean temperature?"));
  CHECK(contains(result.err, "r.jsonl:3 is not a JSON object"));
  CHECK(contains(result.err, "r.jsonl:5"));
  const std::vector<Json> lines = json_lines(result.out);
  REQUIRE(lines.size() == 5);
  for (int i = 0; i < 5; ++i) CHECK(lines[static_cast<std::size_t>(i)]["index"] == i);
  CHECK(contains(lines[0]["error"], "r.jsonl:1: there is no option 'temprature'"));
  CHECK(contains(lines[2]["error"], "r.jsonl:3"));
  CHECK(contains(lines[4]["error"], "r.jsonl:5"));
  CHECK(lines[3]["output_ids"].size() == 3);
  const ProgramResult alone =
      run_quire({"generate", "--model", model, "-n", "4", "--json", "-p", "h"});
  CHECK(lines[1]["output_ids"] == json_lines(alone.out)[0]["output_ids"]);

  // Plain text has the sound ones alone; a folder has the lines of both.
  CHECK(count_of(with({}).out, "---") == 1);
  const std::string out = (scratch / "out").string();
  CHECK(with({"--output-dir", out}).exit_code == 2);
  CHECK(json_lines(read_file(scratch / "out/generated_texts.jsonl")).size() == 5);
  CHECK(std::filesystem::exists(scratch / "out/0002.txt"));
  CHECK_FALSE(std::filesystem::exists(scratch / "out/0003.txt"));
}

TEST_CASE("bytes of a request that are not UTF-8 and half surrogates are said, as of other files") {
  const ScratchFolder scratch;
  const std::string model = make_letter_model(scratch);
  const auto generate = [&](const std::string& name, std::string_view lines,
                            std::vector<std::string> more = {}) {
    more.insert(more.begin(), {"generate", "--model", model, "-n", "2", "--json", "--requests",
                               scratch.write(name, lines).string()});
    return run_quire(more);
  };
  const std::string stray =
      "{\"prompt\": \"a\"}\n{\"prompt\": \"a\", \"stop\": \"caf\xE9\"}\n"
      "{\"prompt\": \"b\", \"stop\": \"\xE9\"}\n";
  const ProgramResult told = generate("stray.jsonl", stray);
  CHECK(told.exit_code == 0);
  CHECK(json_lines(told.out).size() == 3);
  CHECK(contains(told.err, "warning: 2 lines have bytes that are not UTF-8, the first in " +
                               (scratch / "stray.jsonl").string() +
                               " line 2: these are read as U+FFFD; likely latin-1\n"
                               "  try: --encoding latin-1"));
  const ProgramResult half =
      generate("half.jsonl", R"({"prompt": "a", "stop": "\ud83d\ude00 \ud83d"})"
                             "\n");
  CHECK(half.exit_code == 0);
  CHECK(contains(half.err, "warning: 1 line has half a surrogate pair, in " +
                               (scratch / "half.jsonl").string() +
                               " line 1: it is read as U+FFFD"));
  // An option that is no number is not taken for one that is not given.
  const ProgramResult nan =
      generate("nan.jsonl", R"({"prompt": "a", "stop": "\ud83d", "temperature": NaN})"
                            "\n");
  CHECK(nan.exit_code == 3);
  CHECK(contains(nan.err, "nan.jsonl:1 is not a JSON object"));
  CHECK(contains(nan.err, "NaN and Infinity are no values of an option"));

  const std::string accent = "{\"prompt\": \"\xE9\"}\n";
  const ProgramResult read = generate("cp1252.jsonl", accent, {"--encoding", "cp1252"});
  CHECK(read.exit_code == 0);
  CHECK_FALSE(contains(read.err, "UTF-8"));
  CHECK(json_lines(read.out)[0]["prompt_ids"] == Json({35, 36}));
  // A byte-order mark says UTF-8, whatever is asked for.
  const ProgramResult marked = generate("marked.jsonl", "\xEF\xBB\xBF{\"prompt\": \"\xC3\xA9\"}\n",
                                        {"--encoding", "cp1252"});
  CHECK(json_lines(marked.out)[0]["prompt_ids"] == Json({35, 36}));
  std::string wide;
  for (const char c : std::string_view("{\"prompt\": \"a\"}\n")) wide += {c, '\0'};
  CHECK(contains(generate("wide.jsonl", wide).err, "try: --encoding utf-16le"));
  CHECK(json_lines(generate("wide.jsonl", wide, {"--encoding", "utf-16le"}).out)[0]["prompt_ids"] ==
        Json({0}));
}

TEST_CASE("pad_token_id is an option that leaves a text as it is") {
  const ScratchFolder scratch;
  const std::string model = make_letter_model(scratch);
  const std::vector<std::string> plain = {"generate", "--model", model, "-p", "h", "-n", "4"};
  std::vector<std::string> padded = plain;
  padded.insert(padded.end(), {"--pad-token-id", "39"});
  const ProgramResult result = run_quire(padded);
  CHECK(result.exit_code == 0);
  CHECK(result.out == run_quire(plain).out);
  padded.back() = "-3";
  CHECK(run_quire(padded).exit_code == 2);
}

TEST_CASE("a folder's generation_config.json is honoured, or what is not is named in one warning") {
  QUIRE_CASE(folder, "gencfg");
  const ProgramResult result = run_quire(
      {"generate", "--model", folder.string(), "--prompt-ids", "1 2 3", "--json", "--seed", "1"});
  INFO(result.err);
  CHECK(result.exit_code == 0);
  CHECK(json_lines(result.out).size() == 2);  // num_return_sequences
  CHECK(count_of(result.err, "warning") == 1);
  CHECK(contains(result.err,
                 "generation_config.json is not honoured: encoder_repetition_penalty, "
                 "forced_bos_token_id, guidance_scale, typical_p"));
}

TEST_CASE("min_new_tokens takes the place of min_length") {
  QUIRE_CASE(folder, "min_both");
  const ProgramResult result = run_quire({"generate", "--model", folder.string(), "--requests",
                                          (folder / "request.jsonl").string(), "--json"});
  INFO(result.err);
  REQUIRE(result.exit_code == 0);
  CHECK(json_lines(result.out)[0]["output_ids"] == Json({0, 2}));
}

TEST_CASE("a request and weights with NUL bytes behind their JSON are refused") {
  QUIRE_CASE(request, "json/nul_req.jsonl");
  QUIRE_CASE(weights, "st_nul_pad");
  const ScratchFolder scratch;
  const ProgramResult refused = run_quire(
      {"generate", "--model", make_letter_model(scratch), "--requests", request.string()});
  CHECK(refused.exit_code == 3);
  CHECK(contains(refused.err, "nul_req.jsonl:1 is not a JSON object"));
  CHECK(contains(refused.err, "column 40: a NUL byte"));
  CHECK(
      contains(refused.err, "\"max_new_tokens\":1}\xEF\xBF\xBD {"));  // the line goes on behind it
  const ProgramResult result =
      run_quire({"generate", "--model", weights.string(), "--prompt-ids", "1 2"});
  CHECK(result.exit_code == 3);
  CHECK(contains(result.err, "a NUL byte"));
}

TEST_CASE("whole numbers of a request are taken as they are, or refused") {
  const ScratchFolder scratch;
  const std::string model = make_letter_model(scratch);
  for (const char* line : {R"({"prompt_ids": [1.5]})", R"({"prompt_ids": [4294967297]})",
                           R"({"prompt_ids": [18446744073709551617]})", R"({"prompt_ids": [true]})",
                           R"({"prompt_ids": ["1"]})", R"({"prompt_ids": {"0": 1}})",
                           R"({"prompt": "a", "do_sample": true, "num_return_sequences": 1.9})",
                           R"({"prompt": "a", "num_return_sequences": true})",
                           R"({"prompt": "a", "num_return_sequences": 4294967297})"}) {
    INFO(line);
    const ProgramResult result = run_quire({"generate", "--model", model, "-n", "1", "--requests",
                                            scratch.write("r.jsonl", std::string(line) + "\n")});
    CHECK(result.exit_code == 3);
    CHECK(contains(result.err, "r.jsonl:1 has a field of the wrong type"));
  }
  const ProgramResult twice =
      run_quire({"generate", "--model", model, "--requests",
                 scratch.write("t.jsonl", R"({"prompt": "a", "top_k": 1, "top_k": 2})")});
  CHECK(twice.exit_code == 3);
  CHECK(contains(twice.err, "t.jsonl:1 names 'top_k' twice"));
}
