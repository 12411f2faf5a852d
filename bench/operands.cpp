#include "bench/operands.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/error.h"
#include "engine/model/elements.h"

namespace quire {
namespace {

constexpr std::int64_t kBlockElements = std::int64_t{1} << 21;
constexpr std::int64_t kCheckedElements = std::int64_t{1} << 20;  // at each end

// Four uniform numbers have the variance 4/12: their sum, scaled, is near enough to normal.
float normal(std::int64_t index) {
  const auto bits = random_block({11, 1}, static_cast<std::uint64_t>(index));
  float sum = 0.0f;
  for (const std::uint32_t number : bits) sum += static_cast<float>(number >> 8) * 0x1p-24f;
  return (sum - 2.0f) * std::sqrt(3.0f);
}

std::vector<float> values_of(const Noise& noise) {
  std::vector<float> values(kBlockElements);
  for (std::int64_t i = 0; i < kBlockElements; ++i) {
    values[i] =
        noise.kind == Noise::Kind::normal
            ? noise.scale * normal(i)
            : noise.low + noise.scale * random_uniform({11, 2}, static_cast<std::uint64_t>(i));
  }
  return values;
}

/// Element `index` of a result as a float; NaN where an index is negative.
float result(const std::byte* from, DType dtype, std::int64_t index) {
  if (dtype != DType::i32) return element(from, dtype, index);
  std::int32_t number = 0;
  std::memcpy(&number, from + static_cast<std::size_t>(index) * sizeof number, sizeof number);
  return number < 0 ? std::numeric_limits<float>::quiet_NaN() : static_cast<float>(number);
}

}  // namespace

const Buffer& NoiseBlocks::block(DType dtype, const Noise& noise) {
  for (const Block& known : blocks_) {
    if (known.dtype == dtype && known.noise == noise) return known.buffer;
  }
  std::vector<std::byte> bits(static_cast<std::size_t>(kBlockElements) * size_of(dtype),
                              std::byte{0xff});
  if (noise.kind != Noise::Kind::poison) write_elements(values_of(noise), dtype, bits.data());
  Buffer buffer(*device_, bits.size());
  device_->copy_to_device(buffer.data(), bits.data(), bits.size());
  device_->synchronize();  // `bits` goes out of scope
  return blocks_.emplace_back(Block{dtype, noise, std::move(buffer)}).buffer;
}

void NoiseBlocks::fill(const View& view, const Noise& noise) {
  const Buffer& filled = block(view.dtype(), noise);
  const std::size_t bytes = view.size_bytes();
  for (std::size_t at = 0; at < bytes; at += filled.size()) {
    device_->copy(static_cast<std::byte*>(view.bytes()) + at, filled.data(),
                  std::min(filled.size(), bytes - at));
  }
}

View Operands::take(DType dtype, const Shape& shape) {
  const std::size_t bytes = static_cast<std::size_t>(shape.count()) * size_of(dtype);
  bytes_ += bytes;
  if (device_ == nullptr) return {nullptr, dtype, shape};
  return {buffers_.emplace_back(*device_, bytes).data(), dtype, shape};
}

View Operands::random(DType dtype, const Shape& shape, const Noise& noise) {
  const View view = take(dtype, shape);
  if (device_ != nullptr) noise_->fill(view, noise);
  return view;
}

View Operands::integers(const Shape& shape,
                        const std::function<std::int32_t(std::int64_t)>& value) {
  const View view = take(DType::i32, shape);
  if (device_ == nullptr) return view;
  std::vector<std::int32_t> values(shape.count());
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = value(static_cast<std::int64_t>(i));
  device_->copy_to_device(view.bytes(), values.data(), view.size_bytes());
  device_->synchronize();  // `values` goes out of scope
  return view;
}

View Operands::ids(const Shape& shape, std::int64_t limit) {
  return integers(shape, [limit](std::int64_t i) {
    return static_cast<std::int32_t>(random_bits({11, 3}, static_cast<std::uint64_t>(i)) %
                                     static_cast<std::uint64_t>(limit));
  });
}

View Operands::output(DType dtype, const Shape& shape) {
  const View view = random(dtype, shape, {.kind = Noise::Kind::poison});
  outputs_.push_back(view);
  return view;
}

View Operands::zeros(DType dtype, const Shape& shape) {
  const View view = take(dtype, shape);
  if (device_ != nullptr) device_->fill_zero(view.bytes(), view.size_bytes());
  outputs_.push_back(view);
  return view;
}

View Operands::in_place(DType dtype, const Shape& shape, const Noise& noise) {
  const View view = random(dtype, shape, noise);
  restored_.emplace_back(view, noise);
  return view;
}

void Operands::restore() const {
  for (const auto& [view, noise] : restored_) noise_->fill(view, noise);
}

void Operands::check(const std::string& op) const {
  for (const View& view : outputs_) check(op, view, false);
  for (const auto& [view, noise] : restored_) check(op, view, true);
}

void Operands::check(const std::string& op, const View& view, bool may_drop) const {
  const std::size_t element = size_of(view.dtype());
  const std::int64_t head = std::min(view.count(), kCheckedElements);
  const std::int64_t tail = std::max(head, view.count() - kCheckedElements);
  for (const auto& [first, end] : {std::pair{std::int64_t{0}, head}, {tail, view.count()}}) {
    if (first == end) continue;
    std::vector<std::byte> bytes(static_cast<std::size_t>(end - first) * element);
    device_->copy_to_host(
        bytes.data(),
        static_cast<std::byte*>(view.bytes()) + static_cast<std::size_t>(first) * element,
        bytes.size());
    for (std::int64_t i = 0; i < end - first; ++i) {
      const float value = result(bytes.data(), view.dtype(), i);
      if (std::isfinite(value) || (may_drop && value < 0.0f)) continue;
      throw Error(Fault::internal,
                  fmt::format("{}: element {} of a result {} was not written or is not finite", op,
                              first + i, view.shape().to_string()));
    }
  }
}

}  // namespace quire
