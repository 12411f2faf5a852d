// The class behind open_cpu_device(). Each op is defined in the file of its name.
//
// A file <op>.cpp holds its kernels once, over vectors of any width; Highway compiles it for each
// target and the method picks the best the processor has.
#pragma once

#include "kernels/cpu/memory.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/stream.h"
#include "kernels/device.h"

namespace quire::cpu {

class CpuDevice final : public Device {
 public:
  explicit CpuDevice(int threads);
  /// Multiplies in bfloat16 so, where it does at all: for tests of what this processor may lack.
  CpuDevice(int threads, const Bf16Formats& bf16);

  std::string description() const override;
  bool shares_host_memory() const override { return true; }
  std::string why_not_in_bf16() const override { return level_.why_not_in_bf16; }
  std::string why_no_amx() const override { return level_.why_no_amx; }
  std::string why_no_format(WeightFormat /*format*/) const override { return ""; }
  std::optional<WeightLayout> layout_to_decode(DType elements, Multiply how) const override;
  void lay_out(const Weight& from, WeightLayout layout, std::int64_t first, std::int64_t count,
               void* to) override;

  void* allocate(std::size_t bytes) override { return allocate_aligned(bytes); }
  void release(void* data) noexcept override { release_aligned(data); }
  void copy(void* to, const void* from, std::size_t bytes) override;
  void fill_zero(void* data, std::size_t bytes) override;

 protected:
  QUIRE_OPS(QUIRE_OVERRIDE_OP)
  double do_squared_norm(std::span<const ConstView> tensors) override;

 private:
  /// Vector instructions in use.
  struct Level {
    std::string title;
    std::string why_not_in_bf16;
    std::string why_no_amx;
    Bf16Formats bf16;  // where there is no reason against them
  };
  static Level choose_level();

  ThreadPool pool_;
  Level level_;
};

/// The method of an op whose kernel is the function of its name in HWY_NAMESPACE.
#define QUIRE_CPU_OP(op, Op)             \
  HWY_EXPORT(op);                        \
  void CpuDevice::do_##op(const Op& p) { \
    HWY_DYNAMIC_DISPATCH(op)(p, pool_);  \
  }

}  // namespace quire::cpu
