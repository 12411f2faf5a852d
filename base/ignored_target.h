// The label of a token that is not to be learnt, as in PyTorch and transformers.
#pragma once

#include <cstdint>

namespace quire {

inline constexpr std::int32_t kIgnoredTarget = -100;

}  // namespace quire
