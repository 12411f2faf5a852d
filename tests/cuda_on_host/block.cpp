#include "tests/cuda_on_host/block.h"

#include <algorithm>
#include <boost/context/fiber.hpp>
#include <boost/context/fixedsize_stack.hpp>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tests/cuda_on_host/sanitizers.h"

namespace quire::cuda_on_host {

const ThreadView* current_thread = nullptr;

namespace {

namespace context = boost::context;

constexpr std::size_t kStackBytes = (kAddressSanitizer || kThreadSanitizer) ? 512 << 10 : 64 << 10;
constexpr std::size_t kRedZone = 128;  // what shared memory is aligned to, as on a GPU
constexpr std::byte kUnwritten{0xff};
constexpr unsigned kLanes = 32;

enum class State : std::uint8_t { ready, at_barrier, in_warp_operation, ended };

struct Thread {
  ThreadView view;
  State state = State::ended;
  const char* waits_in = "";
  Site site{"", 0};
  bool started_block = false;
  bool waited_for_previous = false;
  unsigned index = 0;  // in its block
  std::vector<AsyncCopy> started;
  std::deque<std::vector<AsyncCopy>> committed;
  std::vector<AsyncCopy> taken;

  context::fiber fiber;
  FiberState sanitizers;
};

/// Lanes that wait for each other.
struct Group {
  unsigned mask = 0, arrived = 0;
  const char* what = "";
  Site site{"", 0};
  Combine combine = nullptr;
  void* operands[kLanes] = {};
};

struct Warp {
  unsigned alive = 0;  // lanes that have not ended
  std::vector<Group> groups;
};

/// Bytes between two red zones.
struct SharedArray {
  const void* tag;
  std::byte* memory;
  std::size_t bytes;

  SharedArray(const void* tag_, std::size_t bytes_)
      : tag(tag_),
        memory(static_cast<std::byte*>(std::aligned_alloc(kRedZone, whole(bytes_)))),
        bytes(bytes_) {
    std::memset(memory, static_cast<int>(kUnwritten), whole(bytes));
    poison(memory, kRedZone);
    poison(data() + bytes, whole(bytes) - kRedZone - bytes);
  }
  SharedArray(const SharedArray&) = delete;
  SharedArray& operator=(const SharedArray&) = delete;
  ~SharedArray() {
    unpoison(memory, whole(bytes));
    std::free(memory);
  }

  static std::size_t whole(std::size_t bytes) {
    return (bytes + kRedZone - 1) / kRedZone * kRedZone + 2 * kRedZone;
  }
  std::byte* data() const { return memory + kRedZone; }
  bool intact() const {
    unpoison(memory, whole(bytes));
    const auto unwritten = [](std::byte b) { return b == kUnwritten; };
    return std::all_of(memory, data(), unwritten) &&
           std::all_of(data() + bytes, memory + whole(bytes), unwritten);
  }
};

/// Unwinds the threads that a fault has stopped.
struct Cancelled {};

/// Remembers where the stacks lie. Each begins in other lines of a page than its neighbours: one set of the first
/// cache would have to hold the same frame of all threads otherwise.
struct StackAllocator {
  FiberState* state;
  std::size_t unused;  // bytes at the stack's begin
  StackAllocator(Thread& thread)
      : state(&thread.sanitizers), unused(std::size_t{thread.index} * 5 % 64 * 64) {}
  context::stack_context allocate() const {
    context::stack_context stack = context::fixedsize_stack(kStackBytes).allocate();
    stack.sp = static_cast<std::byte*>(stack.sp) - unused;
    stack.size -= unused;
    state->bottom = static_cast<std::byte*>(stack.sp) - stack.size;
    state->size = stack.size;
    return stack;
  }
  void deallocate(context::stack_context& stack) const {
    stack.sp = static_cast<std::byte*>(stack.sp) + unused;
    stack.size += unused;
    context::fixedsize_stack(kStackBytes).deallocate(stack);
  }
};

class Scheduler {
 public:
  void run(const char* name, Index3 grid, Index3 block, std::size_t shared_bytes,
           const std::function<void()>& body, Overlap overlap);
  void seed(std::uint64_t seed) { random_ = seed * 2 + 1; }

