#include "pipeline/sweep/space.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/nearest.h"
#include "base/numbers.h"
#include "base/random.h"
#include "base/text.h"
#include "pipeline/training_data.h"

namespace quire {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr std::int64_t kMostRuns = 100'000;
const std::vector<std::string> kMethods = {"grid", "random", "halving"};
const std::vector<std::string> kMetrics = {"eval_loss", "best_eval_loss", "loss"};
// What the sweep itself says to its runs.
const std::vector<std::string> kOwnOptions = {
    "output_dir", "overwrite_output_dir", "resume_from_checkpoint", "stop_at_step", "json", "quiet",
    "report_to"};

std::string help() {
  return "quire sweep `help`"_named;
}

[[noreturn]] void fail(const std::string& what, std::vector<std::string> details = {},
                       const std::string& next = help()) {
  throw Error(Fault::bad_data, what, std::move(details), next);
}

/// The first name. Throws as a training run does, with the place added.
std::string name_of(const TrainVocabulary& vocabulary, const std::string& given,
                    const std::string& where) {
  std::string name;
  try {
    name = vocabulary.name_of(given);
  } catch (Error& error) {
    error.add_place("in " + where);
    throw;
  }
  if (std::find(kOwnOptions.begin(), kOwnOptions.end(), name) != kOwnOptions.end()) {
    throw Error(Fault::usage, fmt::format("{} sets '{}'", where, given),
                {"the sweep sets it itself, for each of its runs"}, "without it");
  }
  return name;
}

/// JSON whose objects have no key twice: the second one would silently win.
Json parse_strictly(const std::string& text, const std::string& file) {
  try {
    Json parsed = parse_json<Json>(text);
    if (const auto name = repeated_json_name(text)) {
      fail(fmt::format("{} has the key '{}' twice in one object", file, *name));
    }
    return parsed;
  } catch (const Json::exception& error) {
    fail(file + " is not valid JSON", {json_trouble(error)});
  }
}

using Fields = JsonFields<Json>;

Fields fields_of(const Json& object, const std::string& where) {
  if (!object.is_object()) fail(where + " is not a JSON object");
  const auto refusal = [where](const std::string& name, const Json& value,
                               const std::string& wanted, const std::string& next) {
    return Error(
        Fault::bad_data,
        fmt::format("{}: '{}' is {}, it must be {}", where, name, json_text(value), wanted), {},
        next);
  };
  return {object, where, refusal, help()};
}

/// One of these words; where the field is absent, the one that `word` is, if any.
void read_choice(Fields& fields, const std::string& key, const std::vector<std::string>& choices,
                 std::string& word) {
  const Json& value = fields[key];
  if (value.is_null() && !word.empty()) return;
  word.clear();
  read_json(value, word);
  if (std::find(choices.begin(), choices.end(), word) != choices.end()) return;
  std::vector<std::string> details = {fmt::format("choices: {}", fmt::join(choices, ", "))};
  if (const std::string near = nearest(word, choices); !near.empty()) {
    details.push_back(fmt::format("did you mean \"{}\"?", near));
  }
  fail(value.is_null()
           ? fmt::format("{} has no '{}'", fields.where(), key)
           : fmt::format("{}: '{}' cannot be {}", fields.where(), key, json_text(value)),
       std::move(details));
}

SearchDimension read_dimension(const std::string& option, const Json& value, SweepMethod method,
                               const Json& defaults, const std::string& where) {
  SearchDimension dimension{.option = option, .choices = {}};
  if (value.is_array()) {
    dimension.choices.assign(value.begin(), value.end());
    if (dimension.choices.empty()) fail(where + " is an empty list");
    return dimension;
  }
  if (!value.is_object()) {
    fail(where + " is " + json_text(value) + ", neither a list of values nor a range",
         {"a value that is the same for all runs belongs into \"train\""});
  }
  if (!defaults[option].is_number()) {
    fail(where + " is a range, and the option takes no number", {"a list of its values would do"});
  }
  Fields range = fields_of(value, where);
  dimension.whole = defaults[option].is_number_integer();
  dimension.logarithmic = value.contains("log_min") || value.contains("log_max");
  const auto read_end = [&](const std::string& name, double& into) {
    range.require(name);
    range.read(name, into);
  };
  read_end(dimension.logarithmic ? "log_min" : "min", dimension.low);
  read_end(dimension.logarithmic ? "log_max" : "max", dimension.high);
  if (method == SweepMethod::grid) {
    range.require("steps");
    range.read("steps", dimension.steps, 1, 1000);
  }
  range.refuse_unknown();
  if (!(dimension.low <= dimension.high) || (dimension.logarithmic && dimension.low <= 0)) {
    fail(fmt::format("{} goes from {} to {}", where, compact_number(dimension.low),
                     compact_number(dimension.high)),
         {dimension.logarithmic ? "it must rise, and begin above 0" : "it must rise"});
  }
  if (dimension.whole && (dimension.low != std::floor(dimension.low) ||
                          dimension.high != std::floor(dimension.high))) {
    fail(where + " wants whole numbers for its ends: the option takes nothing else");
  }
  return dimension;
}

/// The value at `share` of the range, from 0 to 1, as the option takes it.
Json value_at(const SearchDimension& d, double share) {
  double value = d.logarithmic
                     ? std::exp(std::log(d.low) + share * (std::log(d.high) - std::log(d.low)))
                     : d.low + share * (d.high - d.low);
  if (d.whole) return static_cast<std::int64_t>(std::llround(std::clamp(value, d.low, d.high)));
  value = std::stod(fmt::format("{:.4g}", value));
  return std::clamp(value, d.low, d.high);
}

std::vector<Json> grid_values(const SearchDimension& d) {
  std::vector<Json> values;
  const auto add = [&](const Json& value) {
    if (std::find(values.begin(), values.end(), value) == values.end()) values.push_back(value);
  };
  for (const Json& choice : d.choices) add(choice);
  for (int i = 0; i < d.steps; ++i) {
    add(value_at(d, d.steps == 1 ? 0 : static_cast<double>(i) / (d.steps - 1)));
  }
  return values;
}

Json drawn_value(const SearchDimension& d, std::uint64_t seed, std::uint64_t draw) {
  std::uint64_t stream = 0;
  for (const char c : d.option) stream = mix(stream, static_cast<unsigned char>(c));
  const double share = random_uniform({seed, stream}, draw);  // below 1
  if (!d.choices.empty()) {
    return d.choices[static_cast<std::size_t>(share * static_cast<double>(d.choices.size()))];
  }
  if (d.whole && !d.logarithmic) {  // each whole number alike, the ends too
    return static_cast<std::int64_t>(d.low + std::floor(share * (d.high - d.low + 1)));
  }
  return value_at(d, share);
}

std::vector<Configuration> grid(const Sweep& sweep) {
  std::vector<Configuration> all = {Json::object()};
  for (const SearchDimension& dimension : sweep.search) {
    const std::vector<Json> values = grid_values(dimension);
    if (std::ssize(all) * std::ssize(values) > kMostRuns) {
      throw Error(Fault::usage,
                  fmt::format("the grid has more than {} runs", with_commas(kMostRuns)),
                  {fmt::format("{} combinations times {} values of {}", with_commas(all.size()),
                               values.size(), dimension.option)},
                  "\"method\": \"random\" with \"runs\"");
    }
    std::vector<Configuration> longer;
    for (const Configuration& begun : all) {
      for (const Json& value : values) {
        longer.push_back(begun);
        longer.back()[dimension.option] = value;
      }
    }
    all = std::move(longer);
  }
  return all;
}

std::int64_t first_round_end(const Sweep& sweep) {
  std::int64_t divisor = 1;
  for (int round = 1; round < sweep.rounds; ++round) divisor *= sweep.factor;
  return sweep.train["max_steps"].get<std::int64_t>() / divisor;
}

void read_halving(Fields& fields, Sweep& sweep) {
  fields.read("factor", sweep.factor, 2, 100);
  for (int left = sweep.runs; left >= sweep.factor; left /= sweep.factor) ++sweep.rounds;
  fields.read("rounds", sweep.rounds, 1, 20);
  const std::string& where = fields.where();
  const auto steps = sweep.train.find("max_steps");
  if (steps == sweep.train.end() || !steps->is_number_integer() || steps->get<std::int64_t>() < 1) {
    fail(where + ": halving wants \"max_steps\" in \"train\"",
         {"it is where the last round ends; the others end at a share of it"});
  }
  const double divisor = std::pow(sweep.factor, sweep.rounds - 1);
  const double first = steps->get<double>() / divisor;
  if (first < 1 || first != std::floor(first)) {
    fail(fmt::format("{}: max_steps is {}, and the first of {} rounds would end after {:.4g} steps",
                     where, steps->get<std::int64_t>(), sweep.rounds, first),
         {fmt::format("it must be a multiple of {:.0f}, which is factor {} to the power of {}",
                      divisor, sweep.factor, sweep.rounds - 1)},
         fmt::format("\"max_steps\": {:.0f}", divisor * std::max(1.0, std::round(first))));
  }
  const char* const option = sweep.metric == "loss" ? "logging_steps" : "eval_steps";
  const auto given = sweep.train.find(option);
  if (given == sweep.train.end()) return;
  std::int64_t every = 0;
  if (read_json(*given, every) && every > 0 && static_cast<std::int64_t>(first) % every == 0)
    return;
  fail(fmt::format("{}: {} is {}, and the first round ends at step {:.0f}", where, option,
                   json_text(*given), first),
       {"a round's end must be a step that is measured"},
       fmt::format("\"{}\": {:.0f}, or none: it is set to fit", option, first));
}

}  // namespace

