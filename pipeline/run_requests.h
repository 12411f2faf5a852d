// Running requests: texts and beam searches share a batch whatever their options, and one that ends
// makes room for the next. Answers come in the order of the requests.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "engine/model/parameters.h"
#include "pipeline/requests.h"

namespace quire {

struct RunCallbacks {
  /// In order, also for texts cut by Ctrl-C.
  std::function<void(std::size_t request, const GeneratedSequence&)> on_text;
  /// Each token as it comes, for streaming one text at a time.
  std::function<void(std::size_t request, std::int32_t token)> on_token;
  std::function<bool()> stop_requested;
  /// After each text, or search.
  std::function<void(std::size_t done, std::size_t total)> on_progress;
};

struct RunTimes {
  std::int64_t prompt_tokens = 0, new_tokens = 0;
  double prompt_seconds = 0;       ///< of steps that read prompts
  double decode_seconds = 0;       ///< of all others
  std::int64_t decode_tokens = 0;  ///< new tokens of these, of a search those of one text
};

/// A batch has `batch_size` rows: a text takes one, a search one for each beam; what has no room waits,
/// and so does what comes after it. A search of more beams waits until it is alone. It tells no
/// tokens before its end.
///
/// A text draws from a stream that is named by its prompt and by how many before it asked for
/// the same with the same options. So a prompt's text does not depend on its neighbours, and the
/// same prompt twice gives two texts. Throws Error(no_space) before the first of them where the
/// device's own memory is too small for so many rows, or for the beams of the widest search.
RunTimes run_requests(Device& device, const Gpt2Config& config, const Parameters& parameters,
                      const std::optional<Tokenizer>& tokenizer,
                      const std::vector<GenerateRequest>& requests, int batch_size,
                      const RunCallbacks& callbacks);

}  // namespace quire
