// Every op with one of its views an element past an aligned address, each view in turn. Kernels
// that take 16 bytes at a time must leave such rows to others: a view that a launcher forgets to
// ask about is a fault on a GPU, and on x86 too, which loads aligned types by aligned moves.
#include <algorithm>
#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "tests/support/catch.h"
#include "tests/support/compare.h"
#include "tests/support/data.h"
#include "tests/support/devices.h"
#include "tests/support/guarded.h"
#include "tests/support/half_types.h"

using namespace quire;
using namespace quire::test;

namespace {

/// The tensors of one call. Rows are whole steps of 16 bytes in every type.
struct Call {
  Device& device;
  Stage& stage;
  DType dtype;  // of activations
  std::vector<const Guarded*> results;
  std::uint64_t seed = 90;

  Guarded& in(Shape shape, bool activation = true) {
    return stage.input(uniform(shape.count(), ++seed), shape, type(activation));
  }
  /// Small whole numbers, whose sums are exact in any order.
  Guarded& whole(Shape shape, bool activation = true) {
    return stage.input(whole_numbers(shape), shape, type(activation));
  }
  Guarded& ids(Shape shape, std::int64_t limit) {
    return stage.input(integers(shape.count(), ++seed, limit), shape);
  }
  Guarded& out(Shape shape, bool activation = true) {
    return result(stage.output(shape, type(activation)));
  }
  Guarded& both(Shape shape, bool activation = true) {
    return result(stage.in_out(whole_numbers(shape), shape, type(activation)));
  }

