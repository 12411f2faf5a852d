// Work on several threads where no device is involved: loading weights, tokenizing a corpus.
#pragma once

#include <cstddef>
#include <functional>
#include <string>

namespace quire {

/// Processors this process may use: those of its affinity mask, cut to its control group's quota.
/// At least 1.
int available_threads();

/// What of so many processors a control group's cpu.max leaves: the quota rounded up, at least 1.
/// `cpu_max` is "quota period" in microseconds, or "max period"; empty without a group.
int within_quota(int processors, const std::string& cpu_max);

/// Calls work(i) once for every i below `count`, from at most `threads` threads (0 = all that are
/// available). Indexes are handed out in order, so that unequal pieces balance. When calls throw,
/// no further index is started and the exception of the lowest index is thrown: what the caller
/// sees does not depend on the number of threads.
void parallel_for(int threads, std::size_t count, const std::function<void(std::size_t)>& work);

}  // namespace quire
