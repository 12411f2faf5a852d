// quire info: what files and folders of weights hold; with --check what their values are like, with
// --compare how far those of two lie apart (pipeline/model_info.h, pipeline/tensor_values.h).
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json.h"
#include "base/text.h"
#include "cli/command.h"
#include "cli/flags.h"
#include "cli/info_output.h"
#include "cli/terminal.h"
#include "engine/formats/weight_files.h"
#include "pipeline/model_path.h"

namespace quire {
namespace {

namespace fs = std::filesystem;

struct InfoCommand {
  std::vector<std::string> paths;
  bool tensors = false, check = false, compare = false, json = false;
  double tolerance = 0;
  int threads = 0;
};

void add_flags(Flags& flags, InfoCommand& c) {
  flags.positional("PATH", c.paths);
  flags.group("Contents");
  flags.add("tensors", c.tensors, "every tensor; without it alike ones of all blocks in one line");
  flags.add("check", c.check,
            "reads the values: NaN, infinity, least, most, mean, deviation; whether a GPT-2 can be "
            "loaded. Exit code 7 where something is wrong");
  flags.group("Comparison");
  flags.add("compare", c.compare,
            "of two PATHs: the largest difference of each tensor, whatever formats and types");
  flags.add("tolerance", c.tolerance, "X",
            "with --compare: exit code 7 where a difference is larger, or a tensor is in one "
            "alone; without it the code is 0 whatever they hold",
            at_least(0));
  flags.group("Output");
  flags.add("threads", c.threads, "N", "0 is one per core; the result is the same",
            between(0, 1024));
  flags.add("json", c.json, "one JSON object for each PATH, or for the pair, on stdout");
  flags.add_quiet();
  flags.example("quire info gpt2");
  flags.example("quire info --check out/checkpoint-500");
  flags.example("quire info --compare gpt2 model.gguf --tolerance 0.001");
}

/// What a person calls a model: a path, or what --model takes.
fs::path resolved(const std::string& name) {
  std::error_code ignored;
  return fs::exists(name, ignored) ? fs::path(name) : resolve_model(name);
}

/// With a moving line of what is read.
struct WatchedReading {
  ProgressLine line;
  ReadingOptions options;

