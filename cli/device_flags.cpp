#include "cli/device_flags.h"

#include <algorithm>
#include <thread>

#include "base/machine.h"
#include "cli/terminal.h"
#include "engine/formats/hub_folder.h"
#include "engine/model/gpt2.h"
#include "kernels/open_device.h"

namespace quire {

void add_storage(Flags& flags, WeightStorage& storage) {
  flags.add_choice("dtype", storage,
                   {{"auto", WeightStorage::as_stored},
                    {"float32", WeightStorage::f32},
                    {"int8", WeightStorage::int8},
                    {"int4", WeightStorage::int4}},
                   "weights as stored; all in float32; or matrices in 8 or 4 bits with a scale for "
                   "each 32, on the CPU (docs/models.md)");
}

void ProductFlags::add_to(Flags& flags) {
  flags.add_choice<std::optional<DType>>(
      "dtype", dtype, {{"auto", {}}, {"float32", DType::f32}, {"bfloat16", DType::bf16}},
      "of products, in bfloat16 on a GPU of activations too, parameters stay float32; auto is "
      "bfloat16 where this machine can (quire doctor says so), else float32: another machine may "
      "then give other losses");
  flags.add("bf16", bf16_, "the same as --dtype bfloat16");
}

void ProductFlags::finish(const Flags& flags) {
  if (!bf16_) return;
  if (flags.given("dtype") && dtype == DType::f32) {
    flags.refuse("--bf16 and --dtype float32 exclude each other",
                 {"--bf16 is --dtype bfloat16, --no-bf16 takes back one of a config file"});
  }
  dtype = DType::bf16;
}

DType ProductFlags::choose(const Device& device) {
  if (automatic()) {
    const bool can =
        device.activation_type(DType::bf16) == DType::bf16 || device.why_not_in_bf16().empty();
    dtype = can ? DType::bf16 : DType::f32;
  }
  check_trains_in(device, *dtype);
  return *dtype;
}

void DeviceFlags::add_to(Flags& flags) {
  flags.add("device", device, "auto|cpu|cuda|cuda:N",
            "what computes; auto is CUDA where it can be");
  flags.add("threads", threads, "N", "CPU threads; 0 is one per core this process may use",
            between(0, 1024));
  flags.add("autotune", autotune,
            "on CUDA: time the algorithms of each product once and keep a table of the fastest, "
            "which later runs read");
}

std::unique_ptr<Device> DeviceFlags::open(int local_rank, int local_size) const {
  // Where there is neither a card nor a build for one, nobody asked.
  if (device == "auto" && (built_with_cuda() || !inspect_machine().nvidia_driver.empty())) {
    const std::string reason = why_no_cuda();
    if (!reason.empty()) note("on the CPU, as CUDA cannot be used: " + reason);
  }
  DeviceOptions options{.threads = threads, .on_trial = on_trial, .autotune = autotune};
  options.warn = [](const std::string& line) { warn(line); };
  std::string name = device;
  if (local_size > 1) {
    const bool next_card = device == "cuda" || (device == "auto" && why_no_cuda().empty());
    if (next_card) name = "cuda:" + std::to_string(local_rank);
    // Launchers bind a process to cores of its own, or leave all of them to all.
    const int cores = inspect_machine().cores;
    const bool bound = cores < static_cast<int>(std::thread::hardware_concurrency());
    if (threads == 0) options.threads = std::max(1, bound ? cores : cores / local_size);
  }
  std::unique_ptr<Device> opened = open_device(name, options);
  if (autotune && opened->shares_host_memory()) {
    note("--autotune: the CPU has one algorithm for a product, there is nothing to time");
  }
  return opened;
}

}  // namespace quire
