// The reference backend: plain loops, sums in double, no threads, no SIMD. Linked into tests only.
#pragma once

#include <cstdlib>
#include <memory>

#include "kernels/device.h"

namespace quire {
namespace reference {

/// Each op is in the file of its name; the arithmetic is in the functions of formulas.h.
class ReferenceDevice : public Device {
 public:
  std::string description() const override { return "reference"; }
  bool shares_host_memory() const override { return true; }
  std::string why_not_in_bf16() const override { return ""; }
  std::string why_no_format(WeightFormat /*format*/) const override { return ""; }

  void* allocate(std::size_t bytes) override;
  void release(void* data) noexcept override { std::free(data); }
  void copy(void* to, const void* from, std::size_t bytes) override;
  void fill_zero(void* data, std::size_t bytes) override;

 protected:
  QUIRE_OPS(QUIRE_OVERRIDE_OP)
  double do_squared_norm(std::span<const ConstView> tensors) override;
};

}  // namespace reference

using reference::ReferenceDevice;
std::unique_ptr<Device> open_reference_device();

}  // namespace quire
