// quire generate as a user runs it.
#include <algorithm>
#include <cmath>
#include <csignal>
#include <nlohmann/json.hpp>
#include <sstream>

#include "tests/cli/letter_model.h"
#include "tests/support/catch.h"

using namespace quire;
using namespace quire::test;
using Json = nlohmann::json;

namespace {

/// Runs `quire generate --model M …` and expects it to succeed.
struct Model {
  ScratchFolder scratch;
  std::string folder = make_letter_model(scratch);

  ProgramResult run(std::vector<std::string> arguments, const ProgramOptions& options = {}) const {
    arguments.insert(arguments.begin(), {"generate", "--model", folder});
    return run_quire(arguments, options);
  }
  std::string text(std::vector<std::string> arguments, const ProgramOptions& options = {}) const {
    const ProgramResult result = run(std::move(arguments), options);
    INFO(result.err);
    CHECK(result.exit_code == 0);
    return result.out;
  }
  std::vector<Json> json(std::vector<std::string> arguments,
                         const ProgramOptions& options = {}) const {
    arguments.emplace_back("--json");
    return json_lines(text(std::move(arguments), options));
  }
};

}  // namespace

TEST_CASE("generate writes the prompt and its continuation, from wherever the prompt comes") {
  const Model model;
  // tests/data/tied/generation.jsonl, greedy-0: [1, 5, 9] goes on with 1 22 22 22 …
  CHECK(model.text({"--prompt", "bfj", "-n", "4"}) == "bfjbwww\n");
  CHECK(model.text({"bfj", "--max_new_tokens", "4"}) == "bfjbwww\n");
  CHECK(model.text({"--prompt-ids", "1 5,9", "-n", "4"}) == "bfjbwww\n");
  CHECK(model.text({"-n", "4"}, {.input = "bfj\n"}) == "bfjbwww\n");
  CHECK(model.text({"-n", "4", "--prompt-file",
                    model.scratch.write("p.txt",
                                        "\xEF\xBB\xBF"
                                        "bfj\r\n")}) == "bfjbwww\n");
  CHECK(model.text({"-p", "bfj", "-n", "4", "--no-display-prompt"}) == "bwww\n");
  CHECK(model.text({"-p", "bfj", "--max-length", "7"}) == "bfjbwww\n");
  CHECK(model.text({"-p", "bfj", "-n", "4", "--stream"}) == "bfjbwww\n");
}

TEST_CASE("several prompts are separated, each as it is alone") {
  const Model model;
  const std::string lines = model.scratch.write("prompts.txt", "bfj\nh\n\ndecibe\n");
  const std::string together = model.text({"--prompt-file", lines, "--line-by-line", "-n", "5"});
  std::string alone;
  for (const char* prompt : {"bfj", "h", "", "decibe"}) {
    alone += (alone.empty() ? "" : "---\n") + model.text({"-p", prompt, "-n", "5"});
  }
  CHECK(together == alone);
  CHECK(model.text({"--prompt-file", lines, "--line-by-line", "-n", "5", "--stream"}) == alone);
  CHECK(model.text({"--line-by-line", "-n", "5", "--batch-size", "2"},
                   {.input = "bfj\nh\n\ndecibe"}) == alone);
}

TEST_CASE("sampled texts do not depend on their neighbours, and repeat with the seed") {
  const Model model;
  const std::vector<std::string> sampling = {"--do-sample", "--temperature", "2", "-n", "9"};
  const auto with = [&](std::vector<std::string> more) {
    more.insert(more.end(), sampling.begin(), sampling.end());
    return model.json(more);
  };
  const std::vector<Json> both = with({"-p", "bfj", "-p", "hello"});
  REQUIRE(both.size() == 2);
  Json alone = with({"-p", "hello"})[0];
  CHECK(alone["output_ids"] == both[1]["output_ids"]);
  CHECK(alone["logprobs"] == both[1]["logprobs"]);
  CHECK(with({"-p", "hello"})[0] == alone);
  CHECK(with({"-p", "hello", "--threads", "1"})[0] == alone);
  CHECK(with({"-p", "hello", "--seed", "43"})[0]["output_ids"] != alone["output_ids"]);

  const std::vector<Json> three = with({"-p", "hello", "--num-return-sequences", "3"});
  REQUIRE(three.size() == 3);
  CHECK(three[0] == alone);
  CHECK(three[1]["output_ids"] != three[0]["output_ids"]);
  CHECK(three[2]["output_ids"] != three[1]["output_ids"]);
  CHECK(three[2]["index"] == 0);
}

