// The twin of kernels/cuda/nccl.cu: processes that exchange through a file of shared memory.
//
// Operation number k writes each rank's row into its place in half k % 2 of the file and counts
// itself in. Who finds all counted in reads. A half is written again by operation k + 2, which
// begins when all have come to k + 1, and so are done reading k.
#include "kernels/cuda/device_group.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <stdexcept>

#include "tests/cuda_on_host/runtime.h"

namespace quire::cuda {
namespace {

constexpr std::size_t kHeader = 4096;

class SharedMemoryGroup final : public DeviceGroup {
 public:
  SharedMemoryGroup(const std::string& name, int rank, int size)
      : rank_(rank), size_(size), file_(::shm_open(name.c_str(), O_RDWR | O_CREAT, 0600)) {
    if (file_ < 0) throw std::runtime_error("shm_open failed");
    if (::ftruncate(file_, kHeader) != 0) throw std::runtime_error("ftruncate failed");
    void* const header = ::mmap(nullptr, kHeader, PROT_READ | PROT_WRITE, MAP_SHARED, file_, 0);
    if (header == MAP_FAILED) throw std::runtime_error("mmap failed");
    arrived_ = static_cast<std::atomic<std::uint64_t>*>(header);
    // Nobody comes by the name once all are here, and the memory goes with the last of them.
    ++arrived_[1];
    while (arrived_[1] < static_cast<std::uint64_t>(size)) ::usleep(100);
    ::shm_unlink(name.c_str());
  }
  SharedMemoryGroup(const SharedMemoryGroup&) = delete;
  SharedMemoryGroup& operator=(const SharedMemoryGroup&) = delete;
  ~SharedMemoryGroup() override {
    if (rows_ != nullptr) ::munmap(rows_, mapped_);
    ::munmap(arrived_, kHeader);
    ::close(file_);
  }

  void reduce_scatter(const View& values) override { begin(values, true); }
  void all_gather(const View& values) override { begin(values, false); }

  bool done() override {
    if (values_ == nullptr) return true;
    if (arrived_[0] < operation_ * static_cast<std::uint64_t>(size_)) return false;
    const std::int64_t part = count_ / size_;
    for (int p = 0; p < size_; ++p) {
      if (sums_ && p != rank_) {  // not what was there: nobody may count on it
        std::fill_n(values_ + p * part, part, -7.0f);
        continue;
      }
      for (std::int64_t i = p * part; i < (p + 1) * part; ++i) {
        float sum = 0;
        for (int r = 0; r < size_; ++r) sum += row_of(r)[i];
        values_[i] = sums_ ? sum : row_of(p)[i];
      }
    }
    values_ = nullptr;
    return true;
  }
  void abort() override { values_ = nullptr; }

 private:
  void begin(const View& values, bool sums) {
    values_ = values.data<float>();
    count_ = values.count();
    sums_ = sums;
    if (rows_ == nullptr) {
      mapped_ = 2 * static_cast<std::size_t>(size_) * values.size_bytes();
      const auto whole = static_cast<off_t>(kHeader + mapped_);
      if (::ftruncate(file_, whole) != 0) throw std::runtime_error("ftruncate failed");
      rows_ = ::mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_SHARED, file_, kHeader);
      if (rows_ == MAP_FAILED) throw std::runtime_error("mmap failed");
    }
    ++operation_;
    std::memcpy(row_of(rank_), values_, values.size_bytes());
    ++arrived_[0];
  }
  float* row_of(int rank) const {
    return static_cast<float*>(rows_) +
           (static_cast<std::int64_t>(operation_ % 2) * size_ + rank) * count_;
  }

  const int rank_, size_;
  const int file_;
  std::atomic<std::uint64_t>* arrived_;
  void* rows_ = nullptr;
  std::size_t mapped_ = 0;
  std::uint64_t operation_ = 0;
  float* values_ = nullptr;
  std::int64_t count_ = 0;
  bool sums_ = false;
};

}  // namespace

std::string why_no_groups() {
  return cuda_on_host::machine().groups ? "" : "NCCL: there is none on this machine";
}

std::string name_new_group() {
  return "/quire-on-host-" + std::to_string(::getpid());
}

std::unique_ptr<DeviceGroup> join_group(const std::string& name, int rank, int size, cudaStream_t) {
  return std::make_unique<SharedMemoryGroup>(name, rank, size);
}

}  // namespace quire::cuda
