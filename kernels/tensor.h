// A tensor is a pointer, a type and extents: views that own nothing, and buffers that own memory.
//
// The alphabet of dimensions, everywhere in Quire: B batch, T time, C channels (n_embd), H heads,
// D head size (C/H), V vocabulary, L layers, P positions, S slots of a key/value cache, M rows of a
// product, N its columns, K the summed dimension. All tensors are dense and row-major.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>

#include "base/error.h"

namespace quire {

/// IEEE half and bfloat16 as stored; arithmetic happens in float.
struct Half {
  std::uint16_t bits = 0;
};
struct BFloat16 {
  std::uint16_t bits = 0;
};

inline float to_float(float value) {
  return value;
}
float to_float(Half value);
Half to_half(float value);  ///< to nearest, ties to even; overflow becomes infinity
inline float to_float(BFloat16 value) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(value.bits) << 16);
}
inline BFloat16 to_bfloat16(float value) {  ///< to nearest, ties to even; NaN stays NaN
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return {static_cast<std::uint16_t>((bits >> 16) | 0x40u)};
  return {static_cast<std::uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
}

enum class DType : std::uint8_t { f32, f16, bf16, i32 };

[[noreturn]] void throw_unknown(DType dtype);

/// Bytes of an element. A type that is not listed here is a warning of the compiler, and a value
/// that is no type throws Error(internal).
constexpr std::size_t size_of(DType dtype) {
  switch (dtype) {
    case DType::f32:
    case DType::i32:
      return 4;
    case DType::f16:
    case DType::bf16:
      return 2;
  }
  throw_unknown(dtype);
}
[[noreturn]] void throw_dtype(DType wanted, DType got);

/// Calls work.operator()<T>() for the float type that `dtype` names: dispatch(p.x.dtype(),
/// [&]<class T>() { … }). Throws Error(internal) for other types.
template <class Work>
void dispatch(DType dtype, const Work& work) {
  switch (dtype) {
    case DType::f32:
      return work.template operator()<float>();
    case DType::f16:
      return work.template operator()<Half>();
    case DType::bf16:
      return work.template operator()<BFloat16>();
    case DType::i32:
      break;
  }
  throw_dtype(DType::f32, dtype);
}

const char* name_of(DType dtype);  ///< "float32", "float16", "bfloat16", "int32"

template <class T>
inline constexpr DType dtype_of = [] {
  static_assert(sizeof(T) == 0, "no DType for this type");
  return DType::f32;
}();
template <>
inline constexpr DType dtype_of<float> = DType::f32;
template <>
inline constexpr DType dtype_of<Half> = DType::f16;
template <>
inline constexpr DType dtype_of<BFloat16> = DType::bf16;
template <>
inline constexpr DType dtype_of<std::int32_t> = DType::i32;

/// Up to four extents.
class Shape {
 public:
  Shape() = default;
  Shape(std::initializer_list<std::int64_t> extents);

  int rank() const { return rank_; }
  std::int64_t operator[](int dimension) const { return extents_[dimension]; }
  std::int64_t count() const;     ///< number of elements; 1 for rank 0
  std::string to_string() const;  ///< "[2, 33, 1000]"
  bool operator==(const Shape&) const = default;

 private:
  std::array<std::int64_t, 4> extents_{};
  int rank_ = 0;
};

/// Typed, non-owning, read-only. An empty view (no data) stands for "not given".
class ConstView {
 public:
  ConstView() = default;
  ConstView(const void* bytes, DType dtype, Shape shape)
      : bytes_(bytes), dtype_(dtype), shape_(shape) {}
  template <class T>
  ConstView(const T* data, Shape shape) : ConstView(data, dtype_of<T>, shape) {}

  template <class T>
  const T* data() const {
    if (dtype_ != dtype_of<T>) throw_dtype(dtype_of<T>, dtype_);
    return static_cast<const T*>(bytes_);
  }
  const void* bytes() const { return bytes_; }
  DType dtype() const { return dtype_; }
  const Shape& shape() const { return shape_; }
  std::int64_t count() const { return shape_.count(); }
  std::size_t size_bytes() const { return static_cast<std::size_t>(count()) * size_of(dtype_); }
  explicit operator bool() const { return bytes_ != nullptr; }

 private:
  const void* bytes_ = nullptr;
  DType dtype_ = DType::f32;
  Shape shape_;
};

/// The same, made of memory that may be written.
class View : public ConstView {
 public:
  View() = default;
  View(void* bytes, DType dtype, Shape shape) : ConstView(bytes, dtype, shape) {}
  template <class T>
  View(T* data, Shape shape) : View(data, dtype_of<T>, shape) {}

  template <class T>
  T* data() const {
    return const_cast<T*>(ConstView::data<T>());
  }
  void* bytes() const { return const_cast<void*>(ConstView::bytes()); }

  /// The same elements under another shape of equal count.
  View reshaped(Shape shape) const;
  /// Rows [first, first + rows) of the leading dimension.
  View rows(std::int64_t first, std::int64_t rows) const;
};

/// A view that an op adds to instead of overwriting. Explicit, so that the call shows it:
/// `.d_weight = Accumulate{grads.c_fc_weight}`.
struct Accumulate {
  Accumulate() = default;
  explicit Accumulate(View target) : view(target) {}
  View view;
};

}  // namespace quire
