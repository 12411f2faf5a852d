#include "cli/doctor_verify.h"

#include <fmt/format.h>

#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/json.h"
#include "bench/report.h"
#include "cli/terminal.h"
#include "kernels/open_device.h"
#include "verify/verify.h"

namespace quire {
namespace {

std::vector<verify::Finding> compare_with_cpu(Device& device) {
  ProgressLine line;
  const std::unique_ptr<Device> cpu = open_device("cpu");
  try {
    return verify::compare_devices(device, *cpu, [&](const std::string& what) {
      if (line.due()) line.show("  " + what);
    });
  } catch (const Error&) {
    // What cannot even be run is not to be trusted; that this cannot be kept is not the news.
    try {
      device.keep_proof(false);
    } catch (const Error&) {}
    throw;
  }
}

std::string as_table(const std::vector<verify::Finding>& findings) {
  std::vector<std::vector<std::string>> table = {{"compared", "cases", "worst / bound", ""}};
  for (const verify::Finding& finding : findings) {
    table.push_back({finding.what, std::to_string(finding.cases),
                     std::isfinite(finding.worst) ? fmt::format("{:.3f}", finding.worst) : "-",
                     finding.agrees() ? "ok" : "WRONG"});
  }
  return format_table(table, output_columns());
}

std::string to_json(const Device& device, const std::vector<verify::Finding>& findings,
                    double seconds, bool agrees) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const verify::Finding& finding : findings) {
    list.push_back({{"compared", finding.what},
                    {"cases", finding.cases},
                    {"worst_over_bound", finding.worst},  // null where it is infinite
                    {"agrees", finding.agrees()},
                    {"where", finding.where}});
  }
  return json_text(nlohmann::ordered_json{{"version", QUIRE_VERSION},
                                          {"device", device.description()},
                                          {"agrees", agrees},
                                          {"seconds", seconds},
                                          {"findings", list}});
}

/// What passed is kept; that it cannot be is no reason to fail.
void keep(Device& device, bool agrees) {
  try {
    device.keep_proof(agrees);
  } catch (const Error& error) {
    std::string why = error.what();
    for (const std::string& detail : error.details()) why += ", " + detail;
    warn("the result cannot be kept, so kernels of one chip stay unused: " + why);
  }
}

}  // namespace

void verify_device(Device& device, bool as_json) {
  if (device.shares_host_memory()) {
    throw Error(
        Fault::device,
        "there is nothing to verify: other devices are compared with " + device.description(), {},
        "quire doctor --verify --device cuda");
  }
  const double begin = clock_seconds();
  const std::vector<verify::Finding> findings = compare_with_cpu(device);
  const double seconds = clock_seconds() - begin;
  std::vector<std::string> wrong;
  for (const verify::Finding& finding : findings) {
    if (!finding.agrees()) wrong.push_back(finding.what + ": " + finding.where);
  }
  keep(device, wrong.empty());
  if (as_json) {
    print(to_json(device, findings, seconds, wrong.empty()) + "\n");
  } else {
    print(device.description() + ", compared with the CPU\n\n" + as_table(findings) +
          fmt::format("\n  {}; 1 is as far apart as roundings can make it.\n",
                      human_duration(seconds)));
  }
  if (wrong.empty()) return;
  throw Error(Fault::check,
              fmt::format("{} of {} comparisons disagree on {}", wrong.size(), findings.size(),
                          device.description()),
              wrong, "--device cpu, whose results are right, and another driver");
}

}  // namespace quire
