// How fast a whole model trains and writes: on random weights that it makes itself, as speed does not
// depend on what the weights are, or, writing, on those of a file, as it does depend on how they are
// stored and where they lie.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "bench/ceilings.h"
#include "bench/report.h"
#include "engine/formats/packed_weights.h"
#include "engine/model/config.h"
#include "engine/model/parameters.h"

namespace quire {

/// A training step of B rows of T tokens: forward, backward, gradient norm, AdamW.
struct TrainBenchCase {
  int batch = 4;    // B
  int length = 64;  // T
};

struct TrainBenchOptions {
  std::string model = "gpt2";  // for the entries' names
  Gpt2Config config;
  std::vector<TrainBenchCase> cases = {{4, 64}, {4, 256}};
  double seconds = 5.0;           // at least, for each case
  bool bf16 = false;              // as TrainingConfig has it
  std::int64_t memory_bytes = 0;  // that a case may take: what it keeps follows, as in training
};

/// A model to write with.
struct BenchModel {
  std::string name, type;  // for the entries' names: "gpt2", "float32"
  Gpt2Config config;
  Parameters parameters;
};

struct GenerateBenchOptions {
  std::vector<int> batches = {1, 8};
  int prompt = 32;       // tokens before the first drawn one
  int tokens = 64;       // drawn after it
  int prefill = 512;     // tokens of the long prompt
  double seconds = 2.0;  // at least, for each entry
  int threads = 0;       // as the device was opened with
};

/// Called with a line for people before each entry.
using BenchNote = std::function<void(const std::string&)>;

/// Entries "train/MODEL/batch:B/length:T": items are tokens, bytes the optimizer's and the weights'
/// traffic that no cache can save, flops as training_flops() counts them; the counter
/// peak_memory_bytes is the process's.
BenchReport run_train_bench(Device& device, const Ceilings& ceilings,
                            const TrainBenchOptions& options, const BenchNote& note);

/// Random weights of a config's shapes, as a loaded file of that type gives them: matrices of `dtype`
/// or in blocks, vectors in f32.
BenchModel random_model(Device& device, const std::string& name, const Gpt2Config& config,
                        DType dtype, std::optional<Quantisation> quantisation,
                        const BenchNote& note);

/// The formats of the matrices that a token reads, head included; that of most bytes first.
std::vector<WeightFormat> formats_read(const Gpt2Config& config, const Parameters& parameters);

/// Entries "decode/NAME/TYPE/batch:B" (items: tokens of all rows), "prefill/…", "first_token/…" (a
/// prompt of 32 to its first token, cache allocated). Bytes of a decode step are every weight but
/// the embedding tables' unused rows, once, as it is stored (the counter weight_bytes), and the cached
/// keys and values. The first pass is not timed; on a CPU memory is read between the others, as its
/// rate changes by the second where cores are shared: what the entry is held against is the median of
/// these, and bandwidth_lowest and bandwidth_highest are how far they lie apart.
BenchReport run_generate_bench(Device& device, const Ceilings& ceilings, const BenchModel& model,
                               const GenerateBenchOptions& options, const BenchNote& note);

/// The largest resident size of this process so far, in bytes.
double peak_memory_bytes();
/// Lets that begin anew with what is resident now: ceilings and drawn weights take memory that no
/// work needs. Nothing where the system cannot (Linux can).
void forget_peak_memory();

}  // namespace quire
