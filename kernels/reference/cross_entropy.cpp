// The loss of each row and its gradient over the logits.
#include <algorithm>
#include <cmath>

#include "kernels/check.h"
#include "kernels/reference/formulas.h"
#include "kernels/reference/reference_device.h"

namespace quire {
namespace reference {
namespace {

double log_sum_exp(const double* row, std::size_t V) {
  const double largest = *std::max_element(row, row + V);
  double sum = 0.0;
  for (std::size_t v = 0; v < V; ++v) sum += std::exp(row[v] - largest);
  return largest + std::log(sum);
}

}  // namespace

Doubles cross_entropy(const Doubles& logits, std::span<const std::int32_t> targets) {
  const std::size_t V = logits.size() / targets.size();
  Doubles losses(targets.size());
  for (std::size_t n = 0; n < targets.size(); ++n) {
    if (targets[n] == kIgnoredTarget) continue;
    const double* row = logits.data() + n * V;
    losses[n] = log_sum_exp(row, V) - row[targets[n]];
  }
  return losses;
}

Doubles cross_entropy_gradients(const Doubles& logits, std::span<const std::int32_t> targets,
                                double scale) {
  const std::size_t V = logits.size() / targets.size();
  Doubles gradients(logits.size());
  for (std::size_t n = 0; n < targets.size(); ++n) {
    if (targets[n] == kIgnoredTarget) continue;
    const double* row = logits.data() + n * V;
    const double lse = log_sum_exp(row, V);
    for (std::size_t v = 0; v < V; ++v) {
      const double onehot = v == static_cast<std::size_t>(targets[n]) ? 1.0 : 0.0;
      gradients[n * V + v] = (std::exp(row[v] - lse) - onehot) * scale;
    }
  }
  return gradients;
}

}  // namespace reference

void ReferenceDevice::cross_entropy_forward(const CrossEntropyForward& p) {
  check(p);
  check_values(p);
  reference::write(p.losses,
                   reference::cross_entropy(reference::read(p.logits), reference::ids(p.targets)));
}

void ReferenceDevice::cross_entropy_backward(const CrossEntropyBackward& p) {
  check(p);
  check_values(p);
  const reference::Doubles logits = reference::read(p.logits_to_grads);
  const auto targets = reference::ids(p.targets);
  reference::write(p.losses, reference::cross_entropy(logits, targets));
  reference::write(p.logits_to_grads, reference::cross_entropy_gradients(logits, targets, p.scale));
}

}  // namespace quire
