// Embedding: both directions are defined to the bit, so nothing here has a bound.
#include <algorithm>
#include <cmath>

#include "kernels/ops.h"
#include "tests/support/cases.h"
#include "tests/support/catch.h"
#include "tests/support/compare.h"
#include "tests/support/data.h"
#include "tests/support/devices.h"
#include "tests/support/guarded.h"
#include "tests/support/half_types.h"

using namespace quire;
using namespace quire::test;

TEST_CASE("embedding_forward adds two rows, rounded once, from tables of any float type") {
  constexpr DType kTypes[] = {DType::f32, DType::bf16, DType::f16};
  for (const TestDevice& device : devices_under_test()) {
    for (const DType out_type : device.types) {
      for (const auto [B, T, C, V, P] : cases::kEmbedding) {
        for (int types = 0; types < 5; ++types) {  // both tables alike, and two mixtures
          for (const std::int64_t shift : {0, 1}) {
            const DType wte_type = kTypes[types % 3], wpe_type = kTypes[types < 3 ? types : 2];
            Stage stage(device.device,
                        join("embedding", device.name, name_of(out_type), name_of(wte_type),
                             name_of(wpe_type), B, T, C, V, P),
                        shift);
            const std::vector<std::int32_t> ids = integers(B * T, 1, V);
            const std::vector<std::int32_t> positions = integers(B * T, 2, P);
            Guarded& wte = stage.input(normal(V * C, 3), {V, C}, wte_type);
            Guarded& wpe = stage.input(normal(P * C, 4), {P, C}, wpe_type);
            Guarded& out = stage.output({B, T, C}, out_type);
            device.device.embedding_forward({.out = out,
                                             .ids = stage.input(ids, {B, T}),
                                             .positions = stage.input(positions, {B, T}),
                                             .wte = {wte, WeightLayout::out_in},
                                             .wpe = wpe});
            const std::vector<float> tokens = wte.floats(), places = wpe.floats();
            std::vector<float> want;
            for (std::size_t bt = 0; bt < ids.size(); ++bt) {
              for (std::int64_t c = 0; c < C; ++c) {
                want.push_back(tokens[ids[bt] * C + c] + places[positions[bt] * C + c]);
              }
            }
            compare_bits(stage.what(), out.floats(), rounded_to(out_type, want));
          }
        }
      }
    }
  }
}

namespace {

void test_backward(const TestDevice& device, DType dtype, std::int64_t shift,
                   const cases::Embedding& shape, const std::vector<std::int32_t>& ids,
                   const std::vector<std::int32_t>& positions) {
  const auto [B, T, C, V, P] = shape;
  Stage stage(device.device, join("embedding_backward", device.name, name_of(dtype), B, T, C, V, P),
              shift);
  const std::vector<float> d_out = rounded_to(dtype, normal(B * T * C, 3));
  std::vector<float> want_wte = normal(V * C, 4), want_wpe = normal(P * C, 5);
  Guarded& d_wte = stage.in_out(want_wte, {V, C});
  Guarded& d_wpe = stage.in_out(want_wpe, {P, C});
  device.device.embedding_backward({.d_wte = Accumulate(d_wte),
                                    .d_wpe = Accumulate(d_wpe),
                                    .d_out = stage.input(d_out, {B, T, C}, dtype),
                                    .ids = stage.input(ids, {B, T}),
                                    .positions = stage.input(positions, {B, T})});
  for (std::size_t bt = 0; bt < ids.size(); ++bt) {
    for (std::int64_t c = 0; c < C; ++c) {
      want_wte[ids[bt] * C + c] += d_out[bt * C + c];
      want_wpe[positions[bt] * C + c] += d_out[bt * C + c];
    }
  }
  compare_bits(stage.what() + " d_wte", d_wte.floats(), want_wte);
  compare_bits(stage.what() + " d_wpe", d_wpe.floats(), want_wpe);
}

}  // namespace

TEST_CASE("embedding_backward adds rows that meet in the order of their positions") {
  std::vector<TestDevice> devices = devices_under_test();
  for (const TestDevice& device : cpu_with_threads()) devices.push_back(device);
  for (const TestDevice& device : devices) {
    for (const DType dtype : device.types) {
      for (const auto& shape : cases::kEmbedding) {
        const auto [B, T, C, V, P] = shape;
        for (const std::int64_t shift : {0, 1}) {
          test_backward(device, dtype, shift, shape, integers(B * T, 1, V), integers(B * T, 2, P));
        }
      }
    }
  }
}

