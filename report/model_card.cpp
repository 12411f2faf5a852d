#include "report/model_card.h"

#include <fmt/format.h>

#include <cmath>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/json.h"
#include "base/numbers.h"
#include "base/text.h"
#include "pipeline/model_info.h"
#include "report/front_matter.h"

namespace quire {

namespace {

namespace fs = std::filesystem;

constexpr std::string_view kBegin =
    "<!-- From here to the end of this part \"quire card\" writes anew: write above or below. "
    "-->\n";
constexpr std::string_view kEnd = "<!-- The end of what \"quire card\" writes. -->\n";

/// A string as YAML and Python have it, which read JSON's.
std::string in_json(const std::string& text) {
  return json_text(nlohmann::json(text));
}

/// The last part of a path: where it lies on this machine is nobody's affair.
std::string last_part(const std::string& path) {
  const fs::path named(path);
  return (named.has_filename() ? named.filename() : named.parent_path().filename()).string();
}

/// Names of files, without their folders.
std::vector<std::string> files_of(const CardFacts& facts, const char* option) {
  const auto paths = facts.options.find(option);
  if (paths == facts.options.end()) return {};
  std::vector<std::string> names;
  for (const std::string& path : paths->second) names.push_back(last_part(path));
  return names;
}

bool flag(const CardFacts& facts, const char* name) {
  return facts.option(name) == "true";
}

/// The loss of the model that was kept.
double kept_loss(const CardFacts& facts) {
  return flag(facts, "load_best_model_at_end") ? facts.losses.best_eval : facts.losses.last_eval;
}

/// The Hub's fields of a result: only what was measured on data that was not learned from.
std::string model_index(const CardFacts& facts) {
  const double loss = kept_loss(facts);
  if (std::isnan(loss)) return "";
  std::vector<std::string> files = files_of(facts, "validation_file");
  const bool separate = !files.empty();
  if (!separate) files = files_of(facts, "data");
  if (files.empty()) return "";
  std::string name = files[0];
  if (files.size() > 1) name += fmt::format(" and {} more", files.size() - 1);
  if (!separate) name += ", the held-out part";
  const std::string ending = fs::path(files[0]).extension().string();
  const char* type = ending == ".csv" || ending == ".tsv"      ? "csv"
                     : ending == ".jsonl" || ending == ".json" ? "json"
                                                               : "text";
  return fmt::format(
      "model-index:\n- name: {}\n  results:\n  - task:\n      type: text-generation\n"
      "    dataset:\n      name: {}\n      type: {}\n    metrics:\n"
      "    - type: loss\n      value: {:.4f}\n    - type: perplexity\n      value: {:.4g}\n",
      in_json(facts.title), in_json(name), type, loss, std::exp(loss));
}

std::string list_field(const char* name, const std::vector<std::string>& words) {
  std::string lines = std::string(name) + ":\n";
  for (const std::string& word : words) lines += "- " + in_yaml(word) + "\n";
  return lines;
}

void set_fields(const CardFacts& facts, const CardFields& fields, FrontMatter& front) {
  if (!fields.license.empty()) front.set("license", "license: " + fields.license + "\n");
  if (!fields.languages.empty()) front.set("language", list_field("language", fields.languages));
  // The Hub refuses as base_model what it does not have. What a person wrote there is known better.
  if (!fields.base_model.empty()) {
    front.set("base_model", "base_model: " + in_json(fields.base_model) + "\n");
  } else if (facts.base_on_hub && !front.has("base_model")) {
    front.set("base_model", "base_model: " + in_json(facts.base) + "\n");
  }
  if (!fields.datasets.empty()) front.set("datasets", list_field("datasets", fields.datasets));
  front.set("library_name",
            fmt::format("library_name: {}\n", facts.lora_r > 0 ? "peft" : "transformers"));
  front.set("pipeline_tag", "pipeline_tag: text-generation\n");
  std::vector<std::string> tags = {"gpt2", "quire"};
  if (facts.lora_r > 0) tags.emplace_back("lora");
  front.add_to_list("tags", tags);
  if (const std::string index = model_index(facts); !index.empty()) {
    front.set("model-index", index);
  }
}

std::string what_it_is(const CardFacts& facts) {
  const bool adapter = facts.lora_r > 0;
  std::string text = adapter ? fmt::format("A LoRA adapter of rank {}", facts.lora_r) : "A GPT-2";
  if (facts.config) {
    const Gpt2Config& c = *facts.config;
    text += fmt::format(
        "{} of {} parameters: {} of {}, {}, a context of {} tokens, a vocabulary of {}",
        adapter ? ", for a GPT-2" : "", human_count(static_cast<double>(c.parameter_count())),
        counted(c.n_layer, "layer"), c.n_embd, counted(c.n_head, "head"), c.n_positions,
        with_commas(c.vocab_size));
  }
  text += ".";
  if (facts.options.empty()) return text + "\n\n";
  return text + fmt::format(" Trained with Quire, {}.\n\n",
                            facts.base.empty() ? "from scratch" : "on from `" + facts.base + "`");
}

std::string data_part(const CardFacts& facts) {
  const std::vector<std::string> data = files_of(facts, "data");
  if (data.empty()) return "";
  std::string text = "## Data\n\n";
  for (const std::string& file : data) text += "- `" + file + "`\n";
  for (const std::string& file : files_of(facts, "validation_file")) {
    text += "- `" + file + "`, to validate on\n";
  }
  if (const std::string form = facts.option("template"); !form.empty()) {
    text +=
        "\nEach record is made by the template `" + form + "`" +
        (facts.option("loss_on") == "completion" ? "; its last field alone was learned.\n" : ".\n");
  }
  return text + "\n";
}

std::string losses_text(const CardFacts& facts) {
  const CardLosses& l = facts.losses;
  std::string text;
  if (!std::isnan(l.last_eval)) {
    text += fmt::format(
        "Validation loss: {:.4f} at step {}, {:.4f} (perplexity {}) at step {}; the best, {:.4f}, "
        "at "
        "step {}{}.\n",
        l.first_eval, l.first_step, l.last_eval, rounded_number(std::exp(l.last_eval), 4),
        with_commas(l.last_step), l.best_eval, with_commas(l.best_step),
        flag(facts, "load_best_model_at_end") ? ", is that of this model" : "");
  }
  if (l.steps > 0) {
    text += fmt::format("{}{}, the last loss {:.4f}.\n", counted(l.steps, "step"),
                        l.tokens > 0 ? fmt::format(" over {}", counted(l.tokens, "token")) : "",
                        l.last_loss);
  }
  return text.empty() ? text : text + "\n";
}

bool above_zero(const CardFacts& facts, const char* option) {
  return std::atof(facts.option(option).c_str()) > 0;
}

/// Whether an option of that value did something.
bool is_shown(const CardFacts& facts, const std::string& name) {
  if (name == "lora_alpha") return facts.lora_r > 0;
  if (name == "num_train_epochs") return !above_zero(facts, "max_steps");
  const std::string value = facts.option(name);
  return !value.empty() && value != "false";
}

std::string training_part(const CardFacts& facts) {
  if (facts.options.empty()) return "";
  /// Of those that are 0 or below where they do nothing, only what does something.
  struct Shown {
    const char* name;
    bool wants_above_zero = false;
  };
  constexpr Shown kShown[] = {{"learning_rate"},
                              {"lr_scheduler_type"},
                              {"warmup_steps", true},
                              {"weight_decay", true},
                              {"num_train_epochs"},
                              {"max_steps", true},
                              {"per_device_train_batch_size"},
                              {"gradient_accumulation_steps"},
                              {"block_size", true},
                              {"packing"},
                              {"validation_split"},
                              {"dropout", true},
                              {"freeze_layers", true},
                              {"lora_r", true},
                              {"lora_alpha"},
                              {"bf16"},
                              {"seed"},
                              {"data_seed"}};
  std::string text = "## Training\n\n" + losses_text(facts);
  text +=
      "AdamW; all options are in `quire_config.json`.\n\n"
      "| option | value |\n|---|---|\n";
  for (const auto& [name, wants_above_zero] : kShown) {
    if (!is_shown(facts, name) || (wants_above_zero && !above_zero(facts, name))) continue;
    text += fmt::format("| {} | {} |\n", name, facts.option(name));
  }
  return text + "\n";
}

std::string code(const std::string& language, const std::string& lines) {
  return "```" + language + "\n" + lines + "```\n\n";
}

/// llama.cpp computes one kind of GPT-2.
bool runs_in_llama_cpp(const Gpt2Config& c) {
  return c.activation_function == Activation::gelu_new && c.scale_attn_weights &&
         !c.scale_attn_by_inverse_layer_idx;
}

std::string how_to_write(const CardFacts& facts) {
  const std::string title = facts.title;
  const bool folder = facts.format == "safetensors" || facts.format == "PyTorch";
  const std::string model = folder || facts.file.empty() ? title : title + "/" + facts.file;
  std::string text = "## Writing with it\n\n";
  text += code("", fmt::format("quire generate --model {} --prompt \"...\"\n", in_shell(model)));
  if (facts.lora_r > 0) {
    return text +
           code("python", fmt::format("from peft import AutoPeftModelForCausalLM\n"
                                      "from transformers import AutoTokenizer\n\n"
                                      "tokenizer = AutoTokenizer.from_pretrained({0})\n"
                                      "model = AutoPeftModelForCausalLM.from_pretrained({0})\n"
                                      "ids = tokenizer(\"...\", return_tensors=\"pt\").input_ids\n"
                                      "print(tokenizer.decode(model.generate(input_ids=ids, "
                                      "max_new_tokens=40)[0]))\n",
                                      in_json(title)));
  }
  if (folder) {
    text += "In transformers:\n\n" +
            code("python", fmt::format("from transformers import pipeline\n"
                                       "print(pipeline(\"text-generation\", model={})(\"...\"))\n",
                                       in_json(title)));
  }
  if (!facts.config || !runs_in_llama_cpp(*facts.config)) return text;
  const bool gguf = facts.format == "GGUF";
  const std::string file = gguf ? model : title + ".gguf";
  std::string commands;
  if (!gguf) commands = fmt::format("quire convert {} {}\n", in_shell(model), in_shell(file));
  commands += fmt::format("llama-cli -m {} -p \"...\"\n", in_shell(file));
  return text + "In llama.cpp:\n\n" + code("", commands);
}

std::string base_of_adapter(const CardFacts& facts, const FrontMatter& front) {
  if (facts.lora_r == 0 || facts.base_on_hub || facts.base.empty()) return "";
  std::string text = fmt::format(
      "`base_model_name_or_path` in `adapter_config.json` is where `{}` lay on the machine that "
      "trained this. Elsewhere, write there where it lies now: for PEFT a folder with "
      "`config.json` and `model.safetensors`, or its name on the Hub.\n\n",
      facts.base);
  if (front.has("base_model")) return text;
  return text +
         fmt::format(
             "The name that `{}` has on the Hub, twice, is to be added before it is published: as "
             "`base_model` among the fields at the top of this file, and as "
             "`base_model_name_or_path` in `adapter_config.json`.\n\n",
             facts.base);
}

/// The part between the comments, these included.
std::string generated(const CardFacts& facts, const FrontMatter& front) {
  return fmt::format("{}\n{}{}{}{}{}{}", kBegin, what_it_is(facts), data_part(facts),
                     training_part(facts), how_to_write(facts), base_of_adapter(facts, front),
                     kEnd);
}

constexpr std::string_view kToBeAdded =
    "\n## To be added before it is published\n\n"
    "Licence, intended use, what the data holds and lacks, and what the model should not be used "
    "for.\n";

}  // namespace

std::string model_card(const CardFacts& facts, const CardFields& fields) {
  FrontMatter front;
  set_fields(facts, fields, front);
  return fmt::format("{}# {}\n\n{}{}", front.text(), facts.title, generated(facts, front),
                     kToBeAdded);
}

std::optional<std::string> renewed_card(std::string_view card, const CardFacts& facts,
                                        const CardFields& fields) {
  FrontMatter front = FrontMatter::take(card);
  const std::size_t begin = card.find(kBegin), end = card.find(kEnd);
  if (begin == std::string_view::npos || end == std::string_view::npos || end < begin) return {};
  set_fields(facts, fields, front);
  std::string_view above = card.substr(0, begin);
  above.remove_prefix(std::min(above.find_first_not_of("\r\n"), above.size()));
  return fmt::format("{}{}{}{}", front.text(), above, generated(facts, front),
                     card.substr(end + kEnd.size()));
}

std::optional<std::string> model_card_for_folder(const fs::path& folder, const CardFields& fields) {
  const CardFacts facts = facts_of_folder(folder);
  std::error_code ignored;
  if (!fs::exists(folder / "README.md", ignored)) return model_card(facts, fields);
  return renewed_card(read_file(folder / "README.md"), facts, fields);
}

bool write_about_run(const fs::path& folder, const std::string& saved, const TrainOptions& options,
                     const Gpt2Config& config) {
  write_file(folder / "quire_config.json", saved);
  if (folder != options.training.output_dir) return true;
  const CardFacts facts = facts_of_run(folder, saved, config, options.training.base_model);
  const fs::path path = folder / "README.md";
  std::error_code ignored;
  const std::optional<std::string> card =
      fs::exists(path, ignored) ? renewed_card(read_file(path), facts) : model_card(facts);
  if (card) write_file(path, *card);
  return card.has_value();
}

}  // namespace quire
