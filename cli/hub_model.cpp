#include "cli/hub_model.h"

#include <fmt/format.h>

#include "base/numbers.h"
#include "base/text.h"
#include "cli/signals.h"
#include "cli/terminal.h"
#include "cli/transfer_line.h"
#include "pipeline/model_path.h"

namespace quire {

Downloaded download_for_people(const HubModel& model, const std::vector<std::string>& include) {
  HubSettings settings = HubSettings::from_environment();
  settings.user_agent = "quire/" QUIRE_VERSION;
  const Stopwatch watch;
  const InterruptGuard interrupts("stopping");
  TransferLine line;
  DownloadCallbacks callbacks;
  callbacks.say = [&](const std::string& text) { line.say(text); };
  callbacks.stop_requested = interrupted;
  callbacks.begin = [&](std::size_t files, std::uint64_t bytes) {
    note(fmt::format("{}: {} to get, {}, into {}", model.text(), counted(files, "file"),
                     human_bytes(static_cast<double>(bytes)), settings.cache.string()));
  };
  callbacks.progress = [&](const DownloadProgress& p) {
    line.show("downloading", p.file, p.bytes, p.total, p.come);
  };
  Downloaded got = download_model(settings, model, include, callbacks);
  line.clear();
  if (got.stopped) {
    note(fmt::format("stopped; {} came, and are kept\n  to go on: quire download {}",
                     human_bytes(static_cast<double>(got.come)), in_shell(model.text())));
  } else if (got.was_there) {
    note(fmt::format("{} is here already, at {}: {}", model.text(), got.commit.substr(0, 12),
                     counted(got.files.size(), "file")));
  } else {
    note(fmt::format("{} at {}: {}, of which {} came in {}", model.text(), got.commit.substr(0, 12),
                     counted(got.files.size(), "file"), human_bytes(static_cast<double>(got.come)),
                     human_duration(watch.seconds())));
  }
  return got;
}

void DownloadFlag::add_to(Flags& flags) {
  flags.add("download", wanted_,
            "a model of the Hub that is not here is got first, as quire download does");
}

bool DownloadFlag::get(const std::string& model) const {
  if (!wanted_ || !is_hub_name(model) || find_whole_model(model)) return true;
  return !download_for_people(HubModel::parse(model), {}).stopped;
}

}  // namespace quire
