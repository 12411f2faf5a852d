#include "kernels/check.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace quire {
namespace {

/// What a view may hold. All `activation`s of an op hold one type, any float; a backend that does
/// not compute in it says so when it asks for the data.
enum class Types : std::uint8_t { f32, any_float, activation, activation_or_f32, i32 };

const char* name_of(Types types) {
  if (types == Types::f32) return "float32";
  return types == Types::i32 ? "int32" : "float32, float16 or bfloat16";
}

bool fits(DType dtype, Types types) {
  if (types == Types::f32) return dtype == DType::f32;
  if (types == Types::i32) return dtype == DType::i32;
  size_of(dtype);  // throws where it is no type at all
  return dtype != DType::i32;
}

/// What last_op() tells, in the order in which the extents came up. Noted with every op that is
/// checked, so it is kept as cheap as it can be.
struct OpNote {
  const char* op = nullptr;
  std::array<char, 8> letters;
  std::array<std::int64_t, 8> extents;
  std::size_t count = 0;
};
thread_local OpNote noted;

const char* dimensions_of(WeightLayout layout) {
  return layout == WeightLayout::out_in ? "N K" : "K N";
}

/// The views of one op, one after the other. A view's extents are written as its comment in ops.h
/// has them: "B T 3C". The first view that has a letter gives it its value, later ones must agree.
/// A star stands for all leading dimensions together ("*N C"), or for all dimensions there are
/// ("*"). Everything happens on the stack: a decode step makes hundreds of these.
class Views {
 public:
  explicit Views(const char* op, std::int64_t index = -1) : op_(op), index_(index) {
    noted.op = op;
    noted.count = 0;
  }

  Views& reads(const char* name, const ConstView& view, const char* dimensions,
               Types types = Types::f32) {
    add(name, view, dimensions, types, false, nullptr);
    return *this;
  }
  Views& reads_if_given(const char* name, const ConstView& view, const char* dimensions,
                        Types types = Types::f32) {
    return view ? reads(name, view, dimensions, types) : *this;
  }
  /// Plain elements, in rows.
  Views& multiplies(const Weight& weight) {
    if (in_blocks(weight.format)) {
      fail(fmt::format("weight is in {}, wants plain elements", quire::name_of(weight.format)));
    }
    if (in_panels(weight.layout)) fail("weight is in panels, wants [K, N] or [N, K]");
    return reads_any_format("weight", weight, dimensions_of(weight.layout));
  }
  Views& reads_any_format(const char* name, const Weight& weight, const char* dimensions) {
    if (!weight) fail(fmt::format("{} is not given", name));
    match(name, weight.shape, dimensions);
    if (in_blocks(weight.format)) {
      const std::int64_t elements = entry_of(weight.format).block_elements;
      if (weight.layout != WeightLayout::out_in) {
        fail(fmt::format("{} in {} is [K, N], wants [N, K]", name, quire::name_of(weight.format)));
      }
      if (weight.shape[1] % elements != 0) {
        fail(fmt::format("rows of {} have {} elements, {} has blocks of {}", name, weight.shape[1],
                         quire::name_of(weight.format), elements));
      }
    }
    const auto* begin = static_cast<const std::byte*>(weight.data);
    separate({name, begin, begin + weight.size_bytes(), false}, nullptr);
    return *this;
  }
  /// `same_as` names an earlier view that this one may be.
  Views& writes(const char* name, const View& view, const char* dimensions,
                Types types = Types::f32, const char* same_as = nullptr) {
    add(name, view, dimensions, types, true, same_as);
    return *this;
  }
  Views& writes_if_given(const char* name, const View& view, const char* dimensions,
                         Types types = Types::f32) {
    return view ? writes(name, view, dimensions, types) : *this;
  }
  Views& gives(char letter, std::int64_t value) {
    extent(letter) = value;
    note(letter, value);
    return *this;
  }
  std::int64_t operator[](char letter) { return extent(letter); }

