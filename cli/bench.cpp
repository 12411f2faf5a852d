// quire bench: how fast this machine trains, writes, tokenizes and runs each kernel, beside the
// ceilings measured in the same run.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "base/file.h"
#include "base/machine.h"
#include "bench/kernel_bench.h"
#include "bench/model_bench.h"
#include "bench/tokenizer_bench.h"
#include "cli/command.h"
#include "cli/device_flags.h"
#include "cli/option_names.h"
#include "cli/output_file.h"
#include "cli/terminal.h"
#include "corpus/json_line.h"
#include "engine/formats/hub_folder.h"
#include "engine/formats/weight_files.h"
#include "engine/model/gpt2.h"
#include "pipeline/memory_plan.h"
#include "pipeline/model_path.h"
#include "pipeline/model_tokenizer.h"
#include "report/roofline.h"

namespace quire {
namespace {

struct Output {
  std::filesystem::path file;
  bool overwrite = false, json = false;

  void add_to(Flags& flags) {
    flags.group("Output");
    flags.add(kOutputFileNames, file, "FILE", "writes the JSON there (Google Benchmark's format)");
    flags.add(kOverwriteFileNames, overwrite, "replace FILE if it is there");
    flags.add("json", json, "the JSON on stdout instead of the table");
    flags.add_quiet();
  }
  /// Before anything is measured.
  void check() const {
    if (!file.empty()) check_output_file(file, overwrite);
  }
  /// What there is of a report so far; whole at every moment.
  void save(const BenchReport& report) const {
    if (!file.empty()) write_file(file, report.to_json());
  }
  void write(const BenchReport& report) const {
    save(report);
    if (json) {
      print(report.to_json());
    } else {
      print(format_table(report.to_rows(), output_columns()));
    }
  }
};

/// What the benches of a model have in common.
struct ModelBench {
  Flags flags;
  std::string name = "gpt2";
  DeviceFlags device_flags;
  Output output;

