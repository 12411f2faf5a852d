#include "kernels/open_device.h"

#include <array>
#include <charconv>

#include "base/nearest.h"
#include "kernels/cpu/cpu_device.h"
#ifdef QUIRE_WITH_CUDA
#include "kernels/cuda/cuda_device.h"
#endif

namespace quire {
namespace {

/// The N of "cuda:N", 0 of "cuda", -1 of anything else.
int cuda_index(std::string_view name) {
  if (name == "cuda") return 0;
  if (!name.starts_with("cuda:")) return -1;
  int index = -1;
  const auto [end, error] = std::from_chars(name.data() + 5, name.data() + name.size(), index);
  return error == std::errc() && end == name.data() + name.size() ? index : -1;
}

#ifdef QUIRE_WITH_CUDA
constexpr bool kWithCuda = true;
using cuda::why_unusable;
#else
constexpr bool kWithCuda = false;

std::string why_unusable(int /*index*/) {
  return "this build has CPU kernels only (cmake -DQUIRE_CUDA=ON builds the others)";
}

std::unique_ptr<Device> open_cuda_device(int index, const DeviceOptions& /*options*/) {
  throw Error(Fault::device, "CUDA cannot be used: " + why_unusable(index), {},
              "`device` cpu"_named);
}
#endif

}  // namespace

std::string why_no_cuda() {
  return why_unusable(0);
}

bool built_with_cuda() {
  return kWithCuda;
}

std::unique_ptr<Device> open_device(std::string_view name, const DeviceOptions& options) {
  if (name == "auto" && why_no_cuda().empty()) return open_cuda_device(0, options);
  if (name == "auto" || name == "cpu") return open_cpu_device(options.threads);
  if (const int index = cuda_index(name); index >= 0) return open_cuda_device(index, options);
  const std::array<std::string, 3> names = {"auto", "cpu", "cuda"};
  const std::string near = nearest(name, names);
  throw Error(Fault::usage, "there is no device '" + std::string(name) + "'",
              {"devices: auto, cpu, cuda, or cuda:1 for the second card"},
              near.empty() ? "quire doctor" : "`device` "_named + near);
}

}  // namespace quire
