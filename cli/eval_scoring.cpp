#include "cli/eval_scoring.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/text.h"
#include "cli/signals.h"
#include "cli/terminal.h"

namespace quire {
namespace {

/// What there is while a model scores, and not before.
struct Watch {
  std::optional<InterruptGuard> interrupts;
  std::optional<ProgressLine> progress;

  ScoringCallbacks callbacks(const ScoringFlags& options, const char* doing) {
    return {.open_device = [&options] { return options.device.open(); },
            .note = note,
            .on_begin =
                [this, doing] {
                  interrupts.emplace(doing);
                  progress.emplace();
                },
            .stop_requested = interrupted};
  }
};

double rate_of(const Scored& scored) {
  return static_cast<double>(scored.result.scored) / scored.seconds;
}

}  // namespace

std::optional<Scored> watch_scoring(const ScoringFlags& options, const Score& score) {
  Watch watch;
  Scored scored =
      score(watch.callbacks(options, "finishing these windows"), [&](const Scored& so_far) {
        if (!watch.progress->due()) return;
        const PerplexityResult& result = so_far.result;
        watch.progress->show(
            {{fmt::format("{}{}/{} tokens", options.label, with_commas(result.scored),
                          with_commas(so_far.to_score))},
             {"perplexity " + rounded_number(result.perplexity(), 5), 1},
             {fmt::format("{} tokens/s", with_commas(std::llround(rate_of(so_far)))), 2},
             {human_duration(static_cast<double>(so_far.to_score - result.scored) /
                             rate_of(so_far)) +
              " left"}});
      });
  watch.progress->clear();
  const PerplexityResult& result = scored.result;
  if (scored.stopped) {
    note(fmt::format("{}stopped after {} of {} tokens, perplexity so far {}", options.label,
                     with_commas(result.scored), with_commas(scored.to_score),
                     rounded_number(result.perplexity(), 5)));
    return std::nullopt;
  }
  note(fmt::format("{}{} of {}, stride {}: {}, {} tokens/s", options.label,
                   counted(result.windows, "window"), counted(scored.windows.window, "token"),
                   scored.windows.stride, human_duration(scored.seconds),
                   with_commas(std::llround(rate_of(scored)))));
  return scored;
}

std::optional<CompletionScores> watch_completions(const ScoringFlags& options,
                                                  const std::vector<Record>& records, int top) {
  Watch watch;
  const CompletionScores scores = score_completions(
      options, records, top, watch.callbacks(options, "finishing this record"),
      [&](const CompletionScores& so_far) {
        if (!watch.progress->due()) return;
        watch.progress->show(
            {{fmt::format("{}{}/{} records", options.label, with_commas(so_far.records),
                          with_commas(records.size()))},
             {fmt::format("exact match {:.3f}",
                          static_cast<double>(so_far.best) /
                              static_cast<double>(std::max<std::int64_t>(so_far.records, 1))),
              1}});
      });
  if (!scores.stopped) return scores;
  watch.progress->clear();
  note(fmt::format("{}stopped after {} of {} records", options.label, with_commas(scores.records),
                   with_commas(records.size())));
  return std::nullopt;
}

}  // namespace quire
