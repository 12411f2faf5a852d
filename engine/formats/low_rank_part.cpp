#include "engine/formats/low_rank_part.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/parallel.h"

namespace quire {
namespace {

/// Columns of equal length, in double.
using Columns = std::vector<std::vector<double>>;

double dot(const std::vector<double>& a, const std::vector<double>& b) {
  return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
}

/// Gram and Schmidt, each column twice: once leaves what rounding made of nearly parallel ones.
/// False where a column lies in the span of those before it.
bool make_orthonormal(Columns& columns) {
  for (std::size_t i = 0; i < columns.size(); ++i) {
    const double before = std::sqrt(dot(columns[i], columns[i]));
    for (int pass = 0; pass < 2; ++pass) {
      for (std::size_t j = 0; j < i; ++j) {
        const double along = dot(columns[j], columns[i]);
        for (std::size_t k = 0; k < columns[i].size(); ++k) {
          columns[i][k] -= along * columns[j][k];
        }
      }
    }
    const double length = std::sqrt(dot(columns[i], columns[i]));
    if (!(length > 1e-12 * before)) return false;
    for (double& value : columns[i]) value /= length;
  }
  return true;
}

/// The symmetric matrix times each column.
Columns product(const Columns& matrix, const Columns& columns) {
  Columns result(columns.size(), std::vector<double>(matrix.size()));
  parallel_for(0, matrix.size(), [&](std::size_t i) {
    for (std::size_t c = 0; c < columns.size(); ++c) result[c][i] = dot(matrix[i], columns[c]);
  });
  return result;
}

/// Eigenvalues of a small symmetric matrix, largest first, and its eigenvectors as columns: Jacobi.
std::vector<double> eigen(Columns matrix, Columns& vectors) {
  const std::size_t n = matrix.size();
  vectors.assign(n, std::vector<double>(n, 0.0));
  for (std::size_t i = 0; i < n; ++i) vectors[i][i] = 1;
  for (int sweep = 0; sweep < 60; ++sweep) {
    double off = 0, all = 0;
    for (std::size_t i = 0; i < n; ++i) {
      for (std::size_t j = 0; j < n; ++j) {
        all += matrix[i][j] * matrix[i][j];
        if (i != j) off += matrix[i][j] * matrix[i][j];
      }
    }
    if (off <= 1e-30 * all) break;
    for (std::size_t p = 0; p + 1 < n; ++p) {
      for (std::size_t q = p + 1; q < n; ++q) {
        if (matrix[p][q] == 0) continue;
        const double theta = (matrix[q][q] - matrix[p][p]) / (2 * matrix[p][q]);
        const double t = (theta < 0 ? -1 : 1) / (std::abs(theta) + std::sqrt(theta * theta + 1));
        const double c = 1 / std::sqrt(t * t + 1), s = t * c;
        const auto rotate = [&](double& a, double& b) {
          const double old = a;
          a = c * old - s * b;
          b = s * old + c * b;
        };
        for (std::size_t k = 0; k < n; ++k) rotate(matrix[k][p], matrix[k][q]);
        for (std::size_t k = 0; k < n; ++k) rotate(matrix[p][k], matrix[q][k]);
        for (std::size_t k = 0; k < n; ++k) rotate(vectors[p][k], vectors[q][k]);
      }
    }
  }
  std::vector<std::size_t> order(n);
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(),
            [&](std::size_t a, std::size_t b) { return matrix[a][a] > matrix[b][b]; });
  std::vector<double> values;
  Columns sorted;
  for (const std::size_t i : order) {
    values.push_back(matrix[i][i]);
    sorted.push_back(std::move(vectors[i]));
  }
  vectors = std::move(sorted);
  return values;
}

/// An orthonormal basis of the span of the r largest eigenvectors of a symmetric matrix without
/// negative eigenvalues; empty where the r-th and the next cannot be told apart.
Columns principal_span(const Columns& matrix, std::size_t r) {
  const std::size_t n = matrix.size();
  const std::size_t width = std::min(n, 2 * r + 16);  // the more, the fewer iterations
  Columns basis(width, std::vector<double>(n));
  std::uint64_t state = 1;
  for (std::vector<double>& column : basis) {
    for (double& value : column) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      value = (state >> 11) * 0x1p-53 - 0.5;
    }
  }
  constexpr int kMost = 1000, kBetween = 5;  // looking costs as much as some iterations
  for (int iteration = 0; iteration < kMost; ++iteration) {
    if (!make_orthonormal(basis)) return {};
    Columns image = product(matrix, basis);
    if (iteration % kBetween == 0) {
      Columns inner(width, std::vector<double>(width));
      for (std::size_t i = 0; i < width; ++i) {
        for (std::size_t j = 0; j < width; ++j) inner[i][j] = dot(basis[i], image[j]);
      }
      Columns turns;
      const std::vector<double> values = eigen(std::move(inner), turns);
      const auto turned = [&](const Columns& columns, std::size_t k) {
        std::vector<double> sum(n, 0.0);
        for (std::size_t i = 0; i < width; ++i) {
          for (std::size_t j = 0; j < n; ++j) sum[j] += turns[k][i] * columns[i][j];
        }
        return sum;
      };
      const double gap = values[r - 1] - values[r];
      // Within twice the eps of the floats that the weight is made of no one could tell them apart.
      if (gap > 2 * 0x1p-23 * values[r - 1]) {
        Columns span;
        double worst = 0;  // ‖G·v − λ·v‖/gap bounds the angle to the true span
        for (std::size_t k = 0; k < r; ++k) {
          span.push_back(turned(basis, k));
          std::vector<double> rest = turned(image, k);
          for (std::size_t j = 0; j < n; ++j) rest[j] -= values[k] * span[k][j];
          worst = std::max(worst, std::sqrt(dot(rest, rest)));
        }
        if (worst <= 0x1p-26 * gap) return span;
      }
    }
    basis = std::move(image);
  }
  return {};
}

