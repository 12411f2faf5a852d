// How fast a whole model trains and writes, on random weights that it makes itself: speed does not
// depend on what the weights are.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "bench/ceilings.h"
#include "bench/report.h"
#include "engine/formats/packed_weights.h"
#include "engine/model/config.h"

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

struct GenerateBenchOptions {
  std::string model = "gpt2";
  Gpt2Config config;
  DType dtype = DType::f32;  // of the matrices, unless they are in blocks
  std::optional<Quantisation> quantisation = {};
  std::vector<int> batches = {1, 8};
  int prompt = 32;       // tokens before the first drawn one
  int tokens = 64;       // drawn after it
  int prefill = 512;     // tokens of the long prompt
  double seconds = 2.0;  // at least, for each entry
};

/// Called with a line for people before each entry.
using BenchNote = std::function<void(const std::string&)>;

/// Entries "train/MODEL/batch:B/length:T": items are tokens, bytes the optimizer's and the weights'
/// traffic that no cache can save, flops as training_flops() counts them; the counter
/// peak_memory_bytes is the process's.
BenchReport run_train_bench(Device& device, const Ceilings& ceilings,
                            const TrainBenchOptions& options, const BenchNote& note);

/// Entries "decode/…/batch:B" (items: tokens of all rows), "prefill/…", "first_token/…" (a prompt
/// of 32 to its first token, cache allocated). Bytes of a decode step are every weight but the
/// embedding tables' unused rows, once, and the cached keys and values.
BenchReport run_generate_bench(Device& device, const Ceilings& ceilings,
                               const GenerateBenchOptions& options, const BenchNote& note);

/// The largest resident size of this process so far, in bytes.
double peak_memory_bytes();

}  // namespace quire
