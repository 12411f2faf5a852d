// Which algorithm a product gets: the same in every process by default, the fastest where they may
// be timed, and the table's afterwards.
#include <algorithm>

#include "base/file.h"
#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/gemm_library.h"
#include "tests/support/cache.h"
#include "tests/support/catch.h"
#include "tests/support/compare.h"
#include "tests/support/data.h"

namespace quire::test {
namespace {

using cuda::Algorithm;
using cuda::Gemm;
using cuda::GemmAlgorithms;
using cuda::GemmLibrary;

/// A library that notes what it is asked. Its algorithms are numbers; 7 sums in parts.
struct Noted final : GemmAlgorithms {
  struct Calls {
    std::vector<std::int64_t> proposed_for;  // M
    std::vector<std::uint64_t> run, timed;
  };
  Calls& calls;
  std::vector<std::uint64_t> proposals;
  std::uint64_t unfit = 0;          // for an M that is no power of two
  std::uint64_t unsupported = 99;   // as it turns out
  float waves = 1.0f;               // of what is proposed for sums of more than 768
  std::uint64_t of_short_sums = 0;  // what comes before the others for shorter ones, or 0
  float short_waves = 1.0f;
  bool can_time = true;

  explicit Noted(Calls& to, std::vector<std::uint64_t> proposed = {7, 3, 5})
      : calls(to), proposals(std::move(proposed)) {}
  std::string name() const override { return "noted"; }
  bool rows_alone() const override { return false; }
  std::vector<Proposal> propose(const Gemm& g) override {
    calls.proposed_for.push_back(g.M);
    std::vector<Proposal> all;
    if (g.K <= 768 && of_short_sums != 0) all.push_back({{of_short_sums}, false, short_waves});
    for (const std::uint64_t number : proposals) {
      all.push_back({{number}, number == 7, g.K > 768 ? waves : short_waves});
    }
    return all;
  }
  bool can_run(const Gemm& g, const Algorithm& algorithm) override {
    return (g.M & (g.M - 1)) == 0 || algorithm[0] != unfit;
  }
  float time(const Gemm&, const Algorithm& algorithm, cudaStream_t) override {
    calls.timed.push_back(algorithm[0]);
    return can_time ? 10.0f - static_cast<float>(algorithm[0]) : -1.0f;
  }
  bool multiply(const Gemm&, const Algorithm& algorithm, cudaStream_t) override {
    if (algorithm[0] == unsupported) return false;
    calls.run.push_back(algorithm[0]);
    return true;
  }
};

const cuda::CardKey kChoosingCard{"a card", "13.0", "abc"};

Gemm product(std::int64_t M) {
  return {.M = M, .N = 8, .K = 4, .a = {.stride = 4}, .b = {.stride = 8}};
}

TEST_CASE(
    "by default a product gets the first algorithm whose sums are whole, asked for by class") {
  const CacheFolder cache;
  Noted::Calls calls;
  GemmLibrary library(std::make_unique<Noted>(calls), kChoosingCard, {});
  for (const std::int64_t M : {65, 100, 128, 100, 129}) CHECK(library.run(product(M), nullptr));
  CHECK(calls.run == std::vector<std::uint64_t>{3, 3, 3, 3, 3});
  CHECK(calls.proposed_for == std::vector<std::int64_t>{128, 128, 128, 256});  // 100 once
  CHECK(calls.timed.empty());
  CHECK(library.tuned().empty());
  // The rows of a weight's gradient are no tokens.
  Gemm gradient = product(65);
  gradient.a.transposed = true;
  library.run(gradient, nullptr);
  CHECK(calls.proposed_for.back() == 65);
}

TEST_CASE("a long sum that would leave the card idle gets what serves a short one") {
  struct Case {
    float waves, short_waves;
    std::int64_t K;
    std::uint64_t wanted;
  };
  const CacheFolder cache;
  for (const Case& c : {Case{0.3f, 0.7f, 3072, 6}, Case{0.3f, 0.3f, 3072, 3},  // no better
                        Case{0.5f, 0.7f, 3072, 3},                             // busy enough
                        Case{0.3f, 0.7f, 768, 6}}) {
    Noted::Calls calls;
    auto noted = std::make_unique<Noted>(calls);
    noted->waves = c.waves;
    noted->short_waves = c.short_waves;
    noted->of_short_sums = 6;
    GemmLibrary library(std::move(noted), kChoosingCard, {});
    Gemm gemm = product(64);
    gemm.K = c.K;
    CHECK(library.run(gemm, nullptr));
    CHECK(calls.run == std::vector<std::uint64_t>{c.wanted});
  }
}

TEST_CASE("a product that its class's algorithms do not serve is asked for alone") {
  const CacheFolder cache;
  Noted::Calls calls;
  auto noted = std::make_unique<Noted>(calls, std::vector<std::uint64_t>{3, 7});
  noted->unfit = 3;
  GemmLibrary library(std::move(noted), kChoosingCard, {});
  CHECK(library.run(product(100), nullptr));
  CHECK(calls.proposed_for == std::vector<std::int64_t>{128, 100});
}

TEST_CASE("timed products get the fastest, and so does all of their class afterwards") {
  const CacheFolder cache;
  Noted::Calls calls;
  {
    GemmLibrary library(std::make_unique<Noted>(calls), kChoosingCard, {.autotune = true});
    library.run(product(100), nullptr);
    CHECK(calls.timed == std::vector<std::uint64_t>{3, 5});
    library.run(product(100), nullptr);
    library.run(product(128), nullptr);
    CHECK(calls.timed.size() == 2);
    CHECK(calls.run == std::vector<std::uint64_t>{5, 5, 5});
    library.run(product(129), nullptr);
    CHECK(calls.timed.size() == 4);
  }
  // Another process reads what this one found, timing or not.
  for (const bool autotune : {false, true}) {
    calls = {};
    GemmLibrary library(std::make_unique<Noted>(calls), kChoosingCard, {.autotune = autotune});
    library.run(product(70), nullptr);
    library.run(product(3), nullptr);
    CHECK(calls.run == std::vector<std::uint64_t>{5, autotune ? 5u : 3u});
    CHECK(calls.timed.size() == (autotune ? 2 : 0));
  }
}

TEST_CASE("what cannot be timed, or not be run, gets the default and leaves no line") {
  const CacheFolder cache;
  Noted::Calls calls;
  auto untimed = std::make_unique<Noted>(calls);
  untimed->can_time = false;
  GemmLibrary library(std::move(untimed), kChoosingCard, {.autotune = true});
  library.run(product(100), nullptr);
  CHECK(calls.run == std::vector<std::uint64_t>{3});
  CHECK(library.tuned().empty());

  // The table's choice serves its class, but not every M of it.
  GemmLibrary(std::make_unique<Noted>(calls), kChoosingCard, {.autotune = true})
      .run(product(64), nullptr);
  calls = {};
  auto picky = std::make_unique<Noted>(calls);
  picky->unfit = 5;
  GemmLibrary other(std::move(picky), kChoosingCard, {});
  other.run(product(64), nullptr);
  other.run(product(63), nullptr);
  CHECK(calls.run == std::vector<std::uint64_t>{5, 3});
}

TEST_CASE("an epilogue that is refused is said, a plain product that is refused is a fault") {
  const CacheFolder cache;
  Noted::Calls calls;
  Gemm gelu = product(16);
  gelu.epilogue = cuda::Epilogue::gelu_new;
  {
    GemmLibrary none(std::make_unique<Noted>(calls, std::vector<std::uint64_t>{7}), kChoosingCard,
                     {});
    CHECK_FALSE(none.run(gelu, nullptr));
    CHECK(none.epilogues() == "gelu_new float32: refused");
    CHECK(error_of([&] { none.run(product(16), nullptr); }) ==
          "matmul [16, 4] x [4, 8] of float32: noted has no algorithm for it");
  }
  auto late = std::make_unique<Noted>(calls);
  late->unsupported = 3;
  GemmLibrary library(std::move(late), kChoosingCard, {});
  CHECK_FALSE(library.run(gelu, nullptr));
  CHECK_FALSE(library.run(gelu, nullptr));
  CHECK(calls.run.empty());
  CHECK_THROWS_AS(library.run(product(16), nullptr), Error);
}

/// out of a product whose sums show the order in which they were made.
std::vector<float> multiplied(Device& device, std::int64_t M) {
  constexpr std::int64_t K = 301, N = 24;
  const std::vector<float> x = normal(M * K, 1), weight = normal(K * N, 2);
  const Buffer of_x(device, x.size() * 4), of_weight(device, weight.size() * 4),
      of_out(device, static_cast<std::size_t>(M * N) * 4);
  device.copy_to_device(of_x.data(), x.data(), of_x.size());
  device.copy_to_device(of_weight.data(), weight.data(), of_weight.size());
  device.matmul_forward(
      {.out = View(of_out.data(), DType::f32, {M, N}),
       .x = View(of_x.data(), DType::f32, {M, K}),
       .weight = {View(of_weight.data(), DType::f32, {K, N}), WeightLayout::in_out}});
  std::vector<float> out(static_cast<std::size_t>(M * N));
  device.copy_to_host(out.data(), of_out.data(), of_out.size());
  return out;
}

TEST_CASE("a device has the bits of its table, and its default bits without one") {
  const CacheFolder cache;
  const std::vector<float> usual = multiplied(*open_cuda_device(0), 20);
  cuda_on_host::machine().products_timed = 0;
  const auto tuning = open_cuda_device(0, {.autotune = true});
  CHECK(tuning->tuned().empty());
  const std::vector<float> tuned = multiplied(*tuning, 20);
  CHECK(cuda_on_host::machine().products_timed == 2);
  CHECK(tuned != usual);
  CHECK_FALSE(tuning->tuned().empty());

  const auto later = open_cuda_device(0);
  CHECK(later->tuned() == tuning->tuned());
  CHECK(multiplied(*later, 20) == tuned);
  CHECK(multiplied(*later, 33) == multiplied(*open_cuda_device(0), 33));  // of no line
  CHECK(cuda_on_host::machine().products_timed == 2);

  // Another version of the library has other algorithms: the default again, and it is said.
  cuda_on_host::machine().gemm_library_version = 2;
  std::vector<std::string> warnings;
  const auto newer =
      open_cuda_device(0, {.warn = [&](const std::string& line) { warnings.push_back(line); }});
  CHECK(multiplied(*newer, 20) == usual);
  CHECK(warnings.size() == 1);
  cuda_on_host::machine() = {};
}

}  // namespace
}  // namespace quire::test
