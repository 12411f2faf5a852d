// The card of a model: its fields, its generated part, and what a person wrote around it.
#include "report/model_card.h"

#include <string>

#include "base/file.h"
#include "report/front_matter.h"
#include "tests/support/catch.h"
#include "tests/support/fixtures.h"
#include "tests/support/scratch.h"
#include "tests/support/text.h"

using namespace quire;
using namespace quire::test;
namespace fs = std::filesystem;

namespace {

CardFacts facts_of_a_run() {
  CardFacts facts{.title = "my model", .config = Gpt2Config::preset("gpt2"), .base = "narrator"};
  facts.options = {{"model", {"models/narrator"}},
                   {"data", {"/home/me/a \"b\".csv", "d/e/"}},
                   {"validation_file", {}},
                   {"template", {"{x} => {y}"}},
                   {"loss_on", {"completion"}},
                   {"learning_rate", {"5e-05"}},
                   {"lr_scheduler_type", {"cosine"}},
                   {"num_train_epochs", {"3.0"}},
                   {"max_steps", {"-1"}},
                   {"weight_decay", {"0.0"}},
                   {"dropout", {"-1.0"}},
                   {"lora_r", {"0"}},
                   {"lora_alpha", {"8.0"}},
                   {"load_best_model_at_end", {"true"}},
                   {"bf16", {"false"}},
                   {"sample_prompt", {"a secret"}}};
  facts.losses = {.first_eval = 4.5,
                  .last_eval = 3.25,
                  .best_eval = 3.0,
                  .first_step = 0,
                  .last_step = 1200,
                  .best_step = 1000,
                  .last_loss = 2.5,
                  .steps = 1200,
                  .tokens = 1'234'567};
  return facts;
}

}  // namespace

TEST_CASE("a card has the Hub's fields and the facts of the run") {
  const std::string card = model_card(facts_of_a_run(), {.license = "mit",
                                                         .base_model = "acme/small",
                                                         .languages = {"en", "no"},
                                                         .datasets = {"acme/quotes"}});
  const std::string fields =
      "---\nlicense: mit\nlanguage:\n- en\n- \"no\"\nbase_model: \"acme/small\"\n"
      "datasets:\n- acme/quotes\nlibrary_name: transformers\npipeline_tag: text-generation\n"
      "tags:\n- gpt2\n- quire\nmodel-index:\n- name: \"my model\"\n  results:\n  - task:\n"
      "      type: text-generation\n    dataset:\n"
      "      name: \"a \\\"b\\\".csv and 1 more, the held-out part\"\n      type: csv\n"
      "    metrics:\n    - type: loss\n      value: 3.0000\n    - type: perplexity\n"
      "      value: 20.09\n---\n\n# my model\n\n";
  CHECK(card.substr(0, fields.size()) == fields);
  for (const char* part :
       {"A GPT-2 of 124M parameters: 12 layers of 768, 12 heads, a context of 1024 tokens, a "
        "vocabulary of 50,257. Trained with Quire, on from `narrator`.\n",
        "- `a \"b\".csv`\n- `e`\n\nEach record is made by the template `{x} => {y}`; its last "
        "field "
        "alone was learned.\n",
        "Validation loss: 4.5000 at step 0, 3.2500 (perplexity 25.79) at step 1,200; the best, "
        "3.0000, at step 1,000, is that of this model.\n"
        "1,200 steps over 1,234,567 tokens, the last loss 2.5000.\n",
        "| learning_rate | 5e-05 |\n| lr_scheduler_type | cosine |\n| num_train_epochs | 3.0 |\n",
        "quire generate --model 'my model' --prompt", "model=\"my model\")(\"...\")",
        "quire convert 'my model' 'my model.gguf'\nllama-cli -m 'my model.gguf' -p"}) {
    INFO(part << card);
    CHECK(contains(card, part));
  }
  // Nothing of the machine, of texts, and of what does nothing.
  for (const char* part :
       {"/home", "secret", "max_steps", "weight_decay", "dropout", "lora", "bf16"}) {
    INFO(part);
    CHECK_FALSE(contains(card, part));
  }
}

TEST_CASE("what is not known does not stand in a card") {
  CardFacts facts{.title = "m", .config = Gpt2Config::preset("gpt2")};
  std::string card = model_card(facts);
  for (const char* part : {"license", "base_model", "datasets", "language", "model-index",
                           "## Data", "## Training", "Trained", "loss"}) {
    INFO(part << card);
    CHECK_FALSE(contains(card, part));
  }
  CHECK(contains(card, "A GPT-2 of 124M parameters"));
  facts.config->activation_function = Activation::relu;  // which llama.cpp does not compute
  CHECK_FALSE(contains(model_card(facts), "llama"));

  CardFacts run = facts_of_a_run();
  run.losses = {};
  CHECK_FALSE(contains(model_card(run), "model-index"));
  CHECK_FALSE(contains(model_card(run), "loss:"));
  run.losses.steps = 5;
  run.losses.last_loss = 2;
  CHECK(contains(model_card(run), "\n5 steps, the last loss 2.0000.\n"));
  run.options["load_best_model_at_end"] = {"false"};
  run.losses = facts_of_a_run().losses;
  CHECK(contains(model_card(run), "      value: 3.2500\n"));
  run.options["validation_file"] = {"x/held.jsonl"};
  CHECK(contains(model_card(run), "      name: \"held.jsonl\"\n      type: json\n"));
}

