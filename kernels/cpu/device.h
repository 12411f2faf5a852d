// The class behind open_cpu_device(). Each op is defined in the file of its name.
//
// A file <op>.cpp holds its kernels once, over vectors of any width; Highway compiles it for each
// target and the method picks the best the processor has.
#pragma once

#include "kernels/check.h"
#include "kernels/cpu/memory.h"
#include "kernels/cpu/parallel.h"

namespace quire::cpu {

class CpuDevice final : public Device {
 public:
  explicit CpuDevice(int threads);

  std::string description() const override;
  bool shares_host_memory() const override { return true; }
  std::string why_not_in_bf16() const override { return level_.why_not_in_bf16; }

  void* allocate(std::size_t bytes) override { return allocate_aligned(bytes); }
  void release(void* data) noexcept override { release_aligned(data); }
  void copy_to_device(void* to, const void* from_host, std::size_t bytes) override {
    copy(to, from_host, bytes);
  }
  void copy_to_host(void* to_host, const void* from, std::size_t bytes) override {
    copy(to_host, from, bytes);
  }
  void copy(void* to, const void* from, std::size_t bytes) override;
  void fill_zero(void* data, std::size_t bytes) override;
  void synchronize() override {}

  QUIRE_OPS(QUIRE_OVERRIDE_OP)
  double squared_norm(std::span<const ConstView> tensors) override;

 private:
  /// Checks what an op was given and runs its kernel.
  template <class Op>
  void run(void (*kernel)(const Op&, ThreadPool&), const Op& p) {
    check_on_host(p);
    kernel(p, pool_);
  }

  /// Vector instructions in use.
  struct Level {
    std::string title;
    std::string why_not_in_bf16;
  };
  static Level choose_level();

  ThreadPool pool_;
  Level level_;
};

}  // namespace quire::cpu