TEST_CASE("a JSON line has the ids, the text, the reason and the scores") {
  const Model model;
  const std::vector<Json> lines =
      model.json({"-p", "bfj", "-p", "h", "-n", "4", "--eos-token-id", "22", "--logprobs", "2"});
  REQUIRE(lines.size() == 2);
  CHECK(lines[0]["index"] == 0);
  CHECK(lines[0]["prompt_ids"] == Json({1, 5, 9}));
  CHECK(lines[0]["output_ids"] == Json({1, 22}));
  CHECK(lines[0]["text"] == "bw");
  CHECK(lines[0]["finish_reason"] == "eos");
  CHECK(lines[1]["index"] == 1);
  CHECK(lines[1]["finish_reason"] == "length");
  CHECK(lines[1]["output_ids"].size() == 4);
  double score = 0;
  for (const Json& logprob : lines[1]["logprobs"]) score += logprob.get<double>();
  CHECK(lines[1]["score"].get<double>() == Approx(score).epsilon(1e-6));
  REQUIRE(lines[1]["top_logprobs"].size() == 4);
  CHECK(lines[1]["top_logprobs"][0][0]["id"] == lines[1]["output_ids"][0]);
  CHECK(lines[1]["top_logprobs"][0][0]["logprob"] == lines[1]["logprobs"][0]);
  CHECK(lines[1]["top_logprobs"][0].size() == 2);
}

TEST_CASE("requests are answered in their order, whatever batches they fall into") {
  const Model model;
  const std::string path = model.scratch.write(
      "requests.jsonl",
      R"({"prompt": "hello there", "max_new_tokens": 3})"
      "\n"
      R"({"prompt_ids": [1, 5, 9], "do_sample": true, "top_k": 5, "num_return_sequences": 2, "seed": 7})"
      "\r\n\n"
      R"({"prompt": "bfj", "stop": ["ww"], "max_new_tokens": 12})"
      "\n"
      R"({"prompt": "h", "max_new_tokens": 3, "temperature": null})");
  const std::vector<Json> lines = model.json({"--requests", path, "-n", "6"});
  REQUIRE(lines.size() == 5);
  const std::vector<int> indices = {0, 1, 1, 2, 3};
  for (std::size_t i = 0; i < lines.size(); ++i) CHECK(lines[i]["index"] == indices[i]);
  CHECK(lines[0]["output_ids"] == model.json({"-p", "hello there", "-n", "3"})[0]["output_ids"]);
  CHECK(lines[1]["output_ids"].size() == 6);
  CHECK(lines[1]["output_ids"] != lines[2]["output_ids"]);
  CHECK(lines[3]["text"] == "bww");
  CHECK(lines[3]["finish_reason"] == "stop");
  CHECK(lines[4]["output_ids"] == model.json({"-p", "h", "-n", "3"})[0]["output_ids"]);
  CHECK(model.json({"--requests", path, "-n", "6", "--batch-size", "1"}) == lines);
}

