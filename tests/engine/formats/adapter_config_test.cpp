// What an adapter_config.json means, as PEFT means it, and what is refused by name.
#include "engine/formats/adapter_config.h"

#include "base/error.h"
#include "base/file.h"
#include "tests/support/catch.h"
#include "tests/support/fixtures.h"
#include "tests/support/scratch.h"
#include "tests/support/text.h"

using namespace quire;
using namespace quire::test;

namespace {

struct Folder {
  ScratchFolder scratch;

  AdapterConfig read(const std::string& fields) const {
    scratch.write("adapter_config.json",
                  R"({"peft_type": "LORA", "r": 4, "lora_alpha": 8, )" + fields + "}");
    return read_adapter_config(scratch.path());
  }
  std::string refused(const std::string& fields) const {
    return scratch.message_of(Fault::bad_data,
                              [&] { (void)read("\"target_modules\": [\"c_attn\"], " + fields); });
  }
};

}  // namespace

TEST_CASE("an adapter that changes the base's weights when it begins is understood or refused") {
  const Folder folder;
  for (const char* init : {"true", "false", "null", "\"gaussian\"", "\"eva\"", "\"orthogonal\""}) {
    CHECK(folder.read(std::string(R"("target_modules": ["c_attn"], "init_lora_weights": )") + init)
              .beyond.empty());
  }
  CHECK(folder.read(R"("target_modules": ["c_attn"], "init_lora_weights": "pissa")").init ==
        "pissa");
  CHECK(folder.read(R"("target_modules": ["c_attn"], "init_lora_weights": "OLoRA")").init ==
        "olora");
  for (const char* init : {"\"pissa_niter_16\"", "\"corda\"", "\"loftq\"", "\"lora_ga\"",
                           "\"mica\"", "\"new\"", "3"}) {
    const std::string message = folder.refused(std::string("\"init_lora_weights\": ") + init);
    CHECK(contains(message,
                   std::string("DIR/adapter_config.json: \"init_lora_weights\" is ") + init));
    CHECK(contains(message, "merge_and_unload()"));
  }
}

