// Embedding: both directions are defined to the bit, so nothing here has a bound.
#include "kernels/ops.h"
#include "tests/support/cases.h"
#include "tests/support/catch.h"
#include "tests/support/compare.h"
#include "tests/support/data.h"
#include "tests/support/devices.h"
#include "tests/support/guarded.h"

using namespace quire;
using namespace quire::test;

TEST_CASE("embedding_forward adds two rows, rounded once, from tables of any float type") {
  for (const TestDevice& device : devices_under_test()) {
    for (const auto [B, T, C, V, P] : cases::kEmbedding) {
      for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
        for (const std::int64_t shift : {0, 1}) {
          Stage stage(device.device, join("embedding", device.name, name_of(dtype), B, T, C, V, P),
                      shift);
          const std::vector<std::int32_t> ids = integers(B * T, 1, V);
          const std::vector<std::int32_t> positions = integers(B * T, 2, P);
          Guarded& wte = stage.input(normal(V * C, 3), {V, C}, dtype);
          Guarded& wpe = stage.input(normal(P * C, 4), {P, C}, dtype);
          Guarded& out = stage.output({B, T, C});
          device.device.embedding_forward({.out = out,
                                           .ids = stage.input(ids, {B, T}),
                                           .positions = stage.input(positions, {B, T}),
                                           .wte = wte,
                                           .wpe = wpe});
          const std::vector<float> tokens = wte.floats(), places = wpe.floats();
          std::vector<float> want;
          for (std::size_t bt = 0; bt < ids.size(); ++bt) {
            for (std::int64_t c = 0; c < C; ++c) {
              want.push_back(tokens[ids[bt] * C + c] + places[positions[bt] * C + c]);
            }
          }
          compare_bits(stage.what(), out.floats(), want);
        }
      }
    }
  }
}

TEST_CASE("embedding_backward adds rows that meet in the order of their positions") {
  std::vector<TestDevice> devices = devices_under_test();
  for (const TestDevice& device : cpu_with_threads()) devices.push_back(device);
  for (const TestDevice& device : devices) {
    for (const auto [B, T, C, V, P] : cases::kEmbedding) {
      for (const std::int64_t shift : {0, 1}) {
        Stage stage(device.device, join("embedding_backward", device.name, B, T, C, V, P), shift);
        const std::vector<std::int32_t> ids = integers(B * T, 1, V);
        const std::vector<std::int32_t> positions = integers(B * T, 2, P);
        const std::vector<float> d_out = normal(B * T * C, 3);
        std::vector<float> want_wte = normal(V * C, 4), want_wpe = normal(P * C, 5);
        Guarded& d_wte = stage.in_out(want_wte, {V, C});
        Guarded& d_wpe = stage.in_out(want_wpe, {P, C});
        device.device.embedding_backward({.d_wte = Accumulate(d_wte),
                                          .d_wpe = Accumulate(d_wpe),
                                          .d_out = stage.input(d_out, {B, T, C}),
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
    }
  }
}

TEST_CASE("embedding names the id or position that no row answers to") {
  for (const TestDevice& device : devices_under_test()) {
    Stage stage(device.device, "embedding " + device.name);
    const auto run = [&](std::vector<std::int32_t> ids, std::vector<std::int32_t> positions) {
      device.device.embedding_forward({.out = stage.output({1, 2, 3}),
                                       .ids = stage.input(ids, {1, 2}),
                                       .positions = stage.input(positions, {1, 2}),
                                       .wte = stage.input(normal(15, 1), {5, 3}),
                                       .wpe = stage.input(normal(12, 1), {4, 3})});
    };
    CHECK(error_of([&] { run({4, 5}, {0, 1}); }) == "embedding: ids[1] is 5, wants 0 to 4");
    CHECK(error_of([&] { run({-1, 0}, {0, 1}); }) == "embedding: ids[0] is -1, wants 0 to 4");
    CHECK(error_of([&] { run({4, 0}, {3, 4}); }) == "embedding: positions[1] is 4, wants 0 to 3");
  }
}
