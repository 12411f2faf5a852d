// AdamW and the squared norm that clipping wants.
#include <algorithm>
#include <cmath>

#include "kernels/reference/formulas.h"
#include "kernels/reference/reference_device.h"

namespace quire::reference {
namespace {

void write_copy(const View& copy, const ConstView& param) {
  const float* const from = param.data<float>();
  if (copy.dtype() == DType::f16) {
    std::transform(from, from + param.count(), copy.data<Half>(), to_half);
  } else {
    std::transform(from, from + param.count(), copy.data<BFloat16>(), to_bfloat16);
  }
}

}  // namespace

void ReferenceDevice::do_adamw(const AdamwStep& s) {
  const double beta1 = s.beta1, beta2 = s.beta2, lr = s.lr;
  const double correction1 = 1.0 - std::pow(beta1, static_cast<double>(s.step));
  const double correction2 = std::sqrt(1.0 - std::pow(beta2, static_cast<double>(s.step)));
  for (const AdamwTensor& tensor : s.tensors) {
    Doubles param = read(tensor.param);
    Doubles m = read(tensor.m);
    Doubles v = read(tensor.v);
    const Doubles grad = read(tensor.grad);
    for (std::size_t i = 0; i < param.size(); ++i) {
      const double g = grad[i] * s.grad_scale;
      param[i] *= 1.0 - lr * tensor.weight_decay;
      m[i] += (g - m[i]) * (1.0 - beta1);
      v[i] = beta2 * v[i] + (1.0 - beta2) * g * g;
      param[i] -= lr / correction1 * m[i] / (std::sqrt(v[i]) / correction2 + s.eps);
    }
    write(tensor.param, param);
    if (tensor.copy) write_copy(tensor.copy, tensor.param);
    write(tensor.m, m);
    write(tensor.v, v);
  }
}

double ReferenceDevice::do_squared_norm(std::span<const ConstView> tensors) {
  double sum = 0.0;
  for (const ConstView& tensor : tensors) {
    for (const double value : read(tensor)) sum += value * value;
  }
  return sum;
}

}  // namespace quire::reference
