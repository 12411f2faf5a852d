// Layer normalisation, with the residual addition in front of it, and its gradients.
#include <cmath>

#include "kernels/reference/formulas.h"
#include "kernels/reference/reference_device.h"

namespace quire::reference {

Layernorm layernorm(const Doubles& x, const Doubles& weight, const Doubles& bias, double eps) {
  const std::size_t C = weight.size();
  const std::size_t N = x.size() / C;
  Layernorm result{Doubles(x.size()), Doubles(N), Doubles(N)};
  for (std::size_t n = 0; n < N; ++n) {
    const double* row = x.data() + n * C;
    double sum = 0.0;
    for (std::size_t c = 0; c < C; ++c) sum += row[c];
    const double mean = sum / static_cast<double>(C);
    double squares = 0.0;
    for (std::size_t c = 0; c < C; ++c) squares += (row[c] - mean) * (row[c] - mean);
    const double rstd = 1.0 / std::sqrt(squares / static_cast<double>(C) + eps);
    for (std::size_t c = 0; c < C; ++c) {
      result.out[n * C + c] = (row[c] - mean) * rstd * weight[c] + bias[c];
    }
    result.mean[n] = mean;
    result.rstd[n] = rstd;
  }
  return result;
}

LayernormGradients layernorm_gradients(const Doubles& d_out, const Doubles& x,
                                       const Doubles& weight, const Doubles& mean,
                                       const Doubles& rstd) {
  const std::size_t C = weight.size();
  LayernormGradients result{Doubles(x.size()), Doubles(C), Doubles(C)};
  for (std::size_t n = 0; n < mean.size(); ++n) {
    double sum_g = 0.0, sum_gn = 0.0;
    for (std::size_t c = 0; c < C; ++c) {
      const double normalised = (x[n * C + c] - mean[n]) * rstd[n];
      const double g = d_out[n * C + c] * weight[c];
      sum_g += g;
      sum_gn += g * normalised;
      result.d_weight[c] += d_out[n * C + c] * normalised;
      result.d_bias[c] += d_out[n * C + c];
    }
    for (std::size_t c = 0; c < C; ++c) {
      const double normalised = (x[n * C + c] - mean[n]) * rstd[n];
      const double g = d_out[n * C + c] * weight[c];
      result.d_x[n * C + c] = rstd[n] * (g - sum_g / static_cast<double>(C) -
                                         normalised * sum_gn / static_cast<double>(C));
    }
  }
  return result;
}

void ReferenceDevice::do_residual_layernorm_forward(const ResidualLayernormForward& p) {
  if (p.branch) {
    Doubles sum = read(p.x);
    const Doubles branch = read(p.branch);
    for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += branch[i];
    write(p.sum, sum);
  }
  // The sum is normalised as it is stored: the backward op reads it from there.
  const ConstView rows = p.branch ? p.sum : p.x;
  const Layernorm result = layernorm(read(rows), read(p.weight), read(p.bias), p.eps);
  write(p.out, result.out);
  if (p.mean) write(p.mean, result.mean);
  if (p.rstd) write(p.rstd, result.rstd);
}

void ReferenceDevice::do_layernorm_backward(const LayernormBackward& p) {
  const LayernormGradients gradients =
      layernorm_gradients(read(p.d_out), read(p.x), read(p.weight), read(p.mean), read(p.rstd));
  add(p.d_x, gradients.d_x);
  if (p.d_weight.view) add(p.d_weight, gradients.d_weight);
  if (p.d_bias.view) add(p.d_bias, gradients.d_bias);
}

}  // namespace quire::reference