  template <class Number>
  Views& requires_that(bool holds, const char* name, Number value, const char* wanted) {
    if (!holds) fail(fmt::format("{} is {}, wants {}", name, std::to_string(value), wanted));
    return *this;
  }

  [[noreturn]] void fail(const std::string& what) const {
    const std::string tensor = index_ >= 0 ? fmt::format("tensor {}: ", index_) : "";
    throw Error(Fault::internal, fmt::format("{}: {}{}", op_, tensor, what));
  }

 private:
  struct Range {
    const char* name;
    const std::byte* begin;
    const std::byte* end;
    bool written;
  };

  std::int64_t& extent(char letter) { return extents_[static_cast<unsigned char>(letter) & 0x7f]; }

  static void note(char letter, std::int64_t extent) {
    if (noted.count == noted.letters.size()) return;
    noted.letters[noted.count] = letter;
    noted.extents[noted.count++] = extent;
  }

  /// `label` is the dimension with its factor, "3C".
  void agree(const char* name, const char* label, std::size_t length, std::int64_t factor,
             std::int64_t value) {
    const char letter = label[length - 1];
    const std::string_view text = letter == '*' ? "count" : std::string_view(label, length);
    if (value < 1) fail(fmt::format("{} of {} is {}", text, name, value));
    std::int64_t& known = extent(letter);
    if (known == 0 && value % factor == 0) {
      known = value / factor;
      note(letter, known);
    }
    if (known * factor != value) {
      fail(fmt::format("{} is {}, {} expects {}", text, known * factor, name, value));
    }
  }

  void add(const char* name, const ConstView& view, const char* dimensions, Types types,
           bool written, const char* same_as) {
    if (!view) fail(fmt::format("{} is not given", name));
    if (!fits(view.dtype(), types)) {
      fail(fmt::format("{} is {}, wants {}", name, quire::name_of(view.dtype()), name_of(types)));
    }
    if (types == Types::activation ||
        (types == Types::activation_or_f32 && view.dtype() != DType::f32)) {
      if (first_activation_ == nullptr) {
        first_activation_ = name;
        activation_ = view.dtype();
      } else if (view.dtype() != activation_) {
        fail(fmt::format("{} is {}, {} is {}", name, quire::name_of(view.dtype()),
                         first_activation_, quire::name_of(activation_)));
      }
    }
    match(name, view.shape(), dimensions);
    separate({name, static_cast<const std::byte*>(view.bytes()),
              static_cast<const std::byte*>(view.bytes()) + view.size_bytes(), written},
             same_as);
  }

  void match(const char* name, const Shape& shape, const char* dimensions) {
    int wanted = 1;
    for (const char* c = dimensions; *c != '\0'; ++c) wanted += *c == ' ';
    const bool star = dimensions[0] == '*';
    if (star ? shape.rank() < wanted && dimensions[1] != '\0' : shape.rank() != wanted) {
      fail(
          fmt::format("{} has shape {}, wants {}", name, shape.to_string(), bracketed(dimensions)));
    }
    int next = 0;
    for (const char* c = dimensions; *c != '\0'; c += *c == ' ') {
      const char* const start = c;
      while (*c != '\0' && *c != ' ') ++c;
      if (*start == '*') {
        std::int64_t rows = 1;
        for (; next <= shape.rank() - wanted; ++next) rows *= shape[next];
        const bool whole = c == start + 1;
        agree(name, whole ? start : start + 1, 1, 1, rows);
      } else {
        const std::int64_t factor = *start >= '1' && *start <= '9' ? *start - '0' : 1;
        agree(name, start, static_cast<std::size_t>(c - start), factor, shape[next++]);
      }
    }
  }

  static std::string bracketed(const char* dimensions) {
    std::string text = "[";
    for (const char* c = dimensions; *c != '\0'; ++c) {
      if (*c == ' ') text += ", ";
      if (*c == '*') text += "…";
      if (*c != ' ' && *c != '*') text += *c;
    }
    return text + "]";
  }