TEST_CASE("beam search writes its best texts, best first, with their scores") {
  const Model model;
  // tests/data/tied/generation.jsonl, beam3-True-1.0-0
  const std::vector<std::string> search = {
      "--prompt-ids", "1 5 9",          "--num-beams", "3",  "--early-stopping",
      "true",         "--eos-token-id", "22",          "-n", "8"};
  const auto with = [&](std::vector<std::string> more) {
    more.insert(more.end(), search.begin(), search.end());
    return more;
  };
  const std::vector<Json> texts = model.json(with({"--num-return-sequences", "3"}));
  REQUIRE(texts.size() == 3);
  const std::vector<std::vector<int>> ids = {{1, 22}, {31, 22}, {22}};
  const std::vector<double> scores = {-2.0019858, -2.1162496, -2.5221858};
  for (std::size_t i = 0; i < texts.size(); ++i) {
    CHECK(texts[i]["output_ids"] == ids[i]);
    CHECK(std::abs(texts[i]["score"].get<double>() - scores[i]) < 1e-5);
    CHECK(texts[i]["finish_reason"] == "eos");
  }
  CHECK(model.text(with({})) == "bfjbw\n");

  // Beside other requests, and beside itself
  const std::string path = model.scratch.write(
      "requests.jsonl",
      R"({"prompt": "h", "max_new_tokens": 3})"
      "\n"
      R"({"prompt_ids": [1, 5, 9], "num_beams": 3, "early_stopping": true, "eos_token_id": 22, "num_return_sequences": 2})"
      "\n"
      R"({"prompt_ids": [1, 5, 9], "num_beams": 3, "early_stopping": "never", "length_penalty": 2})");
  const std::vector<Json> lines = model.json({"--requests", path, "-n", "8"});
  REQUIRE(lines.size() == 4);
  CHECK(lines[1]["output_ids"] == ids[0]);
  CHECK(lines[2]["output_ids"] == ids[1]);
  CHECK(lines[3]["output_ids"].size() == 8);
  // A search of more beams than the batch has rows waits until it is alone.
  for (const char* rows : {"1", "2", "4"}) {
    CHECK(model.json({"--requests", path, "-n", "8", "--batch-size", rows}) == lines);
  }

  const Json stopped = model.json({"-p", "bfj", "--num-beams", "2", "-n", "8", "--stop", "ww"})[0];
  CHECK((stopped["finish_reason"] == "length") == !contains(stopped["text"], "ww"));
}

TEST_CASE("beam search says what does not go with it") {
  const Model model;
  const auto run = [&](std::vector<std::string> more) {
    more.insert(more.end(), {"-p", "bfj", "-n", "3"});
    return model.run(more);
  };
  check_refused(run({"--num-beams", "2", "--num-return-sequences", "3"}), 2,
                "num_return_sequences is 3, num_beams 2");
  check_refused(run({"--num-beams", "2", "--stream"}), 2, "--stream and --num-beams");
  check_refused(run({"--num-beams", "0"}), 2, "--num-beams");
  check_refused(run({"--num-beams", "2", "--early-stopping", "nver"}), 2, "never");
  const ProgramResult warned = run({"--length-penalty", "2"});
  CHECK(warned.exit_code == 0);
  CHECK(contains(warned.err, "--length-penalty has no effect without --num-beams"));
}

TEST_CASE("mistakes in requests are named with file and line") {
  const Model model;
  const auto refused = [&](const std::string& line) {
    return model.run({"--requests", model.scratch.write("r.jsonl", "\n" + line)});
  };
  check_refused(refused(R"({"prompt": "a", "temprature": 2})"), 2, "r.jsonl:2: there is no option");
  check_refused(refused(R"({"prompt": "a", "temprature": 2})"), 2, "did you mean temperature?");
  check_refused(refused(R"({"prompt": "a", "top_k": "x"})"), 2, "r.jsonl:2: top_k cannot be \"x\"");
  check_refused(refused(R"({"prompt": "a", "top_p": 2})"), 2, "r.jsonl:2: top_p is 2");
  check_refused(refused(R"({"prompt": 5})"), 3, "r.jsonl:2");
  check_refused(refused(R"({"prompt": "a", "prompt_ids": [1]})"), 3, "either prompt or prompt_ids");
  check_refused(refused("{}"), 3, "either prompt or prompt_ids");
  check_refused(refused("{\"prompt\": \"a\""), 3, "r.jsonl:2 is not a JSON object");
  check_refused(refused(R"({"prompt_ids": [40]})"), 2, "ids 0 to 39");
  check_refused(model.run({"--requests", model.scratch.write("empty.jsonl", "\n")}), 3,
                "no request");
  check_refused(model.run({"--requests", "nowhere.jsonl"}), 3, "nowhere.jsonl");
}

TEST_CASE("a prompt that does not fit is refused with both lengths") {
  const Model model;
  check_refused(model.run({"-p", "abcdefghijklmnopq"}), 2,
                "the prompt has 17 tokens, the model's context holds 16");
  CHECK(model.text({"-p", "abcdefghijklmnop"}).size() > 16);  // exactly full
  check_refused(model.run({"-p", "abcd", "--max-length", "4"}), 2, "max_length is 4");
  const Json filled = model.json({"-p", "abcd", "-n", "-1"})[0];
  CHECK(filled["output_ids"].size() == 12);
  CHECK(filled["finish_reason"] == "length");
}

