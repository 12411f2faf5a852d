// Stop strings: the text that ends a generation, wherever tokens cut it.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "tokenizer/tokenizer.h"

namespace quire {

/// Watches one row. As in transformers, a stop string counts when it ends inside the newest token;
/// it may begin in the prompt. What the token has after it stays in the output.
class StopWatch {
 public:
  StopWatch(const Tokenizer& tokenizer, std::vector<std::string> stops,
            std::span<const TokenId> prompt);
  /// True when the token completes a stop string.
  bool push(TokenId token);

 private:
  Tokenizer tokenizer_;
  std::vector<std::string> stops_;
  std::size_t longest_ = 0;
  std::string tail_;  // the last longest_ - 1 bytes of the text so far
};

}  // namespace quire