  /// Outputs never alias inputs or each other, except where the op says that two may be one.
  void separate(const Range& range, const char* same_as) {
    for (int i = 0; i < ranges_count_; ++i) {
      const Range& other = ranges_[static_cast<std::size_t>(i)];
      if (!(range.written || other.written) || range.begin >= other.end ||
          other.begin >= range.end) {
        continue;
      }
      const bool one = range.begin == other.begin && range.end == other.end;
      if (one && same_as != nullptr && std::string_view(same_as) == other.name) continue;
      fail(fmt::format("{} overlaps {}", range.name, other.name));
    }
    ranges_[static_cast<std::size_t>(ranges_count_++)] = range;
  }

  const char* op_;
  std::int64_t index_;
  std::array<std::int64_t, 128> extents_{};  // by letter; 0: not known yet
  std::array<Range, 10> ranges_;             // no op has more views
  int ranges_count_ = 0;
  const char* first_activation_ = nullptr;
  DType activation_ = DType::f32;
};

/// With or without a branch.
template <class Op>
void check_layernorm(const char* op, const Op& p) {
  constexpr bool kBranch = requires {
    p.branch;
  };
  Views views(op);
  views.reads("x", p.x, "*N C", Types::activation);
  if constexpr (kBranch) views.reads("branch", p.branch, "*N C", Types::activation);
  views.reads("weight", p.weight, "C").reads("bias", p.bias, "C");
  if constexpr (kBranch) views.writes("sum", p.sum, "*N C", Types::activation, "x");
  views.writes("out", p.out, "*N C", Types::activation)
      .writes_if_given("mean", p.mean, "*N")
      .writes_if_given("rstd", p.rstd, "*N")
      .requires_that(p.eps >= 0.0f && std::isfinite(p.eps), "eps", p.eps, "eps >= 0");
}

void check_dropout(Views& views, const char* name, float p) {
  views.requires_that(p >= 0.0f && p < 1.0f, name, p, "0 <= p < 1");
}

/// Binds H and D, and checks that the heads share the channels.
void check_heads(Views& views, int heads, float scale) {
  views.requires_that(heads >= 1, "heads", heads, "heads >= 1");
  if (views['C'] % heads != 0) {
    views.fail(fmt::format("C is {}, {} heads do not divide it", views['C'], heads));
  }
  views.requires_that(std::isfinite(scale), "scale", scale, "a finite number");
  views.gives('H', heads).gives('D', views['C'] / heads);
}

[[noreturn]] void fail_value(const char* op, const char* name, std::int64_t index,
                             std::int64_t value, const std::string& wanted) {
  throw Error(Fault::internal,
              fmt::format("{}: {}[{}] is {}, wants {}", op, name, index, value, wanted));
}

/// Every value of `ids` in [0, limit).
void check_ids(const char* op, const char* name, const ConstView& ids, std::int64_t limit) {
  const std::int32_t* values = ids.data<std::int32_t>();
  for (std::int64_t i = 0; i < ids.count(); ++i) {
    if (values[i] < 0 || values[i] >= limit) {
      fail_value(op, name, i, values[i], fmt::format("0 to {}", limit - 1));
    }
  }
}

void check_targets(const ConstView& targets, std::int64_t vocabulary) {
  const std::int32_t* values = targets.data<std::int32_t>();
  for (std::int64_t i = 0; i < targets.count(); ++i) {
    if (values[i] != kIgnoredTarget && (values[i] < 0 || values[i] >= vocabulary)) {
      fail_value("cross_entropy", "targets", i, values[i],
                 fmt::format("0 to {}, or -100 to ignore it", vocabulary - 1));
    }
  }
}

void check_first_key(const ConstView& first_key) {
  if (!first_key) return;
  const std::int32_t* values = first_key.data<std::int32_t>();
  const std::int64_t T = first_key.shape()[1];
  for (std::int64_t i = 0; i < first_key.count(); ++i) {
    if (values[i] < 0) fail_value("attention", "first_key", i, values[i], "0 or more");
    if (i % T != 0 && values[i] < values[i - 1]) {
      fail_value("attention", "first_key", i, values[i],
                 fmt::format("at least the value before it, {}", values[i - 1]));
    }
  }
}

}  // namespace

