#include "tests/support/guarded.h"

#include <cstring>

#include "tests/support/catch.h"

#ifdef QUIRE_UNDER_ASAN
#include <sanitizer/asan_interface.h>
#endif

namespace quire::test {
namespace {

constexpr std::byte kPoison{0xff};

template <class Number>
std::vector<std::byte> bytes_of(const std::vector<Number>& values) {
  std::vector<std::byte> bytes(values.size() * sizeof(Number));
  if (!bytes.empty()) std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

std::vector<std::byte> rounded(const std::vector<float>& values, DType dtype) {
  if (dtype == DType::f32) return bytes_of(values);
  std::vector<std::uint16_t> bits(values.size());
  for (std::size_t i = 0; i < values.size(); ++i) {
    bits[i] = dtype == DType::f16 ? to_half(values[i]).bits : to_bfloat16(values[i]).bits;
  }
  return bytes_of(bits);
}

}  // namespace

Guarded::Guarded(Device& device, Role role, DType dtype, Shape shape, std::int64_t shift,
                 std::vector<std::byte> contents)
    : device_(&device),
      role_(role),
      dtype_(dtype),
      shape_(shape),
      shift_(static_cast<std::size_t>(shift)),
      initial_(start() + bytes() + kMargin, kPoison),
      buffer_(device, initial_.size()) {
  if (!contents.empty()) {
    REQUIRE(contents.size() == bytes());
    std::memcpy(initial_.data() + start(), contents.data(), contents.size());
  }
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

std::vector<std::byte> Guarded::fetch() const {
  std::vector<std::byte> contents(initial_.size());
  poison(false);
  device_->copy_to_host(contents.data(), buffer_.data(), contents.size());
  poison(true);
  return contents;
}

std::vector<float> Guarded::floats() const {
  const std::vector<std::byte> contents = fetch();
  std::vector<float> values(static_cast<std::size_t>(shape_.count()));
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::byte* const element = contents.data() + start() + i * size_of(dtype_);
    std::uint16_t bits = 0;
    if (dtype_ == DType::f32) {
      std::memcpy(&values[i], element, sizeof(float));
    } else {
      std::memcpy(&bits, element, sizeof(bits));
      values[i] = dtype_ == DType::f16 ? to_float(Half{bits}) : to_float(BFloat16{bits});
    }
  }
  return values;
}

std::vector<double> Guarded::doubles() const {
  const std::vector<float> values = floats();
  return {values.begin(), values.end()};
}

std::vector<std::int32_t> Guarded::ints() const {
  const std::vector<std::byte> contents = fetch();
  std::vector<std::int32_t> values(static_cast<std::size_t>(shape_.count()));
  std::memcpy(values.data(), contents.data() + start(), values.size() * sizeof(std::int32_t));
  return values;
}

void Guarded::verify(const std::string& what) const {
  const std::vector<std::byte> now = fetch();
  poison(false);
  const std::size_t end = start() + bytes();
  // At once, where nothing is amiss.
  const auto as_it_was = [&](std::size_t from, std::size_t to) {
    return std::memcmp(now.data() + from, initial_.data() + from, to - from) == 0;
  };
  const bool whole = as_it_was(0, start()) && as_it_was(end, now.size()) &&
                     (role_ == Role::output || as_it_was(start(), end));
  for (std::size_t i = 0; !whole && i < now.size(); ++i) {
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

Guarded& Stage::add(Guarded::Role role, DType dtype, Shape shape, std::vector<std::byte> contents) {
  const std::int64_t shift = shifted_.value_or(buffers_.size()) == buffers_.size() ? shift_ : 0;
  return buffers_.emplace_back(device_, role, dtype, shape, shift, std::move(contents));
}

Guarded& Stage::input(const std::vector<float>& values, Shape shape, DType dtype) {
  return add(Guarded::Role::input, dtype, shape, rounded(values, dtype));
}

Guarded& Stage::input(const std::vector<std::int32_t>& values, Shape shape) {
  return add(Guarded::Role::input, DType::i32, shape, bytes_of(values));
}

Guarded& Stage::output(Shape shape, DType dtype) {
  return add(Guarded::Role::output, dtype, shape, {});
}

Guarded& Stage::in_out(const std::vector<float>& values, Shape shape, DType dtype) {
  return add(Guarded::Role::output, dtype, shape, rounded(values, dtype));
}

}  // namespace quire::test
