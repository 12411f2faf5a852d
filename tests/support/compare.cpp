#include "tests/support/compare.h"

#include <cmath>
#include <cstring>
#include <limits>

#include "base/error.h"
#include "tests/support/catch.h"

namespace quire::test {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// How many times its bound an element is off.
/// NaN, and an infinity that is not wanted, are beyond any.
double excess(double got, double want, double bound) {
  if (got == want) return 0.0;
  const double off = std::abs(got - want);
  if (std::isnan(off) || std::isinf(off)) return kInfinity;
  if (bound > 0.0) return off / bound;
  return kInfinity;
}

template <class Number>
void compare_all_bits(const std::string& what, const std::vector<Number>& got,
                      const std::vector<Number>& want) {
  REQUIRE(got.size() == want.size());
  for (std::size_t i = 0; i < got.size(); ++i) {
    if (std::memcmp(&got[i], &want[i], sizeof(Number)) != 0) {
      FAIL_CHECK(what << ": element " << i << " of " << got.size() << " is " << got[i]
                      << ", the same bits as " << want[i] << " were wanted");
      return;
    }
  }
  SUCCEED();
}

}  // namespace

void compare(const std::string& what, const std::vector<float>& got, const Doubles& want,
             const std::function<double(std::size_t)>& bound) {
  REQUIRE(got.size() == want.size());
  std::size_t worst = 0;
  double worst_excess = 0.0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    const double by = excess(got[i], want[i], bound(i));
    if (!(by <= worst_excess)) {
      worst = i;
      worst_excess = by;
    }
  }
  if (worst_excess <= 1.0) {
    SUCCEED();
    return;
  }
  FAIL_CHECK(what << ": element " << worst << " of " << got.size() << " is " << got[worst]
                  << ", wants " << want[worst] << " within " << bound(worst) << ", off by "
                  << std::abs(got[worst] - want[worst]));
}

void compare(const std::string& what, const std::vector<float>& got, const Doubles& want,
             const Doubles& bound) {
  REQUIRE(want.size() == bound.size());
  compare(what, got, want, [&](std::size_t i) { return bound[i]; });
}

void compare_bits(const std::string& what, const std::vector<float>& got,
                  const std::vector<float>& want) {
  compare_all_bits(what, got, want);
}

void compare_rows(bool rows_alone, const std::string& what, const std::vector<float>& got,
                  const std::vector<float>& want, double bound) {
  if (rows_alone) {
    compare_bits(what, got, want);
  } else {
    compare(what, got, widened(want), [bound](std::size_t) { return bound; });
  }
}

void compare_ints(const std::string& what, const std::vector<std::int32_t>& got,
                  const std::vector<std::int32_t>& want) {
  compare_all_bits(what, got, want);
}

Sum weighted(const Doubles& values, const std::vector<float>& weights) {
  Sum sum;
  for (std::size_t i = 0; i < values.size(); ++i) {
    sum.value += weights[i] * values[i];
    sum.size += std::abs(weights[i]) * (std::abs(values[i]) + 1.0);
  }
  return sum;
}

void compare_gradient(const std::string& what, const Doubles& gradient, const Doubles& x,
                      const std::function<Sum(const Doubles&)>& f) {
  REQUIRE(gradient.size() == x.size());
  Doubles at = x;
  const double size = f(x).size;
  const auto difference = [&](std::size_t i, double h) {
    at[i] = x[i] + h;
    const double above = f(at).value;
    at[i] = x[i] - h;
    const double below = f(at).value;
    at[i] = x[i];
    return (above - below) / (2.0 * h);
  };
  constexpr double kStep = 0x1p-17;  // a power of two: x ± h is exact beside numbers near one
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double once = difference(i, kStep);
    const double twice = difference(i, 2.0 * kStep);
    const double bound = std::abs(twice - once) + 64.0 * 0x1p-53 * size / kStep;
    if (!(std::abs(gradient[i] - once) <= bound)) {
      FAIL_CHECK(what << ": gradient " << i << " of " << x.size() << " is " << gradient[i]
                      << ", differences give " << once << " within " << bound);
      return;
    }
  }
  SUCCEED();
}

std::string error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  FAIL_CHECK("no quire::Error was thrown");
  return "";
}

}  // namespace quire::test
