#include "pipeline/stop_strings.h"

#include <algorithm>
#include <utility>

namespace quire {

StopWatch::StopWatch(const Tokenizer& tokenizer, std::vector<std::string> stops,
                     std::span<const TokenId> prompt)
    : tokenizer_(tokenizer), stops_(std::move(stops)) {
  for (const std::string& stop : stops_) longest_ = std::max(longest_, stop.size());
  for (auto id = prompt.rbegin(); id != prompt.rend() && tail_.size() + 1 < longest_; ++id) {
    tail_.insert(0, tokenizer_.token_bytes(*id));
  }
}

bool StopWatch::push(TokenId token) {
  const std::size_t before = tail_.size();
  tail_ += tokenizer_.token_bytes(token);
  const bool found = std::any_of(stops_.begin(), stops_.end(), [&](const std::string& stop) {
    // The earliest place from which the stop string reaches into the token.
    const std::size_t from = before + 1 > stop.size() ? before + 1 - stop.size() : 0;
    return tail_.find(stop, from) != std::string::npos;
  });
  if (tail_.size() + 1 > longest_) tail_.erase(0, tail_.size() + 1 - longest_);
  return found;
}

}  // namespace quire
