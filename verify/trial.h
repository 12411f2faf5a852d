// One case of an op: the same numbers on the device that is tested and on the one that is trusted.
//
//   Trial t(bench, "matmul_add", "bfloat16, 5 rows", DType::bf16);
//   const Tensor x = t.input({M, K}), out = t.in_out({M, N});
//   t.run([&](const Side& s) { s.device.matmul_add({.out = Accumulate{out(s)}, .x = x(s), …}); });
//   t.compare(out, [&](std::size_t i) { return (K + 2) * kEps * t.size(out, i); });
#pragma once

#include <fmt/format.h>

#include <cmath>
#include <cstdint>
#include <deque>
#include <functional>
#include <string>
#include <vector>

#include "verify/bounds.h"
#include "verify/verify.h"

namespace quire::verify {

/// Where an op runs: on the tested device; on the trusted one; on that with the sizes of all
/// numbers, which makes of a sum of products the Σ|ab| of its bound.
struct Side {
  enum Kind : std::uint8_t { tested, trusted, sizes };
  Device& device;
  Kind kind;
};

/// A tensor in all three places: the first in its own type, the others in float.
class Tensor {
 public:
  View operator()(const Side& side) const { return views_[side.kind]; }

 private:
  friend class Trial;
  View views_[3];
};

struct Bench {
  Device& tested;
  Device& trusted;
  std::vector<Finding> findings;
  std::function<void(const std::string&)> starts;

  /// The one of that name; a new one where there is none yet.
  Finding& finding(const std::string& what);
};

/// Numbers of a normal distribution, or uniform ones; another seed, other numbers.
std::vector<float> normal(std::int64_t count, std::uint64_t seed, float scale = 1.0f);
std::vector<float> uniform(std::int64_t count, std::uint64_t seed, float low, float high);
/// Whole ones, none larger than 8: their sums are exact.
std::vector<float> whole_numbers(std::int64_t count, std::uint64_t seed);
/// In [0, limit).
std::vector<std::int32_t> integers(std::int64_t count, std::uint64_t seed, std::int64_t limit);

std::vector<float> to_host(Device& device, const View& view);

/// The size of the largest.
double largest(const std::vector<float>& values);

class Trial {
 public:
  /// `dtype` is that of activations on the tested device.
  Trial(Bench& bench, std::string op, std::string text, DType dtype = DType::f32);
  Trial(const Trial&) = delete;
  Trial& operator=(const Trial&) = delete;

  DType dtype() const { return dtype_; }
  /// Rounded to the type they are kept in.
  Tensor input(const Shape& shape, const std::vector<float>& values, DType dtype);
  Tensor input(const Shape& shape, const std::vector<float>& values) {
    return input(shape, values, dtype_);
  }
  Tensor input(const Shape& shape) { return input(shape, normal(shape.count(), ++seed_)); }
  Tensor input_in(DType dtype, const Shape& shape) {
    return input(shape, normal(shape.count(), ++seed_), dtype);
  }
  Tensor integers(const Shape& shape, const std::vector<std::int32_t>& values);
  /// NaN until it is written.
  Tensor output(const Shape& shape, DType dtype);
  Tensor output(const Shape& shape) { return output(shape, dtype_); }
  /// Added to, or worked on in place.
  Tensor in_out(const Shape& shape) { return input(shape); }
  Tensor in_out_in(DType dtype, const Shape& shape) { return input_in(dtype, shape); }

  /// Runs the op on both devices.
  void run(const std::function<void(const Side&)>& op);
  /// And with the sizes, for size().
  void run_all(const std::function<void(const Side&)>& op);
  /// On the trusted device alone, for what a bound wants to know.
  void run_trusted(const std::function<void(const Side&)>& op) { op(side(Side::trusted)); }
  /// With the sizes alone.
  void run_sizes(const std::function<void(const Side&)>& op) { op(side(Side::sizes)); }

  double want(const Tensor& tensor, std::size_t i) { return host(tensor, Side::trusted)[i]; }
  double size(const Tensor& tensor, std::size_t i) { return host(tensor, Side::sizes)[i]; }
  const std::vector<float>& host(const Tensor& tensor, Side::Kind kind);
  /// What host() has read is read again: to be called where it was asked before an op wrote there.
  void forget() { read_.clear(); }
  /// Elements [first, first + count) of both, each within bound(i) of the other: i counts from the
  /// tensor's beginning. `what` is added to the text of the case.
  void compare(const Tensor& tensor, const std::function<double(std::size_t)>& bound,
               const std::string& what = "", std::size_t first = 0, std::size_t count = ~0u);

 private:
  View place(Device& device, DType dtype, const Shape& shape, const std::vector<float>& values);
  Side side(Side::Kind kind) {
    return {kind == Side::tested ? bench_.tested : bench_.trusted, kind};
  }

  Bench& bench_;
  std::string op_, text_;
  DType dtype_;
  std::uint64_t seed_;
  std::vector<Buffer> buffers_;
  std::deque<std::pair<const void*, std::vector<float>>>
      read_;  // whose elements stay where they are
};

inline double real(std::int64_t count) {
  return static_cast<double>(count);
}

/// The types in which the tested device keeps activations.
std::vector<DType> types_of(const Device& device);

void verify_rows(Bench&);       // embedding, layernorm, activation, dropout, cross_entropy
void verify_products(Bench&);   // matmul and what goes with it
void verify_attention(Bench&);  // over whole rows and cached
void verify_steps(Bench&);      // optimizer, norm, sampling
void verify_model(Bench&);      // loss, gradients and greedy tokens of a small model

}  // namespace quire::verify
