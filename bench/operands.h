// Random tensors in device memory for kernels to work on, and a look at what they made of them.
//
// Random, since speed depends on the data: a card that multiplies zeros draws less power and runs
// faster. Looked at, since a kernel that does nothing is the fastest of all.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "kernels/device.h"

namespace quire {

/// What random numbers look like.
struct Noise {
  /// Poison: every byte is 255, NaN in every float type and -1 as an integer.
  enum class Kind : std::uint8_t { normal, uniform, poison };
  Kind kind = Kind::normal;
  float scale = 1.0f;  // standard deviation, or the width of the interval
  float low = 0.0f;    // where the interval begins
  bool operator==(const Noise&) const = default;
};

/// Blocks of noise in device memory, made once: filling a tensor copies one again and again.
class NoiseBlocks {
 public:
  explicit NoiseBlocks(Device& device) : device_(&device) {}
  void fill(const View& view, const Noise& noise);

 private:
  struct Block {
    DType dtype;
    Noise noise;
    Buffer buffer;
  };
  const Buffer& block(DType dtype, const Noise& noise);

  Device* device_;
  std::vector<Block> blocks_;
};

/// The tensors of one call of an op: allocated and filled, or only counted.
class Operands {
 public:
  Operands() = default;  // counts
  Operands(Device& device, NoiseBlocks& noise) : device_(&device), noise_(&noise) {}
  Operands(Operands&&) noexcept = default;

  View random(DType dtype, const Shape& shape, const Noise& noise = {});
  /// Integers in [0, limit).
  View ids(const Shape& shape, std::int64_t limit);
  View integers(const Shape& shape, const std::function<std::int32_t(std::int64_t)>& value);
  /// Overwritten by the op: poisoned, so that check() sees what was not written.
  View output(DType dtype, const Shape& shape);
  /// Added to by the op, or kept from call to call: zero at first.
  View zeros(DType dtype, const Shape& shape);
  /// Read and overwritten: random, and random again after restore().
  View in_place(DType dtype, const Shape& shape, const Noise& noise);

  std::size_t bytes() const { return bytes_; }
  bool has_in_place() const { return !restored_.empty(); }
  void restore() const;
  /// Throws Error(internal) naming `op` where an output holds what is not finite (-infinity in an
  /// in-place tensor excepted: a dropped logit) or an index below 0. Of large tensors
  /// both ends are looked at.
  void check(const std::string& op) const;

 private:
  View take(DType dtype, const Shape& shape);
  void check(const std::string& op, const View& view, bool may_drop) const;

  Device* device_ = nullptr;
  NoiseBlocks* noise_ = nullptr;
  std::size_t bytes_ = 0;
  std::vector<Buffer> buffers_;
  std::vector<View> outputs_;
  std::vector<std::pair<View, Noise>> restored_;
};

}  // namespace quire
