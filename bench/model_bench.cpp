#include "bench/model_bench.h"

#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <numeric>
#include <optional>

#include "base/numbers.h"
#include "base/text.h"
#include "engine/model/elements.h"
#include "engine/model/gpt2.h"
#include "engine/model/kv_cache.h"
#include "engine/training/optimizer.h"
#include "engine/training/trainer.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/peak.h"

namespace quire {
namespace {

std::vector<std::int32_t> random_ids(const Gpt2Config& config, std::int64_t count) {
  std::vector<std::int32_t> ids(count);
  for (std::size_t i = 0; i < ids.size(); ++i) {
    ids[i] = static_cast<std::int32_t>(random_bits({7, 7}, i) %
                                       static_cast<std::uint32_t>(config.vocab_size));
  }
  return ids;
}

// Parameters whose matrices are stored as `dtype`, vectors f32.
Parameters stored_as(Device& device, const Gpt2Config& config, DType dtype, Parameters source) {
  if (dtype == DType::f32) return source;
  auto buffers = std::make_shared<std::vector<Buffer>>();
  std::vector<ConstView> views;
  for (std::size_t i = 0; i < source.tensors().size(); ++i) {
    const View from = source.tensors()[i];
    const DType type = source.names()[i].is_matrix ? dtype : DType::f32;
    const auto count = static_cast<std::size_t>(from.count());
    const View to(buffers->emplace_back(device, count * size_of(type)).data(), type, from.shape());
    upload(device, download(device, from), to);
    views.push_back(to);
  }
  return Parameters(config, std::move(views), std::move(buffers));
}

// The matrices that every token is multiplied with. A tied head is wte as a whole.
std::vector<Weight> matrices_read(const Gpt2Config& config, const Parameters& parameters) {
  std::vector<Weight> matrices = {parameters.head()};
  for (int layer = 0; layer < config.n_layer; ++layer) {
    for (const Role product : kProducts) matrices.push_back(parameters.matrix(layer, product));
  }
  return matrices;
}

// Weights that every token reads: all but the tables' rows of other tokens and positions.
double decode_weight_bytes(const Gpt2Config& config, const Parameters& parameters) {
  std::size_t bytes = parameters.ln_f().weight.size_bytes() + parameters.ln_f().bias.size_bytes();
  for (const Weight& matrix : matrices_read(config, parameters)) bytes += matrix.size_bytes();
  for (int layer = 0; layer < config.n_layer; ++layer) {
    const auto& modules = parameters.layer(layer);
    for (const Role norm : {Role::ln_1, Role::ln_2}) bytes += modules[norm].weight.size_bytes();
    for (const auto& module : modules.all) bytes += module.bias.size_bytes();
  }
  return static_cast<double>(bytes);
}

// 2 flops for each weight that a token is multiplied with, and the attention over `context` slots.
double decode_flops(const Gpt2Config& config, double context) {
  const double tables = static_cast<double>(config.vocab_size + config.n_positions) * config.n_embd;
  const double head = static_cast<double>(config.vocab_size) * config.n_embd;
  double weights = static_cast<double>(config.parameter_count()) - tables;
  if (config.tie_word_embeddings) weights += head;
  return 2 * weights + 4.0 * config.n_layer * config.n_embd * context;
}

BenchEntry entry_of(const Ceilings& ceilings, const std::string& name, double items, double bytes,
                    double flops) {
  return {.name = name,
          .bytes = bytes,
          .flops = flops,
          .items = items,
          .bandwidth_ceiling = ceilings.read_bytes_per_second,
          .flops_ceiling = ceilings.fma_flops_per_second};
}

}  // namespace

double peak_memory_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) * 1024.0;
}

void forget_peak_memory() {
  std::ofstream("/proc/self/clear_refs") << "5";  // man 5 proc: the peak, "high water mark"
}

