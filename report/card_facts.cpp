#include "report/card_facts.h"

#include <cstdlib>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/text.h"
#include "engine/training/log_files.h"
#include "pipeline/model_info.h"
#include "pipeline/model_path.h"

namespace quire {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

/// The name of what a path leads to, wherever that lies.
std::string last_part(const fs::path& path) {
  const fs::path whole = fs::absolute(path).lexically_normal();
  return (whole.has_filename() ? whole : whole.parent_path()).filename().string();
}

template <class T>
T read_as(const Json& object, const char* name, T otherwise) {
  if (object.is_object() && object.contains(name)) read_json(object[name], otherwise);
  return otherwise;
}

void add_line(const Json& line, CardLosses& losses) {
  if (!line.is_object()) return;
  const auto step = read_as<std::int64_t>(line, "step", 0);
  const double loss = read_as(line, "loss", NAN), eval = read_as(line, "eval_loss", NAN);
  if (!std::isnan(loss)) {
    losses.last_loss = loss;
    losses.steps = step;
    losses.tokens = read_as(line, "tokens", losses.tokens);
  }
  if (std::isnan(eval)) return;
  if (std::isnan(losses.first_eval)) {
    losses.first_eval = eval;
    losses.first_step = step;
  }
  if (std::isnan(losses.best_eval) || eval < losses.best_eval) {
    losses.best_eval = eval;
    losses.best_step = step;
  }
  losses.last_eval = eval;
  losses.last_step = step;
}

CardLosses losses_in(const fs::path& folder) {
  CardLosses losses;
  std::error_code ignored;
  if (const fs::path log = folder / JsonlLog::kFileName; fs::exists(log, ignored)) {
    const std::string text = read_file(log);
    for (std::string_view rest = text; !rest.empty();) {
      add_line(parse_json_or_discard<Json>(take_until('\n', rest)), losses);
    }
    return losses;
  }
  const fs::path state = folder / "trainer_state.json";
  if (!fs::exists(state, ignored)) return losses;
  const Json json = parse_json_or_discard<Json>(read_file(state));
  losses.first_eval = read_as(json, "first_eval_loss", NAN);
  losses.last_eval = read_as(json, "eval_loss", NAN);
  losses.last_step = read_as<std::int64_t>(json, "eval_step", 0);
  losses.best_eval = read_as(json, "best_metric", NAN);
  losses.best_step = read_as<std::int64_t>(json, "best_global_step", 0);
  losses.last_loss = read_as(json, "loss", NAN);
  losses.steps = read_as<std::int64_t>(json, "global_step", 0);
  losses.tokens = read_as<std::int64_t>(json, "num_input_tokens_seen", 0);
  return losses;
}

/// A name is the Hub's where its files lie in the Hub's cache: any other word may have been a folder
/// that is no longer there.
void set_base(const std::string& model, CardFacts& facts) {
  if (model.empty()) return;
  try {
    facts.base_on_hub = is_hub_name(model) && !resolve_model(model).empty();
  } catch (const Error&) {}
  facts.base = facts.base_on_hub ? model : last_part(model);
}

std::string text_of(const Json& value) {
  return value.is_string() ? value.get<std::string>() : json_text(value);
}

void set_options(std::string_view text, CardFacts& facts) {
  const Json options = parse_json_or_discard<Json>(text);
  if (!options.is_object()) return;
  for (const auto& [name, value] : options.items()) {
    std::vector<std::string>& texts = facts.options[name];
    if (!value.is_array()) texts.push_back(text_of(value));
    for (const Json& one : value.is_array() ? value : Json::array()) texts.push_back(text_of(one));
  }
}

}  // namespace

std::string CardFacts::option(const std::string& name) const {
  const auto entry = options.find(name);
  return entry == options.end() || entry->second.empty() ? "" : entry->second.front();
}

CardFacts facts_of_run(const fs::path& folder, std::string_view options, const Gpt2Config& config,
                       const std::string& adapted) {
  CardFacts facts{.title = last_part(folder), .config = config};
  set_options(options, facts);
  if (facts.option("lora_merge") != "true")
    facts.lora_r = std::atoi(facts.option("lora_r").c_str());
  set_base(facts.lora_r > 0 ? adapted : facts.option("model"), facts);
  facts.losses = losses_in(folder);
  return facts;
}

CardFacts facts_of_folder(const fs::path& folder) {
  const ModelInfo info = model_info(folder);
  if (!info.foreign.empty()) {
    throw Error(Fault::bad_data, folder.string() + " holds no GPT-2", {info.foreign});
  }
  CardFacts facts{.title = last_part(folder), .format = info.format, .config = info.config};
  if (info.files.size() == 1) facts.file = info.files.front().filename().string();
  std::error_code ignored;
  if (const fs::path saved = folder / "quire_config.json"; fs::exists(saved, ignored)) {
    set_options(read_file(saved), facts);
  }
  std::string base = facts.option("model");
  if (info.adapter) {
    facts.lora_r = info.adapter->lora.r;
    base = info.adapter->base_model_name_or_path;
    try {
      facts.config = resolved_config(folder);
    } catch (const Error&) {}  // the model that it adapts is not here
  }
  set_base(base, facts);
  facts.losses = losses_in(folder);
  return facts;
}

}  // namespace quire