TEST_CASE("an empty prompt begins with the beginning-of-text token") {
  const Model model;
  CHECK(model.json({"-p", "", "-n", "2"})[0]["prompt_ids"] == Json({39}));
  // What comes from nowhere is no empty prompt.
  for (const char* input : {"", "\n", "\r\n"}) {
    const ProgramResult nothing = model.run({"-n", "2"}, {.input = input});
    check_refused(nothing, 2, "there is no prompt\n  standard input is empty\n  try: ");
    CHECK(nothing.out.empty());
  }
  check_refused(model.run({"-n", "2", "--line-by-line"}), 2, "standard input is empty");
}

TEST_CASE("on a terminal a prompt is asked for, also when quiet") {
  const Model model;
  const std::vector<std::string> command = {"generate", "--model", model.folder, "-n", "4", "-q"};
  const std::string wanted = model.text({"-p", "bfj", "-n", "4"});
  Program program(command, {.streams = Streams::terminal});
  REQUIRE(program.wait_for("The text begins with: "));
  program.type("bfj\n");
  const ProgramResult answered = program.wait();
  CHECK(answered.exit_code == 0);
  CHECK(answered.out ==
        "The text begins with: bfj\r\n" + wanted.substr(0, wanted.size() - 1) + "\r\n");
  for (const char* nothing : {"\n", "\x04"}) {  // Enter, Ctrl-D
    Program silent(command, {.streams = Streams::terminal});
    REQUIRE(silent.wait_for("The text begins with: "));
    silent.type(nothing);
    const ProgramResult refused = silent.wait();
    CHECK(refused.exit_code == 2);
    CHECK(contains(refused.out, "\r\nerror: there is no prompt\r\n  nothing was typed\r\n"));
  }
}

TEST_CASE("options that make no sense are refused, ones without effect are warned of") {
  const Model model;
  check_refused(model.run({"-p", "a", "--top-p", "0"}), 2, "--top-p is 0");
  check_refused(model.run({"-p", "a", "--num-return-sequences", "2"}), 2, "greedy");
  check_refused(model.run({"-p", "a", "--logprobs", "2"}), 2, "--json");
  check_refused(model.run({"-p", "a", "--stream", "--json"}), 2, "--json");
  check_refused(model.run({"-p", "a", "--prompt-ids", "1 x"}), 2, "'x'");
  check_refused(model.run({"-p", "a", "--stop", ""}), 2, "stop string is empty");
  check_refused(model.run({"-p", "a", "--requests", "x.jsonl"}), 2, "--requests");
  check_refused(model.run({"-p", "a", "--tempreature", "1"}), 2, "did you mean --temperature?");
  check_refused(model.run({"-p", "a", "--max-new-tokens", "0"}), 2, "max_new_tokens is 0");

  ProgramResult result = model.run({"-p", "a", "--top-k", "3", "-n", "2"});
  CHECK(result.exit_code == 0);
  CHECK(contains(result.err, "warning: --top-k has no effect without --do-sample"));
  result = model.run({"-p", "a", "--do-sample", "--temp", "0", "-n", "2", "--quiet"});
  CHECK(result.err.empty());
  CHECK(result.out == model.text({"-p", "a", "-n", "2"}));
}

TEST_CASE("penalties, bans and minimum lengths reach the model from the command line") {
  const Model model;
  // tests/data/tied/generation.jsonl, penalty-0.
  CHECK(model.json({"-p", "bfj", "-n", "13", "--repeat-penalty", "1.4"})[0]["output_ids"] ==
        Json({31, 22, 22, 22, 22, 0, 28, 20, 37, 17, 24, 3, 22}));
  const Json ngram = model.json({"-p", "bfj", "-n", "10", "--no-repeat-ngram-size", "1"})[0];
  std::vector<int> ids = ngram["output_ids"];
  std::sort(ids.begin(), ids.end());
  CHECK(std::adjacent_find(ids.begin(), ids.end()) == ids.end());
  CHECK(!contains(model.text({"-p", "bfj", "-n", "10", "--bad-words", "w"}), "w"));
  CHECK(!contains(model.text({"-p", "bfj", "-n", "10", "--suppress-tokens", "22"}), "w"));
  const auto reason = [&](std::vector<std::string> more) {
    more.insert(more.end(), {"-p", "bfj", "-n", "6", "--eos-token-id", "22"});
    const Json line = model.json(more)[0];
    return line["finish_reason"].get<std::string>() + " " +
           std::to_string(line["output_ids"].size());
  };
  CHECK(reason({}) == "eos 2");
  CHECK(reason({"--ignore-eos"}) == "length 6");
  CHECK(reason({"--min-new-tokens", "6"}) == "length 6");
  CHECK(reason({"--min-length", "9"}) == "length 6");
}

