#include "engine/training/ranks.h"

#include <array>
#include <exception>

namespace quire {

void Ranks::sum(std::span<double> values) {
  const std::vector<double> all = collect(values);
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = 0;
    for (std::size_t at = i; at < all.size(); at += values.size()) values[i] += all[at];
  }
}

bool Ranks::any(bool here) {
  std::array<double, 1> count = {here ? 1.0 : 0.0};
  sum(count);
  return count[0] > 0;
}

void Ranks::agree(const std::function<void()>& work) {
  std::exception_ptr failure;
  double fault = 0;  // 0: none
  try {
    work();
  } catch (const Error& error) {
    failure = std::current_exception();
    fault = static_cast<double>(error.fault());
  } catch (...) {
    failure = std::current_exception();
    fault = static_cast<double>(Fault::internal);
  }
  const std::array<double, 1> mine = {fault};
  const std::vector<double> faults = collect(mine);
  for (int r = 0; r < std::ssize(faults); ++r) {
    if (faults[r] == 0) continue;
    failed_together_ = true;
    if (r == rank()) std::rethrow_exception(failure);
    throw PeerFailed(r, static_cast<Fault>(faults[r]));
  }
}

Ranks& one_rank() {
  static OneRank alone;
  return alone;
}

}  // namespace quire
