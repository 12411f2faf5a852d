// The preconditions: what they say, and that they let nothing by.
#include "kernels/check.h"

#include <cmath>
#include <vector>

#include "tests/support/catch.h"
#include "tests/support/compare.h"

using namespace quire;
using quire::test::error_of;

namespace {

/// Views over memory that no op touches: each call gives another piece of it.
class Memory {
 public:
  View operator()(Shape shape, DType dtype = DType::f32) {
    const auto bytes = static_cast<std::size_t>(std::max<std::int64_t>(shape.count(), 1)) * 4;
    pieces_.emplace_back(bytes);
    return {pieces_.back().data(), dtype, shape};
  }

 private:
  std::vector<std::vector<std::byte>> pieces_;
};

template <class Op>
std::string message(const Op& op) {
  return error_of([&] { check(op); });
}

Weight in_out(View matrix) {
  return {matrix, WeightLayout::in_out};
}

MatmulForward product(Memory& m) {
  return {.out = m({2, 5}), .x = m({2, 63}), .weight = in_out(m({63, 5})), .bias = m({5})};
}

AttentionForward attention(Memory& m) {
  return {.out = m({2, 3, 48}), .lse = m({2, 4, 3}), .qkv = m({2, 3, 144}), .heads = 4};
}

AttentionCached cached(Memory& m) {
  return {.out = m({2, 3, 48}),
          .k_cache = m({4, 9, 12}),
          .v_cache = m({4, 9, 12}),
          .qkv = m({2, 3, 144}),
          .past = m({2}, DType::i32),
          .blocks = m({2, 1}, DType::i32),
          .heads = 4};
}

LayernormBackward layernorm(Memory& m) {
  return {.d_x = Accumulate(m({2, 3, 8})),
          .d_weight = Accumulate(m({8})),
          .d_bias = Accumulate(m({8})),
          .d_out = m({2, 3, 8}),
          .x = m({6, 8}),
          .weight = m({8}),
          .mean = m({6}),
          .rstd = m({2, 3})};
}

}  // namespace

TEST_CASE("views that fit pass") {
  Memory m;
  CHECK_NOTHROW(check(product(m)));
  CHECK_NOTHROW(check(attention(m)));
  CHECK_NOTHROW(check(cached(m)));
  CHECK_NOTHROW(check(layernorm(m)));
  CHECK_NOTHROW(check(EmbeddingForward{.out = m({2, 3, 4}),
                                       .ids = m({2, 3}, DType::i32),
                                       .positions = m({2, 3}, DType::i32),
                                       .wte = {m({9, 4}, DType::bf16), WeightLayout::out_in},
                                       .wpe = m({7, 4}, DType::f16)}));
  const View state = m({7});
  CHECK_NOTHROW(check(ActivationForward{.out = state, .x = state}));
  CHECK_NOTHROW(check(Dropout{.out = state, .x = state, .p = 0.5f}));
  CHECK_NOTHROW(check(AdamwStep{}));
}

TEST_CASE("a type that is none has no size and passes for no float") {
  CHECK(size_of(DType::f32) == sizeof(float));
  CHECK(size_of(DType::f16) == sizeof(Half));
  CHECK(size_of(DType::bf16) == sizeof(BFloat16));
  CHECK(size_of(DType::i32) == sizeof(std::int32_t));
  constexpr auto kNone = static_cast<DType>(200);
  const std::string none = "no type of elements has the number 200";
  CHECK(error_of([] { size_of(kNone); }) == none);

  Memory m;
  ActivationForward p{.out = m({7}, kNone), .x = m({7}, kNone)};
  CHECK(message(p) == none);
  CHECK(error_of([&] { in_out(m({63, 5}, kNone)); }) == none);
  EmbeddingForward ids{.out = m({2, 3, 4}),
                       .ids = m({2, 3}, kNone),
                       .positions = m({2, 3}, DType::i32),
                       .wte = {m({9, 4}), WeightLayout::out_in},
                       .wpe = m({7, 4})};
  CHECK(message(ids) == "embedding: ids is ?, wants int32");
}

