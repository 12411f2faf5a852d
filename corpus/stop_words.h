// Words that bound a keyword but are none themselves: "the", "of", "because".
#pragma once

#include <filesystem>
#include <string>
#include <unordered_set>

namespace quire {

extern const char* const english_stop_words[574];

class StopWords {
 public:
  static StopWords english();
  /// One word a line, of either case; UTF-8. Throws Error(bad_data) for a file that is not UTF-8 or
  /// holds no word.
  static StopWords from_file(const std::filesystem::path& path);

  /// `word` is in lower case.
  bool contains(const std::u32string& word) const { return words_.contains(word); }

 private:
  std::unordered_set<std::u32string> words_;
};

}  // namespace quire
