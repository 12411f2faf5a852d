// Weights that are read where they lie in mapped files, brought bit by bit to where that is fast.
#pragma once

#include <cstddef>
#include <memory>
#include <mutex>
#include <vector>

#include "engine/formats/source.h"

namespace quire {

/// A file's pages are small: prefetchers stop at the end of each, and the tables that say where they are
/// have to be read besides. In huge pages a token of a float16 GPT-2 124M takes 9.3 ms instead of 11.7
/// (Zen 4, virtual machine, two threads). To copy them all at once would hold up the first token, so
/// each step copies a part: sixteen tokens take a little longer, those that follow are faster. The bytes
/// stay at their addresses. What is copied is no longer shared with other processes.
class WeightsInPlace {
 public:
  /// What fits the caches of a processor is left where it is.
  static constexpr std::size_t kWorthIt = std::size_t{32} << 20;
  explicit WeightsInPlace(std::size_t worth_it = kWorthIt) : worth_it_(worth_it) {}

  /// Before the first step. A tensor without a file is left out.
  void add(const FileTensor& tensor);
  /// Copies a sixteenth, until all is done. Nothing where there is too little, where the machine has
  /// not twice the memory free that this takes, or no huge pages. From any thread.
  void step();

 private:
  struct Stretch {
    std::shared_ptr<const MappedFile> file;
    std::size_t first, last;
  };
  void begin();

  std::size_t worth_it_;
  std::mutex busy_;
  bool begun_ = false;
  std::vector<Stretch> left_;  // the next is the last
  std::size_t a_step_ = 0;     // bytes
};

}  // namespace quire