TEST_CASE(
    "fields of an adapter that nobody here understands are refused by name when they are on") {
  const Folder folder;
  for (const char* field :
       {R"("trainable_token_indices": [3])", R"("layer_replication": [[0, 1]])",
        R"("target_parameters": ["x"])", R"("use_qalora": true)", R"("kasa_config": {"a": 1})",
        R"("use_something_new": "yes")", R"("alora_invocation_tokens": [1])"}) {
    const std::string message = folder.refused(field);
    CHECK(contains(message, std::string(field).substr(0, std::string(field).find(':'))));
    CHECK(contains(message, "not understood"));
  }
  CHECK(folder
            .read(R"("target_modules": ["c_attn"], "use_something_new": null, "use_qalora": false,
                     "peft_version": "0.21.2", "loftq_config": {}, "task_type": "CAUSAL_LM")")
            .beyond.empty());
  CHECK(contains(folder.refused(R"("bias": "some")"), "none, all or lora_only"));
  CHECK(contains(folder.refused(R"("rank_pattern": {"c_attn": "x"})"), "numbers above 0"));
  CHECK(contains(folder.refused(R"("rank_pattern": {"c_attn(": 3})"), "rank_pattern"));
  CHECK(contains(folder.refused(R"("exclude_modules": "c_attn\\Z")"), "the expression has \\Z"));
  CHECK(contains(folder.refused(R"("exclude_modules": "(c)_attn\\1")"), "has a back-reference"));
  CHECK(contains(folder.refused(R"("exclude_modules": "c{9999999999999999999999}")"),
                 "has a number of ten digits"));
  CHECK(contains(folder.refused(R"("exclude_modules": "(h)\\1")"), "exclude_modules"));
  CHECK(contains(folder.refused(R"("exclude_modules": "(?<=h.)c_attn")"), "exclude_modules"));
  // The JSON library would take these for 1 and for infinity.
  CHECK(contains(folder.refused(R"("r": 4294967297)"), "\"r\" is 4294967297"));
  for (const char* layers : {"[0.5]", "[4294967297]", "-4294967297", "0.5"}) {
    CHECK(contains(folder.refused(std::string("\"layers_to_transform\": ") + layers),
                   "a list of blocks"));
  }
  CHECK(contains(folder.refused(R"("lora_alpha": 1e39)"), "\"lora_alpha\" is 1e+39"));
  const std::string deep = std::string(51, '(') + "a" + std::string(51, ')');
  CHECK(contains(folder.refused("\"exclude_modules\": \"" + deep + "\""), "50 groups"));
}

TEST_CASE("modules are chosen as PEFT chooses them") {
  const Folder folder;
  const std::string attn1 = "transformer.h.1.attn.c_attn", proj1 = "transformer.h.1.attn.c_proj",
                    attn11 = "transformer.h.11.attn.c_attn";
  AdapterConfig config = folder.read(R"("target_modules": "transformer\\.h\\.\\d\\..*c_attn")");
  CHECK(config.is_target(attn1));
  CHECK_FALSE(config.is_target(attn11));  // all of the name, not a part
  CHECK_FALSE(config.is_target(proj1));
  config = folder.read(R"("target_modules": "all-linear", "exclude_modules": ["h.1.attn.c_proj"])");
  CHECK(config.is_target(attn1));
  CHECK_FALSE(config.is_target(proj1));
  CHECK(config.is_target("transformer.h.11.attn.c_proj"));
  CHECK_FALSE(config.is_target("lm_head"));
  // With backtracking, these would not end.
  for (const char* hard : {R"((.*)*(.*)*(.*)*x\\d)", "((a|b|.)*)*x"}) {
    CHECK_FALSE(folder.read("\"target_modules\": \"" + std::string(hard) + "\"").is_target(attn1));
  }
  config = folder.read(R"("target_modules": ["c_attn", "wte"], "exclude_modules": ".*\\.11\\..*")");
  CHECK(config.is_target(attn1));
  CHECK(config.is_target("transformer.wte"));
  CHECK_FALSE(config.is_target(attn11));
  config = folder.read(R"("target_modules": ["c_attn", "transformer.h.11.attn.c_attn"],
                          "layers_to_transform": [1], "layers_pattern": "h")");
  CHECK(config.is_target(attn1));
  CHECK(config.is_target(attn11));  // by its whole name, whatever the layers
  CHECK_FALSE(config.is_target("transformer.h.2.attn.c_attn"));
  config = folder.read(R"("target_modules": ["c_attn"], "layers_to_transform": [1],
                          "layers_pattern": ["transformer|h"])");
  CHECK(contains(folder.scratch.message_of(Fault::bad_data, [&] { config.is_target(attn1); }),
                 "without the number of its block"));
}

TEST_CASE(
    "ranks and alphas of single modules go by the end of their names, the first that matches") {
  const Folder folder;
  const AdapterConfig config = folder.read(
      R"("target_modules": ["c_attn"], "rank_pattern": {"h.1.attn.c_attn": 2, "c_attn": 3},
                     "alpha_pattern": {"^transformer.h.1.attn.c_attn": 5, "attn": 100})");
  CHECK(config.rank_of("transformer.h.1.attn.c_attn") == 2);
  CHECK(config.rank_of("transformer.h.11.attn.c_attn") == 3);
  CHECK(config.rank_of("transformer.h.0.mlp.c_fc") == 4);
  CHECK(config.scale_of("transformer.h.1.attn.c_attn") == 5.0f / 2);
  CHECK(config.scale_of("transformer.h.0.attn.c_attn") == 8.0f / 3);  // "attn" is no end of it
  CHECK(config.scale_of("transformer.h.0.mlp.c_fc") == 2.0f);
  CHECK(config.beyond.size() == 2);
}