Sweep read_sweep(const fs::path& path, const TrainVocabulary& vocabulary) {
  const std::string file = path.string();
  const Json object = parse_strictly(read_file(path), file);
  Fields fields = fields_of(object, file);
  Sweep sweep;
  std::string method;
  read_choice(fields, "method", kMethods, method);
  sweep.method = static_cast<SweepMethod>(std::find(kMethods.begin(), kMethods.end(), method) -
                                          kMethods.begin());
  read_choice(fields, "metric", kMetrics, sweep.metric);
  fields.read("parallel", sweep.parallel, 1, 256);
  fields.read("seed", sweep.seed, 0, INT64_MAX);

  const std::string in_train = file + ", \"train\"", in_search = file + ", \"search\"";
  const Json& train = fields.require("train");
  if (!train.is_object()) fail(in_train + " is not an object of options of quire train");
  for (const auto& [key, value] : train.items()) {
    const std::string name = name_of(vocabulary, key, in_train);
    if (sweep.train.contains(name)) fail(fmt::format("{} has '{}' twice", in_train, name));
    if (value.is_object() || value.is_null()) {
      fail(fmt::format("{}: '{}' is {}, not a value", in_train, key, json_text(value)),
           {"values to try belong into \"search\""});
    }
    sweep.train[name] = value;
  }
  const Json& search = fields.require("search");
  if (!search.is_object() || search.empty()) {
    fail(in_search + " is not an object of options to try values of");
  }
  for (const auto& [key, value] : search.items()) {
    const std::string name = name_of(vocabulary, key, in_search);
    const auto known = std::ranges::find(sweep.search, name, &SearchDimension::option);
    if (known != sweep.search.end() || sweep.train.contains(name)) {
      fail(fmt::format("{} has '{}' in two places", file, name));
    }
    sweep.search.push_back(read_dimension(name, value, sweep.method, vocabulary.defaults,
                                          fmt::format("{}, \"search\", '{}'", file, key)));
  }

  if (sweep.method != SweepMethod::grid) {
    fields.require("runs");
    fields.read("runs", sweep.runs, 1, kMostRuns);
  }
  if (sweep.method == SweepMethod::halving) {
    for (const SearchDimension& d : sweep.search) {
      if (d.option != "max_steps" && d.option != "eval_steps" && d.option != "logging_steps") {
        continue;
      }
      fail(fmt::format("{} has '{}': with halving it is the same for all runs", in_search,
                       d.option));
    }
    read_halving(fields, sweep);
  }
  fields.refuse_unknown();
  return sweep;
}

