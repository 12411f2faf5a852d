#include "cli/transfer_line.h"

#include <fmt/format.h>

namespace quire {

void TransferLine::show(const std::string& doing, const std::string& file, std::uint64_t bytes,
                        std::uint64_t total, std::uint64_t moved) {
  if (total == 0 || !line_.due()) return;
  const auto all = static_cast<double>(total), done = static_cast<double>(bytes);
  std::vector<LinePart> parts = {
      {doing},
      {fmt::format("{} of {}", human_bytes(done), human_bytes(all))},
      {fmt::format("{:.0f}%", 100 * done / all)},
  };
  const double seconds = watch_.seconds();
  if (moved > 0 && seconds > 1) {
    const double speed = static_cast<double>(moved) / seconds;
    parts.push_back({human_bytes(speed) + "/s", 1});
    parts.push_back({human_duration((all - done) / speed) + " left", 1});
  }
  parts.push_back({file, 2});
  line_.show(std::move(parts));
}

}  // namespace quire