/// weight -= scale·span·spanᵀ·weight, for a span of rows or of columns.
void remove_projection(std::vector<float>& weight, std::size_t rows, std::size_t columns,
                       const Columns& span, bool of_columns, double scale) {
  const std::size_t lines = of_columns ? columns : rows, length = of_columns ? rows : columns;
  const auto at = [&](std::size_t line, std::size_t i) -> float& {
    return of_columns ? weight[i * columns + line] : weight[line * columns + i];
  };
  parallel_for(0, lines, [&](std::size_t line) {
    std::vector<double> part(length, 0.0);
    for (const std::vector<double>& direction : span) {
      double along = 0;
      for (std::size_t i = 0; i < length; ++i) along += direction[i] * at(line, i);
      for (std::size_t i = 0; i < length; ++i) part[i] += along * direction[i];
    }
    for (std::size_t i = 0; i < length; ++i) {
      at(line, i) = static_cast<float>(at(line, i) - scale * part[i]);
    }
  });
}

}  // namespace

bool remove_principal_part(std::vector<float>& weight, std::size_t rows, std::size_t columns,
                           std::size_t r) {
  const bool of_columns = rows <= columns;  // the smaller of W·Wᵀ and Wᵀ·W
  const std::size_t n = std::min(rows, columns);
  if (r >= n) {
    std::fill(weight.begin(), weight.end(), 0.0f);
    return true;
  }
  Columns lines(n, std::vector<double>(std::max(rows, columns)));
  for (std::size_t i = 0; i < rows; ++i) {
    for (std::size_t j = 0; j < columns; ++j) {
      lines[of_columns ? i : j][of_columns ? j : i] = weight[i * columns + j];
    }
  }
  const Columns span = principal_span(product(lines, lines), r);
  if (span.empty()) return false;
  remove_projection(weight, rows, columns, span, of_columns, 1.0);
  return true;
}

bool remove_first_columns(std::vector<float>& weight, std::size_t rows, std::size_t columns,
                          std::size_t r, float scale) {
  Columns span(r, std::vector<double>(rows));
  for (std::size_t c = 0; c < span.size(); ++c) {
    for (std::size_t i = 0; i < rows; ++i) span[c][i] = weight[i * columns + c];
  }
  if (!make_orthonormal(span)) return false;
  remove_projection(weight, rows, columns, span, /*of_columns=*/true, scale);
  return true;
}

}  // namespace quire