BenchReport run_train_bench(Device& device, const Ceilings& ceilings,
                            const TrainBenchOptions& options, const BenchNote& note) {
  Gpt2Config config = options.config;
  BenchReport report;
  note(fmt::format("making a random {} of {} parameters", options.model,
                   human_count(static_cast<double>(config.parameter_count()))));
  const Parameters parameters = initialize_parameters(device, config, /*seed=*/1);
  for (const TrainBenchCase& c : options.cases) {
    note(fmt::format("training step, {} of {}", counted(c.batch, "row"),
                     counted(c.length, "token")));
    const TrainingConfig run{
        .block_size = c.length, .per_device_train_batch_size = c.batch, .bf16 = options.bf16};
    Gpt2Training training(device, config, parameters,
                          {.batch = c.batch,
                           .length = c.length,
                           .dropout = false,
                           .activations = run.activations(),
                           .keep_outputs = keeps_outputs(config, run, device, options.memory_bytes),
                           .accumulates = false});
    AdamwOptimizer optimizer(device, parameters, training.gradients(), training.copies(), {});
    const std::int64_t tokens = std::int64_t{c.batch} * c.length;
    const std::vector<std::int32_t> ids = random_ids(config, tokens + 1);
    TokenBatch batch{.batch = c.batch, .length = c.length};
    batch.ids = std::span(ids).first(tokens);
    batch.targets = std::span(ids).last(tokens);

    // Bytes per parameter: AdamW 28, the gradient zeroed 4, added to 8, its norm 4, the weight read
    // in the forward and in the backward pass 8.
    BenchEntry entry = entry_of(
        ceilings, fmt::format("train/{}/batch:{}/length:{}", options.model, c.batch, c.length),
        static_cast<double>(tokens), 52.0 * static_cast<double>(config.parameter_count()),
        training_flops(config, tokens, c.length));
    double loss = 0;
    time_runs(
        entry,
        [&] {
          loss = training.forward_backward(batch, 1.0f / static_cast<float>(tokens),
                                           /*dropout_seed=*/0);
          optimizer.step(1e-4f, optimizer.gradient_norm());
          device.synchronize();
        },
        options.seconds, /*least_samples=*/5);
    entry.counters["loss"] = loss / static_cast<double>(tokens);
    entry.counters["peak_memory_bytes"] = peak_memory_bytes();
    entry.counters["percent_of_gemm"] =
        100.0 * entry.flops_per_second() / ceilings.gemm_flops_per_second;
    report.entries.push_back(entry);
  }
  return report;
}

BenchModel random_model(Device& device, const std::string& name, const Gpt2Config& config,
                        DType dtype, std::optional<Quantisation> quantisation,
                        const BenchNote& note) {
  note(fmt::format("making a random {} of {} parameters", name,
                   human_count(static_cast<double>(config.parameter_count()))));
  Parameters drawn = initialize_parameters(device, config, /*seed=*/1);
  if (quantisation) {
    return {name, name_of(*quantisation), config, quantised(device, config, drawn, *quantisation)};
  }
  return {name, name_of(dtype), config, stored_as(device, config, dtype, std::move(drawn))};
}

std::vector<WeightFormat> formats_read(const Gpt2Config& config, const Parameters& parameters) {
  std::map<WeightFormat, std::size_t> bytes;
  for (const Weight& matrix : matrices_read(config, parameters)) {
    bytes[matrix.format] += matrix.size_bytes();
  }
  std::vector<WeightFormat> formats;
  formats.reserve(bytes.size());
  for (const auto& [format, size] : bytes) formats.push_back(format);
  std::ranges::stable_sort(formats, std::ranges::greater(),
                           [&](WeightFormat format) { return bytes.at(format); });
  return formats;
}

namespace {

/// What memory gives at this moment, of a CPU.
class ReadingNow {
 public:
  ReadingNow(Device& device, int threads) {
    if (!device.shares_host_memory()) return;
    pool_.emplace(threads);
    bandwidth_.emplace(*pool_, std::size_t{1} << 27);  // 128 MiB: beyond caches, and quickly read
  }

  void measure() {
    if (bandwidth_) found_.push_back(bandwidth_->measure(0.02));
  }

  void write_to(BenchEntry& entry) {
    if (found_.empty()) return;
    std::ranges::sort(found_);
    entry.bandwidth_ceiling = found_[found_.size() / 2];
    entry.counters["bandwidth_lowest"] = found_.front();
    entry.counters["bandwidth_highest"] = found_.back();
  }

