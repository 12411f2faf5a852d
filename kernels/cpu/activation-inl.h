// The activations and their derivatives, a vector at a time. Also used by the matmul's epilogue.
#include "kernels/ops.h"

#if defined(QUIRE_CPU_ACTIVATION_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef QUIRE_CPU_ACTIVATION_INL
#undef QUIRE_CPU_ACTIVATION_INL
#else
#define QUIRE_CPU_ACTIVATION_INL
#endif

#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace quire::cpu::HWY_NAMESPACE {

/// 1/(1 + e^-x) and what the derivative wants, 1 - that, without cancellation. NaN stays NaN.
struct Sigmoid {
  Vec value;
  Vec complement;
};
HWY_INLINE Sigmoid sigmoid(Vec x) {
  // Clamped where e^-x would overflow; min and max would lose a NaN, comparisons do not.
  Vec minus_x = hn::Neg(x);
  minus_x = hn::IfThenElse(hn::Gt(minus_x, set(87.0f)), set(87.0f), minus_x);
  const Vec e = exp_bounded(minus_x);
  const Vec value = hn::Div(set(1.0f), hn::Add(set(1.0f), e));
  return {value, hn::Mul(e, value)};
}

/// The normal distribution: P(X <= x), and its density at x.
struct Normal {
  Vec cumulative;
  Vec density;
};
HWY_INLINE Normal normal(Vec x) {
  // The upper tail from 0.5·erfc(a) = e^(-a²)·P(t), a = |x|/sqrt(2), t = 1/(1 + 0.3a); P of degree
  // 9 without a constant term is within 2^-25.6 up to a = 10, beyond which e^(-a²) is 0.
  const Vec a = hn::Mul(hn::Abs(x), set(0.707106781f));
  const Vec e = exp_bounded(hn::Mul(hn::Mul(x, x), set(-0.5f)));
  const Vec t = hn::Div(set(1.0f), hn::MulAdd(a, set(0.3f), set(1.0f)));
  Vec p = set(-0x1.09440ep-4f);
  p = hn::MulAdd(p, t, set(0x1.f13960p-3f));
  p = hn::MulAdd(p, t, set(-0x1.064b58p-2f));
  p = hn::MulAdd(p, t, set(0x1.187130p-2f));
  p = hn::MulAdd(p, t, set(-0x1.83be9ap-5f));
  p = hn::MulAdd(p, t, set(0x1.b82e56p-4f));
  p = hn::MulAdd(p, t, set(0x1.2fcb94p-4f));
  p = hn::MulAdd(p, t, set(0x1.5da014p-4f));
  p = hn::MulAdd(p, t, set(0x1.5a7f3cp-4f));
  const Vec tail = hn::Mul(e, hn::Mul(p, t));
  const Vec cumulative = hn::IfThenElse(hn::Lt(x, zero()), tail, hn::Sub(set(1.0f), tail));
  return {cumulative, hn::Mul(e, set(0.398942280f))};
}

HWY_INLINE Vec tanh(Vec x) {
  const Vec a = hn::Abs(x);
  // Near 0 an odd polynomial (2^-27.8 on |x| <= 0.625), further out 1 - 2/(e^2a + 1).
  const Vec squared = hn::Mul(x, x);
  Vec p = set(-0x1.75e13ap-8f);
  p = hn::MulAdd(p, squared, set(0x1.522678p-6f));
  p = hn::MulAdd(p, squared, set(-0x1.b83c54p-5f));
  p = hn::MulAdd(p, squared, set(0x1.110726p-3f));
  p = hn::MulAdd(p, squared, set(-0x1.555532p-2f));
  const Vec near = hn::MulAdd(hn::Mul(p, squared), x, x);
  const Vec doubled = hn::Add(a, a);
  // tanh is 1 to the last bit from 9.1 on.
  const Vec bounded = hn::IfThenElse(hn::Gt(doubled, set(40.0f)), set(40.0f), doubled);
  const Vec e = exp_bounded(bounded);
  const Vec far = hn::Sub(set(1.0f), hn::Div(set(2.0f), hn::Add(e, set(1.0f))));
  return hn::IfThenElse(hn::Lt(a, set(0.625f)), near, hn::CopySign(far, x));
}

/// 2·sqrt(2/pi)·(x + 0.044715·x³): gelu_new is x·sigmoid of it, as 0.5·(1 + tanh(u)) = sigmoid(2u).
HWY_INLINE Vec gelu_new_argument(Vec x) {
  const Vec cubic = hn::MulAdd(hn::Mul(x, x), set(0.0713548163f), set(1.59576912f));
  return hn::Mul(x, cubic);
}

template <Activation kind>
HWY_INLINE Vec activate(Vec x) {
  if constexpr (kind == Activation::gelu_new)
    return hn::Mul(x, sigmoid(gelu_new_argument(x)).value);
  if constexpr (kind == Activation::gelu) return hn::Mul(x, normal(x).cumulative);
  // x < 0 rather than a maximum, which would turn NaN into 0.
  if constexpr (kind == Activation::relu) return hn::IfThenElse(hn::Lt(x, zero()), zero(), x);
  if constexpr (kind == Activation::silu) return hn::Mul(x, sigmoid(x).value);
  if constexpr (kind == Activation::tanh) return tanh(x);
  return x;
}

/// activation'(x)
template <Activation kind>
HWY_INLINE Vec activation_slope(Vec x) {
  if constexpr (kind == Activation::gelu_new) {
    const Sigmoid s = sigmoid(gelu_new_argument(x));
    const Vec argument_slope = hn::MulAdd(hn::Mul(x, x), set(0.214064449f), set(1.59576912f));
    return hn::MulAdd(hn::Mul(hn::Mul(x, s.complement), s.value), argument_slope, s.value);
  }
  if constexpr (kind == Activation::gelu) {
    const Normal n = normal(x);
    return hn::MulAdd(x, n.density, n.cumulative);
  }
  if constexpr (kind == Activation::relu) {
    return hn::IfThenElse(hn::Gt(x, zero()), set(1.0f), zero());
  }
  if constexpr (kind == Activation::silu) {
    const Sigmoid s = sigmoid(x);
    return hn::MulAdd(hn::Mul(x, s.complement), s.value, s.value);
  }
  if constexpr (kind == Activation::tanh) {
    const Vec y = tanh(x);
    return hn::NegMulAdd(y, y, set(1.0f));
  }
  return set(1.0f);
}

}  // namespace quire::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per target