// 3003 places: common tokens and rare ones, over a vocabulary whose ids have three bytes.
TEST_CASE("embedding_backward keeps the order among thousands of places") {
  constexpr cases::Embedding kShape{3, 1001, 6, 70'000, 1001};
  std::vector<std::int32_t> ids = integers(3003, 6, 70'000), positions(3003);
  for (std::int32_t i = 0; i < 3003; ++i) {
    if (i % 3 == 1) ids[i] = 65'543;
    if (i % 7 == 2) ids[i] = ids[i] % 40 * 256 + 7;  // the lowest byte is alike
    positions[i] = i % 1001;
  }
  for (const TestDevice& device : devices_under_test()) {
    for (const DType dtype : device.types) {
      for (const std::int64_t shift : {0, 1}) {
        test_backward(device, dtype, shift, kShape, ids, positions);
      }
    }
  }
}

TEST_CASE("embedding names the id or position that no row answers to") {
  for (const TestDevice& device : devices_under_test()) {
    if (!device.device.shares_host_memory()) continue;  // check.h: the host reads no ids there
    Stage stage(device.device, "embedding " + device.name);
    const auto run = [&](std::vector<std::int32_t> ids, std::vector<std::int32_t> positions) {
      device.device.embedding_forward(
          {.out = stage.output({1, 2, 3}),
           .ids = stage.input(ids, {1, 2}),
           .positions = stage.input(positions, {1, 2}),
           .wte = {stage.input(normal(15, 1), {5, 3}), WeightLayout::out_in},
           .wpe = stage.input(normal(12, 1), {4, 3})});
    };
    CHECK(error_of([&] { run({4, 5}, {0, 1}); }) == "embedding: ids[1] is 5, wants 0 to 4");
    CHECK(error_of([&] { run({-1, 0}, {0, 1}); }) == "embedding: ids[0] is -1, wants 0 to 4");
    CHECK(error_of([&] { run({4, 0}, {3, 4}); }) == "embedding: positions[1] is 4, wants 0 to 3");
  }
}

TEST_CASE("an impossible id makes its row NaN and adds nothing where the host cannot see it") {
  for (const TestDevice& device : devices_under_test()) {
    if (device.device.shares_host_memory()) continue;
    Stage stage(device.device, "impossible ids " + device.name);
    Guarded& ids = stage.input(std::vector<std::int32_t>{4, 5, -1, 0}, {1, 4});
    Guarded& positions = stage.input(std::vector<std::int32_t>{0, 1, 2, 4}, {1, 4});
    for (const std::int64_t C : {3, 8}) {
      Guarded& out = stage.output({1, 4, C});
      device.device.embedding_forward(
          {.out = out,
           .ids = ids,
           .positions = positions,
           .wte = {stage.input(normal(5 * C, 1), {5, C}), WeightLayout::out_in},
           .wpe = stage.input(normal(4 * C, 1), {4, C})});
      for (std::int64_t n = 0; n < 4; ++n) {
        for (const float value : slice(out.floats(), n * C, C)) CHECK(std::isnan(value) == (n > 0));
      }
      const std::vector<float> zeros(5 * C, 0.0f), d_out(4 * C, 1.0f);
      Guarded& d_wte = stage.in_out(zeros, {5, C});
      Guarded& d_wpe = stage.in_out(slice(zeros, 0, 4 * C), {4, C});
      device.device.embedding_backward({.d_wte = Accumulate(d_wte),
                                        .d_wpe = Accumulate(d_wpe),
                                        .d_out = stage.input(d_out, {1, 4, C}),
                                        .ids = ids,
                                        .positions = positions});
      std::vector<float> want_wte = zeros, want_wpe(4 * C, 1.0f);
      std::fill(want_wte.begin(), want_wte.begin() + C, 1.0f);    // token 0, at place 3
      std::fill(want_wte.begin() + 4 * C, want_wte.end(), 1.0f);  // token 4, at place 0
      std::fill(want_wpe.begin() + 3 * C, want_wpe.end(), 0.0f);  // position 3 is not there
      compare_bits(stage.what() + " d_wte", d_wte.floats(), want_wte);
      compare_bits(stage.what() + " d_wpe", d_wpe.floats(), want_wpe);
    }
  }
}