TEST_CASE("an adapter's card names its base, where the Hub has it") {
  CardFacts facts = facts_of_a_run();
  facts.lora_r = 4;
  std::string card = model_card(facts);
  CHECK(contains(card, "library_name: peft\n"));
  CHECK(contains(card, "tags:\n- gpt2\n- quire\n- lora\n"));
  CHECK(contains(card, "A LoRA adapter of rank 4, for a GPT-2 of 124M parameters"));
  CHECK(contains(card, "The name that `narrator` has on the Hub, twice"));
  CHECK_FALSE(contains(card, "base_model: "));
  CHECK_FALSE(contains(card, "llama"));
  facts.base = "acme/small";
  facts.base_on_hub = true;
  card = model_card(facts);
  CHECK(contains(card, "base_model: \"acme/small\"\n"));
  CHECK_FALSE(contains(card, "base_model_name_or_path"));
  facts.config.reset();
  CHECK(contains(model_card(facts), "A LoRA adapter of rank 4. Trained with Quire"));
}

TEST_CASE("a card that is written anew keeps what a person wrote") {
  const CardFacts facts = facts_of_a_run();
  std::string card = model_card(facts);
  CHECK(*renewed_card(card, facts) == card);
  // Fields of one's own, some among those that are generated, and text around.
  const auto replace = [&](const std::string& what, const std::string& by) {
    REQUIRE(count_of(card, what) == 1);
    card.replace(card.find(what), what.size(), by);
  };
  replace("library_name: transformers\n",
          "license: other # see below\nlicense_link: LICENSE\nwidget:\n- text: \"Once: upon\"\n"
          "base_model: acme/narrator\nlibrary_name: old\n");
  replace("- gpt2\n- quire\n", "- poems\n- gpt2\n");
  replace("# my model\n\n", "# Poems\n\nOf mine.\n\n");
  replace(
      "Licence, intended use, what the data holds and lacks, and what the model should not be "
      "used for.\n",
      "Nothing.\n\n---\n");
  CardFacts later = facts;
  later.losses.best_eval = 2.75;
  later.base_on_hub = true;
  const std::string renewed = *renewed_card(card, later);
  std::string wanted = card;
  const auto change = [&](const std::string& what, const std::string& by) {
    REQUIRE(count_of(wanted, what) == 1);
    wanted.replace(wanted.find(what), what.size(), by);
  };
  change("library_name: old\n", "library_name: transformers\n");
  change("- poems\n- gpt2\n", "- poems\n- gpt2\n- quire\n");
  change("value: 3.0000", "value: 2.7500");
  change("value: 20.09", "value: 15.64");
  change("the best, 3.0000", "the best, 2.7500");
  CHECK(renewed == wanted);
  CHECK(contains(*renewed_card(card, later, {.license = "mit"}), "\nlicense: mit\nlicense_link"));
  // Line ends of Windows in the fields, a card without fields, and one that is none.
  CHECK(contains(
      *renewed_card("---\r\nlicense: mit\r\n---\r\n" + card.substr(card.find("# Poems")), facts),
      "---\nlicense: mit\nlibrary_name: "));
  CHECK(contains(*renewed_card(card.substr(card.find("# Poems")), facts),
                 "---\n\n# Poems\n\nOf mine."));
  CHECK_FALSE(renewed_card("# Mine\n", facts));
  CHECK_FALSE(renewed_card("", facts));
  CHECK_FALSE(renewed_card(card.substr(0, card.find("<!-- The end")), facts));
}

