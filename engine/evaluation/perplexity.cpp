#include "engine/evaluation/perplexity.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace quire {

namespace {

struct Window {
  std::int64_t begin = 0, end = 0;
  std::int64_t first_scored = 0;
  std::int64_t length() const { return end - begin; }
};

std::vector<Window> windows_of(std::int64_t count, const PerplexityOptions& options) {
  std::vector<Window> windows;
  std::int64_t scored_to = 1;
  for (std::int64_t begin = 0; scored_to < count; begin += options.stride) {
    const std::int64_t end = std::min(begin + options.window, count);
    const std::int64_t first_scored = std::max(scored_to, begin + 1);  // after one id at least
    if (end > first_scored) windows.push_back({begin, end, first_scored});
    scored_to = std::max(scored_to, end);
  }
  return windows;
}

std::int64_t count_scored(const std::vector<Window>& windows) {
  std::int64_t scored = 0;
  for (const Window& window : windows) scored += window.end - window.first_scored;
  return scored;
}

}  // namespace

double PerplexityResult::perplexity() const {
  return std::exp(loss());
}

PerplexityResult& PerplexityResult::operator+=(const PerplexityResult& other) {
  loss_sum += other.loss_sum;
  scored += other.scored;
  windows += other.windows;
  return *this;
}

PerplexityOptions resolve(const PerplexityOptions& options, const Gpt2Config& config) {
  const auto require = [](bool holds, const char* what, int value, const std::string& allowed) {
    if (holds) return;
    throw Error(Fault::usage, fmt::format("{} is {}", what, value), {"allowed: " + allowed});
  };
  PerplexityOptions resolved = options;
  if (resolved.window == 0) resolved.window = config.n_positions;
  require(resolved.window >= 2 && resolved.window <= config.n_positions, "window", options.window,
          fmt::format("2 to {}, the model's context", config.n_positions));
  if (resolved.stride == 0) resolved.stride = resolved.window / 2;
  require(resolved.stride >= 1 && resolved.stride <= resolved.window, "stride", options.stride,
          fmt::format("1 to {}, the window: a larger one would leave tokens out", resolved.window));
  require(resolved.batch >= 1, "batch size", options.batch, "1 or more");
  return resolved;
}

std::int64_t count_scored(std::int64_t count, const PerplexityOptions& resolved) {
  return count_scored(windows_of(count, resolved));
}

PerplexityResult perplexity(Gpt2& model, const Gpt2Config& config,
                            std::span<const std::int32_t> ids, const PerplexityOptions& options,
                            const PerplexityCallback& on_progress,
                            std::span<const std::int32_t> labels) {
  if (labels.empty()) labels = ids;
  const PerplexityOptions resolved = resolve(options, config);
  const std::vector<Window> windows = windows_of(std::ssize(ids), resolved);
  const std::int64_t total = count_scored(windows);

  PerplexityResult result;
  for (std::size_t w = 0; w < windows.size();) {
    // A batch of windows of equal length: only the last window of a text is shorter.
    const std::int64_t length = windows[w].length();
    std::vector<std::int32_t> batch_ids;  // [B, T]
    std::vector<std::int32_t> targets;    // [B, T]
    int batch = 0;
    for (; w < windows.size() && batch < resolved.batch && windows[w].length() == length;
         ++w, ++batch) {
      const Window& window = windows[w];
      batch_ids.insert(batch_ids.end(), ids.begin() + window.begin, ids.begin() + window.end);
      const std::size_t row = targets.size();
      targets.insert(targets.end(), length, kIgnoredTarget);
      for (std::int64_t t = window.first_scored; t < window.end; ++t) {
        const std::int32_t label = labels[t];
        targets[row + t - 1 - window.begin] = label;
        result.scored += label != kIgnoredTarget;
      }
      ++result.windows;
    }
    const std::vector<float> losses = model.token_losses(
        {.batch = batch, .length = static_cast<int>(length), .ids = batch_ids, .targets = targets});
    for (const float loss : losses) result.loss_sum += loss;  // 0 where ignored
    if (on_progress && on_progress(result, total)) break;
  }
  return result;
}

}  // namespace quire
