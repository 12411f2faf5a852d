// Perplexity of a text under a model, in windows that overlap.
//
// Windows begin at ids 0, S, 2S, … and hold W ids; the last is the first that reaches the end. The
// first window scores all its ids but the very first; each later one only the ids that earlier
// windows did not reach. Every id after the first is so scored once, with at least W - S ids of
// context. Perplexity = exp(sum of losses / number of ids scored), summed in double.
//
// Where S = W, a later window begins with an id that has nothing before it there: it is not scored,
// as the very first of a text is not.
#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "engine/model/gpt2.h"

namespace quire {

struct PerplexityOptions {
  int window = 0;  ///< W; 0 = n_positions
  int stride = 0;  ///< S, at most W; 0 = half of W
  int batch = 4;   ///< windows computed together; the result does not depend on it
};

struct PerplexityResult {
  double loss_sum = 0.0;  ///< natural log
  std::int64_t scored = 0;
  std::int64_t windows = 0;
  double loss() const { return loss_sum / scored; }
  double perplexity() const;
  PerplexityResult& operator+=(const PerplexityResult& other);
};

/// Called after each batch of windows with the result so far and the number of ids that will be
/// scored in all; returns true to stop there (Ctrl-C).
using PerplexityCallback = std::function<bool(const PerplexityResult& so_far, std::int64_t total)>;

/// The options with their zeros filled in. Throws Error(usage) naming option, value and context.
PerplexityOptions resolve(const PerplexityOptions& options, const Gpt2Config& config);

/// How many ids of a text of `count` will be scored, with options that are resolved.
std::int64_t count_scored(std::int64_t count, const PerplexityOptions& resolved);

/// A text of fewer than two ids scores nothing: an empty result. Where there are `labels`, as many as
/// ids, those that are kIgnoredTarget are not scored, though they are context.
PerplexityResult perplexity(Gpt2& model, const Gpt2Config& config,
                            std::span<const std::int32_t> ids, const PerplexityOptions& options,
                            const PerplexityCallback& on_progress = {},
                            std::span<const std::int32_t> labels = {});

}  // namespace quire