std::string last_op() {
  if (noted.op == nullptr) return "";
  std::string text = noted.op;
  for (std::size_t i = 0; i < noted.count; ++i) {
    const char letter = noted.letters[i];
    text += fmt::format("{}{} {}", i == 0 ? " (" : ", ",
                        letter == '*' ? "count" : std::string(1, letter), noted.extents[i]);
  }
  return noted.count == 0 ? text : text + ")";
}

void check(const EmbeddingForward& p) {
  Views("embedding")
      .reads("ids", p.ids, "B T", Types::i32)
      .reads("positions", p.positions, "B T", Types::i32)
      .reads_any_format("wte", p.wte, "V C")
      .reads("wpe", p.wpe, "P C", Types::any_float)
      .writes("out", p.out, "B T C", Types::activation);
}

void check(const EmbeddingBackward& p) {
  Views("embedding_backward")
      .reads("ids", p.ids, "B T", Types::i32)
      .reads("positions", p.positions, "B T", Types::i32)
      .reads("d_out", p.d_out, "B T C", Types::activation)
      .writes("d_wte", p.d_wte.view, "V C")
      .writes("d_wpe", p.d_wpe.view, "P C");
}

void check(const LayernormForward& p) {
  check_layernorm("layernorm", p);
}

void check(const ResidualLayernormForward& p) {
  check_layernorm("residual_layernorm", p);
}

void check(const LayernormBackward& p) {
  Views views("layernorm_backward");
  views.reads("x", p.x, "*N C", Types::activation)
      .reads("d_out", p.d_out, "*N C", Types::activation)
      .reads("weight", p.weight, "C")
      .reads("mean", p.mean, "*N")
      .reads("rstd", p.rstd, "*N")
      .writes("d_x", p.d_x.view, "*N C", Types::activation);
  if (p.d_weight.view || p.d_bias.view) {
    views.writes("d_weight", p.d_weight.view, "C").writes("d_bias", p.d_bias.view, "C");
  }
}

void check_multiply(const Device& device, Multiply multiply, DType operands) {
  if (multiply == Multiply::as_stored) return;
  const std::string reason = device.why_not_in_bf16();
  if (!reason.empty()) {
    throw Error(Fault::internal,
                "matmul: " + device.description() + " does not multiply in bfloat16: " + reason);
  }
  if (operands != DType::f32) {
    throw Error(Fault::internal, std::string("matmul: operands to be rounded to bfloat16 are ") +
                                     name_of(operands) + ", wants float32");
  }
}

void check_format(const Device& device, const char* op, const Weight& weight, DType with) {
  if (!in_blocks(weight.format)) return;
  const std::string format = name_of(weight.format);
  const std::string reason = device.why_no_format(weight.format);
  if (!reason.empty()) {
    throw Error(Fault::internal, op + (": " + device.description()) + " does not read weights in " +
                                     format + ": " + reason);
  }
  if (with != DType::f32) {
    throw Error(Fault::internal, op + (": activations beside a weight in " + format + " are ") +
                                     name_of(with) + ", wants float32");
  }
}

void check_panels(const Device& device, const Weight& weight, Multiply how) {
  if (!in_panels(weight.layout) || device.layout_to_decode(weight.dtype(), how) == weight.layout) {
    return;
  }
  throw Error(Fault::internal,
              fmt::format("matmul: {} does not read {} in {}, multiplied {}", device.description(),
                          name_of(weight.format),
                          weight.layout == WeightLayout::panels ? "panels" : "pair_panels",
                          how == Multiply::in_bf16 ? "in bfloat16" : "as it is stored"));
}

