// A fork-join pool of threads: run() spreads numbered tasks over all of them and returns when the
// last is done.
//
// Each thread takes the tasks of a range of its own, in order, as neighbours mostly lie side by side in
// memory, which is read the faster the longer a core goes straight on; then what is left of the
// others' ranges, so a slow core takes fewer. What a task computes must depend on its number alone,
// never on the thread or on how many there are: then results are the same bits with any number of
// threads.
//
// The caller works too and never waits for a thread that has not joined in: a worker that is still
// asleep costs nothing. Workers spin for some microseconds before they sleep, as the ops of a model
// follow each other closely (waking a sleeper takes about 50 µs, a spinner under 1 µs).
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "kernels/cpu/memory.h"

namespace quire::cpu {

class ThreadPool {
 public:
  /// The caller and threads - 1 workers; 0 means one thread per core that this process may use.
  explicit ThreadPool(int threads);
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;
  ~ThreadPool();

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  /// Calls task(i) once for each i in [0, tasks), in any order and on any thread. An exception ends
  /// the run: tasks not yet begun are dropped and it is thrown here. One run at a time: a task must
  /// not call run().
  template <class Task>
  void run(std::int64_t tasks, Task&& task) {
    using Plain = std::remove_reference_t<Task>;
    run_erased(
        tasks, [](void* context, std::int64_t i) { (*static_cast<Plain*>(context))(i); },
        const_cast<void*>(static_cast<const void*>(std::addressof(task))));
  }

  /// The same, and on each thread begin() before its first task: scratch() that it fills is there for
  /// all of the thread's tasks.
  template <class Begin, class Task>
  void run(std::int64_t tasks, const Begin& begin, const Task& task) {
    std::fill(begun_.begin(), begun_.end(), char{0});
    run(tasks, [&](std::int64_t i) {
      if (std::exchange(begun_[this_thread()], char{1}) == 0) begin();
      task(i);
    });
  }

  /// Calls work(first, count) for the pieces [first, first + count) of [0, n), of `piece` each but
  /// the last, as tasks of run().
  template <class Work>
  void run_pieces(std::int64_t n, std::int64_t piece, const Work& work) {
    run((n + piece - 1) / piece,
        [&](std::int64_t task) { work(task * piece, std::min(piece, n - task * piece)); });
  }

  /// Memory for the task that calls this, aligned to 64 bytes and uninitialised. It is the thread's
  /// one block: the next call on the same thread, perhaps by its next task, takes it over.
  std::byte* scratch(std::size_t bytes);
  template <class T>
  T* scratch(std::int64_t count) {
    return reinterpret_cast<T*>(scratch(static_cast<std::size_t>(count) * sizeof(T)));
  }
  /// The same for several arrays, one behind the other.
  template <class T, class... Counts>
  std::array<T*, sizeof...(Counts)> scratch_arrays(Counts... counts) {
    T* next = scratch<T>((counts + ...));
    return {std::exchange(next, next + counts)...};
  }

  /// A second block, the op's own: asked for outside run(), it is there for all of the op's tasks
  /// (partial sums, packed operands) until the next op asks.
  std::byte* shared_scratch(std::size_t bytes) { return shared_.at_least(bytes); }
  template <class T>
  T* shared_scratch(std::int64_t count) {
    return reinterpret_cast<T*>(shared_scratch(static_cast<std::size_t>(count) * sizeof(T)));
  }

 private:
  using Call = void (*)(void* context, std::int64_t task);

  /// Tasks [next, end) are still to be taken.
  struct alignas(64) Range {
    std::atomic<std::int64_t> next{0};
    std::int64_t end = 0;
  };
  // Threads beyond so many share ranges: each of them looks through all when its own is empty.
  static constexpr std::size_t kMostRanges = 16;

  /// 0 in every thread that is not a worker of a pool.
  static std::size_t this_thread();
  void run_erased(std::int64_t tasks, Call call, void* context);
  void take_tasks();
  void worker(int index);

  // The job, written by the caller while no worker is inside.
  Call call_ = nullptr;
  void* context_ = nullptr;
  std::size_t ranges_ = 0;  // of range_, those in use
  std::mutex error_mutex_;
  std::exception_ptr error_;

  // Each on a cache line of its own: threads write to the ranges, waiting ones read state_.
  std::array<Range, kMostRanges> range_;
  alignas(64) std::atomic<std::uint32_t> state_{0};  // see parallel.cpp
  std::atomic<bool> stop_{false};
  bool running_ = false;

  alignas(64) std::vector<GrowingBlock> scratch_;  // one for each thread
  std::vector<char> begun_;                        // so, too; not bits, as each writes its own
  GrowingBlock shared_;
  std::vector<std::thread> workers_;
};

}  // namespace quire::cpu
