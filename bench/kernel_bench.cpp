#include "bench/kernel_bench.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "base/nearest.h"
#include "base/numbers.h"
#include "base/text.h"
#include "engine/model/gpt2.h"

namespace quire {
namespace {

// A warm call of an op that works in place wants a fresh input each time: as many sets as this
// holds, so that they stay in a cache.
constexpr std::size_t kWarmBytes = std::size_t{1} << 23;

bool selected(const KernelCase& c, const std::vector<std::string>& ops) {
  return ops.empty() || std::any_of(ops.begin(), ops.end(),
                                    [&](const std::string& op) { return c.name.starts_with(op); });
}

/// What is allocated for one set.
std::size_t set_bytes(const KernelCase& c, Device& device) {
  Operands count;
  c.make(device, count);
  return count.bytes();
}

std::size_t sets_in(std::size_t all, std::size_t one) {
  return std::min(all / one, static_cast<std::size_t>(kMostSets));
}

struct KernelBench {
  Device& device;
  const Ceilings& ceilings;
  const KernelBenchOptions& options;
  const std::function<void(const std::string&)>& note;
  BenchReport& report;
  const std::function<void()>& added;
  NoiseBlocks noise{device};

  void run() {
    for (const KernelCase& c : kernel_cases(options.shapes)) {
      if (selected(c, options.ops)) run_fitting(c);
    }
  }

  struct Set {
    Operands operands;
    KernelCall call;
  };

  // The case; one over the whole model with as many layers as there is memory for.
  void run_fitting(const KernelCase& wanted) {
    KernelShapes shapes = options.shapes;
    std::vector<KernelCase> found = {wanted};
    while (wanted.whole_model &&
           static_cast<double>(set_bytes(found.front(), device)) > options.memory_bytes &&
           shapes.config.n_layer > 1) {
      shapes.config.n_layer /= 2;
      found = kernel_cases(shapes);
      std::erase_if(found, [&](const KernelCase& c) { return c.name != wanted.name; });
    }
    if (shapes.config.n_layer < options.shapes.config.n_layer) {
      note(fmt::format("{} over the parameters of {}: memory for more is not there", wanted.name,
                       counted(shapes.config.n_layer, "layer")));
    }
    run(found.front());
  }

  void run(const KernelCase& c) {
    note(c.name);
    const std::size_t bytes = set_bytes(c, device);
    if (static_cast<double>(bytes) > options.memory_bytes) {
      note(fmt::format("  left out: its tensors take {}", human_bytes(static_cast<double>(bytes))));
      return;
    }
    try {
      measure(c, bytes);
    } catch (const Error& error) {
      if (error.fault() != Fault::no_space) throw;
      note(fmt::format("  left out: {}", error.what()));
    }
  }

  void measure(const KernelCase& c, std::size_t bytes) {
    std::vector<Set> sets;
    add_sets(c, 1, sets);
    sets.front().call.run(0);
    sets.front().operands.check(c.name);

    const bool in_place = sets.front().operands.has_in_place();
    const bool exceeds_caches = bytes >= kColdBytes && !c.rotates;
    const bool one_set = c.rotates || c.whole_model || exceeds_caches;
    if (!exceeds_caches) {
      if (in_place && !one_set) add_sets(c, sets_in(kWarmBytes, bytes), sets);
      add_entry(c, "warm", sets, [](std::int64_t) { return std::int64_t{0}; });
    }
    if (exceeds_caches || !c.whole_model) {
      if (!one_set) add_sets(c, sets_in(kColdBytes, bytes) + 1, sets);
      std::int64_t turn = 0;
      add_entry(c, "cold", sets, [&turn](std::int64_t) { return turn++; });
    }
  }

  void add_sets(const KernelCase& c, std::size_t count, std::vector<Set>& sets) {
    while (sets.size() < count) {
      Set& set = sets.emplace_back(Set{Operands(device, noise), {}});
      set.call = c.make(device, set.operands);
      if (set.call.prepare) set.call.prepare();
    }
  }

