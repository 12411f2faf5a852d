// Memory plans: what work will hold at once, where it is to come from, and what is said when
// it does not fit.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/model/arena.h"
#include "kernels/device.h"

namespace quire {

/// The memory that a plan is held against.
struct MemoryRoom {
  std::int64_t available = 0;  ///< bytes that a plan may take
  std::string source;          ///< for people: "CUDA, NAME: 85 GB of memory, 84.1 GB of them free"
};

/// Of the device's own memory all that is free but a thirty-second, which the ops take for
/// themselves and a card's library for the code of its products; else what this machine can give.
MemoryRoom memory_room(const Device& device);

/// Error(no_space): `doing` ("training") needs more than there is, its largest parts, and `next`.
[[noreturn]] void throw_no_room(const std::string& doing, std::vector<MemoryItem> plan,
                                const MemoryRoom& room, const std::string& next);

}  // namespace quire