  ModelBench(const char* command, const char* about,
             const char* names = "config,m,model,config-name",
             const char* which =
                 "tiny, gpt2, gpt2-medium, gpt2-large, gpt2-xl, a config.json or a "
                 "model as --model names it elsewhere; the weights are random")
      : flags(command, "[OPTION...]", about) {
    flags.group("Model");
    flags.add(names, name, "NAME|FILE", which);
  }
  void add_seconds(double& seconds, const char* what) {
    flags.add("seconds", seconds, "S", fmt::format("time at least this long for each {}", what),
              above(0));
  }
  /// The last options.
  void add_machine() {
    flags.group("Machine");
    device_flags.add_to(flags);
    output.add_to(flags);
  }
  bool parse(const std::vector<std::string>& arguments) {
    if (!flags.parse(arguments)) return false;
    output.check();
    return true;
  }
  /// Where its weights lie; empty where they are random, as what was named is no more than sizes.
  std::filesystem::path files() const {
    if (Gpt2Config::preset(name)) return {};
    const std::filesystem::path path = resolve_model(name);
    return has_more_than_config(path) ? path : std::filesystem::path();
  }
  Gpt2Config config() const {
    if (const std::optional<Gpt2Config> preset = Gpt2Config::preset(name)) return *preset;
    const std::filesystem::path path = resolve_model(name);
    const bool sizes_alone = !std::filesystem::is_directory(path) && !has_more_than_config(path);
    return sizes_alone ? read_config(path) : resolved_config(path);
  }
  void refuse_size(const std::string& what, const Gpt2Config& config) const {
    flags.refuse(what, {fmt::format("{} has {} positions", name, config.n_positions)});
  }
  void write(BenchReport report, const Device& device) const {
    report.context["device"] = device.description();
    output.write(report);
  }
};

void check_length(int length, const Gpt2Config& config, const ModelBench& bench) {
  if (length <= config.n_positions) return;
  bench.refuse_size(fmt::format("--block-size {} is beyond the model's context", length), config);
}

Ceilings announce_ceilings(Device& device, int threads, DType dtype = DType::f32,
                           double seconds = 0.5) {
  note("measuring the ceilings");
  const Ceilings ceilings =
      measure_ceilings(device, {.threads = threads, .seconds = seconds, .dtype = dtype});
  if (device.shares_host_memory()) {
    note(fmt::format(
        "  reading memory {}/s, copying {}/s, multiply-adds {} GFLOP/s, matrix product {} GFLOP/s",
        human_bytes(ceilings.read_bytes_per_second), human_bytes(ceilings.copy_bytes_per_second),
        fixed_number(ceilings.fma_flops_per_second * 1e-9, 0),
        fixed_number(ceilings.gemm_flops_per_second * 1e-9, 0)));
  } else {
    note(fmt::format("  copying {}/s, matrix product in {} {} GFLOP/s",
                     human_bytes(ceilings.copy_bytes_per_second), name_of(dtype),
                     fixed_number(ceilings.gemm_flops_per_second * 1e-9, 0)));
  }
  return ceilings;
}

int run_train(const std::vector<std::string>& arguments) {
  ModelBench bench("bench train",
                   "Times training steps of a random-weight model: tokens/s, bytes, flops, percent "
                   "of ceilings.");
  Flags& flags = bench.flags;
  TrainBenchOptions options;
  TrainBenchCase only{.batch = 0, .length = 0};
  flags.group("Work");
  flags.add(kBatchNames, only.batch, "B",
            "rows a step; without it 4 rows of 64 and 4 of 256 are timed", at_least(1));
  flags.add("block-size", only.length, "T", "tokens a row", at_least(1));
  bench.add_seconds(options.seconds, "case");
  ProductFlags products;
  products.add_to(flags);
  bench.add_machine();
  if (!bench.parse(arguments)) return 0;

  products.finish(flags);
  options.model = bench.name;
  options.config = bench.config();
  if (only.batch > 0 || only.length > 0) {
    options.cases = {
        {.batch = only.batch > 0 ? only.batch : 4, .length = only.length > 0 ? only.length : 256}};
  }
  for (const TrainBenchCase& c : options.cases) check_length(c.length, options.config, bench);
  const std::unique_ptr<Device> device = bench.device_flags.open();
  const DType dtype = products.choose(*device);
  options.bf16 = dtype == DType::bf16;
  const Ceilings ceilings = announce_ceilings(*device, bench.device_flags.threads, dtype);
  options.memory_bytes = memory_room(*device).available;
  bench.write(run_train_bench(*device, ceilings, options, note), *device);
  return 0;
}

/// How matrices are stored: those of random weights, and what files are loaded as.
struct Stored {
  DType made = DType::f32;
  std::optional<Quantisation> blocks = {};
  std::optional<WeightStorage> loaded = {};  // empty: random ones alone are made so
  bool operator==(const Stored&) const = default;
};

void add_stored(Flags& flags, Stored& stored) {
  flags.add_choice("dtype", stored,
                   {{"auto", {.loaded = WeightStorage::as_stored}},
                    {"float32", {.loaded = WeightStorage::f32}},
                    {"bfloat16", {.made = DType::bf16}},
                    {"float16", {.made = DType::f16}},
                    {"int8", {.blocks = Quantisation::int8, .loaded = WeightStorage::int8}},
                    {"int4", {.blocks = Quantisation::int4, .loaded = WeightStorage::int4}}},
                   "how the matrices are stored; auto: as in the files, of random weights in "
                   "float32; bfloat16 and float16 are for random ones");
}

/// A model by its own name: where it lies is nobody's business who reads a result.
std::string own_name(const std::string& typed) {
  const std::filesystem::path path = std::filesystem::absolute(typed).lexically_normal();
  return (path.has_filename() ? path : path.parent_path()).filename().string();
}

/// What products with the weights of files compute in: bfloat16 and float16 where all are stored so.
DType products_with(const std::filesystem::path& files, WeightStorage storage) {
  if (storage != WeightStorage::as_stored) return DType::f32;
  const OpenedModel opened = open_model(base_model(files));
  std::optional<DType> type;
  for (std::size_t i = 0; i < opened.parameters.size(); ++i) {
    if (!multiplies(opened.parameters[i])) continue;
    const DType own = opened.tensors[i]->weight_type();
    if (own != type.value_or(own)) return DType::f32;
    type = own;
  }
  return type.value_or(DType::f32);
}

/// As `quire generate` loads it.
BenchModel loaded_model(Device& device, const std::string& name, const std::filesystem::path& path,
                        WeightStorage storage) {
  note(fmt::format("loading {}", name));
  LoadedModel loaded = load_resolved(device, path, storage);
  for (const std::string& line : loaded.notes) note("  " + line);
  std::vector<const char*> types;
  for (const WeightFormat format : formats_read(loaded.config, loaded.parameters)) {
    types.push_back(name_of(format));
  }
  return {name, fmt::format("{}", fmt::join(types, "+")), loaded.config,
          std::move(loaded.parameters)};
}

int run_generate(const std::vector<std::string>& arguments) {
  ModelBench bench("bench generate",
                   "Times a model writing: decoding, prompts, time to the first token.",
                   "model,m,model-dir,model-name-or-path,config,config-name",
                   "what quire generate takes, loaded as it does; or tiny, gpt2, gpt2-medium, "
                   "gpt2-large, gpt2-xl or a config.json for random weights of these sizes");
  Flags& flags = bench.flags;
  GenerateBenchOptions options;
  int batch = 0;
  Stored stored = {.loaded = WeightStorage::as_stored};
  add_stored(flags, stored);
  flags.group("Work");
  flags.add("batch-size", batch, "B", "rows at once; without it 1 and 8 are timed", at_least(1));
  flags.add("prompt-tokens", options.prompt, "N", "tokens before the first drawn one", at_least(1));
  flags.add("max-new-tokens,n", options.tokens, "N", "tokens drawn in a pass", at_least(1));
  flags.add("prefill", options.prefill, "N", "tokens of the long prompt", at_least(1));
  bench.add_seconds(options.seconds, "entry");
  bench.add_machine();
  if (!bench.parse(arguments)) return 0;

  const std::string name = own_name(bench.name);
  const std::filesystem::path files = bench.files();
  const Gpt2Config config = bench.config();
  if (!files.empty() && !stored.loaded) {
    flags.refuse(fmt::format("--dtype {} is for random weights", name_of(stored.made)),
                 {name + " has weights: quire convert writes them in other types"});
  }
  if (batch > 0) options.batches = {batch};
  if (options.prompt + options.tokens > config.n_positions) {
    bench.refuse_size(fmt::format("{} prompt tokens and {} new ones do not fit the context",
                                  options.prompt, options.tokens),
                      config);
  }
  const std::unique_ptr<Device> device = bench.device_flags.open();
  if (stored.blocks) check_quantised(*device, config, *stored.blocks);
  const DType products = files.empty() ? stored.made : products_with(files, *stored.loaded);
  const Ceilings ceilings = announce_ceilings(*device, bench.device_flags.threads, products,
                                              std::min(options.seconds, 0.5));
  forget_peak_memory();
  const BenchModel model =
      files.empty() ? random_model(*device, name, config, stored.made, stored.blocks, note)
                    : loaded_model(*device, name, files, *stored.loaded);
  if (files.empty()) forget_peak_memory();
  options.threads = bench.device_flags.threads;
  BenchReport report = run_generate_bench(*device, ceilings, model, options, note);
  report.context["model"] = model.name;
  report.context["dtype"] = model.type;
  report.context["ceilings_in"] = name_of(products);
  report.context["weights"] =
      files.empty() ? "random" : open_source(base_model(files)).path().filename().string();
  bench.write(std::move(report), *device);
  return 0;
}

// The type of activations: what was asked for, or the fastest the device computes in. Products that
// can be in bfloat16 beside activations in float are so where they are asked for.
void choose_type(KernelShapes& shapes, const Device& device, std::optional<DType> wanted) {
  if (!wanted) {
    shapes.dtype = device.activation_type(DType::bf16);
    return;
  }
  const ProductType type = product_type(device, *wanted);
  shapes.dtype = type.operands;
  shapes.multiply = type.multiply;
  if (type.operands == *wanted || type.multiply == Multiply::in_bf16) return;
  throw Error(
      Fault::usage,
      fmt::format("the device computes in {}, not in {}", name_of(type.operands), name_of(*wanted)),
      {device.description()}, fmt::format("--dtype {}", name_of(type.operands)));
}

std::map<std::string, std::string> context_of(const KernelShapes& shapes,
                                              const Ceilings& ceilings) {
  std::map<std::string, std::string> context = {{"batch", std::to_string(shapes.batch)},
                                                {"length", std::to_string(shapes.length)},
                                                {"head_rows", std::to_string(shapes.head_rows)}};
  for (const auto& [name, ceiling] : {std::pair("copy_bytes", ceilings.copy_bytes_per_second),
                                      std::pair("read_bytes", ceilings.read_bytes_per_second),
                                      std::pair("fma_flops", ceilings.fma_flops_per_second),
                                      std::pair("gemm_flops", ceilings.gemm_flops_per_second)}) {
    context[std::string(name) + "_per_second"] = fmt::format("{:.4g}", ceiling);
  }
  return context;
}

int run_kernels(const std::vector<std::string>& arguments) {
  ModelBench bench("bench kernels",
                   "Times each op at the shapes of a GPT-2, with tensors out of memory (cold) and "
                   "out of a cache (warm): bytes, flops, percent of ceilings.");
  Flags& flags = bench.flags;
  const Output& output = bench.output;
  KernelBenchOptions options;
  KernelShapes& shapes = options.shapes;
  int batch = 0, length = 0, head_rows = 0;
  std::optional<DType> dtype;
  std::filesystem::path picture;
  flags.add_choice<std::optional<DType>>(
      "dtype", dtype,
      {{"auto", {}}, {"float32", DType::f32}, {"bfloat16", DType::bf16}, {"float16", DType::f16}},
      "of activations and weights; auto is bfloat16 where the device keeps them so; on "
      "a CPU bfloat16 is for products alone");
  flags.group("Work");
  flags.add("ops", options.ops, "NAMES",
            "only kernels that begin so: layernorm matmul_forward/head; without it all",
            ListStyle::several);
  flags.add("batch-size", batch, "B", "rows; without it 64 on a GPU, 4 on a CPU", at_least(1));
  flags.add("block-size", length, "T", "tokens a row; without it 1024 on a GPU, 256 on a CPU",
            at_least(1));
  flags.add("head-rows", head_rows, "R",
            "rows of logits at once; without it as many as training has", at_least(1));
  bench.add_seconds(options.seconds, "entry");
  bench.add_machine();
  flags.add("svg", picture, "FILE", "draws a roofline there, which --overwrite replaces");
  flags.example("quire bench kernels --ops layernorm,attention --svg roofline.svg");
  if (!bench.parse(arguments)) return 0;
  if (!picture.empty()) check_output_file(picture, output.overwrite);

  shapes.config = bench.config();
  options.ops = split_at_commas(fmt::format("{}", fmt::join(options.ops, ",")));  // "a,b" and "a b"
  check_length(length, shapes.config, bench);
  const std::unique_ptr<Device> device = bench.device_flags.open();
  choose_type(shapes, *device, dtype);
  shapes.blocks = shapes.dtype == DType::f32 && device->why_no_format(WeightFormat::q8_0).empty();
  check_kernel_names(shapes, options.ops);
  if (device->shares_host_memory()) {
    // Half of it: the other half is for whoever else works here.
    options.memory_bytes = 0.5 * static_cast<double>(inspect_machine().memory_available);
  }
  const DType product_dtype = shapes.multiply == Multiply::in_bf16 ? DType::bf16 : shapes.dtype;
  const Ceilings ceilings = announce_ceilings(*device, bench.device_flags.threads, product_dtype,
                                              std::min(options.seconds, 0.5));
  choose_size(shapes, *device, ceilings);
  if (batch > 0) shapes.batch = batch;
  if (length > 0) shapes.length = length;
  if (head_rows > 0) shapes.head_rows = head_rows;
  BenchReport report;
  report.context = context_of(shapes, ceilings);
  report.context["device"] = device->description();
  report.context["model"] = bench.name;
  report.context["dtype"] = name_of(product_dtype);
  const auto save = [&] {  // what the library grants is known when products have asked for it
    const std::string epilogues = device->epilogues(), table = device->tuned();
    if (!epilogues.empty()) report.context["epilogues"] = epilogues;
    if (!table.empty()) report.context["autotune_table"] = table;
    output.save(report);
  };
  run_kernel_bench(*device, ceilings, options, note, report, save);
  if (const std::string epilogues = device->epilogues(); !epilogues.empty()) {
    note("  epilogues: " + epilogues);
  }
  if (!picture.empty()) {
    const std::string title = fmt::format(
        "{}, {}: {} rows of {} tokens in {} (discs: cold, rings: warm)", device->description(),
        bench.name, shapes.batch, shapes.length, name_of(product_dtype));
    write_file(picture, roofline_svg(roofline_of(report, title)));
  }
  output.write(report);
  return 0;
}

int run_tokenizer(const std::vector<std::string>& arguments) {
  Flags flags(
      "bench tokenizer", "[OPTION...]",
      "Times encoding, decoding, loading and training of a vocabulary, on one thread but for "
      "the training.");
  TokenizerBenchOptions options;
  std::string tokenizer;
  Output output;
  flags.group("Text");
  flags.add(kVocabularyNames, tokenizer, "DIR", "the vocabulary; without it one is trained first");
  flags.add("prose", options.prose, "FILE", "English text; without it made from a seed");
  flags.add("mix", options.mix, "FILE",
            "code, numbers, many scripts, emoji; without it made from a seed");
  flags.add("vocab-size", options.vocab_size, "N", "tokens of the vocabulary that is trained",
            at_least(257));
  flags.add("seconds", options.seconds, "S", "time at least this long for each entry", above(0));
  output.add_to(flags);
  if (!flags.parse(arguments)) return 0;
  output.check();
  if (!tokenizer.empty()) options.tokenizer = resolve_tokenizer(tokenizer);
  output.write(run_tokenizer_bench(options, note));
  return 0;
}

const Command kActions[] = {
    {"train", "training steps of a whole model", run_train},
    {"generate", "decoding, prompts, time to the first token", run_generate},
    {"tokenizer", "encoding, decoding, loading, training", run_tokenizer},
    {"kernels", "each op at a model's shapes, cold and warm", run_kernels},
};

}  // namespace

const Command kBenchCommand = {
    "bench", "train, generate, tokenizer, kernels: speed beside ceilings", nullptr,
    "How fast Quire is here, beside ceilings measured in the same run.", kActions};

}  // namespace quire
