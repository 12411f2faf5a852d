// Running requests: rows share a batch whatever their options, and one that ends makes room for the
// next. Answers come in the order of the requests.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "engine/model/parameters.h"
#include "pipeline/requests.h"

namespace quire {

/// One text: sequence number `sequence` of request number `request`.
struct GeneratedText {
  std::size_t request = 0;
  int sequence = 0;
  GeneratedSequence generated;
};

struct RunCallbacks {
  std::function<void(const GeneratedText&)> on_text;  ///< in order, also for texts cut by Ctrl-C
  /// Each token as it comes, for streaming one text at a time.
  std::function<void(std::size_t request, std::int32_t token)> on_token;
  std::function<bool()> stop_requested;
  std::function<void(std::size_t done, std::size_t total)> on_progress;  ///< after each row
};

struct RunTimes {
  std::int64_t prompt_tokens = 0, new_tokens = 0;
  double prompt_seconds = 0;       ///< of steps that read prompts
  double decode_seconds = 0;       ///< of all others
  std::int64_t decode_tokens = 0;  ///< new tokens of these
};

/// A beam search is a batch of its own, its beams the rows; it tells no tokens before its end. What
/// comes before it is answered first.
///
/// A row draws from a stream that is named by its prompt and by how many rows before it asked for
/// the same with the same options. So a prompt's text does not depend on its neighbours, and the
/// same prompt twice gives two texts. Throws Error(no_space) before the first of them where the
/// device's own memory is too small for `batch_size` of them, or for the beams of one.
RunTimes run_requests(Device& device, const Gpt2Config& config, const Parameters& parameters,
                      const std::optional<Tokenizer>& tokenizer,
                      const std::vector<GenerateRequest>& requests, int batch_size,
                      const RunCallbacks& callbacks);

}  // namespace quire