TEST_CASE("extents that disagree are named with both values") {
  Memory m;
  MatmulForward p = product(m);
  p.weight = in_out(m({64, 5}));
  CHECK(message(p) == "matmul: K is 63, weight expects 64");
  p = product(m);
  p.bias = m({6});
  CHECK(message(p) == "matmul: N is 5, bias expects 6");
  p = product(m);
  p.weight.layout = WeightLayout::out_in;
  CHECK(message(p) == "matmul: K is 63, weight expects 5");
  p = product(m);
  p.pre_activation = m({3, 5});
  CHECK(message(p) == "matmul: M is 2, pre_activation expects 3");

  MatmulBackwardInput d{.d_x = m({2, 63}), .d_out = m({2, 5}), .weight = in_out(m({63, 5}))};
  CHECK_NOTHROW(check(d));
  d.activation = Activation::gelu_new;
  CHECK(message(d) == "matmul_backward_input: pre_activation is not given");
  d.pre_activation = m({2, 5});
  CHECK(message(d) == "matmul_backward_input: K is 63, pre_activation expects 5");
  d.pre_activation = d.d_x;
  CHECK(message(d) == "matmul_backward_input: pre_activation overlaps d_x");

  AttentionForward a = attention(m);
  a.qkv = m({2, 3, 145});
  CHECK(message(a) == "attention: 3C is 144, qkv expects 145");
  a = attention(m);
  a.heads = 5;
  CHECK(message(a) == "attention: C is 48, 5 heads do not divide it");
  a = attention(m);
  a.lse = m({2, 3, 3});
  CHECK(message(a) == "attention: H is 4, lse expects 3");
  a = attention(m);
  a.first_key = m({2, 4}, DType::i32);
  CHECK(message(a) == "attention: T is 3, first_key expects 4");

  AttentionCached c = cached(m);
  c.k_cache = m({4, 9, 13});
  CHECK(message(c) == "attention_cached: D is 12, k_cache expects 13");
  c = cached(m);
  c.blocks = m({3, 1}, DType::i32);
  CHECK(message(c) == "attention_cached: B is 2, blocks expects 3");
  c = cached(m);
  c.out = m({2, 65, 48});
  c.qkv = m({2, 65, 144});
  CHECK(message(c) == "attention_cached: T is 65, a row's blocks have 64 slots");

  LayernormBackward l = layernorm(m);
  l.mean = m({5});
  CHECK(message(l) == "layernorm_backward: N is 6, mean expects 5");

  CHECK(message(ActivationForward{.out = m({12}), .x = m({13})}) ==
        "activation: count is 13, out expects 12");
  CHECK(message(CrossEntropyForward{
            .losses = m({2}), .logits = m({2, 7}), .targets = m({3}, DType::i32)}) ==
        "cross_entropy: N is 2, targets expects 3");
  CHECK(message(CrossEntropyForward{
            .losses = m({2}), .logits = m({2, 7}), .targets = m({2}, DType::i32), .vocab = 8}) ==
        "cross_entropy: vocab is 8, wants no more than logits has columns");
  CHECK(message(CrossEntropyBackward{.losses = m({2}),
                                     .logits_to_grads = m({2, 7}),
                                     .targets = m({2}, DType::i32),
                                     .vocab = -1}) ==
        "cross_entropy_backward: vocab is -1, wants no more than logits has columns");
  CHECK(
      message(DrawTokens{.tokens = m({2}, DType::i32), .logits = m({2, 7}), .uniforms = m({1})}) ==
      "draw_tokens: B is 2, uniforms expects 1");
  const AdamwTensor good{.param = m({4}), .grad = m({4}), .m = m({4}), .v = m({4})};
  AdamwTensor bad = good;
  bad.m = m({5});
  const AdamwTensor tensors[] = {good, bad};
  CHECK(message(AdamwStep{.tensors = std::span(tensors).subspan(1)}) ==
        "adamw: tensor 0: count is 4, m expects 5");
  CHECK(message(AdamwStep{.tensors = tensors}) == "adamw: tensor 1: count is 4, m expects 5");
}

TEST_CASE("shapes of the wrong rank, and empty ones, are shown") {
  Memory m;
  MatmulForward p = product(m);
  p.x = m({2, 3, 21});
  CHECK(message(p) == "matmul: x has shape [2, 3, 21], wants [M, K]");
  p = product(m);
  p.x = m({0, 63});
  p.out = m({0, 5});
  CHECK(message(p) == "matmul: M of x is 0");
  LayernormBackward l = layernorm(m);
  l.x = m({8});
  CHECK(message(l) == "layernorm_backward: x has shape [8], wants […N, C]");
}

TEST_CASE("views that are missing are named, optional ones may be") {
  Memory m;
  MatmulForward p = product(m);
  p.bias = {};
  CHECK_NOTHROW(check(p));
  p.weight = {};
  CHECK(message(p) == "matmul: weight is not given");
  AttentionForward a = attention(m);
  a.lse = {};
  CHECK_NOTHROW(check(a));
  LayernormBackward l = layernorm(m);
  l.d_weight = {};
  CHECK(message(l) == "layernorm_backward: d_weight is not given");
  l.d_bias = {};
  CHECK_NOTHROW(check(l));
  const ConstView tensors[] = {m({3}), ConstView()};
  CHECK(error_of([&] { check_squared_norm(tensors); }) == "squared_norm: tensor 1: x is not given");
}

