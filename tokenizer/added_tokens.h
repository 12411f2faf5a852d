// Added tokens: strings that are one token wherever they stand in a text, outside the merges. The
// special ones ("<|endoftext|>") can also be taken as plain text.
#pragma once

#include <bitset>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace quire {

struct AddedToken {
  std::string content;
  std::int32_t id = -1;
  bool special = true;
  bool strip_left = false;   ///< takes the spaces before it along
  bool strip_right = false;  ///< takes the spaces after it along
  bool single_word = false;  ///< only where no \w stands before it and none after it
  /// Looked for in what the others leave of a text ("normalized" in the files: with a normalizer,
  /// which GPT-2 has none of, they would be matched in its result).
  bool second = false;
};

/// The names that a tokenizer's tokens have in its configuration: role ("eos_token") and content.
using TokenRoles = std::vector<std::pair<std::string, std::string>>;

/// Finds added tokens in text as the Hugging Face tokenizers do: the leftmost first,
/// and the longest of those that begin there. One that is found and is no single word
/// is passed over as a whole.
class AddedTokenFinder {
 public:
  AddedTokenFinder() = default;
  /// With `specials_are_text` the special ones are passed over as a whole, too.
  explicit AddedTokenFinder(std::vector<AddedToken> tokens, bool specials_are_text = false);

  struct Match {
    std::size_t begin = std::string_view::npos;  ///< npos: no match
    std::size_t end = 0;
    std::size_t resume = 0;  ///< where to look for the next: spaces taken along may begin one
    std::int32_t id = -1;
  };
  /// The first match that begins at or after `from`. Spaces taken along reach back to `taken` at
  /// most, the end of the match before.
  Match find(std::string_view text, std::size_t from, std::size_t taken) const;

  bool empty() const { return tokens_.empty(); }
  std::size_t longest() const { return tokens_.empty() ? 0 : longest_; }

 private:
  std::vector<AddedToken> tokens_;  // longest first
  std::bitset<256> first_bytes_;
  int only_first_byte_ = -1;  // that byte, if all begin alike
  std::size_t longest_ = 0;
  bool specials_are_text_ = false;
};

}  // namespace quire
