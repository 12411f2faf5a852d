// Comparing every element with a bound of its own.
#pragma once

#include <cstdint>
#include <functional>
#include <sstream>
#include <string>
#include <vector>

#include "verify/bounds.h"

namespace quire::test {

using Doubles = std::vector<double>;

using verify::kEps;

/// "matmul cpu M 3": what a failure names.
template <class... Parts>
std::string join(const Parts&... parts) {
  std::ostringstream text;
  const char* separator = "";
  ((text << separator << parts, separator = " "), ...);
  return text.str();
}

/// Fails, with `what`, the worst index, both values and the bound, unless |got - want| <= bound in
/// every element. Infinities must be equal; NaN never passes.
void compare(const std::string& what, const std::vector<float>& got, const Doubles& want,
             const Doubles& bound);
/// With bound(i) as the bound of element i.
void compare(const std::string& what, const std::vector<float>& got, const Doubles& want,
             const std::function<double(std::size_t)>& bound);

/// Fails, with `what`, the first index and both values, unless all bits are equal.
void compare_bits(const std::string& what, const std::vector<float>& got,
                  const std::vector<float>& want);
/// The rows of products among others. `rows_alone` (the device's): all bits are equal. Elsewhere
/// |got - want| <= bound in every element.
void compare_rows(bool rows_alone, const std::string& what, const std::vector<float>& got,
                  const std::vector<float>& want, double bound);
void compare_ints(const std::string& what, const std::vector<std::int32_t>& got,
                  const std::vector<std::int32_t>& want);

/// Elements [first, first + count).
template <class Number>
std::vector<Number> slice(const std::vector<Number>& values, std::int64_t first,
                          std::int64_t count) {
  return {values.begin() + first, values.begin() + first + count};
}

inline Doubles widened(const std::vector<float>& values) {
  return {values.begin(), values.end()};
}

/// A sum and the sum of the sizes of its terms.
struct Sum {
  double value = 0.0;
  double size = 0.0;
};
/// Σ weights·values: turns an op's output into the scalar whose gradient is tested.
Sum weighted(const Doubles& values, const std::vector<float>& weights);

/// Fails unless `gradient` is that of `f` at `x`, every element of it, by central differences in
/// double. The bound: D(2h) - D(h) is three times the truncation error of D(h); rounding adds the
/// size of the sum's terms times 64 roundings of a double over h.
void compare_gradient(const std::string& what, const Doubles& gradient, const Doubles& x,
                      const std::function<Sum(const Doubles&)>& f);

/// The message of the quire::Error that `action` throws; fails and returns "" when it throws none.
std::string error_of(const std::function<void()>& action);

}  // namespace quire::test
