// How much work something is, on whatever machine.
#pragma once

#include <ctime>

namespace quire::test {

/// The processor's seconds that this process has had meanwhile: waiting, and work of others, is none.
/// To be compared with those of other work of the same run, never with a number.
template <class Work>
double processor_seconds(Work work) {
  const std::clock_t begin = std::clock();
  work();
  return static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC;
}

}  // namespace quire::test