std::vector<Configuration> configurations(const Sweep& sweep) {
  if (sweep.method == SweepMethod::grid) return grid(sweep);
  std::vector<Configuration> drawn;
  std::set<std::string> seen;
  const std::uint64_t most = 100 * static_cast<std::uint64_t>(sweep.runs);
  for (std::uint64_t draw = 0; draw < most && std::ssize(drawn) < sweep.runs; ++draw) {
    Configuration configuration = Json::object();
    for (const SearchDimension& dimension : sweep.search) {
      configuration[dimension.option] = drawn_value(dimension, sweep.seed, draw);
    }
    if (seen.insert(json_text(configuration)).second) drawn.push_back(std::move(configuration));
  }
  return drawn;
}

Json train_options(const Sweep& sweep, const Configuration& configuration) {
  Json options = sweep.train;
  options.update(configuration);
  const auto set = [&](const char* option, std::int64_t value) {
    if (!options.contains(option)) options[option] = value;
  };
  set("save_steps", 0);
  if (sweep.method == SweepMethod::halving) {
    set("save_total_limit", 1);
    set("eval_steps", first_round_end(sweep));
    if (sweep.metric == "loss") set("logging_steps", first_round_end(sweep));
  }
  return options;
}

void check_configuration(const Sweep& sweep, const Configuration& configuration,
                         const fs::path& file, const TrainVocabulary& vocabulary) {
  try {
    const TrainOptions options = vocabulary.read(train_options(sweep, configuration));
    check_train_data(options);
    if (options.validation_split == 0 && options.validation_paths.empty() &&
        sweep.metric != "loss") {
      throw Error(
          Fault::usage,
          fmt::format("there is no {} without held-out data: validation_split is 0", sweep.metric),
          {}, "\"metric\": \"loss\", or a validation_split above 0");
    }
  } catch (Error& error) {
    error.add_place(
        fmt::format("in {}, for the run with {}", file.string(), json_text(configuration)));
    throw;
  }
}

