#include "pipeline/stop_strings.h"

#include <algorithm>

namespace quire {

bool ends_at_stop(const Tokenizer& tokenizer, const std::vector<std::string>& stops,
                  std::span<const TokenId> ids) {
  std::size_t longest = 1;
  for (const std::string& stop : stops) longest = std::max(longest, stop.size());
  std::string text;  // before the newest token, as far as a stop string reaches
  for (auto id = ids.rbegin() + 1; id != ids.rend() && text.size() + 1 < longest; ++id) {
    text.insert(0, tokenizer.token_bytes(*id));
  }
  const std::size_t before = text.size();
  text += tokenizer.token_bytes(ids.back());
  return std::any_of(stops.begin(), stops.end(), [&](const std::string& stop) {
    // The earliest place from which the stop string reaches into the token.
    const std::size_t from = before + 1 > stop.size() ? before + 1 - stop.size() : 0;
    return text.find(stop, from) != std::string::npos;
  });
}

}  // namespace quire
