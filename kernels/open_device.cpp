#include "kernels/open_device.h"

#include "kernels/cpu/cpu_device.h"

namespace quire {

std::unique_ptr<Device> open_device(std::string_view name, const DeviceOptions& options) {
  if (name == "auto" || name == "cpu") return open_cpu_device(options.threads);
  throw Error(Fault::usage, "there is no device '" + std::string(name) + "'",
              {"devices: auto, cpu"}, "quire doctor");
}

}  // namespace quire
