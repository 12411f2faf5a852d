// Where the program keeps what it found out about this machine and can find out again.
#pragma once

#include <filesystem>

namespace quire {

/// $QUIRE_CACHE_DIR, $XDG_CACHE_HOME/quire or ~/.cache/quire, whether it is there or not; empty
/// where none of them is set.
std::filesystem::path cache_folder();

}  // namespace quire
