#include "cli/device_flags.h"

#include "cli/machine.h"
#include "cli/terminal.h"
#include "kernels/open_device.h"

namespace quire {

void DeviceFlags::add_to(Flags& flags) {
  flags.add("device", device, "auto|cpu|cuda|cuda:N",
            "what computes; auto is CUDA where it can be");
  flags.add("threads", threads, "N", "CPU threads; 0 is one per core this process may use",
            between(0, 1024));
}

std::unique_ptr<Device> DeviceFlags::open() const {
  // Where there is neither a card nor a build for one, nobody asked.
  if (device == "auto" && (built_with_cuda() || !inspect_machine().nvidia_driver.empty())) {
    const std::string reason = why_no_cuda();
    if (!reason.empty()) note("on the CPU, as CUDA cannot be used: " + reason);
  }
  return open_device(device, DeviceOptions{.threads = threads});
}

}  // namespace quire