TEST_CASE("types that an op does not take are named") {
  Memory m;
  MatmulForward p = product(m);
  p.weight = in_out(m({63, 5}, DType::bf16));
  CHECK_NOTHROW(check(p));
  CHECK(error_of([&] {
          in_out(m({63, 5}, DType::i32));
        }) == "a weight is int32, wants float32, float16 or bfloat16");
  p = product(m);
  p.x = m({2, 63}, DType::i32);
  CHECK(message(p) == "matmul: x is int32, wants float32, float16 or bfloat16");
  p.x = m({2, 63}, DType::f16);
  CHECK_NOTHROW(check(p));  // its output may stay float
  p.out = m({2, 5}, DType::bf16);
  CHECK(message(p) == "matmul: out is bfloat16, x is float16");
  LayernormBackward l = layernorm(m);
  l.d_out = m({2, 7}, DType::bf16);
  CHECK(message(l).find("d_out is bfloat16, x is float32") != std::string::npos);
  CHECK(message(ArgmaxTokens{.tokens = m({2}), .logits = m({2, 7})}) ==
        "argmax_tokens: tokens is float32, wants int32");
}

TEST_CASE("outputs must not overlap anything, except where an op works in place") {
  Memory m;
  MatmulForward p = product(m);
  p.x = m({5, 5});
  p.weight = in_out(m({5, 5}));
  p.bias = {};
  p.out = View(const_cast<void*>(p.x.bytes()), DType::f32, {5, 5});
  CHECK(message(p) == "matmul: out overlaps x");

  const View state = m({8});
  const View shifted(state.data<float>() + 1, {7});
  const View start(state.data<float>(), {7});
  CHECK_NOTHROW(check(ActivationForward{.out = start, .x = start}));
  CHECK(message(ActivationForward{.out = start, .x = shifted}) == "activation: out overlaps x");
  CHECK(message(ActivationBackward{.d_x = start, .d_out = m({7}), .x = start}) ==
        "activation_backward: d_x overlaps x");

  ResidualLayernormForward r{.sum = m({2, 8}),
                             .out = m({2, 8}),
                             .x = m({2, 8}),
                             .branch = m({2, 8}),
                             .weight = m({8}),
                             .bias = m({8})};
  CHECK_NOTHROW(check(r));
  r.x = r.sum;
  CHECK_NOTHROW(check(r));
  r.branch = r.sum;
  CHECK(message(r) == "residual_layernorm: sum overlaps branch");
}

TEST_CASE("numbers out of range are refused") {
  Memory m;
  const View x = m({4}), logits = m({2, 7});
  CHECK(message(Dropout{.out = x, .x = x, .p = 1.0f}) ==
        "dropout: p is 1.000000, wants 0 <= p < 1");
  CHECK(message(Dropout{.out = x, .x = x, .p = std::nanf("")}) ==
        "dropout: p is nan, wants 0 <= p < 1");
  CHECK(message(AdamwStep{.step = 0}) == "adamw: step is 0, wants step >= 1");
  CHECK(message(WarpLogits{.logits = logits, .temperature = 0.0f}) ==
        "warp_logits: temperature is 0.000000, wants temperature > 0");
  CHECK(message(WarpLogits{.logits = logits, .top_k = -1}) ==
        "warp_logits: top_k is -1, wants top_k >= 0");
  CHECK(message(WarpLogits{.logits = logits, .top_p = 1.5f}) ==
        "warp_logits: top_p is 1.500000, wants 0 <= top_p <= 1");
  CHECK(message(RepetitionPenalty{
            .logits = logits, .history = m({2, 3}, DType::i32), .penalty = 0.0f}) ==
        "repetition_penalty: penalty is 0.000000, wants penalty > 0");
  AttentionForward a = attention(m);
  a.heads = 0;
  CHECK(message(a) == "attention: heads is 0, wants heads >= 1");
}

TEST_CASE("the last op that was checked is told with its extents, a failed check's too") {
  Memory m;
  check(product(m));
  CHECK(last_op() == "matmul (M 2, K 63, N 5)");
  check(attention(m));
  CHECK(last_op() == "attention (B 2, T 3, C 48, H 4, D 12)");
  check(cached(m));
  CHECK(last_op() == "attention_cached (B 2, T 3, C 48, H 4, D 12, M 1, N 9)");
  const View state = m({7});
  check(Dropout{.out = state, .x = state, .p = 0.5f});
  CHECK(last_op() == "dropout (count 7)");
  MatmulForward p = product(m);
  p.weight = in_out(m({64, 5}));
  message(p);
  CHECK(last_op() == "matmul (M 2, K 63)");
  check(AdamwStep{});
  CHECK(last_op() == "adamw");
}
