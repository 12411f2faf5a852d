// quire doctor: what this machine has, and what fits.
#include "cli/command.h"
#include "cli/device_flags.h"
#include "cli/terminal.h"

namespace quire {
namespace {

int run(const std::vector<std::string>& arguments) {
  Flags flags("doctor", "[OPTION...]", "Shows what this machine has, and which models fit.");
  DeviceFlags device;
  flags.group("Machine");
  device.add_to(flags);
  if (!flags.parse(arguments)) return 0;
  print(flags.resolved_json());
  return 0;
}

}  // namespace

const Command kDoctorCommand = {"doctor", "what this machine has, and which models fit", run};

}  // namespace quire