TEST_CASE("fields are kept as they were written") {
  const std::string text =
      "---\n# of mine\na: 1\nlist: [x, y]\nb: 'two words' \n  - deep: 3\n\nc-d:\n- x\n---\nrest";
  std::string_view rest = text;
  FrontMatter front = FrontMatter::take(rest);
  CHECK(rest == "rest");
  CHECK(front.text() == text.substr(0, text.size() - 4) + "\n");
  CHECK(front.value("a") == "1");
  CHECK(front.value("b") == "two words");
  CHECK(front.value("none").empty());
  front.add_to_list("list", {"z"});  // of a form that is not gone into
  front.add_to_list("c-d", {"x", "true", "1x"});
  CHECK(contains(front.text(), "list: [x, y]\n"));
  CHECK(contains(front.text(), "c-d:\n- x\n- \"true\"\n- \"1x\"\n---\n"));
  for (std::string_view none : {"", "---", "----\na: 1\n---\n", "---\na: 1\n", "a: 1\n---\n"}) {
    const std::string_view before = none;
    CHECK_FALSE(FrontMatter::take(none).has("a"));
    CHECK(none == before);
  }
  CHECK(in_yaml("en") == "en");
  CHECK(in_yaml("No") == "\"No\"");
  CHECK(in_yaml("a: b") == "\"a: b\"");
  CHECK(in_yaml("3.0") == "\"3.0\"");
}

TEST_CASE("a card is made of any folder that holds a model") {
  QUIRE_FIXTURE(models, "models/tiny-char");
  const fs::path folder = models.parent_path();
  const std::string whole = *model_card_for_folder(models);
  CHECK(contains(whole, "# tiny-char\n"));
  CHECK(contains(whole,
                 "A GPT-2 of 756k parameters: 3 layers of 128, 4 heads, a context of 256 tokens"));
  CHECK(contains(whole, "quire convert tiny-char tiny-char.gguf\n"));
  CHECK_FALSE(contains(whole, "Trained"));
  CHECK(contains(*model_card_for_folder(folder / "tiny-char-formats/bin-zip"), "In transformers"));

  const ScratchFolder scratch;
  fs::copy(folder / "tiny-char-gguf/tiny-char-f16.gguf", scratch / "gguf-model.gguf");
  const std::string gguf = *model_card_for_folder(scratch.path());
  const std::string title = scratch.path().filename().string();
  CHECK(contains(gguf, "quire generate --model " + title + "/gguf-model.gguf --prompt"));
  CHECK(contains(gguf, "\nllama-cli -m " + title + "/gguf-model.gguf -p"));
  CHECK_FALSE(contains(gguf, "quire convert"));
  CHECK_FALSE(contains(gguf, "transformers import"));

  scratch.write("README.md", "# My own\n");
  CHECK_FALSE(model_card_for_folder(scratch.path()));
  const ScratchFolder empty;
  CHECK(contains(empty.message_of(Fault::bad_data, [&] { model_card_for_folder(empty.path()); }),
                 "DIR holds no model"));
}

TEST_CASE("what lies beside a model tells of its run") {
  QUIRE_FIXTURE(model, "models/tiny-char");
  const ScratchFolder scratch;
  for (const char* name : {"config.json", "model.safetensors"})
    fs::copy(model / name, scratch / name);
  scratch.write("quire_config.json", R"({"model": "", "data": ["x.txt"], "seed": 7})");
  scratch.write(
      "trainer_state.json",
      R"({"global_step": 40, "loss": 2.5, "eval_loss": 2.75, "eval_step": 40, "best_metric":
                    2.5, "best_global_step": 20, "first_eval_loss": 5.5, "num_input_tokens_seen": 900})");
  const auto losses = [&] { return facts_of_folder(scratch.path()).losses; };
  CHECK(losses().first_eval == 5.5);
  CHECK(losses().last_eval == 2.75);
  CHECK(losses().last_step == 40);
  CHECK(losses().best_eval == 2.5);
  CHECK(losses().best_step == 20);
  CHECK(losses().steps == 40);
  CHECK(losses().tokens == 900);
  CHECK(contains(*model_card_for_folder(scratch.path()), "Trained with Quire, from scratch."));
  scratch.write(
      "log.jsonl",
      "{\"step\":0,\"eval_loss\":4}\n{\"step\":3,\"loss\":3.5,\"tokens\":30}\nnot JSON\n"
      "{\"step\":3,\"eval_loss\":3}\n{\"step\":6,\"loss\":null,\"tokens\":60}\n"
      "{\"step\":6,\"eval_loss\":3.5}\n{\"step\":6,\"sample\":\"a text\",\"prompt\":\"a\"}\n{");
  CHECK(losses().first_eval == 4);
  CHECK(losses().best_eval == 3);
  CHECK(losses().best_step == 3);
  CHECK(losses().last_eval == 3.5);
  CHECK(losses().last_step == 6);
  CHECK(losses().steps == 3);
  CHECK(losses().tokens == 30);
  CHECK_FALSE(contains(*model_card_for_folder(scratch.path()), "a text"));
  // A word that is no name in the Hub's cache may have been a folder.
  scratch.write("quire_config.json", R"({"model": "no-such-model-of-the-hub"})");
  CHECK_FALSE(facts_of_folder(scratch.path()).base_on_hub);
  CHECK(facts_of_folder(scratch.path()).base == "no-such-model-of-the-hub");
}
