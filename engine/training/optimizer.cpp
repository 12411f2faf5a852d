#include "engine/training/optimizer.h"

#include <algorithm>
#include <cmath>

namespace quire {
namespace {

/// Elements [first, first + count) of a dense tensor, as a row.
View stretch(const View& tensor, std::int64_t first, std::int64_t count) {
  auto* const bytes = static_cast<std::byte*>(tensor.bytes());
  return {bytes + first * size_of(tensor.dtype()), tensor.dtype(), {count}};
}

/// Where a tensor lies in the row of floats that holds it.
std::int64_t place_in(const View& row, const View& tensor) {
  return tensor.data<float>() - row.data<float>();
}

}  // namespace

AdamwOptimizer::AdamwOptimizer(Device& device, const NamedTensors& parameters,
                               const NamedTensors& gradients, const NamedTensors* copies,
                               const AdamwOptions& options, Ranks& ranks)
    : device_(&device),
      parameters_(&parameters),
      gradients_(&gradients),
      options_(options),
      ranks_(&ranks) {
  const View row = gradients.all();
  const View here = part_of(row);
  const View kept = options.sharded ? here : row;
  m_ = Buffer(device, kept.size_bytes());
  v_ = Buffer(device, kept.size_bytes());
  device.fill_zero(m_.data(), m_.size());
  device.fill_zero(v_.data(), v_.size());
  for (std::size_t i = 0; i < parameters.tensors().size(); ++i) {
    const View gradient = gradients.tensors()[i];
    if (!gradient) continue;
    const std::int64_t place = place_in(row, gradient), end = place + gradient.count();
    const auto within = [&](const View& part) {
      const std::int64_t begin = place_in(row, part);
      return Share{std::max(place, begin), std::min(end, begin + part.count())};
    };
    if (const Share summed = within(here); summed.begin < summed.end) {
      summed_here_.push_back(stretch(row, summed.begin, summed.end - summed.begin));
    }
    const Share mine = within(kept);
    if (mine.begin >= mine.end) continue;
    const std::int64_t first = mine.begin - place, count = mine.end - mine.begin;
    const std::int64_t moment = mine.begin - place_in(row, kept);
    const NamedParameter& parameter = parameters.names()[i];
    pieces_.push_back({.parameter = &parameter,
                       .first = first,
                       .parameters = stretch(parameters.tensors()[i], first, count),
                       .gradients = stretch(gradient, first, count),
                       .m = View(static_cast<float*>(m_.data()) + moment, {count}),
                       .v = View(static_cast<float*>(v_.data()) + moment, {count})});
    const bool copied = copies != nullptr && copies->tensors()[i].dtype() != DType::f32;
    const Piece& piece = pieces_.back();
    tensors_.push_back({.param = piece.parameters,
                        .grad = piece.gradients,
                        .m = piece.m,
                        .v = piece.v,
                        .weight_decay = parameter.decays ? options.weight_decay : 0.0f,
                        .copy = copied ? stretch(copies->tensors()[i], first, count) : View()});
  }
}

View AdamwOptimizer::part_of(const View& row) const {
  const std::int64_t count = row.count() / ranks_->size();
  return stretch(row, ranks_->rank() * count, count);
}

void AdamwOptimizer::reduce_gradients() {
  const View row = gradients_->all();
  ranks_->reduce_scatter(*device_, row);
  if (!options_.sharded) ranks_->all_gather(*device_, row);
}

double AdamwOptimizer::squared_norm() const {
  return device_->squared_norm(summed_here_);
}

double AdamwOptimizer::gradient_norm() const {
  return std::sqrt(squared_norm());
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
  if (options_.sharded && ranks_->size() > 1) collect_parameters();
}

void AdamwOptimizer::collect_parameters() {
  for (const Piece& piece : pieces_) {
    device_->copy(piece.gradients.bytes(), piece.parameters.bytes(), piece.gradients.size_bytes());
  }
  ranks_->all_gather(*device_, gradients_->all());
  for (std::size_t i = 0; i < parameters_->tensors().size(); ++i) {
    const View from = gradients_->tensors()[i];
    if (from) device_->copy(parameters_->tensors()[i].bytes(), from.bytes(), from.size_bytes());
  }
}

AdamwOptimizer::HostMoments AdamwOptimizer::moments() const {
  HostMoments host;
  const auto on_host = [&](const Buffer& buffer) {
    std::vector<float> values(buffer.size() / sizeof(float));
    device_->copy_to_host(values.data(), buffer.data(), buffer.size());
    device_->synchronize();
    return options_.sharded ? ranks_->gather(values) : values;
  };
  const auto* m = static_cast<const float*>(m_.data());
  const auto* v = static_cast<const float*>(v_.data());
  if (options_.sharded || !device_->shares_host_memory()) {
    host.m = on_host(m_);
    host.v = on_host(v_);
    m = host.m.data();
    v = host.v.data();
  }
  if (options_.sharded && !ranks_->first()) return host;
  for (std::size_t i = 0; i < gradients_->tensors().size(); ++i) {
    const View gradient = gradients_->tensors()[i];
    if (!gradient) continue;
    const std::int64_t place = place_in(gradients_->all(), gradient);
    const NamedParameter& parameter = parameters_->names()[i];
    host.pairs.push_back({.parameter = &parameter,
                          .m = {m + place, parameter.shape},
                          .v = {v + place, parameter.shape}});
  }
  return host;
}

std::size_t AdamwOptimizer::bytes(std::size_t gradient_bytes, int ranks, bool sharded) {
  return 2 * (sharded ? gradient_bytes / ranks : gradient_bytes);
}

}  // namespace quire
