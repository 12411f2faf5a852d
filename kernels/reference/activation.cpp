// The activations that GPT-2's configuration can name, and their slopes.
#include <cmath>
#include <numbers>

#include "kernels/reference/formulas.h"
#include "kernels/reference/reference_device.h"

namespace quire::reference {
namespace {

constexpr double kCubic = 0.044715;
const double kSqrt2OverPi = std::sqrt(2.0 / std::numbers::pi);

double sigmoid(double x) {
  return 1.0 / (1.0 + std::exp(-x));
}

}  // namespace

double activate(Activation activation, double x) {
  switch (activation) {
    case Activation::none:
      return x;
    case Activation::gelu_new:
      return 0.5 * x * (1.0 + std::tanh(kSqrt2OverPi * (x + kCubic * x * x * x)));
    case Activation::gelu:
      return 0.5 * x * std::erfc(-x / std::numbers::sqrt2);
    case Activation::relu:
      return x < 0.0 ? 0.0 : x;  // NaN stays NaN
    case Activation::silu:
      return x * sigmoid(x);
    case Activation::tanh:
      return std::tanh(x);
  }
  return x;
}

double activation_slope(Activation activation, double x) {
  switch (activation) {
    case Activation::none:
      return 1.0;
    case Activation::gelu_new: {
      const double t = std::tanh(kSqrt2OverPi * (x + kCubic * x * x * x));
      const double inner = kSqrt2OverPi * (1.0 + 3.0 * kCubic * x * x);
      return 0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * inner;
    }
    case Activation::gelu:
      return 0.5 * std::erfc(-x / std::numbers::sqrt2) +
             x * std::exp(-0.5 * x * x) / std::sqrt(2.0 * std::numbers::pi);
    case Activation::relu:
      return x > 0.0 ? 1.0 : 0.0;
    case Activation::silu: {
      const double s = sigmoid(x);
      return s * (1.0 + x * (1.0 - s));
    }
    case Activation::tanh: {
      const double t = std::tanh(x);
      return 1.0 - t * t;
    }
  }
  return 1.0;
}

void ReferenceDevice::do_activation_forward(const ActivationForward& p) {
  Doubles values = read(p.x);
  for (double& value : values) value = activate(p.activation, value);
  write(p.out, values);
}

void ReferenceDevice::do_activation_backward(const ActivationBackward& p) {
  const Doubles x = read(p.x);
  Doubles d_x = read(p.d_out);
  for (std::size_t i = 0; i < x.size(); ++i) {
    d_x[i] *= activation_slope(p.activation, x[i]);
  }
  write(p.d_x, d_x);
}

}  // namespace quire::reference