TEST_CASE("the defaults of generation_config.json lie under the options") {
  const Model model;
  write_file(model.folder + "/generation_config.json",
             R"({"max_new_tokens": 3, "repetition_penalty": 1.4, "eos_token_id": [39, 28]})");
  CHECK(model.json({"-p", "bfj"})[0]["output_ids"] == Json({31, 22, 22}));
  CHECK(model.json({"-p", "bfj", "-n", "13"})[0]["output_ids"] ==
        Json({31, 22, 22, 22, 22, 0, 28}));
  CHECK(model.json({"-p", "bfj", "--repetition-penalty", "1"})[0]["output_ids"] ==
        Json({1, 22, 22}));
  write_file(model.folder + "/generation_config.json", "{");
  check_refused(model.run({"-p", "a"}), 3, "generation_config.json");
}

TEST_CASE("a model without a tokenizer takes and gives ids") {
  const Model model;
  const std::string bare = test_data("tied").string();
  const ProgramResult result =
      run_quire({"generate", "--model", bare, "--prompt-ids", "1 5 9", "-n", "3"});
  CHECK(result.exit_code == 0);
  CHECK(result.out == "1 5 9 1 22 22\n");
  check_refused(run_quire({"generate", "--model", bare, "-p", "a"}), 3, "no tokenizer");
  CHECK(
      run_quire({"generate", "--model", bare, "--tokenizer", model.folder, "-p", "bfj", "-n", "4"})
          .out == "bfjbwww\n");
}

TEST_CASE("on a terminal one text is streamed, and characters arrive whole") {
  const Model model;
  // Both halves of "é", which the prompt's last token leaves open.
  const ProgramResult result =
      model.run({"--prompt-ids", "1 35 36 1 35", "-n", "2", "-q"}, {.streams = Streams::terminal});
  CHECK(result.exit_code == 0);
  CHECK(contains(result.out, "bé"));
  CHECK(result.out == [&] {
    std::string text = model.text({"--prompt-ids", "1 35 36 1 35", "-n", "2", "-q"});
    text.replace(text.size() - 1, 1, "\r\n");  // as a terminal shows it
    return text;
  }());
}

TEST_CASE("Ctrl-C ends with the text so far and exit code 130") {
  QUIRE_FIXTURE(path, "models/tiny-char");
  const ScratchFolder scratch;
  std::string requests;
  for (int i = 0; i < 5000; ++i) requests += "{\"prompt\": \"A" + std::to_string(i) + "\"}\n";
  Program program({"generate", "--model", path.string(), "--requests",
                   scratch.write("many.jsonl", requests), "-n", "30", "--batch-size", "2",
                   "--json"});
  REQUIRE(program.wait_for("\"index\":0"));
  program.send(SIGINT);
  const ProgramResult result = program.wait();
  CHECK(result.exit_code == 130);
  CHECK(contains(result.err, "interrupted: texts end where they were\n"));
  const std::vector<Json> lines = json_lines(result.out);  // every line is whole
  CHECK(lines.size() < 5000);
  for (std::size_t i = 0; i < lines.size(); ++i) CHECK(lines[i]["index"] == i);
}

TEST_CASE("a text that is shorter than asked for, as the context is full, says so") {
  const Model model;
  const auto notes = [&](std::vector<std::string> options) {
    options.insert(options.end(), {"-p", "bfj", "--ignore-eos"});
    const ProgramResult result = model.run(options);
    CHECK(result.exit_code == 0);
    return result.err;
  };
  const std::string context = " stopped at the model's context of ";
  CHECK(contains(notes({"-n", "10000"}), "1 text" + context));
  CHECK(contains(notes({"-n", "10000", "--num-return-sequences", "2", "--do-sample"}),
                 "2 texts" + context));
  CHECK(contains(notes({"--max-length", "10000"}), "1 text" + context));
  CHECK_FALSE(contains(notes({"-n", "5"}), context));
  CHECK_FALSE(contains(notes({"-n", "-1"}), context));  // until it is full: as asked
}
