#include "kernels/cuda/gemm_library.h"

#include <bit>
#include <limits>
#include <utility>

namespace quire::cuda {
namespace {

/// A long sum of few outputs the library would split among blocks. Where it may not it proposes
/// what it would never take: 1,487 µs for a gradient of 768 x 768 over 65,536 tokens on an H200.
/// Asked for a sum of kShortSum it proposes what needs no splitting, and that serves the long one
/// too: 142 µs, where the best split takes 117; and 13 µs in place of 81 for 64 x 768 over 3,072.
constexpr std::int64_t kShortSum = 768;
constexpr float kFewWaves = 0.5f;

const char* name_of(Epilogue epilogue) {
  switch (epilogue) {
    case Epilogue::none:
      return "none";
    case Epilogue::gelu_new:
      return "gelu_new";
  }
  return "?";
}

}  // namespace

std::string text_of(const Gemm& g) {
  return "matmul [" + std::to_string(g.M) + ", " + std::to_string(g.K) + "] x [" +
         std::to_string(g.K) + ", " + std::to_string(g.N) + "] of " + quire::name_of(g.a.dtype);
}

GemmKey key_of(const Gemm& g) {
  return {.M = g.M,
          .N = g.N,
          .K = g.K,
          .dtype = g.a.dtype,
          .out_dtype = g.out_dtype,
          .a_transposed = g.a.transposed,
          .b_transposed = g.b.transposed,
          .accumulates = g.accumulate,
          .biased = g.bias != nullptr,
          .keeps_pre_activation = g.pre_activation != nullptr,
          .epilogue = g.epilogue};
}

std::string GemmKey::text() const {
  std::string text = std::to_string(M) + "x" + std::to_string(N) + "x" + std::to_string(K) + " " +
                     quire::name_of(dtype) + " -> " + quire::name_of(out_dtype);
  text += a_transposed ? " a:t" : " a:n";
  text += b_transposed ? " b:t" : " b:n";
  if (accumulates) text += " added";
  if (biased) text += " bias";
  if (keeps_pre_activation) text += " kept";
  if (epilogue != Epilogue::none) text += std::string(" ") + name_of(epilogue);
  return text;
}

Gemm representative(Gemm gemm) {
  if (!gemm.a.transposed) {
    gemm.M = static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(gemm.M)));
  }
  return gemm;
}

GemmLibrary::GemmLibrary(std::unique_ptr<GemmAlgorithms> algorithms, const CardKey& card,
                         const TuningOptions& options)
    : algorithms_(std::move(algorithms)),
      table_(card, algorithms_->name(), options),
      autotune_(options.autotune) {}

std::vector<Algorithm> GemmLibrary::candidates(const Gemm& gemm) {
  std::vector<Algorithm> found;
  // How busy the first one keeps the card; negative where there is none.
  const auto add = [&](const Gemm& asked) {
    const bool same = key_of(asked) == key_of(gemm);
    float waves = -1.0f;
    for (const auto& proposal : algorithms_->propose(asked)) {
      if (proposal.sums_in_parts) continue;
      if (!same && !algorithms_->can_run(gemm, proposal.algorithm)) continue;
      if (waves < 0.0f) waves = proposal.waves;
      found.push_back(proposal.algorithm);
    }
    return waves;
  };
  Gemm asked = representative(gemm);
  const float waves = add(asked);
  if (waves >= 0.0f && waves < kFewWaves && gemm.K > kShortSum) {
    const std::vector<Algorithm> of_long_sum = std::exchange(found, {});
    asked.K = kShortSum;
    if (add(asked) <= waves) found.clear();
    found.insert(found.end(), of_long_sum.begin(), of_long_sum.end());
  }
  // What serves the class does not serve this M: it is asked for alone.
  if (found.empty() && asked.M != gemm.M) add(gemm);
  return found;
}

Algorithm GemmLibrary::fastest(const Gemm& gemm, const std::vector<Algorithm>& algorithms,
                               cudaStream_t stream) {
  float least = std::numeric_limits<float>::infinity();
  Algorithm best = algorithms.front();
  for (const Algorithm& algorithm : algorithms) {
    const float milliseconds = algorithms_->time(gemm, algorithm, stream);
    if (milliseconds < 0.0f) return algorithms.front();
    if (milliseconds >= least) continue;
    least = milliseconds;
    best = algorithm;
  }
  if (least == std::numeric_limits<float>::infinity()) return best;
  const Algorithm kept = table_.add(key_of(representative(gemm)).text(), best);
  return algorithms_->can_run(gemm, kept) ? kept : best;
}

GemmLibrary::Choice GemmLibrary::choose(const Gemm& gemm, cudaStream_t stream) {
  const Algorithm* const known = table_.find(key_of(representative(gemm)).text());
  if (known != nullptr && algorithms_->can_run(gemm, *known)) return {true, *known};
  const std::vector<Algorithm> all = candidates(gemm);
  if (all.empty()) return {};
  if (known != nullptr || !autotune_ || all.size() == 1) return {true, all.front()};
  return {true, fastest(gemm, all, stream)};
}

bool GemmLibrary::run(const Gemm& gemm, cudaStream_t stream) {
  const GemmKey key = key_of(gemm);
  auto known = choices_.find(key);
  if (known == choices_.end()) known = choices_.emplace(key, choose(gemm, stream)).first;
  Choice& choice = known->second;
  const bool extra = gemm.epilogue != Epilogue::none;
  if (choice.found) choice.found = algorithms_->multiply(gemm, choice.algorithm, stream);
  if (extra) {
    Asked& asked = epilogues_[{gemm.epilogue, gemm.a.dtype}];
    ++(choice.found ? asked.granted : asked.refused);
  }
  if (!choice.found && !extra) {
    throw Error(Fault::device,
                text_of(gemm) + ": " + algorithms_->name() + " has no algorithm for it", {},
                "`device` cpu"_named);
  }
  return choice.found;
}

std::string GemmLibrary::epilogues() const {
  std::string text;
  for (const auto& [what, asked] : epilogues_) {
    if (!text.empty()) text += ", ";
    text += std::string(name_of(what.first)) + " " + quire::name_of(what.second) + ": ";
    text += asked.refused == 0   ? "in the product"
            : asked.granted == 0 ? "refused"
                                 : "in some shapes";
  }
  return text;
}

}  // namespace quire::cuda
