// The loss of each row and its gradient over the logits.
#include <algorithm>
#include <cmath>

#include "kernels/reference/formulas.h"
#include "kernels/reference/reference_device.h"

namespace quire::reference {
namespace {

double log_sum_exp(const double* row, std::size_t V) {
  const double largest = *std::max_element(row, row + V);
  double sum = 0.0;
  for (std::size_t v = 0; v < V; ++v) sum += std::exp(row[v] - largest);
  return largest + std::log(sum);
}

/// The first V columns of rows of `columns`.
Doubles first_columns(const Doubles& rows, std::size_t columns, std::size_t V) {
  Doubles first;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (i % columns < V) first.push_back(rows[i]);
  }
  return first;
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

void ReferenceDevice::do_cross_entropy_forward(const CrossEntropyForward& p) {
  const auto columns = static_cast<std::size_t>(p.logits.shape()[1]);
  const auto V = static_cast<std::size_t>(p.vocabulary());
  const auto logits = first_columns(read(p.logits), columns, V);
  write(p.losses, cross_entropy(logits, ids(p.targets)));
}

void ReferenceDevice::do_cross_entropy_backward(const CrossEntropyBackward& p) {
  const auto columns = static_cast<std::size_t>(p.logits_to_grads.shape()[1]);
  const auto V = static_cast<std::size_t>(p.vocabulary());
  const auto logits = first_columns(read(p.logits_to_grads), columns, V);
  const auto targets = ids(p.targets);
  write(p.losses, cross_entropy(logits, targets));
  const auto gradients = cross_entropy_gradients(logits, targets, p.scale);
  Doubles padded(targets.size() * columns);
  for (std::size_t i = 0; i < gradients.size(); ++i) padded[i / V * columns + i % V] = gradients[i];
  write(p.logits_to_grads, padded);
}

}  // namespace quire::reference
