// Which build this is.
#pragma once

#include <string>

namespace quire {

/// The linker's hash of the running program in hexadecimal digits: other code, another id. Empty
/// where the linker wrote none.
std::string build_id();

}  // namespace quire
