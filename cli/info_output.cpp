#include "cli/info_output.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <span>
#include <utility>

#include "base/json.h"
#include "base/text.h"
#include "cli/terminal.h"
#include "engine/formats/hub_folder.h"
#include "engine/formats/weight_files.h"

namespace quire {
namespace {

using Json = nlohmann::ordered_json;

std::string line(std::string_view label, const std::string& text) {
  return fmt::format("  {:<12}{}\n", label, text);
}

/// The first three of a list of names.
std::string first_names(const std::vector<std::string>& names) {
  constexpr std::size_t kShown = 3;
  const std::span<const std::string> first(names.data(), std::min(kShown, names.size()));
  return fmt::format("{}{}", fmt::join(first, ", "), names.size() > kShown ? ", …" : "");
}

std::string bytes_text(std::uint64_t bytes) {
  return human_bytes(static_cast<double>(bytes));
}

std::string config_text(const Gpt2Config& c) {
  std::string text =
      fmt::format("{} of {}, {}, context {}, vocabulary {}, {}", counted(c.n_layer, "layer"),
                  c.n_embd, counted(c.n_head, "head"), with_commas(c.n_positions),
                  with_commas(c.vocab_size), name_of(c.activation_function));
  if (c.n_inner > 0) text += fmt::format(", MLP of {}", c.n_inner);
  if (!c.scale_attn_weights) text += ", scores unscaled";
  if (c.scale_attn_by_inverse_layer_idx) text += ", scores divided by the layer's number";
  return text;
}

const FileTensor* tensor_of(const ModelInfo& info, TensorKind kind) {
  const auto at = std::find(info.kinds.begin(), info.kinds.end(), kind);
  return at == info.kinds.end() ? nullptr : &info.source.tensors()[at - info.kinds.begin()];
}

std::string head_text(const ShownModel& shown) {
  const ModelInfo& info = shown.info;
  if (!info.config->tie_word_embeddings) return "lm_head.weight, of its own";
  const FileTensor* const head = tensor_of(info, TensorKind::tied_head);
  if (head == nullptr) return "tied to wte.weight";
  const FileTensor* table = info.source.find("wte.weight");
  if (table == nullptr) table = info.source.find("transformer.wte.weight");
  if (table != nullptr && table->bytes.data() == head->bytes.data()) {
    return "tied: lm_head.weight and wte.weight lie in the same bytes";
  }
  if (shown.check == nullptr || !shown.check->head) {
    return "lm_head.weight is stored beside wte.weight, to which the config ties it";
  }
  const std::int64_t differing = shown.check->head->differing;
  return differing == 0 ? "tied: lm_head.weight is equal to wte.weight"
                        : fmt::format(
                              "the config ties it, but {} of lm_head.weight differ from "
                              "wte.weight",
                              counted(differing, "element"));
}

std::string parameters_text(const ModelInfo& info) {
  const std::int64_t tensors =
      std::count(info.kinds.begin(), info.kinds.end(), TensorKind::parameter);
  std::string text =
      fmt::format("{} in {}", with_commas(info.parameters), counted(tensors, "tensor"));
  if (const std::string size = openai_size(*info.config); !size.empty()) text += ", as " + size;
  return text;
}

std::string tokenizer_text(const TokenizerInfo& tokenizer) {
  if (tokenizer.size == 0) return tokenizer.file + ", which holds no vocabulary";
  std::string text = counted(tokenizer.size, "token");
  constexpr std::size_t kShown = 4;
  std::size_t count = 0;
  for (const auto& [id, special] : tokenizer.special) {
    if (++count > kShown) continue;
    text += fmt::format(", {} is {}", special.empty() ? "the end of text" : special, id);
  }
  if (count > kShown) text += fmt::format(", {} more special ones", count - kShown);
  return text + " (" + tokenizer.file + ")";
}

std::string about(const ShownModel& shown) {
  const ModelInfo& info = shown.info;
  std::string text = bold(shown.name) + "\n";
  text +=
      line("format", fmt::format("{}, {} in {}", info.format, bytes_text(info.file_bytes),
                                 info.files.size() == 1 ? info.files.front().filename().string()
                                                        : counted(std::ssize(info.files), "file")));
  if (info.config) {
    text += line("model", config_text(*info.config));
    text += line("config", "from " + info.config_from);
    text += line("parameters", parameters_text(info));
    text += line("head", head_text(shown));
  } else if (info.adapter) {
    const LoraConfig& lora = info.adapter->lora;
    text += line("adapter", fmt::format("LoRA of rank {}, alpha {}, for {}", lora.r,
                                        compact_number(lora.lora_alpha),
                                        info.adapter->base_model_name_or_path));
    text += line("elements", with_commas(info.parameters));
  } else {
    text += line("no GPT-2", info.foreign);
    text += line("elements", fmt::format("{} in {}", with_commas(info.parameters),
                                         counted(std::ssize(info.kinds), "tensor")));
  }
  for (const auto& [type, count] : type_counts(info.source)) {
    text += line("type", fmt::format("{}: {}, {}, {}", type, counted(count.tensors, "tensor"),
                                     counted(count.elements, "element"), bytes_text(count.bytes)));
  }
  if (info.tokenizer) text += line("tokenizer", tokenizer_text(*info.tokenizer));
  for (const auto& [key, value] : info.source.metadata()) {
    text += line("metadata", key + ": " + cut_to_width(without_controls(value), 200));
  }
  for (const std::string& trouble : info.trouble) text += line("trouble", trouble);
  return text;
}

/// "h.*.ln_1.bias" of "h.3.ln_1.bias".
std::string pattern_of(std::string_view name) {
  std::string pattern;
  while (!name.empty()) {
    const bool last = name.find('.') == std::string_view::npos;
    const std::string_view part = take_until('.', name);
    const bool number = part.find_first_not_of("0123456789") == std::string_view::npos;
    pattern += (number && !part.empty() ? "*" : std::string(part)) + (last ? "" : ".");
  }
  return pattern;
}

/// Tensors that are alike but for the numbers in their names, in the order of the first of them.
void print_alike(const TensorSource& source) {
  struct Alike {
    const FileTensor* first;
    std::int64_t tensors = 0;
    std::uint64_t bytes = 0;
  };
  std::map<std::string, std::size_t> places;
  std::vector<std::pair<std::string, Alike>> rows;
  for (const FileTensor& tensor : source.tensors()) {
    const std::string pattern = pattern_of(tensor.name);
    const auto [place, added] =
        places.emplace(pattern + " " + tensor.dtype_name() + to_string(tensor.shape), rows.size());
    if (added) rows.push_back({pattern, {&tensor}});
    Alike& alike = rows[place->second].second;
    ++alike.tensors;
    alike.bytes += tensor.bytes.size();
  }
  constexpr std::size_t kShown = 32;  // a GPT-2 has 16, with old masks 18
  std::vector<std::vector<std::string>> table = {{"tensors", "×", "shape", "type", "bytes"}};
  for (std::size_t i = 0; i < std::min(rows.size(), kShown); ++i) {
    const auto& [pattern, alike] = rows[i];
    table.push_back({alike.tensors == 1 ? alike.first->name : pattern, with_commas(alike.tensors),
                     to_string(alike.first->shape), alike.first->dtype_name(),
                     bytes_text(alike.bytes)});
  }
  print("\n" + format_table(table, output_columns()));
  if (rows.size() > kShown) {
    print_lines(fmt::format("  and {} rows more: --tensors lists all\n", rows.size() - kShown));
  }
}

void print_each(const TensorSource& source) {
  std::vector<std::vector<std::string>> table = {{"tensor", "shape", "type", "bytes"}};
  for (const FileTensor& tensor : source.tensors()) {
    table.push_back({tensor.name, to_string(tensor.shape), tensor.dtype_name(),
                     bytes_text(tensor.bytes.size())});
  }
  print("\n" + format_table(table, output_columns()));
}

void print_values(const TensorSource& source, const ModelCheck& check) {
  std::vector<std::vector<std::string>> table = {{"tensor", "least", "most", "mean", "std"}};
  for (std::size_t i = 0; i < check.statistics.size(); ++i) {
    const std::optional<TensorStatistics>& of = check.statistics[i];
    if (!of) continue;
    std::vector<std::string>& row = table.emplace_back();
    row.push_back(bare_name(source.tensors()[i].name));
    for (const double number : {double{of->least}, double{of->most}, of->mean, of->deviation}) {
      row.push_back(of->finite > 0 ? rounded_number(number, 3) : "none");
    }
  }
  print("\n" + format_table(table, output_columns()));
}

/// JSON has no NaN and no infinity: these are texts.
Json number(double value) {
  if (std::isfinite(value)) return value;
  return std::isnan(value) ? "nan" : value > 0 ? "inf" : "-inf";
}

const char* name_of(TensorKind kind) {
  switch (kind) {
    case TensorKind::parameter:
      return "parameter";
    case TensorKind::tied_head:
      return "tied head";
    case TensorKind::old_mask:
      return "old mask";
    case TensorKind::other:
      return "other";
  }
  return "";
}

void add_statistics(const FileTensor& tensor, const TensorStatistics& of, Json& to) {
  to["nan"] = of.nans;
  to["inf"] = of.infinities;
  if (of.first_bad) {
    to["first_bad"] = {{"at", tensor.place_of(of.first_bad->index)},
                       {"value", number(of.first_bad->value)}};
  }
  if (of.finite == 0) return;
  to["min"] = of.least;
  to["max"] = of.most;
  to["mean"] = of.mean;
  to["std"] = of.deviation;
}

}  // namespace

void print_model(const ShownModel& shown) {
  print_lines(about(shown));
  if (shown.check != nullptr) {
    print_values(shown.info.source, *shown.check);
  } else if (shown.all_tensors) {
    print_each(shown.info.source);
  } else {
    print_alike(shown.info.source);
  }
}

Json to_json(const ShownModel& shown) {
  const ModelInfo& info = shown.info;
  Json json = {{"path", shown.name}, {"format", info.format}, {"files", Json::array()}};
  for (const auto& file : info.files) json["files"].push_back(file.string());
  json["bytes"] = info.file_bytes;
  json["gpt2"] = info.config.has_value();
  if (info.config) {
    json["config"] = parse_json<Json>(config_to_json(*info.config, DType::f32));
    json["config"].erase("dtype");
    json["config_from"] = info.config_from;
    const std::string size = openai_size(*info.config);
    if (!size.empty()) json["size"] = size;
  }
  if (!info.foreign.empty()) json["why_not"] = info.foreign;
  if (info.adapter) {
    json["adapter"] = {{"r", info.adapter->lora.r},
                       {"lora_alpha", info.adapter->lora.lora_alpha},
                       {"base_model", info.adapter->base_model_name_or_path}};
  }
  json["parameters"] = info.parameters;
  json["types"] = Json::object();
  for (const auto& [type, count] : type_counts(info.source)) {
    json["types"][type] = {
        {"tensors", count.tensors}, {"elements", count.elements}, {"bytes", count.bytes}};
  }
  if (info.tokenizer) {
    json["tokenizer"] = {{"file", info.tokenizer->file},
                         {"size", info.tokenizer->size},
                         {"special_tokens", Json::object()}};
    for (const auto& [id, text] : info.tokenizer->special) {
      json["tokenizer"]["special_tokens"][std::to_string(id)] = text;
    }
  }
  json["metadata"] = info.source.metadata();
  json["trouble"] = info.trouble;
  json["tensors"] = Json::array();
  for (std::size_t i = 0; i < info.kinds.size(); ++i) {
    const FileTensor& tensor = info.source.tensors()[i];
    Json& entry = json["tensors"].emplace_back(Json{{"name", tensor.name},
                                                    {"shape", tensor.shape},
                                                    {"type", tensor.dtype_name()},
                                                    {"bytes", tensor.bytes.size()},
                                                    {"kind", name_of(info.kinds[i])}});
    if (shown.check != nullptr && shown.check->statistics[i]) {
      add_statistics(tensor, *shown.check->statistics[i], entry);
    }
  }
  if (shown.check != nullptr) {
    json["check"] = {{"passed", shown.check->trouble.empty()}, {"trouble", shown.check->trouble}};
    if (shown.check->head) {
      json["check"]["head_differs"] = shown.check->head->differing;
      json["check"]["head_difference"] = number(shown.check->head->largest);
    }
  }
  return json;
}

std::string described(const Comparison::Pair& pair) {
  const TensorDifference& d = pair.difference;
  return fmt::format("{} at {}: {} and {}", pair.name, to_string(pair.a->place_of(d.index)),
                     compact_number(d.a), compact_number(d.b));
}

void print_comparison(const ShownComparison& shown) {
  const Comparison& c = shown.comparison;
  std::vector<const Comparison::Pair*> rows;
  for (const Comparison::Pair& pair : c.pairs) {
    if (shown.all_tensors || pair.difference.differing > 0) rows.push_back(&pair);
  }
  const std::size_t differing = std::count_if(c.pairs.begin(), c.pairs.end(), [](const auto& pair) {
    return pair.difference.differing > 0;
  });
  constexpr std::size_t kShown = 16;
  if (!shown.all_tensors) {
    std::stable_sort(rows.begin(), rows.end(), [](const auto* x, const auto* y) {
      return x->difference.largest > y->difference.largest;
    });
    rows.resize(std::min(rows.size(), kShown));
  }
  std::string text = fmt::format("{} and {}\n", bold(shown.a), bold(shown.b));
  text += line("compared",
               fmt::format("{}: {} equal, {} differ", counted(std::ssize(c.pairs), "tensor"),
                           c.pairs.size() - differing, differing));
  if (const Comparison::Pair* worst = c.worst()) {
    text += line("largest", fmt::format("{}, {} of the largest weight there\n  {:12}{}",
                                        rounded_number(worst->difference.largest, 6),
                                        rounded_number(worst->difference.relative(), 3), "",
                                        described(*worst)));
  }
  for (const auto* names : {&c.only_in_a, &c.only_in_b}) {
    if (names->empty()) continue;
    text += line(names == &c.only_in_a ? "only in A" : "only in B",
                 counted(std::ssize(*names), "tensor") + ": " + first_names(*names));
  }
  constexpr std::size_t kUnlike = 6;
  const std::size_t told = shown.all_tensors ? c.unlike.size() : std::min(c.unlike.size(), kUnlike);
  for (const Comparison::Unlike& unlike : std::span(c.unlike).first(told)) {
    text += line("unlike", fmt::format("{}: {} and {}", unlike.name, unlike.a, unlike.b));
  }
  if (told < c.unlike.size()) {
    text += line("", fmt::format("and {} more: --tensors lists all", c.unlike.size() - told));
  }
  print_lines(text);
  if (rows.empty()) return;
  std::vector<std::vector<std::string>> table = {
      {"tensor", "types", "differ", "largest", "relative", "at"}};
  for (const Comparison::Pair* pair : rows) {
    const TensorDifference& d = pair->difference;
    table.push_back({pair->name,
                     pair->a->dtype_name() == pair->b->dtype_name()
                         ? pair->a->dtype_name()
                         : pair->a->dtype_name() + " " + pair->b->dtype_name(),
                     with_commas(d.differing), rounded_number(d.largest, 3),
                     rounded_number(d.relative(), 3),
                     d.differing == 0 ? "" : to_string(pair->a->place_of(d.index))});
  }
  print("\n" + format_table(table, output_columns()));
  if (!shown.all_tensors && differing > kShown) {
    print_lines(fmt::format("  and {} more: --tensors lists all\n", differing - kShown));
  }
}

Json to_json(const ShownComparison& shown) {
  const Comparison& c = shown.comparison;
  const Comparison::Pair* const worst = c.worst();
  Json json = {{"a", shown.a},
               {"b", shown.b},
               {"equal", c.is_within(0)},
               {"largest", number(worst == nullptr ? 0 : worst->difference.largest)}};
  if (worst != nullptr) json["worst"] = worst->name;
  if (shown.tolerance) {
    json["tolerance"] = *shown.tolerance;
    json["within"] = c.is_within(*shown.tolerance);
  }
  json["only_in_a"] = c.only_in_a;
  json["only_in_b"] = c.only_in_b;
  json["unlike"] = Json::array();
  for (const Comparison::Unlike& unlike : c.unlike) {
    json["unlike"].push_back({{"name", unlike.name}, {"a", unlike.a}, {"b", unlike.b}});
  }
  json["tensors"] = Json::array();
  for (const Comparison::Pair& pair : c.pairs) {
    const TensorDifference& d = pair.difference;
    Json entry = {{"name", pair.name},
                  {"shape", pair.a->shape},
                  {"types", {pair.a->dtype_name(), pair.b->dtype_name()}},
                  {"differing", d.differing},
                  {"largest", number(d.largest)},
                  {"relative", number(d.relative())}};
    if (d.differing > 0) {
      entry["at"] = pair.a->place_of(d.index);
      entry["a"] = number(d.a);
      entry["b"] = number(d.b);
    }
    json["tensors"].push_back(std::move(entry));
  }
  return json;
}

}  // namespace quire
