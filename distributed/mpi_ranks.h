// Ranks that MPI connects.
//
// The sums run in rings of messages between neighbours. In N - 1 rounds each rank sends one part to
// the rank on its right and adds its own numbers to the part that comes from the left: part p sets
// out from rank p + 1 and is complete on rank p. N - 1 rounds more carry the complete parts around.
// Each rank sends and receives 2·(N - 1)/N of the row, which is the least there is (Patarasuk and
// Yuan, "Bandwidth optimal all-reduce algorithms for clusters of workstations", 2009), and the
// order of every sum is written here, not chosen by a library: the bits depend on N alone.
//
// Cards exchange among themselves where all of them can (NCCL);
// MPI then only tells them of each other.
//
// MPI's own collectives would do the same but cannot be left: when a rank dies, the others wait in
// them for ever or until they are killed. Here they wait in a loop of their own, look after their
// neighbours on the same machine, and come back with PeerLost.
#pragma once

#define OMPI_SKIP_MPICXX 1
#define MPICH_SKIP_MPICXX 1
#include <mpi.h>

#include <chrono>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/training/ranks.h"

namespace quire {

/// "Open MPI v4.1.4, package: …", to its first comma.
std::string mpi_library_version();

class MpiRanks final : public Ranks {
 public:
  explicit MpiRanks(std::function<bool()> interrupted);
  MpiRanks(const MpiRanks&) = delete;
  MpiRanks& operator=(const MpiRanks&) = delete;
  /// Leaves MPI, unless it is known that the others will not: that would wait for them.
  ~MpiRanks() override;

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  int local_rank() const override { return local_rank_; }
  int local_size() const override { return local_size_; }
  std::vector<double> collect(std::span<const double> values) override;
  void reduce_scatter(Device& device, const View& values) override;
  void all_gather(Device& device, const View& values) override;
  std::vector<float> gather(std::span<const float> part) override;

 private:
  /// The process of a rank on this machine, 0 where it cannot be seen.
  struct Peer {
    int rank;
    int process;
  };

  void meet();
  /// The cards' own exchange, null where a rank has none: then it goes through the host's memory.
  DeviceGroup* group_of(Device& device);
  void wait(DeviceGroup& group);
  void reduce_scatter(float* values, std::int64_t part);
  void all_gather(float* values, std::int64_t part);
  int neighbour(int step) const { return (rank_ + step + size_) % size_; }
  MPI_Request send(const float* values, std::int64_t count, int to);
  MPI_Request receive(float* values, std::int64_t count, int from);
  /// Throws PeerLost.
  void wait(std::span<MPI_Request> requests);
  void wait(const std::function<bool()>& done);
  void check(int result);
  void look_after_peers(std::chrono::steady_clock::time_point& interrupted_at);

  std::function<bool()> interrupted_;
  MPI_Comm comm_ = MPI_COMM_NULL;
  int rank_ = 0, size_ = 1, local_rank_ = 0, local_size_ = 1;
  std::vector<Peer> peers_;      // on this machine, without this one
  std::vector<float> incoming_;  // two segments
  std::vector<float> host_row_;  // where the device's memory is not the host's
  std::unique_ptr<DeviceGroup> group_;
  bool asked_for_group_ = false;
  bool lost_ = false;
};

}  // namespace quire
