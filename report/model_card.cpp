#include "report/model_card.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/json.h"
#include "base/numbers.h"
#include "base/text.h"
#include "pipeline/model_path.h"

namespace quire {

namespace {

/// A string as YAML has it, which reads JSON's.
std::string quoted(const std::string& text) {
  return json_text(nlohmann::json(text));
}

/// The last part of a path: where it lies on this machine is nobody's affair.
std::string last_part(const std::string& path) {
  const std::filesystem::path named(path);
  return (named.has_filename() ? named.filename() : named.parent_path().filename()).string();
}

/// What was gone on from.
struct Base {
  std::string name;  ///< its name on the Hub, or the last part of its path; empty: a fresh model
  bool on_hub;       ///< which has it under that name
};

/// The Hub refuses as `base_model` what it does not have, and an adapter is nothing without one.
std::string hub_fields(const Base& base, bool adapter) {
  std::string fields =
      fmt::format("---\nlibrary_name: {}\npipeline_tag: text-generation\ntags:\n- gpt2\n- quire\n",
                  adapter ? "peft" : "transformers");
  if (adapter) fields += "- lora\n";
  const bool named = base.on_hub || (!adapter && !base.name.empty());
  if (named) fields += "base_model: " + quoted(base.name) + "\n";
  return fields + "---\n\n";
}

std::string how_to_write(const std::string& title, const Base& base, bool adapter) {
  std::string text = fmt::format(
      "## Writing with it\n\n```\nquire generate --model {} --prompt \"...\"\n```\n\n```python\n",
      in_shell(title));
  if (!adapter) {
    return text + fmt::format(
                      "from transformers import pipeline\n"
                      "print(pipeline(\"text-generation\", model=\"{}\")(\"...\"))\n```\n\n",
                      title);
  }
  text += fmt::format(
      "from peft import AutoPeftModelForCausalLM\n"
      "from transformers import AutoTokenizer\n\n"
      "tokenizer = AutoTokenizer.from_pretrained(\"{0}\")\n"
      "model = AutoPeftModelForCausalLM.from_pretrained(\"{0}\")\n"
      "ids = tokenizer(\"...\", return_tensors=\"pt\").input_ids\n"
      "print(tokenizer.decode(model.generate(input_ids=ids, max_new_tokens=40)[0]))\n```\n\n",
      title);
  if (base.on_hub) return text;
  return text + fmt::format(
                    "`base_model_name_or_path` in `adapter_config.json` is where `{}` lay on the "
                    "machine that trained this. Elsewhere, write there where it lies now: for PEFT "
                    "a folder with `config.json` and `model.safetensors`, or its name on the "
                    "Hub.\n\n",
                    base.name);
}

}  // namespace

std::string model_card(const TrainOptions& options, const Gpt2Config& config) {
  const TrainingConfig& t = options.training;
  const CorpusOptions& corpus = options.corpus;
  const bool adapter = t.lora.r > 0 && !t.lora_merge;
  const std::string& model = adapter ? t.base_model : options.model;
  Base base{.name = model, .on_hub = is_hub_name(model)};
  if (!base.on_hub) base.name = last_part(model);
  const std::string title = last_part(t.output_dir.string());
  std::string card = hub_fields(base, adapter) + fmt::format("# {}\n\n", title);
  if (adapter) card += fmt::format("A LoRA adapter of rank {}, for a", t.lora.r);
  card += fmt::format(
      "{} GPT-2 of {} parameters: {} of {}, {}, a context of {} tokens, a vocabulary "
      "of {}. Trained with Quire, {}.\n\n",
      adapter ? "" : "A", human_count(static_cast<double>(config.parameter_count())),
      counted(config.n_layer, "layer"), config.n_embd, counted(config.n_head, "head"),
      config.n_positions, with_commas(config.vocab_size),
      base.name.empty() ? "from scratch" : "on from `" + base.name + "`");
  card += "## Data\n\n";
  for (const std::string& path : corpus.paths) card += "- `" + last_part(path) + "`\n";
  for (const std::string& path : options.validation_paths) {
    card += "- `" + last_part(path) + "`, to validate on\n";
  }
  if (!corpus.template_text.empty()) {
    card += "\nEach record is made by the template `" + corpus.template_text + "`";
    card += corpus.loss_on_completion ? "; its last field alone was learned.\n" : ".\n";
  }
  card += fmt::format(
      "\n## Training\n\n"
      "AdamW, learning rate {}, {} schedule, {} a step{}; all options are in "
      "`quire_config.json`, the "
      "losses in the log beside it.\n\n",
      compact_number(t.learning_rate), t.lr_scheduler_type,
      counted(t.micro_batch_rows() * t.gradient_accumulation_steps, "row"),
      t.max_steps > 0 ? ", " + counted(t.max_steps, "step")
                      : fmt::format(", {} epoch{}", compact_number(t.num_train_epochs),
                                    t.num_train_epochs == 1 ? "" : "s"));
  card += how_to_write(title, base, adapter);
  card += "## To be added before it is published\n\n";
  if (adapter && !base.on_hub) {
    card += fmt::format(
        "The name that `{}` has on the Hub, twice: as `base_model` among the fields at the top of "
        "this file, and as `base_model_name_or_path` in `adapter_config.json`.\n\n",
        base.name);
  }
  card +=
      "Licence, intended use, what the data holds and lacks, and what the model should not be used "
      "for.\n";
  return card;
}

void write_about_run(const std::filesystem::path& folder, const std::string& saved,
                     const TrainOptions& options, const Gpt2Config& config) {
  write_file(folder / "quire_config.json", saved);
  if (folder == options.training.output_dir) {
    write_file(folder / "README.md", model_card(options, config));
  }
}

}  // namespace quire