 private:
  DType type(bool activation) const { return activation ? dtype : DType::f32; }
  std::vector<float> whole_numbers(Shape shape) {
    std::vector<float> values = uniform(shape.count(), ++seed, -4.0f, 4.0f);
    for (float& value : values) value = std::round(value);
    return values;
  }
  Guarded& result(Guarded& buffer) {
    results.push_back(&buffer);
    return buffer;
  }
};

struct Op {
  std::string name;
  bool exact;  // the same bits whatever the order of its sums
  std::function<void(Call&)> run;
};

constexpr bool kFloat = false;  // not an activation: float on every device
constexpr std::int64_t B = 2, T = 3, H = 2, D = 16, C = H * D, N = B * T, V = 48;

std::vector<Op> ops() {
  std::vector<Op> all = {
      {"embedding", true,
       [](Call& c) {
         c.device.embedding_forward({.out = c.out({B, T, C}),
                                     .ids = c.ids({B, T}, V),
                                     .positions = c.ids({B, T}, T),
                                     .wte = {c.whole({V, C}), WeightLayout::out_in},
                                     .wpe = c.whole({T, C})});
       }},
      {"embedding_backward", true,
       [](Call& c) {
         c.device.embedding_backward({.d_wte = Accumulate(c.both({V, C}, kFloat)),
                                      .d_wpe = Accumulate(c.both({T, C}, kFloat)),
                                      .d_out = c.whole({B, T, C}),
                                      .ids = c.ids({B, T}, V),
                                      .positions = c.ids({B, T}, T)});
       }},
      {"layernorm", false,
       [](Call& c) {
         c.device.layernorm_forward({.out = c.out({N, C}),
                                     .mean = c.out({N}, kFloat),
                                     .rstd = c.out({N}, kFloat),
                                     .x = c.in({N, C}),
                                     .weight = c.in({C}, kFloat),
                                     .bias = c.in({C}, kFloat)});
       }},
      {"residual_layernorm", false,
       [](Call& c) {
         c.device.residual_layernorm_forward({.sum = c.out({N, C}),
                                              .out = c.out({N, C}),
                                              .mean = c.out({N}, kFloat),
                                              .rstd = c.out({N}, kFloat),
                                              .x = c.in({N, C}),
                                              .branch = c.in({N, C}),
                                              .weight = c.in({C}, kFloat),
                                              .bias = c.in({C}, kFloat)});
       }},
      {"layernorm_backward", false,
       [](Call& c) {
         c.device.layernorm_backward({.d_x = Accumulate(c.both({N, C})),
                                      .d_weight = Accumulate(c.both({C}, kFloat)),
                                      .d_bias = Accumulate(c.both({C}, kFloat)),
                                      .d_out = c.in({N, C}),
                                      .x = c.in({N, C}),
                                      .weight = c.in({C}, kFloat),
                                      .mean = c.in({N}, kFloat),
                                      .rstd = c.in({N}, kFloat)});
       }},
      {"activation", true,
       [](Call& c) {
         c.device.activation_forward({.out = c.out({N, C}), .x = c.in({N, C})});
       }},
      {"activation_backward", true,
       [](Call& c) {
         c.device.activation_backward(
             {.d_x = c.out({N, C}), .d_out = c.in({N, C}), .x = c.in({N, C})});
       }},
      {"attention", false,
       [](Call& c) {
         c.device.attention_forward(
             {.out = c.out({B, T, C}),
              .lse = c.out({B, H, T}, kFloat),
              .qkv = c.in({B, T, 3 * C}),
              .first_key = c.stage.input(std::vector<std::int32_t>(N), {B, T}),
              .heads = H,
              .scale = 0.25f});
       }},
      {"attention_backward", false,
       [](Call& c) {
         c.device.attention_backward({.d_qkv = c.out({B, T, 3 * C}),
                                      .d_out = c.in({B, T, C}),
                                      .out = c.in({B, T, C}),
                                      .lse = c.in({B, H, T}, kFloat),
                                      .qkv = c.in({B, T, 3 * C}),
                                      .heads = H,
                                      .scale = 0.25f});
       }},
      {"dropout", true,
       [](Call& c) {
         c.device.dropout({.out = c.out({N, C}), .x = c.in({N, C}), .p = 0.3f, .key = {5, 6}});
       }},
      {"cross_entropy", false,
       [](Call& c) {
         c.device.cross_entropy_forward(
             {.losses = c.out({N}, kFloat), .logits = c.in({N, V}), .targets = c.ids({N}, V)});
       }},
      {"cross_entropy_backward", false,
       [](Call& c) {
         c.device.cross_entropy_backward({.losses = c.out({N}, kFloat),
                                          .logits_to_grads = c.both({N, V}),
                                          .targets = c.ids({N}, V)});
       }},
      {"adamw", true,
       [](Call& c) {
         const Guarded& v = c.stage.in_out(uniform(V * C, 1, 0.0f, 1.0f), {V, C});
         c.results.push_back(&v);
         const AdamwTensor tensor = {.param = c.both({V, C}, kFloat),
                                     .grad = c.in({V, C}, kFloat),
                                     .m = c.both({V, C}, kFloat),
                                     .v = v,
                                     .copy = c.dtype == DType::f32 ? View() : c.out({V, C})};
         c.device.adamw({.tensors = {&tensor, 1}});
       }},
      {"squared_norm", true,
       [](Call& c) {
         const ConstView tensors[] = {c.whole({V, C}, kFloat), c.whole({C}, kFloat)};
         const float sum = static_cast<float>(c.device.squared_norm(tensors));
         c.results.push_back(&c.stage.in_out({sum}, {1}));
       }},
      {"repetition_penalty", true,
       [](Call& c) {
         c.device.repetition_penalty({.logits = c.both({B, V}, kFloat),
                                      .history = c.ids({B, T}, V),
                                      .first = c.ids({B}, 2),
                                      .penalty = 1.5f});
       }},
      {"warp_logits", true,
       [](Call& c) {
         c.device.warp_logits({.logits = c.both({B, V}, kFloat), .top_k = 40, .top_p = 0.9f});
       }},
  };
  // Decoding reads weights of any type, row by row; batches go to a library.
  for (const std::int64_t M : {std::int64_t{1}, N}) {
    for (const WeightLayout layout : {WeightLayout::in_out, WeightLayout::out_in}) {
      const Shape weight = layout == WeightLayout::in_out ? Shape{C, V} : Shape{V, C};
      const std::string what = join("M", M, layout == WeightLayout::in_out ? "in_out" : "out_in");
      all.push_back({"matmul " + what, true, [=](Call& c) {
                       c.device.matmul_forward({.out = c.out({M, V}),
                                                .pre_activation = c.out({M, V}),
                                                .x = c.whole({M, C}),
                                                .weight = {c.whole(weight), layout},
                                                .bias = c.whole({V}, kFloat),
                                                .activation = Activation::relu});
                     }});
      all.push_back({"matmul_backward_input " + what, true, [=](Call& c) {
                       c.device.matmul_backward_input({.d_x = c.out({M, C}),
                                                       .d_out = c.whole({M, V}),
                                                       .weight = {c.whole(weight), layout}});
                     }});
      all.push_back({"matmul_backward_weight " + what, true, [=](Call& c) {
                       c.device.matmul_backward_weight(
                           {.d_weight = {{c.both(weight, kFloat), layout}},
                            .d_bias = Accumulate(c.both({V}, kFloat)),
                            .d_out = c.whole({M, V}),
                            .x = c.whole({M, C})});
                     }});
    }
  }
  // One new position, and a prompt.
  for (const std::int64_t count : {std::int64_t{1}, std::int64_t{10}}) {
    all.push_back({join("attention_cached", count), false, [=](Call& c) {
                     c.device.attention_cached(
                         {.out = c.out({B, count, C}),
                          .k_cache = c.both({H, B * 12, D}),
                          .v_cache = c.both({H, B * 12, D}),
                          .qkv = c.in({B, count, 3 * C}),
                          .past = c.ids({B}, 2),
                          .blocks = c.stage.input(std::vector<std::int32_t>{12, 0}, {B, 1}),
                          .heads = H,
                          .scale = 0.25f});
                   }});
  }
  return all;
}

std::vector<float> run(const TestDevice& device, const Op& op, DType dtype, Stage& stage) {
  Call call{.device = device.device, .stage = stage, .dtype = dtype, .results = {}};
  op.run(call);
  std::vector<float> values;
  for (const Guarded* result : call.results) {
    const std::vector<float> some = result->floats();
    values.insert(values.end(), some.begin(), some.end());
  }
  return values;
}

}  // namespace

TEST_CASE("an op gives its result wherever each of its views begins") {
  for (const TestDevice& device : devices_under_test()) {
    for (const Op& op : ops()) {
      for (const DType dtype : device.types) {
        Stage aligned(device.device, join(op.name, device.name, "aligned"));
        const std::vector<float> want = run(device, op, dtype, aligned);
        for (std::size_t shifted = 0; shifted < aligned.size(); ++shifted) {
          Stage stage(device.device, join(op.name, device.name, name_of(dtype), "view", shifted),
                      1);
          stage.shift_only(shifted);
          const std::vector<float> got = run(device, op, dtype, stage);
          if (op.exact) {
            compare_bits(stage.what(), got, want);
          } else {
            // Sums of 48 terms at most, of sizes below 4; in 16 bits, what lies between two
            // products is rounded on one of the two ways.
            compare(stage.what(), got, widened(want), [&](std::size_t i) {
              const double size = std::max(4.0, std::abs(double{want[i]}));
              return 2.0 * V * kEps * size + 2.0 * half_ulp(dtype, size);
            });
          }
        }
      }
    }
  }
}
