// What storing a result in 16 bits adds to the bound of the same computation in float.
#pragma once

#include "verify/bounds.h"

namespace quire::test {

using verify::half_ulp;
using verify::rounded_to;
using verify::stored;

}  // namespace quire::test
