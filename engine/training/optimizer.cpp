#include "engine/training/optimizer.h"

#include <algorithm>
#include <cmath>

namespace quire {

AdamwOptimizer::AdamwOptimizer(Device& device, const NamedTensors& parameters,
                               const NamedTensors& gradients, const NamedTensors* copies,
                               const AdamwOptions& options)
    : device_(&device),
      options_(options),
      m_(device, gradients.names(), gradients.held()),
      v_(device, gradients.names(), gradients.held()) {
  m_.fill_zero(device);
  v_.fill_zero(device);
  for (std::size_t i = 0; i < parameters.tensors().size(); ++i) {
    if (!gradients.tensors()[i]) continue;
    const View m = m_.tensors()[i];
    const View v = v_.tensors()[i];
    gradients_.push_back(gradients.tensors()[i]);
    const bool copied = copies != nullptr && copies->tensors()[i].dtype() != DType::f32;
    tensors_.push_back({.param = parameters.tensors()[i],
                        .grad = gradients.tensors()[i],
                        .m = m,
                        .v = v,
                        .weight_decay = parameters.names()[i].decays ? options.weight_decay : 0.0f,
                        .copy = copied ? copies->tensors()[i] : View()});
  }
}

double AdamwOptimizer::gradient_norm() const {
  return std::sqrt(device_->squared_norm(gradients_));
}

void AdamwOptimizer::step(float learning_rate, double gradient_norm) {
  const double scale = options_.max_grad_norm > 0
                           ? std::min(1.0, options_.max_grad_norm / (gradient_norm + 1e-6))
                           : 1.0;
  device_->adamw({.tensors = tensors_,
                  .lr = learning_rate,
                  .beta1 = options_.beta1,
                  .beta2 = options_.beta2,
                  .eps = options_.epsilon,
                  .step = ++updates_,
                  .grad_scale = static_cast<float>(scale)});
}

}  // namespace quire