void check(const MatmulForward& p) {
  Views views("matmul");
  views.reads("x", p.x, "M K", Types::activation)
      .reads_any_format("weight", p.weight, dimensions_of(p.weight.layout));
  if (in_blocks(p.weight.format) && p.multiply == Multiply::in_bf16) {
    views.fail(fmt::format("a weight in {} is multiplied as it is stored, not in bfloat16",
                           name_of(p.weight.format)));
  }
  views.reads_if_given("bias", p.bias, "N", Types::any_float)
      .writes("out", p.out, "M N", Types::activation_or_f32)
      .writes_if_given("pre_activation", p.pre_activation, "M N", Types::activation);
}

void check(const Transpose& p) {
  Views("transpose")
      .reads("in", p.in, "K N", Types::activation)
      .writes("out", p.out, "N K", Types::activation);
}

void check(const MatmulBackwardInput& p) {
  Views views("matmul_backward_input");
  views.reads("d_out", p.d_out, "M N", Types::activation)
      .multiplies(p.weight)
      .writes("d_x", p.d_x, "M K", Types::activation);
  if (p.pre_activation || p.activation != Activation::none) {
    views.reads("pre_activation", p.pre_activation, "M K", Types::activation);
  }
}

void check(const MatmulBackwardWeight& p) {
  Views("matmul_backward_weight")
      .reads("d_out", p.d_out, "M N", Types::activation)
      .reads("x", p.x, "M K", Types::activation)
      .writes("d_weight", p.d_weight.weight.view, dimensions_of(p.d_weight.weight.layout))
      .writes_if_given("d_bias", p.d_bias.view, "N");
}

void check(const MatmulAdd& p) {
  Views("matmul_add")
      .reads("x", p.x, "M K", Types::activation)
      .multiplies(p.weight)
      .writes("out", p.out.view, "M N", Types::activation)
      .requires_that(std::isfinite(p.scale), "scale", p.scale, "a finite number");
}

void check(const ActivationForward& p) {
  Views("activation")
      .reads("x", p.x, "*", Types::activation)
      .writes("out", p.out, "*", Types::activation, "x");
}

void check(const ActivationBackward& p) {
  Views("activation_backward")
      .reads("x", p.x, "*", Types::activation)
      .reads("d_out", p.d_out, "*", Types::activation)
      .writes("d_x", p.d_x, "*", Types::activation, "d_out");
}

void check(const AttentionForward& p) {
  Views views("attention");
  views.writes("out", p.out, "B T C", Types::activation)
      .reads("qkv", p.qkv, "B T 3C", Types::activation);
  check_heads(views, p.heads, p.scale);
  views.reads_if_given("first_key", p.first_key, "B T", Types::i32)
      .writes_if_given("lse", p.lse, "B H T");
  check_dropout(views, "dropout", p.dropout);
}

void check(const AttentionBackward& p) {
  Views views("attention_backward");
  views.reads("out", p.out, "B T C", Types::activation)
      .reads("d_out", p.d_out, "B T C", Types::activation)
      .reads("qkv", p.qkv, "B T 3C", Types::activation);
  check_heads(views, p.heads, p.scale);
  views.reads("lse", p.lse, "B H T")
      .reads_if_given("first_key", p.first_key, "B T", Types::i32)
      .writes("d_qkv", p.d_qkv, "B T 3C", Types::activation);
  check_dropout(views, "dropout", p.dropout);
}

