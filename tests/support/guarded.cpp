#include "tests/support/guarded.h"

#include <cstring>

#include "tests/support/catch.h"

#ifdef QUIRE_UNDER_ASAN
#include <sanitizer/asan_interface.h>
#endif

namespace quire::test {
namespace {

constexpr std::byte kPoison{0xff};

/// In one of the 16-bit types.
std::vector<std::uint16_t> rounded(const std::vector<float>& values, DType dtype) {
  std::vector<std::uint16_t> bits(values.size());
  for (std::size_t i = 0; i < values.size(); ++i) {
    bits[i] = dtype == DType::f16 ? to_half(values[i]).bits : to_bfloat16(values[i]).bits;
  }
  return bits;
}

}  // namespace

Guarded::Guarded(Device& device, Role role, DType dtype, Shape shape, std::int64_t shift,
                 std::span<const std::byte> contents)
    : device_(&device),
      role_(role),
      dtype_(dtype),
      shape_(shape),
      shift_(static_cast<std::size_t>(shift)),
      buffer_(device, start() + bytes() + kMargin) {
  // Each byte once: under sanitizers that is what takes the time.
  initial_.reserve(buffer_.size());
  initial_.assign(start(), kPoison);
  if (!contents.empty()) {
    REQUIRE(contents.size() == bytes());
    initial_.insert(initial_.end(), contents.begin(), contents.end());
  }
  initial_.resize(buffer_.size(), kPoison);
  device.copy_to_device(buffer_.data(), initial_.data(), initial_.size());
  poison(true);
}

View Guarded::view() const {
  return {static_cast<std::byte*>(buffer_.data()) + start(), dtype_, shape_};
}

void Guarded::poison([[maybe_unused]] bool on) const {
#ifdef QUIRE_UNDER_ASAN
  if (!device_->shares_host_memory()) return;
  const auto* const begin = static_cast<const std::byte*>(buffer_.data());
  const std::size_t end = start() + bytes();
  if (on) {
    __asan_poison_memory_region(begin, start());
    __asan_poison_memory_region(begin + end, initial_.size() - end);
  } else {
    __asan_unpoison_memory_region(begin, initial_.size());
  }
#endif
}

const std::byte* Guarded::contents(std::vector<std::byte>& copy) const {
  if (device_->shares_host_memory()) return static_cast<const std::byte*>(buffer_.data());
  copy.resize(initial_.size());
  device_->copy_to_host(copy.data(), buffer_.data(), copy.size());
  return copy.data();
}

std::vector<float> Guarded::floats() const {
  std::vector<std::byte> copy;
  const std::byte* const elements = contents(copy) + start();
  std::vector<float> values(static_cast<std::size_t>(shape_.count()));
  if (dtype_ == DType::f32) {
    if (!values.empty()) std::memcpy(values.data(), elements, bytes());
    return values;
  }
  for (std::size_t i = 0; i < values.size(); ++i) {
    std::uint16_t bits = 0;
    std::memcpy(&bits, elements + i * sizeof(bits), sizeof(bits));
    values[i] = dtype_ == DType::f16 ? to_float(Half{bits}) : to_float(BFloat16{bits});
  }
  return values;
}

std::vector<double> Guarded::doubles() const {
  const std::vector<float> values = floats();
  return {values.begin(), values.end()};
}

std::vector<std::int32_t> Guarded::ints() const {
  std::vector<std::byte> copy;
  const std::byte* const elements = contents(copy) + start();
  std::vector<std::int32_t> values(static_cast<std::size_t>(shape_.count()));
  if (!values.empty()) std::memcpy(values.data(), elements, bytes());
  return values;
}

void Guarded::verify(const std::string& what) const {
  poison(false);
  std::vector<std::byte> copy;
  const std::byte* const now = contents(copy);
  const std::size_t end = start() + bytes();
  // At once, where nothing is amiss.
  const auto as_it_was = [&](std::size_t from, std::size_t to) {
    return std::memcmp(now + from, initial_.data() + from, to - from) == 0;
  };
  const bool whole = as_it_was(0, start()) && as_it_was(end, initial_.size()) &&
                     (role_ == Role::output || as_it_was(start(), end));
  for (std::size_t i = 0; !whole && i < initial_.size(); ++i) {
    const bool inside = i >= start() && i < end;
    if ((inside && role_ == Role::output) || now[i] == initial_[i]) continue;
    const auto offset = static_cast<std::int64_t>(i) - static_cast<std::int64_t>(start());
    FAIL_CHECK(what << ": wrote " << (inside ? "into an input" : "outside a tensor") << " of shape "
                    << shape_.to_string() << ", at byte " << offset);
    return;
  }
  SUCCEED();
}

Stage::~Stage() {
  for (const Guarded& buffer : buffers_) buffer.verify(what_);
}

Guarded& Stage::add(Guarded::Role role, DType dtype, Shape shape,
                    std::span<const std::byte> contents) {
  const std::int64_t shift = shifted_.value_or(buffers_.size()) == buffers_.size() ? shift_ : 0;
  return buffers_.emplace_back(device_, role, dtype, shape, shift, contents);
}

Guarded& Stage::add(Guarded::Role role, Shape shape, const std::vector<float>& values,
                    DType dtype) {
  if (dtype == DType::f32) return add(role, dtype, shape, std::as_bytes(std::span(values)));
  const std::vector<std::uint16_t> bits = rounded(values, dtype);
  return add(role, dtype, shape, std::as_bytes(std::span(bits)));
}

Guarded& Stage::input(const std::vector<float>& values, Shape shape, DType dtype) {
  return add(Guarded::Role::input, shape, values, dtype);
}

Guarded& Stage::input(const std::vector<std::int32_t>& values, Shape shape) {
  return add(Guarded::Role::input, DType::i32, shape, std::as_bytes(std::span(values)));
}

Guarded& Stage::output(Shape shape, DType dtype) {
  return add(Guarded::Role::output, dtype, shape, {});
}

Guarded& Stage::in_out(const std::vector<float>& values, Shape shape, DType dtype) {
  return add(Guarded::Role::output, shape, values, dtype);
}

}  // namespace quire::test
