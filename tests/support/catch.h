// Catch2 2 (Debian 12) and 3 (Ubuntu 24.04 and later) behind one include.
#pragma once

#ifdef QUIRE_CATCH2_V2
#include <catch2/catch.hpp>
#else
#include <catch2/catch_all.hpp>
using Catch::Approx;  // as version 2 has it
#endif