void check(const AttentionCached& p) {
  Views views("attention_cached");
  views.writes("out", p.out, "B T C", Types::activation)
      .reads("qkv", p.qkv, "B T 3C", Types::activation);
  check_heads(views, p.heads, p.scale);
  views.reads("past", p.past, "B", Types::i32)
      .reads("blocks", p.blocks, "B M", Types::i32)
      .writes("k_cache", p.k_cache, "H N D", Types::activation)
      .writes("v_cache", p.v_cache, "H N D", Types::activation);
  const std::int64_t slots = views['M'] * kCacheBlock;
  if (views['T'] > slots) {
    views.fail(fmt::format("T is {}, a row's blocks have {} slots", views['T'], slots));
  }
}

void check(const Dropout& p) {
  Views views("dropout");
  views.reads("x", p.x, "*", Types::activation).writes("out", p.out, "*", Types::activation, "x");
  check_dropout(views, "p", p.p);
}

void check(const CrossEntropyForward& p) {
  Views("cross_entropy")
      .reads("logits", p.logits, "N V", Types::activation)
      .reads("targets", p.targets, "N", Types::i32)
      .writes("losses", p.losses, "N")
      .requires_that(p.vocab >= 0 && p.vocab <= p.logits.shape()[1], "vocab", p.vocab,
                     "no more than logits has columns");
}

void check(const CrossEntropyBackward& p) {
  Views views("cross_entropy_backward");
  views.writes("logits_to_grads", p.logits_to_grads, "N V", Types::activation)
      .reads("targets", p.targets, "N", Types::i32)
      .writes("losses", p.losses, "N")
      .requires_that(std::isfinite(p.scale), "scale", p.scale, "a finite number")
      .requires_that(p.vocab >= 0 && p.vocab <= p.logits_to_grads.shape()[1], "vocab", p.vocab,
                     "no more than logits has columns");
}

void check(const AdamwStep& p) {
  Views("adamw")
      .requires_that(p.step >= 1, "step", p.step, "step >= 1")
      .requires_that(p.beta1 >= 0.0f && p.beta1 < 1.0f, "beta1", p.beta1, "0 <= beta1 < 1")
      .requires_that(p.beta2 >= 0.0f && p.beta2 < 1.0f, "beta2", p.beta2, "0 <= beta2 < 1")
      .requires_that(p.eps >= 0.0f, "eps", p.eps, "eps >= 0");
  for (std::size_t i = 0; i < p.tensors.size(); ++i) {
    const AdamwTensor& tensor = p.tensors[i];
    Views views("adamw", static_cast<std::int64_t>(i));
    views.writes("param", tensor.param, "*")
        .reads("grad", tensor.grad, "*")
        .writes("m", tensor.m, "*")
        .writes("v", tensor.v, "*")
        .writes_if_given("copy", tensor.copy, "*", Types::any_float);
    if (tensor.copy && size_of(tensor.copy.dtype()) != 2) {
      views.fail("copy is float32, wants float16 or bfloat16");
    }
  }
}

void check_squared_norm(std::span<const ConstView> tensors) {
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    Views("squared_norm", static_cast<std::int64_t>(i)).reads("x", tensors[i], "*");
  }
}

void check(const RepetitionPenalty& p) {
  Views views("repetition_penalty");
  views.writes("logits", p.logits, "B V")
      .reads("history", p.history, "B L", Types::i32)
      .reads_if_given("first", p.first, "B", Types::i32)
      .requires_that(p.penalty > 0.0f, "penalty", p.penalty, "penalty > 0");
}

void check(const WarpLogits& p) {
  Views views("warp_logits");
  views.writes("logits", p.logits, "B V")
      .requires_that(p.temperature > 0.0f, "temperature", p.temperature, "temperature > 0")
      .requires_that(p.top_k >= 0, "top_k", p.top_k, "top_k >= 0")
      .requires_that(p.top_p >= 0.0f && p.top_p <= 1.0f, "top_p", p.top_p, "0 <= top_p <= 1")
      .requires_that(p.min_p >= 0.0f && p.min_p <= 1.0f, "min_p", p.min_p, "0 <= min_p <= 1")
      .requires_that(p.min_tokens_to_keep >= 1, "min_tokens_to_keep", p.min_tokens_to_keep,
                     "1 or more");
}

