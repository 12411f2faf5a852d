// What a person is to be told about files that were read: nothing is made of them in silence.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace quire {

/// So many lines, and where the first of them is.
struct LineCount {
  std::int64_t lines = 0;
  std::filesystem::path file;
  std::size_t line = 0;  ///< from 1
  void add(const std::filesystem::path& path, std::size_t number);
};

/// Guesses what lines are written in that are not UTF-8.
class EncodingGuess {
 public:
  void add(std::string_view line);
  /// "cp1252", "latin-1", "utf-16", or "" where it is none of Western Europe's.
  std::string likely() const;

 private:
  std::array<std::int64_t, 256> bytes_{};  // that are no part of UTF-8
  std::int64_t letters_ = 0;               // of ASCII, in these lines
  std::int64_t zeros_ = 0;
};

struct ReadingReport {
  LineCount not_utf8;     ///< bytes that are not UTF-8, and read as U+FFFD
  LineCount surrogates;   ///< of JSON: half a pair of "\ud83d\ude00" alone, read as U+FFFD
  LineCount blank_rows;   ///< of tables: passed over
  EncodingGuess guess;    ///< for the lines of not_utf8
  bool utf8_too = false;  ///< there are other characters than ASCII's in UTF-8 as well

  struct Table {
    std::filesystem::path file;
    char delimiter;
  };
  std::vector<Table> delimiters;  ///< where it is another one than the file's name says
  struct Header {
    std::filesystem::path file;
    std::string row;  ///< as it is written
  };
  std::vector<Header> headers;  ///< first rows that look like data

  /// A folder, and what is in it that is not read.
  struct Skipped {
    std::filesystem::path folder;
    std::map<std::string, std::int64_t> kinds;  ///< extension -> files; "" for those without one
    bool texts_alone = false;                   ///< the .txt are read; else tables and JSON lines
    std::string pattern;  ///< of files that would be read were there no .txt; or ""
  };
  std::vector<Skipped> skipped;

  /// Counts the lines of a text that are not UTF-8; its first is line `first` of the file.
  void look(const std::filesystem::path& file, std::size_t first, std::string_view text);
};

}  // namespace quire