  void barrier(Site site);
  void wait_for_previous();
  void warp_wide(const char* what, unsigned mask, Site site, void* operand, Combine combine);
  std::byte* dynamic_shared() { return shared_.front().data(); }
  void* static_shared(const void* tag, std::size_t bytes);
  Thread& current() { return *current_; }

 private:
  void join_group(const char* what, unsigned mask, Site site, void* operand, Combine combine);
  void run_block(Index3 index);
  void run_previous();
  void resume(Thread& thread);
  void switch_to_scheduler(Thread& thread);
  void suspend();
  void wait(State state, const char* what, Site site);
  void make_ready(Thread& thread) {
    thread.state = State::ready;
    ready_.push_back(&thread);
  }
  void open_barrier_if_complete();
  void finish_if_complete(Warp& warp, unsigned first_thread);
  void ended(Thread& thread);
  /// Called on a thread's own stack: the launch ends with this.
  [[noreturn]] void fail(const std::string& what);
  std::string waiting() const;
  void start_fiber(Thread& thread);
  std::uint64_t draw() {  // xorshift64
    random_ ^= random_ << 13;
    random_ ^= random_ >> 7;
    random_ ^= random_ << 17;
    return random_;
  }

  const char* name_ = "";
  const std::function<void()>* body_ = nullptr;
  std::size_t shared_bytes_ = 0;
  Overlap overlap_;
  std::vector<Thread*> waiting_for_previous_;
  Index3 block_index_;

