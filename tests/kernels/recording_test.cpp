// A step of decoding: done once each time that it is asked for, with what is in memory then,
// whether the device calls its ops or has recorded them.
#include "base/error.h"
#include "tests/support/attention_inputs.h"
#include "tests/support/catch.h"
#include "tests/support/compare.h"
#include "tests/support/data.h"
#include "tests/support/devices.h"
#include "tests/support/guarded.h"

using namespace quire;
using namespace quire::test;

namespace {

/// One new position of attention over a cache for each of B rows: an op that works in scratch.
struct Decoding {
  static constexpr std::int64_t S = 130, H = 2, D = 8, C = H * D;
  Device& device;
  Stage stage;
  Guarded& out;
  Guarded& qkv;
  AttentionCached op;

  Decoding(Device& on, std::int64_t B, std::uint64_t seed)
      : device(on),
        stage(on, "a recorded attention_cached"),
        out(stage.output({B, 1, C})),
        qkv(stage.in_out(normal(B * 3 * C, seed), {B, 1, 3 * C})),
        op{.out = out,
           .k_cache = stage.in_out(normal(B * S * C, 1), {H, B * S, D}),
           .v_cache = stage.in_out(normal(B * S * C, 2), {H, B * S, D}),
           .qkv = qkv,
           .past = stage.input(std::vector<std::int32_t>(static_cast<std::size_t>(B), 100), {B}),
           .blocks = stage.input(blocks_in_order(B, S), {B, 3}),
           .heads = H} {}

  void run() { device.attention_cached(op); }
  void set_qkv(std::uint64_t seed) {
    const std::vector<float> values = normal(qkv.view().count(), seed);
    device.copy_to_device(qkv.view().bytes(), values.data(), qkv.view().size_bytes());
  }
};

/// The op's result for qkv of that seed.
std::vector<float> expected(Device& device, std::int64_t B, std::uint64_t seed) {
  Decoding alone(device, B, seed);
  alone.run();
  return alone.out.floats();
}

}  // namespace

TEST_CASE("a step of decoding is done once each time, with what is in memory then") {
  for (const TestDevice& tested : devices_under_test()) {
    INFO(tested.name);
    Decoding decoding(tested.device, 3, 5);
    int calls = 0;
    DecodeStep step{.ops =
                        [&] {
                          decoding.run();
                          ++calls;
                        },
                    .recording = {}};
    tested.device.decode_step(step);
    const bool recorded = step.recording != nullptr;
    CHECK(calls == (recorded ? 2 : 1));  // once more to see what it is
    compare_bits("first", decoding.out.floats(), expected(tested.device, 3, 5));
    CHECK(recorded == (tested.name == kCudaDevice));
    for (const std::uint64_t seed : {6, 7}) {
      decoding.set_qkv(seed);
      tested.device.decode_step(step);
      compare_bits("again", decoding.out.floats(), expected(tested.device, 3, seed));
    }
    CHECK(calls == (recorded ? 2 : 3));
  }
}

TEST_CASE("a recording outlives the growth of its device's scratch") {
  for (const TestDevice& tested : devices_under_test()) {
    Decoding decoding(tested.device, 1, 5);
    DecodeStep step{.ops = [&] { decoding.run(); }, .recording = {}};
    tested.device.decode_step(step);
    const std::vector<float> larger = expected(tested.device, 40, 8);
    decoding.set_qkv(6);
    tested.device.decode_step(step);
    compare_bits("replayed", decoding.out.floats(), expected(tested.device, 1, 6));
    compare_bits("larger", larger, expected(tested.device, 40, 8));
  }
}

TEST_CASE("a step that throws while it is recorded leaves the device usable") {
  for (const TestDevice& tested : devices_under_test()) {
    Decoding decoding(tested.device, 1, 5);
    int calls = 0;
    DecodeStep step{.ops =
                        [&] {
                          if (++calls == 2) throw Error(Fault::internal, "planted");
                          decoding.run();
                        },
                    .recording = {}};
    try {
      tested.device.decode_step(step);
    } catch (const Error&) {}
    decoding.run();
    compare_bits(tested.name, decoding.out.floats(), expected(tested.device, 1, 5));
  }
}
