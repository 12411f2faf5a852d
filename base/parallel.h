// Work on several threads where no device is involved: loading weights, tokenizing a corpus.
#pragma once

#include <cstddef>
#include <functional>

namespace quire {

/// Processors this process may run on, which a container or taskset can make fewer than the machine
/// has. At least 1.
int available_threads();

/// Calls work(i) once for every i below `count`, from at most `threads` threads (0 = all that are
/// available). Indexes are handed out in order, so that unequal pieces balance. When calls throw,
/// no further index is started and the exception of the lowest index is thrown: what the caller
/// sees does not depend on the number of threads.
void parallel_for(int threads, std::size_t count, const std::function<void(std::size_t)>& work);

}  // namespace quire