std::vector<std::int64_t> round_ends(const Sweep& sweep) {
  if (sweep.method != SweepMethod::halving) return {0};
  std::vector<std::int64_t> ends = {first_round_end(sweep)};
  while (std::ssize(ends) < sweep.rounds) ends.push_back(ends.back() * sweep.factor);
  return ends;
}

std::vector<std::size_t> survivors(const std::vector<double>& values, int factor) {
  std::vector<std::size_t> order(values.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::erase_if(order, [&](std::size_t i) { return std::isnan(values[i]); });
  std::ranges::stable_sort(order, {}, [&](std::size_t i) { return values[i]; });
  const std::size_t most =
      std::max<std::size_t>(1, values.size() / static_cast<std::size_t>(factor));
  if (order.size() > most) order.resize(most);
  std::sort(order.begin(), order.end());
  return order;
}

std::string canonical_json(const Sweep& sweep) {
  Json search = Json::object();
  for (const SearchDimension& d : sweep.search) {
    if (!d.choices.empty()) {
      search[d.option] = d.choices;
      continue;
    }
    const std::string prefix = d.logarithmic ? "log_" : "";
    search[d.option] = {{prefix + "min", d.low}, {prefix + "max", d.high}};
    if (d.steps > 0) search[d.option]["steps"] = d.steps;
  }
  Json object = {{"method", kMethods[static_cast<std::size_t>(sweep.method)]},
                 {"train", sweep.train},
                 {"search", std::move(search)},
                 {"metric", sweep.metric}};
  if (sweep.method != SweepMethod::grid) {
    object["runs"] = sweep.runs;
    object["seed"] = sweep.seed;
  }
  if (sweep.method == SweepMethod::halving) {
    object["factor"] = sweep.factor;
    object["rounds"] = sweep.rounds;
  }
  return json_text(object, 2) + "\n";
}

}  // namespace quire
