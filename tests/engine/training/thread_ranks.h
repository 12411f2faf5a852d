// Ranks that are threads of the test: what several processes do, without any.
#pragma once

#include <algorithm>
#include <condition_variable>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "engine/training/ranks.h"

namespace quire::test {

/// Where they wait for each other: what each brings lies open to all until the next meeting.
class Meeting {
 public:
  explicit Meeting(int size) : size_(size), brought_(static_cast<std::size_t>(size)) {}

  int size() const { return size_; }
  /// Brings `what`, waits for all, and calls `look` with what everybody has brought; waits again.
  void meet(int rank, const void* what,
            const std::function<void(const std::vector<const void*>&)>& look) {
    brought_[static_cast<std::size_t>(rank)] = what;
    wait();
    look(brought_);
    wait();
  }
  /// A thread has ended: the others would wait for ever.
  void lose(int rank) {
    const std::lock_guard lock(mutex_);
    if (lost_ < 0) lost_ = rank;  // those after it end because of it
    changed_.notify_all();
  }

 private:
  void wait() {
    std::unique_lock lock(mutex_);
    const int round = round_;
    if (++here_ == size_) {
      here_ = 0;
      ++round_;
      changed_.notify_all();
    }
    changed_.wait(lock, [&] { return round_ != round || lost_ >= 0; });
    if (round_ == round) throw PeerLost("rank " + std::to_string(lost_) + " is lost", lost_ == 0);
  }

  const int size_;
  std::vector<const void*> brought_;
  std::mutex mutex_;
  std::condition_variable changed_;
  int here_ = 0, round_ = 0, lost_ = -1;
};

class ThreadRanks final : public Ranks {
 public:
  ThreadRanks(int rank, Meeting& meeting) : rank_(rank), meeting_(meeting) {}

  int rank() const override { return rank_; }
  int size() const override { return meeting_.size(); }
  int local_rank() const override { return rank_; }
  int local_size() const override { return size(); }

  std::vector<double> collect(std::span<const double> values) override {
    std::vector<double> all;
    meeting_.meet(rank_, values.data(), [&](const std::vector<const void*>& brought) {
      for (const void* from : brought) {
        const auto* numbers = static_cast<const double*>(from);
        all.insert(all.end(), numbers, numbers + values.size());
      }
    });
    return all;
  }
  void reduce_scatter(Device& device, const View& values) override {
    std::vector<float> mine = on_host(device, values);
    const std::size_t part = mine.size() / static_cast<std::size_t>(size());
    const std::size_t begin = part * static_cast<std::size_t>(rank_);
    // Not what is there, so that nobody can count on it.
    std::vector<float> sums(mine.size(), -7.0f);
    meeting_.meet(rank_, mine.data(), [&](const std::vector<const void*>& brought) {
      for (std::size_t i = begin; i < begin + part; ++i) {
        sums[i] = 0;
        for (const void* from : brought) sums[i] += static_cast<const float*>(from)[i];
      }
    });
    device.copy_to_device(values.bytes(), sums.data(), values.size_bytes());
    device.synchronize();
  }
  void all_gather(Device& device, const View& values) override {
    const std::vector<float> mine = on_host(device, values);
    std::vector<float> all = mine;
    const std::size_t part = mine.size() / static_cast<std::size_t>(size());
    meeting_.meet(rank_, mine.data(), [&](const std::vector<const void*>& brought) {
      for (std::size_t r = 0; r < brought.size(); ++r) {
        std::copy_n(static_cast<const float*>(brought[r]) + r * part, part,
                    all.begin() + static_cast<std::ptrdiff_t>(r * part));
      }
    });
    device.copy_to_device(values.bytes(), all.data(), values.size_bytes());
    device.synchronize();
  }
  std::vector<float> gather(std::span<const float> part) override {
    std::vector<float> row;
    meeting_.meet(rank_, part.data(), [&](const std::vector<const void*>& brought) {
      for (const void* from : brought) {
        const auto* numbers = static_cast<const float*>(from);
        if (first()) row.insert(row.end(), numbers, numbers + part.size());
      }
    });
    return row;
  }

 private:
  static std::vector<float> on_host(Device& device, const View& values) {
    std::vector<float> host(static_cast<std::size_t>(values.count()));
    device.copy_to_host(host.data(), values.bytes(), values.size_bytes());
    device.synchronize();
    return host;
  }

  const int rank_;
  Meeting& meeting_;
};

/// Runs `work` on so many ranks and returns what each of them threw, or null.
inline std::vector<std::exception_ptr> on_ranks(
    int size, const std::function<void(const std::shared_ptr<Ranks>&)>& work) {
  Meeting meeting(size);
  std::vector<std::exception_ptr> thrown(static_cast<std::size_t>(size));
  std::vector<std::thread> threads;
  for (int r = 0; r < size; ++r) {
    threads.emplace_back([&, r] {
      try {
        work(std::make_shared<ThreadRanks>(r, meeting));
      } catch (const PeerFailed&) {
        thrown[static_cast<std::size_t>(r)] = std::current_exception();  // all of them end
      } catch (...) {
        thrown[static_cast<std::size_t>(r)] = std::current_exception();
        meeting.lose(r);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  return thrown;
}

}  // namespace quire::test
