// What AddressSanitizer and ThreadSanitizer want to know about fibers. For block.cpp alone, which
// is built without them: CMake says by QUIRE_FIBERS_ASAN and QUIRE_FIBERS_TSAN what the rest has.
#pragma once

#include <cstddef>

#ifdef QUIRE_FIBERS_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef QUIRE_FIBERS_TSAN
#include <sanitizer/tsan_interface.h>
extern "C" {
void AnnotateBenignRaceSized(const char* file, int line, const volatile void* data,
                             std::size_t bytes, const char* what);
void AnnotateIgnoreWritesBegin(const char* file, int line);
void AnnotateIgnoreWritesEnd(const char* file, int line);
}
#endif

namespace quire::cuda_on_host {

#ifdef QUIRE_FIBERS_ASAN
inline constexpr bool kAddressSanitizer = true;
#else
inline constexpr bool kAddressSanitizer = false;
#endif
#ifdef QUIRE_FIBERS_TSAN
inline constexpr bool kThreadSanitizer = true;
#else
inline constexpr bool kThreadSanitizer = false;
#endif

/// A stack, as the sanitizers know it.
struct FiberState {
  const void* bottom = nullptr;
  std::size_t size = 0;
  void* fake_stack = nullptr;  // ASan's
  void* thread = nullptr;      // TSan's
};

/// Just before the switch from one stack to the other.
inline void leave_for([[maybe_unused]] FiberState& from, [[maybe_unused]] FiberState& to) {
#ifdef QUIRE_FIBERS_ASAN
  __sanitizer_start_switch_fiber(&from.fake_stack, to.bottom, to.size);
#endif
#ifdef QUIRE_FIBERS_TSAN
  __tsan_switch_to_fiber(to.thread, __tsan_switch_to_fiber_no_sync);
#endif
}

/// Just after a switch to `self`, which had left before.
inline void arrived_back([[maybe_unused]] FiberState& self) {
#ifdef QUIRE_FIBERS_ASAN
  __sanitizer_finish_switch_fiber(self.fake_stack, nullptr, nullptr);
#endif
}

/// Just after the first switch to a new fiber, from `origin`.
inline void entered_fiber([[maybe_unused]] FiberState& origin) {
#ifdef QUIRE_FIBERS_ASAN
  __sanitizer_finish_switch_fiber(nullptr, &origin.bottom, &origin.size);
#endif
}

/// TSan's thread for the calling stack.
inline void adopt_this_thread([[maybe_unused]] FiberState& self) {
#ifdef QUIRE_FIBERS_TSAN
  self.thread = __tsan_get_current_fiber();
#endif
}

/// A thread of its own for TSan, that has seen nothing yet.
inline void new_thread([[maybe_unused]] FiberState& self) {
#ifdef QUIRE_FIBERS_TSAN
  self.thread = __tsan_create_fiber(0);
#endif
}
inline void end_thread([[maybe_unused]] FiberState& self) {
#ifdef QUIRE_FIBERS_TSAN
  __tsan_destroy_fiber(self.thread);
#endif
}

/// What was written before release() is seen after acquire().
inline void release([[maybe_unused]] void* address) {
#ifdef QUIRE_FIBERS_TSAN
  __tsan_release(address);
#endif
}
inline void acquire([[maybe_unused]] void* address) {
#ifdef QUIRE_FIBERS_TSAN
  __tsan_acquire(address);
#endif
}

/// A stack is used by one block's thread after the other's, which TSan would take for races.
inline void pass_on_stack([[maybe_unused]] const FiberState& self) {
#ifdef QUIRE_FIBERS_TSAN
  AnnotateBenignRaceSized(__FILE__, __LINE__, self.bottom, self.size, "a fiber's stack");
#endif
}

/// While it lives TSan does not watch the calling fiber: what the scheduler allocates in one fiber
/// and frees in another is no race of the kernel's. Ends before the next switch.
class Unwatched {
 public:
#ifdef QUIRE_FIBERS_TSAN
  Unwatched() {
    AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
  }
  ~Unwatched() {
    AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
  }
#else
  Unwatched() {}
#endif
  Unwatched(const Unwatched&) = delete;
  Unwatched& operator=(const Unwatched&) = delete;
};

inline void poison([[maybe_unused]] const void* data, [[maybe_unused]] std::size_t bytes) {
#ifdef QUIRE_FIBERS_ASAN
  __asan_poison_memory_region(data, bytes);
#endif
}
inline void unpoison([[maybe_unused]] const void* data, [[maybe_unused]] std::size_t bytes) {
#ifdef QUIRE_FIBERS_ASAN
  __asan_unpoison_memory_region(data, bytes);
#endif
}

}  // namespace quire::cuda_on_host
