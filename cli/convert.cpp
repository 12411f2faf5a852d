// quire convert: a model's files in another format, or in other types (pipeline/convert.h).
#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/numbers.h"
#include "base/text.h"
#include "cli/command.h"
#include "cli/flags.h"
#include "cli/help_text.h"
#include "cli/option_names.h"
#include "cli/signals.h"
#include "cli/terminal.h"
#include "kernels/open_device.h"
#include "pipeline/convert.h"
#include "pipeline/get_model.h"
#include "report/model_card.h"

namespace quire {
namespace {

struct ConvertCommand {
  std::vector<std::string> names;  // IN, OUT
  std::string max_shard_size;
  ConvertOptions options;
  bool json = false;
};

/// "5GB" as transformers reads it: powers of 1000, or of 1024 with an i ("5GiB"); a bare number is
/// bytes.
std::size_t parse_bytes(const std::string& text) {
  double number = 0.0;
  const auto [end, trouble] = std::from_chars(text.data(), text.data() + text.size(), number);
  std::string unit(end, text.data() + text.size());
  std::transform(unit.begin(), unit.end(), unit.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  static constexpr std::pair<std::string_view, double> kUnits[] = {
      {"", 1.0},    {"B", 1.0},      {"KB", 1e3},     {"MB", 1e6},     {"GB", 1e9},
      {"TB", 1e12}, {"KIB", 0x1p10}, {"MIB", 0x1p20}, {"GIB", 0x1p30}, {"TIB", 0x1p40}};
  const auto* const known = std::find_if(std::begin(kUnits), std::end(kUnits),
                                         [&](const auto& u) { return u.first == unit; });
  if (trouble == std::errc() && known != std::end(kUnits)) {
    const double bytes = number * known->second;
    if (bytes >= 1.0 && bytes < 0x1p63) return static_cast<std::size_t>(bytes);
  }
  throw Error(Fault::usage, "--max-shard-size is '" + text + "', not a size",
              {"sizes are 500MB, 5GB, 5GiB"}, "quire convert --help");
}

void add_flags(Flags& flags, ConvertCommand& c) {
  ConvertOptions& options = c.options;
  flags.positional("IN", c.names);
  flags.group("Output");
  flags.add_choice("format", options.format, {"auto", "safetensors", "gguf", "llmc", "pytorch"},
                   "auto: what OUT's name says, a folder being safetensors; pytorch: a folder with "
                   "pytorch_model.bin");
  flags.add_choice("dtype,outtype", options.dtype,
                   {"auto", "float32", "float16", "bfloat16", "int8", "int4", "q4_k"},
                   "of the weights, rounded to nearest even; auto: as stored; int8, int4 and q4_k "
                   "are GGUF's Q8_0, Q4_0 and Q4_K");
  flags.add("max-shard-size", c.max_shard_size, "SIZE",
            "several files of at most so many bytes of weights, and an index: 5GB, 500MB");
  flags.add(kOverwriteFolderNames, options.overwrite_output_dir,
            "replace OUT if it is there; of a folder, the files of a model in it");
  flags.add("json", c.json, "what was written as one JSON line on stdout");
  flags.group("Model");
  flags.add(kTokenizerNames, options.tokenizer, "DIR",
            "a tokenizer to put beside the weights, or into them; without it the model's own");
  flags.add("resize-vocab", options.resize_vocab, "N",
            "rows of the table of tokens, and of a head of its own; new ones are drawn around the "
            "mean of the old ones, as transformers draws them, the last are left out; 0: as they "
            "are",
            between(0, 1 << 24));
  flags.add("seed", options.seed, "N", "of new rows");
  flags.add("threads", options.threads, "N", "0 is one per core; the result is the same",
            between(0, 1024));
  flags.add_quiet();
  flags.example(fmt::format("quire convert {} my-model.gguf --dtype int8", kBundledModel));
  flags.example("quire convert my-model.gguf my-model --dtype float32");
  flags.example(where_models_come_from());
}

std::string to_json(const ConvertCommand& c, const Converted& done, double seconds) {
  nlohmann::ordered_json json;
  json["model"] = c.options.model;
  json["output"] = c.options.output.string();
  json["format"] = done.format;
  json["dtype"] = c.options.dtype;
  json["tensors"] = done.tensors;
  json["parameters"] = done.parameters;
  json["bytes"] = done.bytes;
  json["seconds"] = seconds;
  json["files"] = nlohmann::ordered_json::array();
  for (const std::filesystem::path& file : done.files) json["files"].push_back(file.string());
  return json_text(json) + "\n";
}

/// Of a folder, its README.md; one that is somebody's own stays.
void write_card(const std::filesystem::path& output, Converted& done) {
  if (!std::filesystem::is_directory(output)) return;
  if (const std::optional<std::string> card = model_card_for_folder(output)) {
    const std::filesystem::path path = output / "README.md";
    write_file(path, *card);
    done.files.push_back(path);
  }
}

int run_convert(const std::vector<std::string>& arguments) {
  ConvertCommand c;
  Flags flags("convert", "IN OUT [OPTION...]",
              "Writes a model in another format: IN is all that --model takes, OUT a folder (or "
              "with --format the like), or a file: NAME.gguf for llama.cpp, NAME.bin for llm.c, "
              "NAME.safetensors, NAME.pt.");
  add_flags(flags, c);
  if (!flags.parse(arguments)) return 0;
  if (c.names.size() != 2) {
    flags.refuse(c.names.empty()       ? "what shall be converted?"
                 : c.names.size() == 1 ? "where to?"
                                       : "one model at a time",
                 {"quire convert IN OUT"});
  }
  c.options.model = c.names[0];
  c.options.output = c.names[1];
  if (c.options.output.empty()) flags.refuse("OUT is empty");
  if (!c.max_shard_size.empty()) c.options.max_shard_size = parse_bytes(c.max_shard_size);

  const Stopwatch watch;
  const InterruptGuard interrupts("leaving nothing behind");
  ProgressLine progress;
  const auto megabytes = [&](std::size_t bytes) {
    return static_cast<double>(bytes) / 1e6 / std::max(watch.seconds(), 1e-3);
  };
  Converted done = convert(
      c.options,
      {.open_device = [] { return open_device("cpu"); },
       .progress =
           [&](std::size_t bytes, std::size_t of) {
             if (!progress.due()) return;
             const double left =
                 watch.seconds() / static_cast<double>(bytes) * static_cast<double>(of - bytes);
             progress.show({{fmt::format("{:3.0f}%", 100.0 * static_cast<double>(bytes) /
                                                         static_cast<double>(of))},
                            {fmt::format("{} of {}", human_bytes(static_cast<double>(bytes)),
                                         human_bytes(static_cast<double>(of)))},
                            {fmt::format("{:.0f} MB/s", megabytes(bytes)), 2},
                            {human_duration(left) + " left", 1}});
           },
       .stop_requested = interrupted});
  progress.clear();
  if (done.stopped) {
    note("interrupted: nothing is written");
    return interrupt_exit_code();
  }
  const double seconds = watch.seconds();
  write_card(c.options.output, done);
  for (const std::string& line : done.notes) note(line);
  note(fmt::format("{}, {} in {}, {:.0f} MB/s: {}", counted(done.tensors, "tensor"),
                   human_bytes(static_cast<double>(done.bytes)), human_duration(seconds),
                   megabytes(done.bytes), c.options.output.string()));
  if (c.json) print(to_json(c, done, seconds));
  return 0;
}

}  // namespace

const Command kConvertCommand = {"convert", "a model's files in another format or other types",
                                 run_convert};

}  // namespace quire
