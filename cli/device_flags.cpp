#include "cli/device_flags.h"

#include "kernels/open_device.h"

namespace quire {

void DeviceFlags::add_to(Flags& flags) {
  flags.add_choice("device", device, {"auto", "cpu"}, "what computes");
  flags.add("threads", threads, "N", "CPU threads; 0 is one per core this process may use",
            between(0, 1024));
}

std::unique_ptr<Device> DeviceFlags::open() const {
  return open_device(device, DeviceOptions{.threads = threads});
}

}  // namespace quire
