// Host memory as device memory, and the way between views and doubles.
#include <cstdlib>
#include <cstring>

#include "kernels/reference/formulas.h"
#include "kernels/reference/reference_device.h"

namespace quire::reference {

void* ReferenceDevice::allocate(std::size_t bytes) {
  constexpr std::size_t kAlignment = 64;
  // aligned_alloc wants a multiple of the alignment; the sum below must not wrap to a small one.
  void* data = bytes > SIZE_MAX - kAlignment
                   ? nullptr
                   : std::aligned_alloc(kAlignment, (bytes / kAlignment + 1) * kAlignment);
  if (data == nullptr) {
    throw Error(Fault::no_space, "reference: no memory for " + std::to_string(bytes) + " bytes");
  }
  return data;
}

void ReferenceDevice::copy(void* to, const void* from, std::size_t bytes) {
  if (bytes > 0) std::memmove(to, from, bytes);
}

void ReferenceDevice::fill_zero(void* data, std::size_t bytes) {
  if (bytes > 0) std::memset(data, 0, bytes);
}

Doubles read(const ConstView& view) {
  Doubles values(static_cast<std::size_t>(view.count()));
  dispatch(view.dtype(), [&]<class T>() {
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = to_float(view.data<T>()[i]);
  });
  return values;
}

std::span<const std::int32_t> ids(const ConstView& view) {
  if (!view) return {};
  return {view.data<std::int32_t>(), static_cast<std::size_t>(view.count())};
}

void write(const View& view, const Doubles& values) {
  float* out = view.data<float>();
  for (std::size_t i = 0; i < values.size(); ++i) out[i] = static_cast<float>(values[i]);
}

void add(const Accumulate& target, const Doubles& values) {
  float* out = target.view.data<float>();
  for (std::size_t i = 0; i < values.size(); ++i) {
    out[i] = static_cast<float>(static_cast<double>(out[i]) + values[i]);
  }
}

}  // namespace quire::reference

std::unique_ptr<quire::Device> quire::open_reference_device() {
  return std::make_unique<ReferenceDevice>();
}
