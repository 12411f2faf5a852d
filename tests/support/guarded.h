// Buffers on a device that tell on the op that misuses them.
//
// Every buffer lies between two margins of 0xff bytes (NaN as a float): reading past an end poisons
// the result, writing there is found at the end, and AddressSanitizer reports either at once.
// Outputs start as 0xff too, so an element that was not written is not a number. Inputs must not
// change. A stage with shift 1 starts every buffer one element past an aligned address, where views
// into files and rows lie.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "kernels/device.h"

namespace quire::test {

class Guarded {
 public:
  enum class Role { input, output };

  /// `contents` are the tensor's bytes; empty: 0xff everywhere.
  Guarded(Device& device, Role role, DType dtype, Shape shape, std::int64_t shift,
          std::span<const std::byte> contents);
  Guarded(Guarded&&) = default;

  View view() const;
  operator View() const { return view(); }
  operator ConstView() const { return view(); }
  explicit operator Accumulate() const { return Accumulate{view()}; }

  std::vector<float> floats() const;    // any float type, widened
  std::vector<double> doubles() const;  // the same
  std::vector<std::int32_t> ints() const;

  /// Fails the test when a margin, or an input, has changed.
  void verify(const std::string& what) const;

 private:
  static constexpr std::size_t kMargin = 256;  // bytes: four of the widest vectors

  /// With the margins: where the device has them, or in `copy` where the host cannot read that.
  const std::byte* contents(std::vector<std::byte>& copy) const;
  std::size_t bytes() const { return static_cast<std::size_t>(shape_.count()) * size_of(dtype_); }
  std::size_t start() const { return kMargin + shift_ * size_of(dtype_); }
  void poison(bool on) const;

  Device* device_;
  Role role_;
  DType dtype_;
  Shape shape_;
  std::size_t shift_;
  std::vector<std::byte> initial_;  // margins included
  Buffer buffer_;
};

/// The buffers of one call of an op; verifies all of them at its end.
class Stage {
 public:
  Stage(Device& device, std::string what, std::int64_t shift = 0)
      : device_(device), what_(std::move(what)), shift_(shift) {}
  Stage(const Stage&) = delete;
  Stage& operator=(const Stage&) = delete;
  ~Stage();
  /// From now on only this buffer is shifted, counted from 0.
  void shift_only(std::size_t buffer) { shifted_ = buffer; }
  std::size_t size() const { return buffers_.size(); }

  /// Rounded to `dtype`.
  Guarded& input(const std::vector<float>& values, Shape shape, DType dtype = DType::f32);
  Guarded& input(const std::vector<std::int32_t>& values, Shape shape);
  Guarded& output(Shape shape, DType dtype = DType::f32);
  /// Starts with values that the op may change: an accumulator, or an op in place.
  Guarded& in_out(const std::vector<float>& values, Shape shape, DType dtype = DType::f32);

  const std::string& what() const { return what_; }

 private:
  Guarded& add(Guarded::Role role, DType dtype, Shape shape, std::span<const std::byte> contents);
  Guarded& add(Guarded::Role role, Shape shape, const std::vector<float>& values, DType dtype);

  Device& device_;
  std::string what_;
  std::int64_t shift_;
  std::optional<std::size_t> shifted_;  // none: all of them
  std::deque<Guarded> buffers_;
};

}  // namespace quire::test
