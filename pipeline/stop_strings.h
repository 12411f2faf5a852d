// Stop strings: the text that ends a generation, wherever tokens cut it.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "tokenizer/tokenizer.h"

namespace quire {

/// Whether the newest token of a text, prompt included, completes a stop string. As in transformers,
/// a stop string counts when it ends inside that token; it may begin in the prompt. What the token
/// has after it stays in the output.
bool ends_at_stop(const Tokenizer& tokenizer, const std::vector<std::string>& stops,
                  std::span<const TokenId> ids);

}  // namespace quire
