// The processes that train one model together, numbered from 0: ranks, in MPI's word. Each has all
// of the model and its own rows of every micro-batch.
//
// What crosses between them is two things. Small numbers of the host (losses, counts, whether to
// stop) are collected by everybody and added up in the order of ranks. Gradients, one row of floats
// as long as the model, are summed part by part: each rank adds up one part of all ranks' rows, and
// the parts are collected again, by everybody or, where each rank updates its own part only, as
// parameters. Either way a number is computed in one place, so all ranks hold the same bits.
//
// The training loop and the optimizer call these in the same order on every rank. distributed/ has
// the ranks that MPI connects; OneRank is a process by itself.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/share.h"
#include "kernels/device.h"

namespace quire {

/// Thrown on ranks that are well when another one failed, and told the user why.
class PeerFailed : public Error {
 public:
  PeerFailed(int rank, Fault fault)
      : Error(fault, "rank " + std::to_string(rank) + " failed, and the others end with it") {}
};

/// Thrown when another rank does not answer any more: its process has ended, or its machine.
class PeerLost : public Error {
 public:
  /// `speaker` is the first rank that is left, as far as is known: it saves and tells the user.
  PeerLost(const std::string& what, int speaker)
      : Error(Fault::device, what, {},
              "the same command with `resume_from_checkpoint` latest"_named),
        speaker_(speaker) {}
  PeerLost(const PeerLost& lost, std::vector<std::string> details, const std::string& next)
      : Error(Fault::device, lost.what(), std::move(details), next), speaker_(lost.speaker_) {}
  int speaker() const { return speaker_; }

 private:
  int speaker_;
};

class Ranks {
 public:
  virtual ~Ranks() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  /// The same, of the ranks on this machine alone.
  virtual int local_rank() const = 0;
  virtual int local_size() const = 0;
  bool first() const { return rank() == 0; }

  /// The values of rank 0, then those of rank 1, and so on. All ranks give equally many.
  virtual std::vector<double> collect(std::span<const double> values) = 0;
  /// `values` are size() equal parts. Afterwards part rank() holds the sums over all ranks of that
  /// part; what the other parts hold is not said.
  virtual void reduce_scatter(Device& device, const View& values) = 0;
  /// Afterwards each part of `values` holds what it holds on the rank of its number.
  virtual void all_gather(Device& device, const View& values) = 0;
  /// On rank 0 the parts of all ranks in a row, elsewhere nothing. Host memory.
  virtual std::vector<float> gather(std::span<const float> part) = 0;

  /// Replaces each value by its sum over all ranks.
  void sum(std::span<double> values);
  /// Whether it is true on any rank.
  bool any(bool here);
  /// Does `work`, which calls none of these functions, and waits for the others to have done
  /// theirs. Where it threw on some ranks, the first of these throws that again,
  /// and all others PeerFailed.
  void agree(const std::function<void()>& work);

 protected:
  bool failed_together_ = false;  ///< agree() has thrown on all ranks
};

/// A process by itself.
class OneRank final : public Ranks {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }
  int local_rank() const override { return 0; }
  int local_size() const override { return 1; }
  std::vector<double> collect(std::span<const double> values) override {
    return {values.begin(), values.end()};
  }
  void reduce_scatter(Device&, const View&) override {}
  void all_gather(Device&, const View&) override {}
  std::vector<float> gather(std::span<const float> part) override {
    return {part.begin(), part.end()};
  }
};

/// It has no state: one for everybody.
Ranks& one_rank();

}  // namespace quire
