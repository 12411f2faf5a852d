// state_ packs all that the threads have to agree on,
// so that one compare-and-swap settles each step:
//
//   bits 31…16  generation   counts the jobs, wraps
//   bit  15     open         workers may join the job of this generation
//   bit  14     caller waits the last worker to leave must wake the caller
//   bits 13…0   inside       workers that have joined and not left
//
// A worker reads the job only after it has joined; the caller closes the job, waits for `inside` to
// reach zero and only then writes the next one. A worker that oversleeps a job (or 65,536 of them)
// misses nothing that had to be done by it.
#include "kernels/cpu/parallel.h"

#include <algorithm>
#include <chrono>
#include <string>
#include <system_error>

#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#endif

#include "base/error.h"
#include "base/parallel.h"

namespace quire::cpu {
namespace {

constexpr std::uint32_t kOpen = 1u << 15;
constexpr std::uint32_t kCallerWaits = 1u << 14;
constexpr std::uint32_t kInside = kCallerWaits - 1;
constexpr std::uint32_t generation_of(std::uint32_t state) {
  return state >> 16;
}

constexpr std::chrono::microseconds kSpin{40};

thread_local std::size_t thread_index = 0;

void pause() {
#if defined(__x86_64__) || defined(__i386__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Until done(state) holds: spins for kSpin, then sleeps on the state. `before_sleep` may change the
// state and returns the value to sleep on.
template <class Done, class BeforeSleep>
std::uint32_t wait_until(std::atomic<std::uint32_t>& state, Done done, BeforeSleep before_sleep) {
  const auto deadline = std::chrono::steady_clock::now() + kSpin;
  for (bool spinning = true;;) {
    for (int i = 0; spinning && i < 64; ++i) {
      const std::uint32_t now = state.load(std::memory_order_acquire);
      if (done(now)) return now;
      pause();
    }
    spinning = spinning && std::chrono::steady_clock::now() < deadline;
    if (!spinning) {
      const std::uint32_t now = before_sleep(state.load(std::memory_order_acquire));
      if (done(now)) return now;
      state.wait(now, std::memory_order_acquire);
    }
  }
}

}  // namespace

ThreadPool::ThreadPool(int threads) {
  if (threads < 0) {
    throw Error(Fault::usage, "a thread count cannot be " + std::to_string(threads), {},
                "`threads` 0 for one per core"_named);
  }
  const int count = threads == 0 ? available_threads() : threads;
  if (count > static_cast<int>(kInside)) {
    throw Error(Fault::usage, std::to_string(count) + " threads are more than the " +
                                  std::to_string(kInside) + " there can be");
  }
  scratch_.resize(static_cast<std::size_t>(count));
  begun_.resize(scratch_.size());
  try {
    for (int i = 1; i < count; ++i) workers_.emplace_back([this, i] { worker(i); });
  } catch (const std::system_error& error) {
    // The limit on processes, say. Those that came up must end before the object does.
    stop_ = true;
    state_.fetch_add(1u << 16);
    state_.notify_all();
    for (std::thread& thread : workers_) thread.join();
    throw Error(Fault::no_space, "cannot start " + std::to_string(count) + " threads",
                {error.what()}, "a smaller `threads`"_named);
  }
}

ThreadPool::~ThreadPool() {
  stop_.store(true, std::memory_order_relaxed);
  state_.fetch_add(1u << 16, std::memory_order_release);
  state_.notify_all();
  for (std::thread& thread : workers_) thread.join();
}

std::size_t ThreadPool::this_thread() {
  return thread_index;
}

std::byte* ThreadPool::scratch(std::size_t bytes) {
  return scratch_[thread_index].at_least(bytes);
}

void ThreadPool::run_erased(std::int64_t tasks, Call call, void* context) {
  if (thread_index != 0 || running_) {
    throw Error(Fault::internal, "a task of a thread pool started another run");
  }
  if (tasks <= 0) return;
  running_ = true;
  call_ = call;
  context_ = context;
  const bool alone = tasks == 1 || workers_.empty();
  ranges_ = alone ? 1 : std::min(scratch_.size(), kMostRanges);
  const auto count = static_cast<std::int64_t>(ranges_);
  for (std::int64_t i = 0; i < count; ++i) {
    Range& range = range_[static_cast<std::size_t>(i)];
    range.next.store(tasks * i / count, std::memory_order_relaxed);
    range.end = tasks * (i + 1) / count;
  }
  if (!alone) {
    // Generation + 1, open, nobody inside.
    const std::uint32_t last = state_.load(std::memory_order_relaxed);
    state_.store(((generation_of(last) + 1) << 16) | kOpen, std::memory_order_release);
    state_.notify_all();
  }
  take_tasks();
  if (!alone) {
    state_.fetch_and(~kOpen, std::memory_order_acq_rel);
    wait_until(
        state_, [](std::uint32_t state) { return (state & kInside) == 0; },
        [this](std::uint32_t) {
          return state_.fetch_or(kCallerWaits, std::memory_order_acq_rel) | kCallerWaits;
        });
  }
  running_ = false;
  if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
}

void ThreadPool::take_tasks() {
  const std::size_t own = thread_index % ranges_;
  for (std::size_t i = 0; i < ranges_; ++i) {
    Range& range = range_[(own + i) % ranges_];
    while (range.next.load(std::memory_order_relaxed) < range.end) {
      const std::int64_t task = range.next.fetch_add(1, std::memory_order_relaxed);
      if (task >= range.end) break;
      try {
        call_(context_, task);
      } catch (...) {
        const std::lock_guard lock(error_mutex_);
        if (!error_) error_ = std::current_exception();
        for (Range& left : range_) left.next.store(left.end, std::memory_order_relaxed);
      }
    }
  }
}

void ThreadPool::worker(int index) {
  thread_index = static_cast<std::size_t>(index);
  std::uint32_t seen = 0;  // generation
  for (;;) {
    std::uint32_t state = wait_until(
        state_, [&](std::uint32_t now) { return generation_of(now) != seen; },
        [](std::uint32_t now) { return now; });
    if (stop_.load(std::memory_order_relaxed)) return;
    seen = generation_of(state);
    // Join, unless the job is closed or the next one came in between.
    bool joined = false;
    while (!joined && generation_of(state) == seen && (state & kOpen) != 0) {
      joined = state_.compare_exchange_weak(state, state + 1, std::memory_order_acq_rel,
                                            std::memory_order_acquire);
    }
    if (!joined) continue;
    take_tasks();
    const std::uint32_t before = state_.fetch_sub(1, std::memory_order_acq_rel);
    if ((before & kInside) == 1 && (before & kCallerWaits) != 0) state_.notify_all();
  }
}

}  // namespace quire::cpu
