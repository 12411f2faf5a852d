#include "cli/model_card.h"

#include <fmt/format.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/json.h"
#include "base/text.h"
#include "cli/terminal.h"

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

}  // namespace

std::string model_card(const TrainOptions& options, const Gpt2Config& config) {
  const std::string title = last_part(options.training.output_dir.string());
  std::string card =
      "---\nlibrary_name: transformers\npipeline_tag: text-generation\ntags:\n- gpt2\n- quire\n";
  if (!options.model.empty()) card += "base_model: " + quoted(last_part(options.model)) + "\n";
  card += fmt::format("---\n\n# {}\n\n", title);
  card += fmt::format(
      "A GPT-2 of {} parameters: {} layers of {}, {} heads, a context of {} tokens, a vocabulary "
      "of {}. "
      "Trained with Quire, {}.\n\n",
      human_count(static_cast<double>(config.parameter_count())), config.n_layer, config.n_embd,
      config.n_head, config.n_positions, with_commas(config.vocab_size),
      options.model.empty() ? "from scratch" : "on from `" + last_part(options.model) + "`");
  card += "## Data\n\n";
  for (const std::string& path : options.corpus.paths) card += "- `" + last_part(path) + "`\n";
  for (const std::string& path : options.validation_paths) {
    card += "- `" + last_part(path) + "`, to validate on\n";
  }
  if (!options.corpus.template_text.empty()) {
    card += "\nEach record is made by the template `" + options.corpus.template_text + "`";
    card += options.corpus.loss_on_completion ? "; its last field alone was learned.\n" : ".\n";
  }
  const TrainingConfig& t = options.training;
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
  card += fmt::format(
      "## Writing with it\n\n```\nquire generate --model {0} --prompt \"...\"\n```\n\n"
      "```python\nfrom transformers import pipeline\nprint(pipeline(\"text-generation\", "
      "model=\"{0}\")(\"...\"))\n"
      "```\n\n"
      "## To be added before it is published\n\n"
      "Licence, intended use, what the data holds and lacks, and what the model should not be used "
      "for.\n",
      title);
  return card;
}

}  // namespace quire
