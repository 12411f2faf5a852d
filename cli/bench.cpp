// quire bench: how fast this machine trains, writes and tokenizes, beside the ceilings measured in
// the same run.
#include <fmt/format.h>

#include <optional>

#include "base/file.h"
#include "bench/model_bench.h"
#include "bench/tokenizer_bench.h"
#include "cli/command.h"
#include "cli/device_flags.h"
#include "cli/subcommands.h"
#include "cli/terminal.h"
#include "engine/formats/hub_folder.h"

namespace quire {
namespace {

struct Output {
  std::filesystem::path file;
  bool json = false;

  void add_to(Flags& flags) {
    flags.group("Output");
    flags.add("output,o", file, "FILE", "writes the JSON there (Google Benchmark's format)");
    flags.add("json", json, "the JSON on stdout instead of the table");
    flags.add_quiet();
  }
  void write(const BenchReport& report) const {
    if (!file.empty()) write_file(file, report.to_json());
    print(json ? report.to_json() : report.to_table());
  }
};

struct ModelChoice {
  std::string name = "gpt2";

  void add_to(Flags& flags) {
    flags.group("Model");
    flags.add(
        "config", name, "NAME|FILE",
        "tiny, gpt2, gpt2-medium, gpt2-large, gpt2-xl or a config.json; the weights are random");
  }
  Gpt2Config read() const {
    if (const std::optional<Gpt2Config> preset = Gpt2Config::preset(name)) return *preset;
    return read_config(name);
  }
};

Ceilings announce_ceilings(Device& device, int threads) {
  note("measuring the ceilings");
  const Ceilings ceilings = measure_ceilings(device, {.threads = threads});
  note(fmt::format(
      "  reading memory {:.1f} GB/s, multiply-adds {:.0f} GFLOP/s, matrix product {:.0f} GFLOP/s",
      ceilings.read_bytes_per_second * 1e-9, ceilings.fma_flops_per_second * 1e-9,
      ceilings.gemm_flops_per_second * 1e-9));
  return ceilings;
}

void say(const std::string& line) {
  note(line);
}

int run_train(const std::vector<std::string>& arguments) {
  Flags flags("bench train", "[OPTION...]",
              "Times training steps of a random-weight model: tokens/s, bytes, flops, percent of "
              "ceilings.");
  ModelChoice model;
  TrainBenchOptions options;
  TrainBenchCase only{.batch = 0, .length = 0};
  DeviceFlags device_flags;
  Output output;
  model.add_to(flags);
  flags.group("Work");
  flags.add("per-device-train-batch-size,batch-size", only.batch, "B",
            "rows a step; without it 4 rows of 64 and 4 of 256 are timed", at_least(1));
  flags.add("block-size", only.length, "T", "tokens a row", at_least(1));
  flags.add("seconds", options.seconds, "S", "time at least this long for each case", above(0));
  flags.group("Machine");
  device_flags.add_to(flags);
  output.add_to(flags);
  if (!flags.parse(arguments)) return 0;

  options.model = model.name;
  options.config = model.read();
  if (only.batch > 0 || only.length > 0) {
    options.cases = {
        {.batch = only.batch > 0 ? only.batch : 4, .length = only.length > 0 ? only.length : 256}};
  }
  for (const TrainBenchCase& c : options.cases) {
    if (c.length > options.config.n_positions) {
      throw Error(Fault::usage,
                  fmt::format("--block-size {} is beyond the model's context", c.length),
                  {fmt::format("{} has {} positions", model.name, options.config.n_positions)},
                  flags.help_command());
    }
  }
  const std::unique_ptr<Device> device = device_flags.open();
  const Ceilings ceilings = announce_ceilings(*device, device_flags.threads);
  BenchReport report = run_train_bench(*device, ceilings, options, say);
  report.context["device"] = device->description();
  output.write(report);
  return 0;
}

int run_generate(const std::vector<std::string>& arguments) {
  Flags flags("bench generate", "[OPTION...]",
              "Times a random-weight model writing: decoding, prompts, time to the first token.");
  ModelChoice model;
  GenerateBenchOptions options;
  int batch = 0;
  std::string dtype = "float32";
  DeviceFlags device_flags;
  Output output;
  model.add_to(flags);
  flags.add_choice("dtype", dtype, {"float32", "bfloat16", "float16"},
                   "how the matrices are stored");
  flags.group("Work");
  flags.add("batch-size", batch, "B", "rows at once; without it 1 and 8 are timed", at_least(1));
  flags.add("prompt-tokens", options.prompt, "N", "tokens before the first drawn one", at_least(1));
  flags.add("max-new-tokens,n", options.tokens, "N", "tokens drawn in a pass", at_least(1));
  flags.add("prefill", options.prefill, "N", "tokens of the long prompt", at_least(1));
  flags.add("seconds", options.seconds, "S", "time at least this long for each entry", above(0));
  flags.group("Machine");
  device_flags.add_to(flags);
  output.add_to(flags);
  if (!flags.parse(arguments)) return 0;

  options.model = model.name;
  options.config = model.read();
  options.dtype = dtype == "bfloat16" ? DType::bf16 : dtype == "float16" ? DType::f16 : DType::f32;
  if (batch > 0) options.batches = {batch};
  if (options.prompt + options.tokens > options.config.n_positions) {
    throw Error(Fault::usage,
                fmt::format("{} prompt tokens and {} new ones do not fit the context",
                            options.prompt, options.tokens),
                {fmt::format("{} has {} positions", model.name, options.config.n_positions)},
                flags.help_command());
  }
  const std::unique_ptr<Device> device = device_flags.open();
  const Ceilings ceilings = announce_ceilings(*device, device_flags.threads);
  BenchReport report = run_generate_bench(*device, ceilings, options, say);
  report.context["device"] = device->description();
  output.write(report);
  return 0;
}

int run_tokenizer(const std::vector<std::string>& arguments) {
  Flags flags(
      "bench tokenizer", "[OPTION...]",
      "Times encoding, decoding, loading and training of a vocabulary, on one thread but for "
      "the training.");
  TokenizerBenchOptions options;
  Output output;
  flags.group("Text");
  flags.add("tokenizer", options.tokenizer, "DIR",
            "the vocabulary; without it one is trained first");
  flags.add("prose", options.prose, "FILE", "English text; without it made from a seed");
  flags.add("mix", options.mix, "FILE",
            "code, numbers, many scripts, emoji; without it made from a seed");
  flags.add("vocab-size", options.vocab_size, "N", "tokens of the vocabulary that is trained",
            at_least(257));
  flags.add("seconds", options.seconds, "S", "time at least this long for each entry", above(0));
  output.add_to(flags);
  if (!flags.parse(arguments)) return 0;
  output.write(run_tokenizer_bench(options, say));
  return 0;
}

const Command kActions[] = {
    {"train", "training steps of a whole model", run_train},
    {"generate", "decoding, prompts, time to the first token", run_generate},
    {"tokenizer", "encoding, decoding, loading, training", run_tokenizer},
};

int run(const std::vector<std::string>& arguments) {
  return run_action("bench", "How fast Quire is here, beside ceilings measured in the same run.",
                    kActions, arguments);
}

}  // namespace

const Command kBenchCommand = {"bench", "train, generate, tokenizer: speed beside ceilings", run};

}  // namespace quire
