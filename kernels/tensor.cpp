#include "kernels/tensor.h"

#include <fmt/format.h>

namespace quire {

float to_float(Half value) {
  const std::uint32_t sign = static_cast<std::uint32_t>(value.bits & 0x8000u) << 16;
  const std::uint32_t magnitude = value.bits & 0x7fffu;
  if (magnitude >= 0x7c00u) {  // infinity and NaN: widen the exponent, keep the payload
    return std::bit_cast<float>(sign | 0x7f800000u | ((magnitude & 0x3ffu) << 13));
  }
  // Read as if the exponent bias were float's, then scale by 2^(127 - 15): exact, subnormals too.
  const float scaled = std::bit_cast<float>(magnitude << 13) * 0x1p112f;
  return std::bit_cast<float>(sign | std::bit_cast<std::uint32_t>(scaled));
}

Half to_half(float value) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
  const std::uint16_t sign = static_cast<std::uint16_t>((bits >> 16) & 0x8000u);
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return {static_cast<std::uint16_t>(sign | 0x7e00u)};
  if (magnitude >= 0x477ff000u) return {static_cast<std::uint16_t>(sign | 0x7c00u)};  // >= 65520
  if (magnitude < 0x38800000u) {
    // Subnormal: adding 0.5 leaves the value in units of 2^-24 in the low mantissa bits, rounded.
    const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
    return {
        static_cast<std::uint16_t>(sign | (std::bit_cast<std::uint32_t>(shifted) - 0x3f000000u))};
  }
  const std::uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u);
  return {static_cast<std::uint16_t>(sign | ((rounded - 0x38000000u) >> 13))};
}

const char* name_of(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return "float32";
    case DType::f16:
      return "float16";
    case DType::bf16:
      return "bfloat16";
    case DType::i32:
      return "int32";
  }
  return "?";
}

Shape::Shape(std::initializer_list<std::int64_t> extents) {
  if (extents.size() > extents_.size())
    throw Error(Fault::internal, "a shape has at most 4 extents");
  for (const std::int64_t extent : extents) extents_[rank_++] = extent;
}

std::int64_t Shape::count() const {
  std::int64_t product = 1;
  for (int i = 0; i < rank_; ++i) product *= extents_[i];
  return product;
}

std::string Shape::to_string() const {
  return fmt::format("[{}]", fmt::join(extents_.data(), extents_.data() + rank_, ", "));
}

void throw_unknown(DType dtype) {
  throw Error(Fault::internal,
              "no type of elements has the number " + std::to_string(static_cast<int>(dtype)));
}

void throw_dtype(DType wanted, DType got) {
  throw Error(Fault::internal,
              std::string("a view of ") + name_of(got) + " was read as " + name_of(wanted));
}

View View::reshaped(Shape shape) const {
  if (shape.count() != count()) {
    throw Error(Fault::internal,
                "cannot view " + this->shape().to_string() + " as " + shape.to_string());
  }
  return {bytes(), dtype(), shape};
}

View View::rows(std::int64_t first, std::int64_t rows) const {
  const Shape& all = shape();
  if (all.rank() < 1 || first < 0 || rows < 0 || first + rows > all[0]) {
    throw Error(Fault::internal,
                fmt::format("rows {} to {} are outside {}", first, first + rows, all.to_string()));
  }
  const std::size_t of_row = all[0] == 0 ? 0 : size_bytes() / static_cast<std::size_t>(all[0]);
  Shape part = all.rank() == 1   ? Shape{rows}
               : all.rank() == 2 ? Shape{rows, all[1]}
               : all.rank() == 3 ? Shape{rows, all[1], all[2]}
                                 : Shape{rows, all[1], all[2], all[3]};
  auto* data = static_cast<std::byte*>(bytes());
  if (data != nullptr) data += static_cast<std::size_t>(first) * of_row;  // else none has memory
  return {data, dtype(), part};
}

}  // namespace quire