  WatchedReading(const std::string& doing, int threads) {
    options.threads = threads;
    options.on_read = [this, doing](std::size_t done, std::size_t all) {
      if (done >= all || !line.due()) return;
      line.show(fmt::format("{}: {} of {}", doing, human_bytes(static_cast<double>(done)),
                            human_bytes(static_cast<double>(all))));
    };
  }
};

ModelCheck check_values(const std::string& name, const ModelInfo& info, int threads) {
  ModelCheck check;
  WatchedReading reading("reading " + name, threads);
  const std::vector<FileTensor>& tensors = info.source.tensors();
  check.statistics = statistics_of(tensors, reading.options);
  check.trouble = info.trouble;
  const FileTensor* head = nullptr;
  const FileTensor* table = nullptr;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    if (info.kinds[i] == TensorKind::tied_head) head = &tensors[i];
    if (bare_name(tensors[i].name) == "wte.weight") table = &tensors[i];
    const std::optional<TensorStatistics>& of = check.statistics[i];
    // The masks of old versions hold -inf, or whatever else; nobody reads them.
    if (!of || !of->first_bad || info.kinds[i] == TensorKind::old_mask) continue;
    check.trouble.push_back(fmt::format("tensor '{}' holds {} at {}: {} NaN, {} infinite",
                                        tensors[i].name, of->first_bad->value,
                                        to_string(tensors[i].place_of(of->first_bad->index)),
                                        with_commas(of->nans), with_commas(of->infinities)));
  }
  if (head != nullptr && table != nullptr && head->shape == table->shape) {
    const std::pair<const FileTensor*, const FileTensor*> both(head, table);
    check.head = differences_of({&both, 1}, reading.options).front();
  }
  reading.line.clear();
  return check;
}

/// What is wrong with it, where --check asks.
std::vector<std::string> show(const InfoCommand& c, const std::string& name) {
  const ModelInfo info = model_info(resolved(name));
  std::optional<ModelCheck> check;
  if (c.check) check = check_values(name, info, c.threads);
  const ShownModel shown{
      .name = name, .info = info, .check = check ? &*check : nullptr, .all_tensors = c.tensors};
  if (c.json) {
    print(json_text(to_json(shown)) + "\n");
  } else {
    print_model(shown);
  }
  return check ? check->trouble : std::vector<std::string>();
}

void show_all(const InfoCommand& c) {
  std::vector<std::string> failed, details;
  for (std::size_t i = 0; i < c.paths.size(); ++i) {
    if (i > 0 && !c.json) print("\n");
    const std::vector<std::string> trouble = show(c, c.paths[i]);
    if (!trouble.empty()) failed.push_back(c.paths[i]);
    details.insert(details.end(), trouble.begin(), trouble.end());
  }
  if (!failed.empty()) {
    throw Error(Fault::check, fmt::format("{} did not pass", fmt::join(failed, ", ")), details);
  }
}

void compare(const InfoCommand& c, const Flags& flags) {
  const ModelInfo a = model_info(resolved(c.paths[0])), b = model_info(resolved(c.paths[1]));
  WatchedReading reading("comparing", c.threads);
  const Comparison comparison = compare_models(a.source, b.source, reading.options);
  reading.line.clear();
  ShownComparison shown{.a = c.paths[0],
                        .b = c.paths[1],
                        .comparison = comparison,
                        .tolerance = {},
                        .all_tensors = c.tensors};
  if (flags.given("tolerance")) shown.tolerance = c.tolerance;
  if (c.json) {
    print(json_text(to_json(shown)) + "\n");
  } else {
    print_comparison(shown);
  }
  if (!shown.tolerance || comparison.is_within(c.tolerance)) return;
  std::vector<std::string> details;
  if (const auto* worst = comparison.worst(); worst && worst->difference.largest > c.tolerance) {
    details.push_back(described(*worst));
  }
  for (const auto* names : {&comparison.only_in_a, &comparison.only_in_b}) {
    if (names->empty()) continue;
    details.push_back(fmt::format("{} {} only in {}", counted(std::ssize(*names), "tensor"),
                                  names->size() == 1 ? "is" : "are",
                                  names == &comparison.only_in_a ? shown.a : shown.b));
  }
  if (!comparison.unlike.empty()) {
    details.push_back(counted(std::ssize(comparison.unlike), "tensor") + " of other shapes");
  }
  throw Error(Fault::check,
              fmt::format("{} and {} differ by more than {}", shown.a, shown.b,
                          compact_number(c.tolerance)),
              details);
}

int run_info(const std::vector<std::string>& arguments) {
  InfoCommand c;
  Flags flags("info", "PATH... [OPTION...]",
              "Shows what a file or folder of weights holds: safetensors, PyTorch, TensorFlow, "
              "GGUF, llm.c, "
              "adapters.\nOnly headers are read, unless --check or --compare ask for the values.");
  add_flags(flags, c);
  if (!flags.parse(arguments)) return 0;
  if (c.paths.empty()) flags.refuse("nothing is named: which model shall be looked into?");
  if (c.compare && c.paths.size() != 2) {
    flags.refuse("--compare wants two models",
                 {counted(std::ssize(c.paths), "PATH") + " is named"});
  }
  if (c.compare && c.check) flags.refuse("--compare and --check are two questions");
  if (!c.compare && flags.given("tolerance")) flags.refuse("--tolerance goes with --compare");
  if (c.compare) {
    compare(c, flags);
    return 0;
  }
  show_all(c);
  return 0;
}

}  // namespace

const Command kInfoCommand = {"info", "what a model's files hold, and how two of them differ",
                              run_info};

}  // namespace quire