  std::vector<std::unique_ptr<Thread>> threads_;  // kept from launch to launch
  unsigned count_ = 0, alive_ = 0, at_barrier_ = 0;
  std::vector<Thread*> ready_;
  std::vector<Warp> warps_;
  std::deque<SharedArray> shared_;
  Thread* current_ = nullptr;
  context::fiber scheduler_;
  FiberState scheduler_sanitizers_;
  std::string fault_;
  std::uint64_t random_ = 0x9E3779B97F4A7C15u;
  // Addresses for TSan to synchronise by. Those of a block, its warps' too, are new memory for each
  // block: at an old one a block would find what the last one released, and no race between blocks.
  char begin_ = 0, end_ = 0, previous_ = 0;
  std::unique_ptr<char> block_barrier_;
};

/// One for the kernel that runs, and one for the kernel before it, where that runs meanwhile.
Scheduler& scheduler(int depth) {
  static auto* const instances = new Scheduler[2];  // fibers are not unwound at the end
  return instances[depth];
}
int depth = 0;
Scheduler& scheduler() {
  return scheduler(depth);
}

std::string text_of(Index3 i) {
  return "(" + std::to_string(i.x) + ", " + std::to_string(i.y) + ", " + std::to_string(i.z) + ")";
}
std::string text_of(Site site) {
  const char* slash = std::strrchr(site.file, '/');
  return std::string(slash != nullptr ? slash + 1 : site.file) + ":" + std::to_string(site.line);
}
bool same(Site a, Site b) {
  return a.line == b.line && (a.file == b.file || std::strcmp(a.file, b.file) == 0);
}

void Scheduler::start_fiber(Thread& thread) {
  thread.fiber = context::fiber(std::allocator_arg, StackAllocator(thread),
                                [this, &thread](context::fiber&& back) {
                                  scheduler_ = std::move(back);
                                  entered_fiber(scheduler_sanitizers_);
                                  for (;;) {  // a block each time round
                                    acquire(&begin_);
                                    try {
                                      (*body_)();
                                      const Unwatched here;
                                      ended(thread);
                                    } catch (const Cancelled&) {
                                      thread.state = State::ended;
                                    }
                                    release(&end_);
                                    switch_to_scheduler(thread);
                                  }
                                  return std::move(scheduler_);
                                });
}

void Scheduler::resume(Thread& thread) {
  current_ = &thread;
  current_thread = &thread.view;
  leave_for(scheduler_sanitizers_, thread.sanitizers);
  thread.fiber = std::move(thread.fiber).resume();
  arrived_back(scheduler_sanitizers_);
  current_ = nullptr;
  current_thread = nullptr;
}

void Scheduler::switch_to_scheduler(Thread& thread) {
  leave_for(thread.sanitizers, scheduler_sanitizers_);
  scheduler_ = std::move(scheduler_).resume();
  arrived_back(thread.sanitizers);
}

void Scheduler::suspend() {
  switch_to_scheduler(*current_);
  if (!fault_.empty()) throw Cancelled{};
}

void Scheduler::fail(const std::string& what) {
  const Unwatched here;
  fault_ = std::string(name_) + ", block " + text_of(block_index_) + ", thread " +
           text_of(current_->view.thread_index) + ": " + what;
  throw Cancelled{};
}

void Scheduler::run(const char* name, Index3 grid, Index3 block, std::size_t shared_bytes,
                    const std::function<void()>& body, Overlap overlap) {
  if (current_thread != nullptr) throw Fault("a kernel launches a kernel");
  if (grid.count() == 0 || block.count() == 0 || block.count() > 1024) {
    throw Fault(std::string(name) + ": a grid of " + text_of(grid) + " blocks of " +
                text_of(block) + " threads cannot be launched");
  }
  name_ = name;
  body_ = &body;
  shared_bytes_ = shared_bytes;
  overlap_ = std::move(overlap);
  count_ = block.count();
  for (auto i = static_cast<unsigned>(threads_.size()); i < count_; ++i) {
    threads_.push_back(std::make_unique<Thread>());
    threads_[i]->index = i;
    start_fiber(*threads_[i]);
    pass_on_stack(threads_[i]->sanitizers);
  }
  for (unsigned i = 0; i < count_; ++i) {
    ThreadView& view = threads_[i]->view;
    view.thread_index = {i % block.x, i / block.x % block.y, i / (block.x * block.y)};
    view.block_extents = block;
    view.grid_extents = grid;
    view.lane = i % kLanes;
  }
  adopt_this_thread(scheduler_sanitizers_);
  release(&begin_);
  const std::uint64_t blocks = std::uint64_t{grid.x} * grid.y * grid.z;
  const std::uint64_t first = draw() % blocks;
  for (std::uint64_t n = 0; n < blocks; ++n) {
    const std::uint64_t b = (first + n) % blocks;
    run_block({static_cast<unsigned>(b % grid.x), static_cast<unsigned>(b / grid.x % grid.y),
               static_cast<unsigned>(b / grid.x / grid.y)});
  }
  acquire(&end_);
}

void Scheduler::run_block(Index3 index) {
  const Unwatched here;
  block_index_ = index;
  shared_.emplace_back(nullptr, shared_bytes_);
  warps_ = std::vector<Warp>((count_ + kLanes - 1) / kLanes);
  block_barrier_ = std::make_unique<char>();
  ready_.clear();
  waiting_for_previous_.clear();
  alive_ = count_;
  at_barrier_ = 0;
  // Every other block runs one warp as far as it gets before the next one starts, the rest any
  // thread that can go on: the first finds barriers that are missing between warps.
  const bool warp_by_warp = draw() % 2 == 0;
  const unsigned rotation = static_cast<unsigned>(draw() % warps_.size()) * kLanes;
  for (unsigned n = 0; n < count_; ++n) {
    const unsigned i = (n + rotation) % count_;
    Thread& thread = *threads_[i];
    thread.view.block_index = index;
    thread.started_block = false;
    thread.waited_for_previous = !overlap_.allowed;
    thread.started.clear();
    thread.committed.clear();
    warps_[i / kLanes].alive |= 1u << i % kLanes;
    make_ready(thread);
    new_thread(thread.sanitizers);
  }
  while (fault_.empty()) {
    if (ready_.empty() && !waiting_for_previous_.empty()) {
      // As late as may be: what reads too early finds nothing of it.
      run_previous();
      for (Thread* thread : std::exchange(waiting_for_previous_, {})) make_ready(*thread);
      continue;
    }
    if (ready_.empty()) break;
    const std::size_t at = warp_by_warp ? ready_.size() - 1 : draw() % ready_.size();
    Thread& next = *ready_[at];
    ready_[at] = ready_.back();
    ready_.pop_back();
    next.started_block = true;
    resume(next);
  }
  if (fault_.empty() && alive_ > 0) {
    fault_ = std::string(name_) + ", block " + text_of(index) + ": deadlock: " + waiting();
  }
  if (fault_.empty()) {
    for (const SharedArray& array : shared_) {
      if (!array.intact()) {
        fault_ = std::string(name_) + ", block " + text_of(index) +
                 ": a write beyond an array of " + std::to_string(array.bytes) +
                 " bytes in shared memory";
      }
    }
  }
  if (!fault_.empty()) {
    for (unsigned i = 0; i < count_; ++i) {
      if (threads_[i]->state != State::ended && threads_[i]->started_block) resume(*threads_[i]);
    }
  }
  for (unsigned i = 0; i < count_; ++i) end_thread(threads_[i]->sanitizers);
  shared_.clear();
  if (!fault_.empty()) {
    acquire(&end_);
    throw Fault(std::exchange(fault_, ""));
  }
}

void Scheduler::run_previous() {
  ++depth;
  try {
    std::exchange(overlap_.previous, nullptr)();
  } catch (const Fault& fault) {
    fault_ = fault.what();
  }
  --depth;
  release(&previous_);
}

std::string Scheduler::waiting() const {
  std::string text;
  for (unsigned first = 0; first < count_;) {
    const Thread& thread = *threads_[first];
    unsigned end = first + 1;
    while (end < count_ && threads_[end]->state == thread.state &&
           (thread.state == State::ended || same(threads_[end]->site, thread.site))) {
      ++end;
    }
    if (!text.empty()) text += "; ";
    text += end == first + 1
                ? "thread " + std::to_string(first)
                : "threads " + std::to_string(first) + " to " + std::to_string(end - 1);
    text += thread.state == State::ended
                ? " ended"
                : std::string(" at ") + thread.waits_in + " (" + text_of(thread.site) + ")";
    first = end;
  }
  return text;
}

void Scheduler::wait(State state, const char* what, Site site) {
  current_->state = state;
  current_->waits_in = what;
  current_->site = site;
}

void Scheduler::barrier(Site site) {
  release(block_barrier_.get());
  wait(State::at_barrier, "__syncthreads", site);
  ++at_barrier_;
  {
    const Unwatched here;
    open_barrier_if_complete();
  }
  suspend();
  acquire(block_barrier_.get());
}

void Scheduler::wait_for_previous() {
  current_->waited_for_previous = true;
  if (overlap_.previous) {
    {
      const Unwatched here;
      waiting_for_previous_.push_back(current_);
    }
    suspend();
  }
  acquire(&previous_);
}

void Scheduler::open_barrier_if_complete() {
  if (at_barrier_ == 0 || at_barrier_ != alive_) return;
  const Thread* first = nullptr;
  for (unsigned i = 0; i < count_; ++i) {
    const Thread& thread = *threads_[i];
    if (thread.state != State::at_barrier) continue;
    if (first == nullptr) first = &thread;
    if (!same(thread.site, first->site)) fail("divergent barrier: " + waiting());
  }
  at_barrier_ = 0;
  for (unsigned i = 0; i < count_; ++i) {
    if (threads_[i]->state == State::at_barrier) make_ready(*threads_[i]);
  }
}

void Scheduler::ended(Thread& thread) {
  if (!thread.waited_for_previous) {
    fail("ends without having waited for the kernels that its launch overlaps");
  }
  thread.state = State::ended;
  --alive_;
  Warp& warp = warps_[thread.index / kLanes];
  warp.alive &= ~(1u << thread.view.lane);
  finish_if_complete(warp, thread.index / kLanes * kLanes);
  open_barrier_if_complete();
}

void Scheduler::warp_wide(const char* what, unsigned mask, Site site, void* operand,
                          Combine combine) {
  const Thread& thread = *current_;
  join_group(what, mask, site, operand, combine);
  suspend();
  if (combine == kSynchronizes) acquire(&warps_[thread.index / kLanes]);
}

/// Enters the operation, and finishes it when this lane is the last one.
void Scheduler::join_group(const char* what, unsigned mask, Site site, void* operand,
                           Combine combine) {
  const Unwatched here;
  const Thread& thread = *current_;
  Warp& warp = warps_[thread.index / kLanes];
  const unsigned bit = 1u << thread.view.lane;
  if ((mask & bit) == 0) {
    fail(std::string(what) + " at " + text_of(site) + " with a mask that leaves its own lane out");
  }
  auto group = std::find_if(warp.groups.begin(), warp.groups.end(),
                            [&](const Group& g) { return (g.mask & mask) != 0; });
  if (group == warp.groups.end()) {
    warp.groups.push_back({.mask = mask, .what = what, .site = site, .combine = combine});
    group = warp.groups.end() - 1;
  } else if (group->mask != mask || group->combine != combine || !same(group->site, site)) {
    fail(std::string(what) + " at " + text_of(site) + " while lanes of its warp are in " +
         group->what + " at " + text_of(group->site));
  }
  group->arrived |= bit;
  group->operands[thread.view.lane] = operand;
  if (combine == kSynchronizes) release(&warp);
  wait(State::in_warp_operation, what, site);
  finish_if_complete(warp, thread.index / kLanes * kLanes);
}

void Scheduler::finish_if_complete(Warp& warp, unsigned first_thread) {
  for (std::size_t g = 0; g < warp.groups.size(); ++g) {
    Group& group = warp.groups[g];
    if ((group.mask & warp.alive) != group.arrived) continue;
    if (group.combine != kSynchronizes) group.combine(group.operands);
    for (unsigned lane = 0; lane < kLanes; ++lane) {
      if ((group.arrived >> lane & 1u) != 0) make_ready(*threads_[first_thread + lane]);
    }
    warp.groups.erase(warp.groups.begin() + static_cast<std::ptrdiff_t>(g));
    return;
  }
}

void* Scheduler::static_shared(const void* tag, std::size_t bytes) {
  const Unwatched here;
  for (const SharedArray& array : shared_) {
    if (array.tag == tag) return array.data();
  }
  shared_.emplace_back(tag, bytes);
  return shared_.back().data();
}

}  // namespace

void run_kernel(const char* name, Index3 grid, Index3 block, std::size_t shared_bytes,
                const std::function<void()>& body, Overlap overlap) {
  scheduler().run(name, grid, block, shared_bytes, body, std::move(overlap));
}
void set_schedule_seed(std::uint64_t seed) {
  for (const int d : {0, 1}) scheduler(d).seed(seed);
}

void sync_threads(Site site) {
  scheduler().barrier(site);
}
void wait_for_previous() {
  scheduler().wait_for_previous();
}
std::byte* dynamic_shared() {
  return scheduler().dynamic_shared();
}
void* static_shared(const void* tag, std::size_t bytes) {
  return scheduler().static_shared(tag, bytes);
}

void keep_async(const AsyncCopy& copy) {
  const Unwatched here;
  scheduler().current().started.push_back(copy);
}
void commit_async() {
  const Unwatched here;
  Thread& thread = scheduler().current();
  thread.committed.push_back(std::exchange(thread.started, {}));
}
const AsyncCopy* take_async(int keep, std::size_t& count) {
  const Unwatched here;
  Thread& thread = scheduler().current();
  thread.taken.clear();
  while (thread.committed.size() > static_cast<std::size_t>(keep)) {
    const std::vector<AsyncCopy>& oldest = thread.committed.front();
    thread.taken.insert(thread.taken.end(), oldest.begin(), oldest.end());
    thread.committed.pop_front();
  }
  count = thread.taken.size();
  return thread.taken.data();
}

void warp_wide(const char* what, unsigned mask, Site site, void* operand, Combine combine) {
  scheduler().warp_wide(what, mask, site, operand, combine);
}

}  // namespace quire::cuda_on_host
