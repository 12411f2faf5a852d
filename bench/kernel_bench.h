// How fast each op is at the shapes a GPT-2 gives it, cold and warm, beside what memory and
// arithmetic allow.
#pragma once

#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "bench/ceilings.h"
#include "bench/kernel_cases.h"
#include "bench/report.h"

namespace quire {

struct KernelBenchOptions {
  KernelShapes shapes;
  /// Ops or entries, whole or by how they begin: "layernorm", "matmul_forward/head". Empty: all.
  std::vector<std::string> ops;
  double seconds = 0.5;  // at least, for each entry
  /// Cases whose tensors take more are left out, with a note; fewer layers go
  /// to those over all parameters.
  double memory_bytes = std::numeric_limits<double>::infinity();
};

/// B, T and R for a device: 64 rows of 1024 tokens and 8192 rows of logits on a GPU, 4 of 256 and
/// 256 on what computes a thousand times slower.
void choose_size(KernelShapes& shapes, const Device& device, const Ceilings& ceilings);

/// Throws Error(usage) with the nearest name for an item of `ops` that no case begins with.
void check_kernel_names(const KernelShapes& shapes, const std::vector<std::string>& ops);

/// Entries "OP/cold" and "OP/warm", "OP/SHAPE/cold" where an op has several: cold calls go round
/// sets of tensors that exceed the caches, warm ones stay with one set. A set that exceeds them
/// alone has no warm entry. Results are looked at before they are timed. The counter
/// percent_of_ceiling is the time that memory() or compute() asks for, whichever is more, as a part
/// of the median; what lies in a cache can be above 100. Where it is compute(), percent_of_gemm
/// compares with the matrix product alone. calls_per_sample says over how many calls the wait for
/// the device is spread: few, where an op works in place on large tensors. Entries are added to
/// `report`, and `added` is called after each, so that what stops half-way keeps what it has.
void run_kernel_bench(Device& device, const Ceilings& ceilings, const KernelBenchOptions& options,
                      const std::function<void(const std::string&)>& note, BenchReport& report,
                      const std::function<void()>& added);

}  // namespace quire
