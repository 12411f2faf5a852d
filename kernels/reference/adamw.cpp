// AdamW and the squared norm that clipping wants.
#include <cmath>

#include "kernels/check.h"
#include "kernels/reference/formulas.h"
#include "kernels/reference/reference_device.h"

namespace quire {
namespace {

void write_copy(const View& copy, const ConstView& param) {
  const reference::Doubles values = reference::read(param);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const float value = static_cast<float>(values[i]);
    if (copy.dtype() == DType::f16) {
      copy.data<Half>()[i] = to_half(value);
    } else {
      copy.data<BFloat16>()[i] = to_bfloat16(value);
    }
  }
}

}  // namespace

void ReferenceDevice::adamw(const AdamwStep& s) {
  check(s);
  const double beta1 = s.beta1, beta2 = s.beta2, lr = s.lr;
  const double correction1 = 1.0 - std::pow(beta1, static_cast<double>(s.step));
  const double correction2 = std::sqrt(1.0 - std::pow(beta2, static_cast<double>(s.step)));
  for (const AdamwTensor& tensor : s.tensors) {
    reference::Doubles param = reference::read(tensor.param);
    reference::Doubles m = reference::read(tensor.m);
    reference::Doubles v = reference::read(tensor.v);
    const reference::Doubles grad = reference::read(tensor.grad);
    for (std::size_t i = 0; i < param.size(); ++i) {
      const double g = grad[i] * s.grad_scale;
      param[i] *= 1.0 - lr * tensor.weight_decay;
      m[i] += (g - m[i]) * (1.0 - beta1);
      v[i] = beta2 * v[i] + (1.0 - beta2) * g * g;
      param[i] -= lr / correction1 * m[i] / (std::sqrt(v[i]) / correction2 + s.eps);
    }
    reference::write(tensor.param, param);
    if (tensor.copy) write_copy(tensor.copy, tensor.param);
    reference::write(tensor.m, m);
    reference::write(tensor.v, v);
  }
}

double ReferenceDevice::squared_norm(std::span<const ConstView> tensors) {
  check_squared_norm(tensors);
  double sum = 0.0;
  for (const ConstView& tensor : tensors) {
    for (const double value : reference::read(tensor)) sum += value * value;
  }
  return sum;
}

}  // namespace quire
