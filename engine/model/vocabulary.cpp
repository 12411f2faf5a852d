#include "engine/model/vocabulary.h"

#include <cmath>
#include <vector>

#include "base/error.h"
#include "base/parallel.h"
#include "base/random.h"
#include "engine/model/elements.h"

namespace quire {
namespace {

constexpr std::uint64_t kGrowStream = 0x67726F77;  // "grow", apart from other draws of the seed

}  // namespace

/// Draws from N(mean, 1e-9·covariance) without the covariance: for z of N(0, 1), the sum of
/// z_i·(row_i − mean)/sqrt(rows) has it. N·C products a row, 39 million for GPT-2.
std::vector<float> drawn_rows(std::span<const float> table, std::int64_t width, std::int64_t count,
                              std::uint64_t seed, std::uint64_t stream) {
  const auto C = static_cast<std::size_t>(width);
  const std::size_t old_rows = table.size() / C;
  std::vector<float> rows(static_cast<std::size_t>(count) * C);
  std::vector<double> mean(C, 0.0);
  for (std::size_t i = 0; i < old_rows; ++i) {
    for (std::size_t c = 0; c < C; ++c) mean[c] += table[i * C + c];
  }
  for (double& value : mean) value /= old_rows;
  const double spread = std::sqrt(1e-9 / old_rows);
  parallel_for(0, static_cast<std::size_t>(count), [&](std::size_t r) {
    const RandomKey key{.seed = mix(seed, kGrowStream), .stream = mix(stream, r)};
    std::vector<double> sum(C, 0.0);
    double all = 0;
    for (std::size_t i = 0; i < old_rows; ++i) {
      // Box and Muller, from two draws of (0, 1].
      const double u = 1.0 - random_uniform(key, 2 * i), v = random_uniform(key, 2 * i + 1);
      const double z = std::sqrt(-2 * std::log(u)) * std::cos(2 * 3.14159265358979323846 * v);
      all += z;
      for (std::size_t c = 0; c < C; ++c) sum[c] += z * table[i * C + c];
    }
    for (std::size_t c = 0; c < C; ++c) {
      rows[r * C + c] = static_cast<float>(mean[c] + spread * (sum[c] - all * mean[c]));
    }
  });
  return rows;
}

Parameters grow_vocabulary(Device& device, const Gpt2Config& config, const Parameters& parameters,
                           std::uint64_t seed) {
  Parameters grown(device, config);
  for (std::size_t i = 0; i < grown.tensors().size(); ++i) {
    const ConstView from = parameters.weights()[i];
    const View to = grown.tensors()[i];
    std::vector<float> values = download(device, from);
    if (to.count() > from.count()) {
      const std::vector<float> more =
          drawn_rows(values, config.n_embd, to.shape()[0] - from.shape()[0], seed, i);
      values.insert(values.end(), more.begin(), more.end());
    }
    if (std::ssize(values) != to.count()) {
      throw Error(Fault::internal,
                  "grow_vocabulary: " + grown.names()[i].name + " has other extents");
    }
    upload(device, values, to);
  }
  return grown;
}

}  // namespace quire
