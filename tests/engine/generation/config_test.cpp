#include "engine/generation/config.h"

#include <cmath>
#include <filesystem>

#include "base/file.h"
#include "tests/support/catch.h"
#include "tests/support/scratch.h"

using namespace quire;
namespace fs = std::filesystem;

namespace {

/// The message of the Error that check() throws, "" for none.
std::string trouble(void (*change)(GenerationConfig&)) {
  GenerationConfig config;
  change(config);
  try {
    config.check();
  } catch (const Error& error) {
    CHECK(error.fault() == Fault::usage);
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE("options out of range are named with their value") {
  CHECK(trouble([](GenerationConfig&) {}) == "");
  CHECK(trouble([](GenerationConfig& c) { c.temperature = 0; }) == "temperature is 0");
  CHECK(trouble([](GenerationConfig& c) { c.temperature = NAN; }) == "temperature is nan");
  CHECK(trouble([](GenerationConfig& c) { c.top_k = -1; }) == "top_k is -1");
  CHECK(trouble([](GenerationConfig& c) { c.top_p = 1.5f; }) == "top_p is 1.5");
  CHECK(trouble([](GenerationConfig& c) { c.top_p = 0; }) == "top_p is 0");
  CHECK(trouble([](GenerationConfig& c) { c.min_p = -0.5f; }) == "min_p is -0.5");
  CHECK(trouble([](GenerationConfig& c) { c.repetition_penalty = 0; }) ==
        "repetition_penalty is 0");
  CHECK(trouble([](GenerationConfig& c) { c.max_new_tokens = 0; }) == "max_new_tokens is 0");
  CHECK(trouble([](GenerationConfig& c) { c.max_new_tokens = -2; }) == "max_new_tokens is -2");
  CHECK(trouble([](GenerationConfig& c) { c.min_new_tokens = 21; }) == "min_new_tokens is 21");
  CHECK(trouble([](GenerationConfig& c) { c.bad_words_ids = {{}}; }) == "bad_words_ids is [[]]");
}

TEST_CASE("options come from JSON in snake case") {
  GenerationConfig config;
  const auto unknown = apply_options(
      R"({"top_k": 7, "do_sample": true, "temperature": null, "eos_token_id": 5, "min_p": 0.25,
          "sequence_bias": [[[1, 2], -1.5]], "exponential_decay_length_penalty": [3, 1.25],
          "use_cache": true, "max_length": 30})",
      config);
  CHECK(unknown == std::vector<std::string>{"use_cache"});
  CHECK(config.top_k == 7);
  CHECK(config.do_sample);
  CHECK(config.temperature == 1.0f);
  CHECK(config.eos_token_ids == std::vector<std::int32_t>{5});
  CHECK(config.min_p == 0.25f);
  CHECK(config.sequence_bias[0].second == -1.5f);
  CHECK(config.exponential_decay_length_penalty->first == 3);
  CHECK(config.max_new_tokens == 0);  // max_length takes its place
  CHECK(config.max_length == 30);

  apply_options(R"({"max_length": 40, "max_new_tokens": 4, "eos_token_id": [1, 2]})", config);
  CHECK(config.max_new_tokens == 4);
  CHECK(config.eos_token_ids == std::vector<std::int32_t>{1, 2});

  for (const char* wrong :
       {R"({"top_k": "many"})", R"({"top_k": 1.5})", R"({"top_p": true})",
        R"({"eos_token_id": "x"})", R"({"sequence_bias": 3})",
        // of which the JSON library would make 1
        R"({"top_k": 4294967297})", R"({"eos_token_id": 4294967297})", R"({"eos_token_id": [1.5]})",
        R"({"bad_words_ids": [[true]]})", R"({"sequence_bias": [[[1], true]]})",
        R"({"sequence_bias": [[[1], 2, 3]]})",
        R"({"exponential_decay_length_penalty": [1.5, 2]})"}) {
    INFO(wrong);
    CHECK_THROWS_AS(apply_options(wrong, config), Error);
  }
}

TEST_CASE("a model folder brings its own defaults") {
  const quire::test::ScratchFolder folder;
  Gpt2Config model;
  model.eos_token_id = 11;
  CHECK(read_generation_config(folder.path(), model).eos_token_ids ==
        std::vector<std::int32_t>{11});

  const fs::path path = folder / "generation_config.json";
  write_file(path, R"({"eos_token_id": [3, 4], "max_length": 20, "transformers_version": "4.1"})");
  GenerationConfig config = read_generation_config(folder.path(), model);
  CHECK(config.eos_token_ids == std::vector<std::int32_t>{3, 4});
  CHECK(config.max_new_tokens == 20);

  for (const char* damaged : {"{", R"({"temperature": -1})", R"({"top_k": []})"}) {
    write_file(path, damaged);
    try {
      read_generation_config(folder.path(), model);
      FAIL("no exception for " << damaged);
    } catch (const Error& error) {
      CHECK(error.fault() == Fault::bad_data);
      CHECK(std::string(error.what()).find("generation_config.json") != std::string::npos);
    }
  }
}

TEST_CASE("what generation_config.json asks for and does not get is named") {
  const quire::test::ScratchFolder folder;
  Gpt2Config model;
  model.bos_token_id = 7;
  CHECK(read_generation_defaults(folder.path(), model).bos_token_id == 7);
  const auto read = [&](const char* json) {
    write_file(folder / "generation_config.json", json);
    return read_generation_defaults(folder.path(), model);
  };
  const GenerationDefaults defaults =
      read(R"({"num_return_sequences": 3, "do_sample": true, "bos_token_id": 5, "pad_token_id": 9,
               "typical_p": 0.5, "guidance_scale": 2.0, "made_up": "x"})");
  CHECK(defaults.num_return_sequences == 3);
  CHECK(defaults.bos_token_id == 5);
  CHECK(defaults.config.pad_token_id == 9);
  CHECK(defaults.not_honoured ==
        std::vector<std::string>{"guidance_scale", "made_up", "typical_p"});
  // What turns an option off asks for nothing; nor does what says how a text is computed.
  CHECK(read(R"({"typical_p": 1.0, "guidance_scale": 1, "epsilon_cutoff": 0.0, "use_cache": false,
                 "stop_strings": null, "renormalize_logits": false, "force_words_ids": [],
                 "transformers_version": "5.23.0", "num_assistant_tokens": 20})")
            .not_honoured.empty());
  for (const char* damaged : {"[1]", R"({"num_return_sequences": 0})", R"({"bos_token_id": "x"})",
                              R"({"pad_token_id": -2})"}) {
    const std::string message = folder.message_of(Fault::bad_data, [&] { (void)read(damaged); });
    CHECK(message.find("DIR/generation_config.json") != std::string::npos);
  }
}
