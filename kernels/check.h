// The preconditions of every op, checked by Device before a backend is called.
//
// Each overload throws Error(internal) with the op, the dimension, and both values:
// "matmul: K is 63, weight expects 64".
#pragma once

#include <type_traits>

#include "kernels/device.h"

namespace quire {

#define QUIRE_DECLARE_CHECK(name, Struct) void check(const Struct&);
QUIRE_OPS(QUIRE_DECLARE_CHECK)
#undef QUIRE_DECLARE_CHECK
void check(const LayernormForward&);
void check_squared_norm(std::span<const ConstView> tensors);

/// The op that this thread checked last, with its extents: "matmul (M 4, K 768, N 50257)"; empty:
/// none yet. For errors that come from below an op, where its views are not at hand.
std::string last_op();

/// For backends that read host memory: that ids, positions, targets, masks and cache lengths point
/// inside what they point into. One pass over the small integers, beside an op over rows of C or V.
/// "embedding: ids[7] is 50257, wants 0 to 50256".
void check_values(const EmbeddingForward&);
void check_values(const EmbeddingBackward&);
void check_values(const AttentionForward&);
void check_values(const AttentionBackward&);
void check_values(const AttentionCached&);
void check_values(const CrossEntropyForward&);
void check_values(const CrossEntropyBackward&);
void check_values(const RepetitionPenalty&);

/// For the four products: that the device can do what is asked, to operands of that type.
void check_multiply(const Device& device, Multiply multiply, DType operands);

/// For the ops that read any format: that the device reads it, beside activations of that type.
void check_format(const Device& device, const char* op, const Weight& weight, DType with);

/// That the device reads a weight in panels, if it lies so, when it multiplies in that way.
void check_panels(const Device& device, const Weight& weight, Multiply how);

/// All of these that concern the op and the device.
template <class Op>
void check_for(const Device& device, const Op& p) {
  check(p);
  if constexpr (requires { p.multiply; }) {
    if constexpr (requires { p.x; }) {
      check_multiply(device, p.multiply, p.x.dtype());
    } else {
      check_multiply(device, p.multiply, p.d_out.dtype());
    }
  }
  if constexpr (std::is_same_v<Op, MatmulForward>) {
    check_format(device, "matmul", p.weight, p.x.dtype());
    check_panels(device, p.weight, p.multiply);
  } else if constexpr (std::is_same_v<Op, EmbeddingForward>) {
    check_format(device, "embedding", p.wte, p.out.dtype());
  }
  if constexpr (requires { check_values(p); }) {
    if (device.shares_host_memory()) check_values(p);
  }
}

}  // namespace quire
