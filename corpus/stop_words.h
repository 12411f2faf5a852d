// Words that bound a keyword but are none themselves: "the", "of", "because".
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_set>

#include "corpus/characters.h"

namespace quire {

extern const char* const english_stop_words;  ///< 574, with white space between them

class StopWords {
 public:
  static StopWords english();
  /// One word a line, of either case; UTF-8. Throws Error(bad_data) for a file that is not UTF-8 or
  /// holds no word.
  static StopWords from_file(const std::filesystem::path& path);

  /// `word` is in lower case.
  bool contains(std::u32string_view word) const { return words_.find(word) != words_.end(); }

 private:
  std::unordered_set<std::u32string, characters::TextHash, std::equal_to<>> words_;
};

}  // namespace quire