void check(const DrawTokens& p) {
  Views("draw_tokens")
      .reads("logits", p.logits, "B V")
      .reads("uniforms", p.uniforms, "B")
      .writes("tokens", p.tokens, "B", Types::i32);
}

void check(const ArgmaxTokens& p) {
  Views("argmax_tokens")
      .reads("logits", p.logits, "B V")
      .writes("tokens", p.tokens, "B", Types::i32);
}

void check_values(const EmbeddingForward& p) {
  check_ids("embedding", "ids", p.ids, p.wte.shape[0]);
  check_ids("embedding", "positions", p.positions, p.wpe.shape()[0]);
}

void check_values(const EmbeddingBackward& p) {
  check_ids("embedding_backward", "ids", p.ids, p.d_wte.view.shape()[0]);
  check_ids("embedding_backward", "positions", p.positions, p.d_wpe.view.shape()[0]);
}

void check_values(const AttentionForward& p) {
  check_first_key(p.first_key);
}

void check_values(const AttentionBackward& p) {
  check_first_key(p.first_key);
}

void check_values(const AttentionCached& p) {
  const std::int64_t T = p.out.shape()[1], N = p.k_cache.shape()[1], M = p.blocks.shape()[1];
  check_ids("attention_cached", "past", p.past, M * kCacheBlock - T + 1);
  const std::int32_t *past = p.past.data<std::int32_t>(), *blocks = p.blocks.data<std::int32_t>();
  for (std::int64_t i = 0; i < p.blocks.count(); ++i) {
    const std::int64_t slots = past[i / M] + T - i % M * kCacheBlock;  // from this block on
    const std::int64_t last = N - std::min<std::int64_t>(slots, kCacheBlock);
    if (slots > 0 && (blocks[i] < 0 || blocks[i] > last)) {
      fail_value("attention_cached", "blocks", i, blocks[i], fmt::format("0 to {}", last));
    }
  }
}

void check_values(const CrossEntropyForward& p) {
  check_targets(p.targets, p.vocabulary());
}

void check_values(const CrossEntropyBackward& p) {
  check_targets(p.targets, p.vocabulary());
}

void check_values(const RepetitionPenalty& p) {
  const std::int64_t B = p.history.shape()[0];
  const std::int64_t length = p.history.shape()[1];
  if (p.first) check_ids("repetition_penalty", "first", p.first, length + 1);
  for (std::int64_t b = 0; b < B; ++b) {
    const std::int32_t first = p.first ? p.first.data<std::int32_t>()[b] : 0;
    if (first == length) continue;
    const std::int32_t* row = p.history.data<std::int32_t>() + b * length + first;
    check_ids("repetition_penalty", "history", ConstView(row, {length - first}),
              p.logits.shape()[1]);
  }
}

#define QUIRE_DEFINE_OP(name, Struct)  \
  void Device::name(const Struct& p) { \
    check_for(*this, p);               \
    do_##name(p);                      \
  }
QUIRE_OPS(QUIRE_DEFINE_OP)
#undef QUIRE_DEFINE_OP

void Device::lay_out(const Weight& /*from*/, WeightLayout /*layout*/, std::int64_t /*first*/,
                     std::int64_t /*count*/, void* /*to*/) {
  throw Error(Fault::internal, description() + " lays out no weights in panels");
}

void Device::layernorm_forward(const LayernormForward& p) {
  check_for(*this, p);
  do_residual_layernorm_forward({.out = p.out,
                                 .mean = p.mean,
                                 .rstd = p.rstd,
                                 .x = p.x,
                                 .weight = p.weight,
                                 .bias = p.bias,
                                 .eps = p.eps});
}

double Device::squared_norm(std::span<const ConstView> tensors) {
  check_squared_norm(tensors);
  return do_squared_norm(tensors);
}

}  // namespace quire
