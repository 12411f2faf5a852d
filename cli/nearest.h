// "did you mean …?": the known word that a mistyped one most likely stands for.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace quire {

/// The candidate with the fewest insertions, deletions, substitutions and swaps of neighbours away
/// from `word`, or one that `word` is the beginning of. Empty when nothing is near enough to be
/// what was meant: more than a third of the letters would have to change.
std::string nearest(std::string_view word, std::span<const std::string> candidates);

}  // namespace quire
