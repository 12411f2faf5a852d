// Which algorithm won where products were timed (--autotune): a table that outlives the process.
//
// A file of the cache folder for each card, autotune-HASH.txt:
//
//   quire autotune table 1
//   card …          what it holds for: see proof.h
//   driver …
//   build …
//   library …       whose algorithms these are
//   TEXT OF A KEY = 16 hexadecimal digits, eight times
//   …
//   checksum 16 digits, of all lines above
//
// A product that has its line keeps it: lines are only added, and the first to come stays.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>

#include "kernels/cuda/proof.h"

namespace quire::cuda {

/// As a library writes it down: cuBLASLt's 64 bytes.
using Algorithm = std::array<std::uint64_t, 8>;

struct TuningOptions {
  /// Times algorithms that the table lacks, and adds the fastest.
  bool autotune = false;
  /// Is given what a person should know, a line without a full stop.
  std::function<void(const std::string&)> warn = [](const std::string&) {};
};

class AlgorithmTable {
 public:
  /// Reads the card's table. One that is damaged, or another driver's, build's or library's, counts
  /// as empty, and options.warn is told. Where lines may be added it is written at once.
  AlgorithmTable(const CardKey& card, const std::string& library, const TuningOptions& options);

  /// Null where there is none.
  const Algorithm* find(const std::string& key) const;
  /// Adds to the table and to its file, where that has no such line yet: else the file's holds.
  /// Returns what holds. A file that cannot be written is told once, and the table goes on without.
  Algorithm add(const std::string& key, const Algorithm& algorithm);

  /// Changes with every line; empty while there are none.
  std::string fingerprint() const;
  const std::filesystem::path& path() const { return path_; }

 private:
  using Lines = std::map<std::string, Algorithm>;
  /// What is in the file; empty, with `why` set, where it is not to be used.
  Lines read(std::string& why) const;
  void write();

  std::filesystem::path path_;  // empty where there is no cache folder
  std::string head_;            // the lines that say what it holds for
  std::function<void(const std::string&)> warn_;
  Lines lines_;
  bool writable_ = true;
};

}  // namespace quire::cuda
