// Products with a weight, forward and for both gradients.
#include "kernels/quantised.h"
#include "kernels/reference/formulas.h"
#include "kernels/reference/reference_device.h"

namespace quire {
namespace reference {

Doubles matmul(const Doubles& a, const Doubles& b, std::int64_t M, std::int64_t K, std::int64_t N) {
  Doubles out(static_cast<std::size_t>(M * N));
  for (std::int64_t m = 0; m < M; ++m) {
    double* const sums = out.data() + m * N;
    for (std::int64_t k = 0; k < K; ++k) {  // k outside n: rows of b are read as they lie
      const double factor = a[m * K + k];
      const double* const row = b.data() + k * N;
      for (std::int64_t n = 0; n < N; ++n) sums[n] += factor * row[n];
    }
  }
  return out;
}

Doubles transposed(const Doubles& a, std::int64_t rows, std::int64_t columns) {
  Doubles out(a.size());
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < columns; ++c) out[c * rows + r] = a[r * columns + c];
  }
  return out;
}

Doubles sum_of_rows(const Doubles& a, std::int64_t columns) {
  Doubles out(static_cast<std::size_t>(columns));
  for (std::size_t i = 0; i < a.size(); ++i) out[i % out.size()] += a[i];
  return out;
}

namespace {

Doubles rounded(Doubles values, Multiply multiply) {
  if (multiply == Multiply::as_stored) return values;
  for (double& value : values) value = to_float(to_bfloat16(static_cast<float>(value)));
  return values;
}

/// As it lies.
Doubles read_stored(const Weight& weight) {
  if (!in_blocks(weight.format)) return read(weight.view());
  Doubles values;
  std::vector<float> row(static_cast<std::size_t>(weight.in()));
  for (std::int64_t n = 0; n < weight.out(); ++n) {
    read_row(weight, n, row.data());
    values.insert(values.end(), row.begin(), row.end());
  }
  return values;
}

/// The weight as [K, N], however it is stored.
Doubles read_weight(const Weight& weight, Multiply multiply) {
  const Doubles values = rounded(read_stored(weight), multiply);
  if (weight.layout == WeightLayout::in_out) return values;
  return transposed(values, weight.shape[0], weight.shape[1]);
}

}  // namespace
}  // namespace reference

void ReferenceDevice::do_matmul_forward(const MatmulForward& p) {
  const std::int64_t M = p.x.shape()[0], K = p.x.shape()[1], N = p.out.shape()[1];
  reference::Doubles out = reference::matmul(reference::rounded(reference::read(p.x), p.multiply),
                                             reference::read_weight(p.weight, p.multiply), M, K, N);
  if (p.bias) {
    const reference::Doubles bias = reference::read(p.bias);
    for (std::size_t i = 0; i < out.size(); ++i) out[i] += bias[i % bias.size()];
  }
  if (p.pre_activation) reference::write(p.pre_activation, out);
  for (double& value : out) value = reference::activate(p.activation, value);
  reference::write(p.out, out);
}

void ReferenceDevice::do_matmul_backward_input(const MatmulBackwardInput& p) {
  const std::int64_t M = p.d_x.shape()[0], K = p.d_x.shape()[1], N = p.d_out.shape()[1];
  const reference::Doubles weight = reference::read_weight(p.weight, p.multiply);
  reference::Doubles d_x =
      reference::matmul(reference::rounded(reference::read(p.d_out), p.multiply),
                        reference::transposed(weight, K, N), M, N, K);
  if (p.pre_activation) {
    const reference::Doubles pre = reference::read(p.pre_activation);
    for (std::size_t i = 0; i < d_x.size(); ++i) {
      d_x[i] *= reference::activation_slope(p.activation, pre[i]);
    }
  }
  reference::write(p.d_x, d_x);
}

void ReferenceDevice::do_matmul_backward_weight(const MatmulBackwardWeight& p) {
  const std::int64_t M = p.x.shape()[0], K = p.x.shape()[1], N = p.d_out.shape()[1];
  const reference::Doubles d_out = reference::read(p.d_out);
  reference::Doubles d_weight = reference::matmul(
      reference::transposed(reference::rounded(reference::read(p.x), p.multiply), M, K),
      reference::rounded(d_out, p.multiply), K, M, N);
  const WritableWeight& target = p.d_weight.weight;
  if (target.layout == WeightLayout::out_in) d_weight = reference::transposed(d_weight, K, N);
  reference::add(Accumulate{target.view}, d_weight);
  if (p.d_bias.view) reference::add(p.d_bias, reference::sum_of_rows(d_out, N));
}

void ReferenceDevice::do_matmul_add(const MatmulAdd& p) {
  const View out = p.out.view;
  reference::Doubles x = reference::read(p.x);
  for (double& value : x) value *= static_cast<double>(p.scale);
  const reference::Doubles product = reference::matmul(
      reference::rounded(x, p.multiply), reference::read_weight(p.weight, p.multiply),
      p.x.shape()[0], p.x.shape()[1], out.shape()[1]);
  reference::add(p.out, product);
}

}  // namespace quire