  // `turn_of` says which turn a call is; turns go round the sets. In-place ops take a new set with
  // each call, and all sets are made anew before a sample.
  template <class TurnOf>
  void add_entry(const KernelCase& c, const char* mode, std::vector<Set>& sets, TurnOf turn_of) {
    const auto count = static_cast<std::int64_t>(sets.size());
    const bool in_place = sets.front().operands.has_in_place();
    BatchedCalls calls;
    calls.run = [&](std::int64_t call) {
      const std::int64_t turn = turn_of(call);
      sets[(in_place ? call : turn) % count].call.run(turn);
    };
    if (in_place) {
      calls.most = count;
      calls.before = [&] {
        for (const Set& set : sets) set.operands.restore();
      };
    }
    BenchEntry entry{.name = fmt::format("{}/{}", c.name, mode),
                     .bytes = c.bytes,
                     .flops = c.flops,
                     .bandwidth_ceiling = ceilings.memory(),
                     .flops_ceiling = ceilings.compute()};
    time_batches(entry, device, calls, options.seconds);
    const double by_memory = c.bytes / ceilings.memory(), by_compute = c.flops / ceilings.compute();
    entry.counters["percent_of_ceiling"] =
        100.0 * std::max(by_memory, by_compute) / entry.median_seconds;
    if (by_compute > by_memory) {
      entry.counters["percent_of_gemm"] =
          100.0 * entry.flops_per_second() / ceilings.gemm_flops_per_second;
    }
    entry.counters["bytes"] = c.bytes;
    entry.counters["flops"] = c.flops;
    report.entries.push_back(std::move(entry));
    added();
  }
};

}  // namespace

void choose_size(KernelShapes& shapes, const Device& device, const Ceilings& ceilings) {
  // A GPU's kernels may also run where there is none, for tests, and then the rate tells.
  const bool fast = !device.shares_host_memory() && ceilings.compute() > 1e12;
  shapes.batch = fast ? 64 : 4;
  shapes.length = std::min(fast ? 1024 : 256, shapes.config.n_positions);
  const HeadLayout head = head_layout(device, shapes.config, shapes.dtype);
  shapes.head_rows = head.rows;
  shapes.vocab_multiple = head.vocab_multiple;
}

void check_kernel_names(const KernelShapes& shapes, const std::vector<std::string>& ops) {
  std::vector<std::string> names;
  const std::vector<KernelCase> cases = kernel_cases(shapes);
  for (const KernelCase& c : cases) {
    const std::string op = c.name.substr(0, c.name.find('/'));
    if (std::find(names.begin(), names.end(), op) == names.end()) names.push_back(op);
  }
  const std::string all = fmt::format("{}", fmt::join(names, ", "));
  // What may be meant besides: "layernorm", "matmul_backward", "matmul_forward/qkv".
  for (std::size_t op = 0, ops_count = names.size(); op < ops_count; ++op) {
    for (std::size_t at = 0; (at = names[op].find('_', at)) != std::string::npos; ++at) {
      names.push_back(names[op].substr(0, at));
    }
  }
  for (const KernelCase& c : cases) names.push_back(c.name);
  for (const std::string& op : ops) {
    if (std::any_of(cases.begin(), cases.end(),
                    [&](const KernelCase& c) { return c.name.starts_with(op); })) {
      continue;
    }
    const std::string near = nearest(op, names);
    throw Error(Fault::usage, fmt::format("no kernel begins with '{}'", op),
                {near.empty() ? "kernels: " + all : fmt::format("did you mean {}?", near)},
                near.empty() ? "" : "quire bench kernels `ops` "_named + near);
  }
}

void run_kernel_bench(Device& device, const Ceilings& ceilings, const KernelBenchOptions& options,
                      const std::function<void(const std::string&)>& note, BenchReport& report,
                      const std::function<void()>& added) {
  KernelBench{device, ceilings, options, note, report, added}.run();
}

}  // namespace quire
