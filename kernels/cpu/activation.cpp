// Activations over any shape: element by element, at the speed of memory.
#include "kernels/cpu/activation.h"
#include "kernels/cpu/device.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/activation.cpp"
#include "hwy/foreach_target.h"
#include "kernels/cpu/activation-inl.h"

HWY_BEFORE_NAMESPACE();
namespace quire::cpu::HWY_NAMESPACE {
namespace {

constexpr std::int64_t kChunk = 16384;  // floats a task: 64 KiB, about 4 µs at memory speed

void activation_row(Activation activation, const float* x, float* out, std::int64_t n) {
  with_activation(activation, [&]<Activation kind>() HWY_ATTR {
    for_vectors(n, [&](std::int64_t i, std::int64_t count) QUIRE_INLINE_LAMBDA {
      store(activate<kind>(load(x + i, count)), out + i, count);
    });
  });
}

void activation_forward(const ActivationForward& p, ThreadPool& pool) {
  const float* x = p.x.data<float>();
  float* out = p.out.data<float>();
  pool.run_pieces(p.x.count(), kChunk, [&](std::int64_t first, std::int64_t count) HWY_ATTR {
    activation_row(p.activation, x + first, out + first, count);
  });
}

void activation_backward_row(Activation activation, const float* x, const float* d_out, float* d_x,
                             std::int64_t n) {
  with_activation(activation, [&]<Activation kind>() HWY_ATTR {
    for_vectors(n, [&](std::int64_t i, std::int64_t count) QUIRE_INLINE_LAMBDA {
      store(hn::Mul(load(d_out + i, count), activation_slope<kind>(load(x + i, count))), d_x + i,
            count);
    });
  });
}

void activation_backward(const ActivationBackward& p, ThreadPool& pool) {
  const float* x = p.x.data<float>();
  const float* d_out = p.d_out.data<float>();
  float* d_x = p.d_x.data<float>();
  pool.run_pieces(p.x.count(), kChunk, [&](std::int64_t first, std::int64_t count) HWY_ATTR {
    activation_backward_row(p.activation, x + first, d_out + first, d_x + first, count);
  });
}

}  // namespace
}  // namespace quire::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace quire::cpu {

HWY_EXPORT(activation_row);
HWY_EXPORT(activation_backward_row);

void activation_row(Activation activation, const float* x, float* out, std::int64_t n) {
  HWY_DYNAMIC_DISPATCH(activation_row)(activation, x, out, n);
}

void activation_backward_row(Activation activation, const float* x, const float* d_out, float* d_x,
                             std::int64_t n) {
  HWY_DYNAMIC_DISPATCH(activation_backward_row)(activation, x, d_out, d_x, n);
}

QUIRE_CPU_OP(activation_forward, ActivationForward)
QUIRE_CPU_OP(activation_backward, ActivationBackward)

}  // namespace quire::cpu
#endif  // HWY_ONCE
