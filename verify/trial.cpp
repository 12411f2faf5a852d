#include "verify/trial.h"

#include <limits>
#include <utility>

#include "base/random.h"
#include "engine/model/elements.h"

namespace quire::verify {

Finding& Bench::finding(const std::string& what) {
  for (Finding& known : findings) {
    if (known.what == what) return known;
  }
  starts(what);
  findings.push_back({.what = what});
  return findings.back();
}

std::vector<float> uniform(std::int64_t count, std::uint64_t seed, float low, float high) {
  std::vector<float> values(count);
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = low + (high - low) * random_uniform({.seed = 21, .stream = seed}, i);
  }
  return values;
}

std::vector<float> whole_numbers(std::int64_t count, std::uint64_t seed) {
  std::vector<float> values = uniform(count, seed, -8.0f, 8.0f);
  for (float& value : values) value = std::round(value);
  return values;
}

// Four uniform numbers have the variance 4/12: their sum, scaled, is near enough to normal.
std::vector<float> normal(std::int64_t count, std::uint64_t seed, float scale) {
  std::vector<float> values(count);
  for (std::size_t i = 0; i < values.size(); ++i) {
    float sum = 0.0f;
    for (const std::uint32_t number : random_block({.seed = 22, .stream = seed}, i)) {
      sum += static_cast<float>(number >> 8) * 0x1p-24f;
    }
    values[i] = scale * (sum - 2.0f) * std::sqrt(3.0f);
  }
  return values;
}

std::vector<std::int32_t> integers(std::int64_t count, std::uint64_t seed, std::int64_t limit) {
  std::vector<std::int32_t> values(count);
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = static_cast<std::int32_t>(random_bits({.seed = 23, .stream = seed}, i) %
                                          static_cast<std::uint64_t>(limit));
  }
  return values;
}

std::vector<float> to_host(Device& device, const View& view) {
  std::vector<float> values(view.count());
  if (view.dtype() == DType::i32) {
    std::vector<std::int32_t> numbers(values.size());
    device.copy_to_host(numbers.data(), view.bytes(), view.size_bytes());
    return {numbers.begin(), numbers.end()};
  }
  std::vector<std::byte> bytes(view.size_bytes());
  device.copy_to_host(bytes.data(), view.bytes(), bytes.size());
  // One at a time: NaN and infinity stay what they are.
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = element(bytes.data(), view.dtype(), static_cast<std::int64_t>(i));
  }
  return values;
}

double largest(const std::vector<float>& values) {
  double most = 0;
  for (const float value : values) most = std::max(most, std::abs(double{value}));
  return most;
}

std::vector<DType> types_of(const Device& device) {
  std::vector<DType> types = {DType::f32};
  for (const DType dtype : {DType::bf16, DType::f16}) {
    if (device.activation_type(dtype) == dtype) types.push_back(dtype);
  }
  return types;
}

Trial::Trial(Bench& bench, std::string op, std::string text, DType dtype)
    : bench_(bench),
      op_(std::move(op)),
      text_(std::string(name_of(dtype)) + ", " + std::move(text)),
      dtype_(dtype),
      seed_(static_cast<std::uint64_t>(bench.finding(op_).cases) * 64) {
  ++bench.finding(op_).cases;
}

View Trial::place(Device& device, DType dtype, const Shape& shape,
                  const std::vector<float>& values) {
  const View view(
      buffers_.emplace_back(device, static_cast<std::size_t>(shape.count()) * size_of(dtype))
          .data(),
      dtype, shape);
  std::vector<std::byte> bytes(view.size_bytes(), std::byte{0xff});  // NaN in every type
  if (!std::isnan(values.front())) write_elements(values, dtype, bytes.data());
  device.copy_to_device(view.bytes(), bytes.data(), bytes.size());
  return view;
}

Tensor Trial::input(const Shape& shape, const std::vector<float>& values, DType dtype) {
  const std::vector<float> kept = rounded_to(dtype, values);
  std::vector<float> magnitudes = kept;
  for (float& value : magnitudes) value = std::abs(value);
  Tensor tensor;
  tensor.views_[Side::tested] = place(bench_.tested, dtype, shape, kept);
  tensor.views_[Side::trusted] = place(bench_.trusted, DType::f32, shape, kept);
  tensor.views_[Side::sizes] = place(bench_.trusted, DType::f32, shape, magnitudes);
  return tensor;
}

Tensor Trial::integers(const Shape& shape, const std::vector<std::int32_t>& values) {
  Tensor tensor;
  for (const Side::Kind kind : {Side::tested, Side::trusted, Side::sizes}) {
    Device& device = side(kind).device;
    const View view(buffers_.emplace_back(device, values.size() * sizeof(std::int32_t)).data(),
                    DType::i32, shape);
    device.copy_to_device(view.bytes(), values.data(), view.size_bytes());
    tensor.views_[kind] = view;
  }
  return tensor;
}

Tensor Trial::output(const Shape& shape, DType dtype) {
  if (dtype == DType::i32) {
    return integers(shape, std::vector<std::int32_t>(static_cast<std::size_t>(shape.count()), -1));
  }
  return input(shape,
               std::vector<float>(static_cast<std::size_t>(shape.count()),
                                  std::numeric_limits<float>::quiet_NaN()),
               dtype);
}

void Trial::run(const std::function<void(const Side&)>& op) {
  op(side(Side::tested));
  op(side(Side::trusted));
}

void Trial::run_all(const std::function<void(const Side&)>& op) {
  run(op);
  run_sizes(op);
}

const std::vector<float>& Trial::host(const Tensor& tensor, Side::Kind kind) {
  const View view = tensor.views_[kind];
  for (const auto& [data, values] : read_) {
    if (data == view.bytes()) return values;
  }
  return read_.emplace_back(view.bytes(), to_host(side(kind).device, view)).second;
}

void Trial::compare(const Tensor& tensor, const std::function<double(std::size_t)>& bound,
                    const std::string& what, std::size_t first, std::size_t count) {
  const std::vector<float> got = host(tensor, Side::tested), want = host(tensor, Side::trusted);
  Finding& finding = bench_.finding(op_);
  const std::size_t end = std::min(want.size(), count > want.size() ? want.size() : first + count);
  for (std::size_t i = first; i < end; ++i) {
    if (got[i] == want[i]) continue;
    const double off = std::abs(static_cast<double>(got[i]) - static_cast<double>(want[i]));
    const double allowed = bound(i);
    double in_bounds = off / allowed;
    // NaN, an infinity that is not wanted, and anything where nothing is allowed
    if (!std::isfinite(off) || !(allowed > 0.0))
      in_bounds = std::numeric_limits<double>::infinity();
    if (in_bounds <= finding.worst) continue;
    finding.worst = in_bounds;
    finding.where = fmt::format("{}{}{}: element {} is {:.9g}, on the CPU {:.9g}, within {:.3g}",
                                text_, what.empty() ? "" : ", ", what, i, got[i], want[i], allowed);
  }
}

}  // namespace quire::verify
