// Options into configs: names, values, lists, the config file and what wins.
#include "cli/flags.h"

#include "base/error.h"
#include "base/nearest.h"
#include "tests/cli/program.h"
#include "tests/support/catch.h"

namespace quire {
namespace {

// One option of each kind.
struct Sample {
  int top_k = 50;
  float temperature = 1.0f;
  double share = 0.5;
  std::uint64_t seed = 42;
  bool do_sample = false, no_repeat = false;
  std::string prompt, mode = "fast";
  std::filesystem::path folder;
  std::vector<std::string> stop, data, rest;

  void declare(Flags& flags) {
    flags.add("top-k,k", top_k, "K", "keep K tokens", at_least(0));
    flags.add("temperature,temp", temperature, "T", "above 0", above(0));
    flags.add("share", share, "X", "a share", between(0, 1));
    flags.add("seed", seed, "N", "the seed");
    flags.add("do-sample", do_sample, "draw");
    flags.add("no-repeat", no_repeat, "a flag whose name begins with no-");
    flags.add("prompt,p", prompt, "TEXT", "the beginning");
    flags.add_choice("mode", mode, {"fast", "exact"}, "how");
    flags.add("output-dir", folder, "DIR", "where to");
    flags.add("stop", stop, "TEXT", "ends the text");
    flags.add("data", data, "PATH", "files", ListStyle::several);
    flags.positional("FILE", rest);
  }
};

struct Parsed : Sample {
  explicit Parsed(const std::vector<std::string>& arguments) {
    declare(flags);
    REQUIRE(flags.parse(arguments));
  }
  Flags flags{"sample", "[OPTION...]", "A command."};
};

std::string error_of(const std::vector<std::string>& arguments) {
  Sample sample;
  Flags flags("sample", "[OPTION...]", "A command.");
  sample.declare(flags);
  try {
    (void)flags.parse(arguments);
  } catch (const Error& error) {
    CHECK(error.fault() == Fault::usage);
    return error.message();
  }
  return "no error";
}

using Strings = std::vector<std::string>;

TEST_CASE("options may be written with - and _, with = and a space, long and short") {
  CHECK(Parsed({"--top-k", "7"}).top_k == 7);
  CHECK(Parsed({"--top_k=7"}).top_k == 7);
  CHECK(Parsed({"-k", "7"}).top_k == 7);
  CHECK(Parsed({"-k7"}).top_k == 7);
  CHECK(Parsed({"-k=7"}).top_k == 7);
  CHECK(Parsed({"--temp", "0.7"}).temperature == 0.7f);
  CHECK(Parsed({"--output_dir", "a_b"}).folder == "a_b");
  CHECK(Parsed({"--seed", "18446744073709551615"}).seed == 18446744073709551615u);
  CHECK(Parsed({"--top-k=1", "--top-k=2"}).top_k == 2);
}

TEST_CASE("a value is taken as it stands") {
  CHECK(Parsed({"--prompt", "-- a, b = c_d"}).prompt == "-- a, b = c_d");
  CHECK(Parsed({"--prompt="}).prompt.empty());
  CHECK(Parsed({"--prompt", ""}).prompt.empty());
  CHECK(Parsed({"-p", "-5 degrees"}).prompt == "-5 degrees");
  CHECK(Parsed({"--prompt=a=b"}).prompt == "a=b");
  CHECK(Parsed({"--prompt=--help"}).prompt == "--help");
  CHECK(Parsed({"--prompt=\n--top-k"}).prompt == "\n--top-k");
  CHECK(Parsed({"--stop", "a,b", "--stop", "\n"}).stop == Strings{"a,b", "\n"});
}

TEST_CASE("flags can be set, given a value, and turned off") {
  CHECK(Parsed({"--do-sample"}).do_sample);
  CHECK(Parsed({"--do_sample", "True"}).do_sample);
  CHECK_FALSE(Parsed({"--do_sample", "False"}).do_sample);
  CHECK_FALSE(Parsed({"--do-sample", "--do-sample=false"}).do_sample);
  CHECK_FALSE(Parsed({"--do-sample", "--no-do-sample"}).do_sample);
  CHECK(Parsed({"--no-repeat"}).no_repeat);
  CHECK(Parsed({"--do-sample", "file"}).rest == Strings{"file"});
}

TEST_CASE("lists take one value a mention, or several where that is their style") {
  const Parsed parsed({"--data", "a", "b", "--stop", "x", "c", "--data=d"});
  CHECK(parsed.data == Strings{"a", "b", "d"});
  CHECK(parsed.stop == Strings{"x"});
  CHECK(parsed.rest == Strings{"c"});
}

TEST_CASE("what stands after -- has no options") {
  CHECK(Parsed({"a", "--", "--top-k", "-"}).rest == Strings{"a", "--top-k", "-"});
  CHECK(Parsed({"-"}).rest == Strings{"-"});
}

TEST_CASE("given() tells what was typed from what is a default") {
  const Parsed parsed({"--top_k", "50"});
  CHECK(parsed.flags.given("top-k"));
  CHECK_FALSE(parsed.flags.given("temperature"));
}

TEST_CASE("what does not fit is named with what is allowed") {
  CHECK(error_of({"--top-k", "-1"}) ==
        "error: --top-k is -1, it must be at least 0\n  try: quire sample --help");
  CHECK(error_of({"--temperature", "0"})
            .starts_with("error: --temperature is 0, it must be above 0"));
  CHECK(error_of({"--share", "1.5"})
            .starts_with("error: --share is 1.5, it must be between 0 and 1"));
  CHECK(error_of({"--share", "nan"}).starts_with("error: --share is nan, it must be"));
  CHECK(error_of({"--top-k", "5x"}).starts_with("error: --top-k wants a whole number, not '5x'"));
  CHECK(
      error_of({"--top-k", "99999999999"}).starts_with("error: --top-k 99999999999 is too large"));
  CHECK(error_of({"--seed", "-1"}).starts_with("error: --seed wants a whole number, not '-1'"));
  CHECK(error_of({"--do-sample=maybe"}).starts_with("error: --do-sample is true or false"));
  CHECK(error_of({"--prompt"}).starts_with("error: --prompt wants a value: TEXT"));
  CHECK(error_of({"--prompt", "--do-sample"}).starts_with("error: --prompt wants a value: TEXT"));
  CHECK(error_of({"--mode", "exakt"}) ==
        "error: --mode cannot be 'exakt'\n  choices: fast|exact\n  try: --mode exact");
  CHECK(error_of({"--tempreature", "1"}).find("did you mean --temperature?") != std::string::npos);
  CHECK(error_of({"--out", "x"}).find("did you mean --output-dir?") != std::string::npos);
  CHECK(error_of({"--zzz"}).find("did you mean") == std::string::npos);
}

TEST_CASE("several unknown options are told at once, and a letter is no long name") {
  CHECK(error_of({"--zzz", "--top-k", "1", "--yyy=--xxx", "-w", "--tempreature", "1", "--zzz"}) ==
        "error: quire sample has no options --zzz, --yyy or --tempreature\n"
        "  --zzz: unknown\n  --yyy: unknown\n  --tempreature: did you mean --temperature?\n"
        "  try: quire sample --help");
  CHECK(error_of({"-x5", "--no-do-sample", "--help-me"}) ==
        "error: quire sample has no options -x or --help-me\n  -x: did you mean -k?\n"
        "  --help-me: unknown\n  try: quire sample --help");
  CHECK(
      error_of({"--zzz", "--", "--yyy"}).starts_with("error: quire sample has no option --zzz\n"));
  CHECK(error_of({"--p", "0.9"}) ==
        "error: quire sample has no option --p\n  did you mean -p?\n  try: quire sample --help");
  CHECK(error_of({"--load_in_8bit"}) ==
        "error: quire sample has no option --load_in_8bit\n  leave it out: weights are float32, "
        "float16 or bfloat16\n  try: quire sample --help");
}

TEST_CASE("the help lists the aliases of an option beside it") {
  Sample sample;
  Flags flags("sample", "[OPTION...]", "A command.");
  sample.declare(flags);
  const std::string help = flags.help(100);
  CHECK(help.find(" above 0 (or --temp) [1]\n") != std::string::npos);
  CHECK(help.find(" keep K tokens [50]\n") != std::string::npos);
}

TEST_CASE("a config file sets options, and the command line wins") {
  const test::ScratchFolder scratch;
  const std::string json = scratch.write(
      "a.json",
      R"({"top_k": 3, "do-sample": true, "stop": ["x", "y"], "prompt": "hé", "share": null})");
  const std::string toml = scratch.write("a.toml",
                                         "# comment\n"
                                         "top_k = 1_000 # another\r\n"
                                         "\n"
                                         "temperature = +0.5\n"
                                         "stop = ['#', \"a\\n\", ]\n"
                                         "do_sample = true\n"
                                         "prompt = \"a # b\"\n");
  const Parsed from_json({"--config-file", json, "--stop", "z"});
  CHECK(from_json.top_k == 3);
  CHECK(from_json.do_sample);
  CHECK(from_json.stop == Strings{"z"});
  CHECK(from_json.prompt == "hé");
  CHECK(from_json.share == 0.5);
  CHECK(from_json.flags.given("top-k"));

  const Parsed from_toml({"--top-k", "4", "--config_file=" + toml});
  CHECK(from_toml.top_k == 4);
  CHECK(from_toml.temperature == 0.5f);
  CHECK(from_toml.stop == Strings{"#", "a\n"});
  CHECK(from_toml.do_sample);
  CHECK(from_toml.prompt == "a # b");
}

TEST_CASE("the resolved options can be read back as a config file") {
  const test::ScratchFolder scratch;
  const Parsed first({"--temp", "0.1", "--stop", "a\"b", "--stop", "\n", "--do-sample", "-k", "9",
                      "--data", "x", "--output-dir", "out put"});
  const Parsed second({"--config-file", scratch.write("c.json", first.flags.resolved_json())});
  CHECK(second.temperature == 0.1f);
  CHECK(second.stop == first.stop);
  CHECK(second.do_sample);
  CHECK(second.top_k == 9);
  CHECK(second.data == first.data);
  CHECK(second.folder == "out put");
  CHECK(second.flags.resolved_json() == first.flags.resolved_json());
  CHECK(first.flags.resolved_json().find("\"temperature\": 0.1,") != std::string::npos);
}

TEST_CASE("the nearest word allows for typos but not for another word") {
  const Strings words = {"train", "generate", "tokenizer"};
  CHECK(nearest("trian", words) == "train");
  CHECK(nearest("genrate", words) == "generate");
  CHECK(nearest("tok", words) == "tokenizer");
  CHECK(nearest("serve", words).empty());
}

}  // namespace
}  // namespace quire