 private:
  std::optional<cpu::ThreadPool> pool_;
  std::optional<cpu::ReadBandwidth> bandwidth_;
  std::vector<double> found_;
};

BenchEntry time_decoding(Device& device, const Ceilings& ceilings, const BenchModel& model,
                         const GenerateBenchOptions& options, int rows, const std::string& kind) {
  const Gpt2Config& config = model.config;
  Gpt2Decoder decoder(device, config, model.parameters, rows, options.prompt + options.tokens,
                      options.prompt);
  const std::vector<std::int32_t> prompt = random_ids(config, std::int64_t{rows} * options.prompt);
  std::vector<std::int32_t> next(rows);
  const Buffer tokens(device, next.size() * sizeof(std::int32_t));
  const View token_view(tokens.data(), DType::i32, {rows});

  std::vector<double> seconds;
  const auto pass = [&] {
    decoder.reset();
    View logits = decoder.forward(rows, prompt);
    for (int i = 0; i < options.tokens; ++i) {
      const double begin = clock_seconds();
      device.argmax_tokens({.tokens = token_view, .logits = logits});
      device.copy_to_host(next.data(), tokens.data(), tokens.size());
      logits = decoder.forward(rows, next);
      device.synchronize();
      seconds.push_back(clock_seconds() - begin);
    }
  };

  const double context = options.prompt + 0.5 * options.tokens;
  const double weight_bytes = decode_weight_bytes(config, model.parameters);
  const double cache_bytes_a_slot = 2.0 * config.n_layer * config.n_embd * sizeof(float);
  BenchEntry entry = entry_of(ceilings, fmt::format("{}/batch:{}", kind, rows), rows,
                              weight_bytes + rows * cache_bytes_a_slot * context,
                              rows * decode_flops(config, context));
  pass();
  seconds.clear();
  entry.counters["weight_bytes"] = weight_bytes;
  entry.counters["peak_memory_bytes"] = peak_memory_bytes();
  {
    ReadingNow reading(device, options.threads);
    const double start = clock_seconds();
    reading.measure();
    while (clock_seconds() - start < options.seconds || seconds.size() < 10) {
      pass();
      reading.measure();
    }
    reading.write_to(entry);
  }
  forget_peak_memory();  // of what reading took
  summarize(entry, std::move(seconds));
  return entry;
}

}  // namespace

BenchReport run_generate_bench(Device& device, const Ceilings& ceilings, const BenchModel& model,
                               const GenerateBenchOptions& options, const BenchNote& note) {
  const Gpt2Config& config = model.config;
  const Parameters& parameters = model.parameters;
  const std::string tail = fmt::format("{}/{}", model.name, model.type);
  BenchReport report;
  double peak = 0;
  for (const int rows : options.batches) {
    note(fmt::format("decoding {}, {}", counted(options.tokens, "token"), counted(rows, "row")));
    report.entries.push_back(
        time_decoding(device, ceilings, model, options, rows, fmt::format("decode/{}", tail)));
    double& own = report.entries.back().counters["peak_memory_bytes"];
    own = peak = std::max(peak, own);
  }

  const double weight_bytes = decode_weight_bytes(config, parameters);
  const auto prefill = [&](const char* kind, int length) {
    note(fmt::format("prompt of {}", counted(length, "token")));
    Gpt2Decoder decoder(device, config, parameters, 1, length, length);
    const std::vector<std::int32_t> prompt = random_ids(config, length);
    const double head = 2.0 * config.vocab_size * config.n_embd;  // the last position's alone
    BenchEntry entry =
        entry_of(ceilings, fmt::format("{}/{}/length:{}", kind, tail, length), length, weight_bytes,
                 length * (decode_flops(config, 0.5 * length) - head) + head);
    time_runs(
        entry,
        [&] {
          decoder.reset();
          decoder.forward(1, prompt);
          device.synchronize();
        },
        options.seconds);
    report.entries.push_back(entry);
  };
  prefill("prefill", std::min(options.prefill, config.n_positions));
  prefill("first_token", options.prompt);
  return report;
}

}  // namespace quire
