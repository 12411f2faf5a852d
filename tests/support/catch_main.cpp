// Catch2 2 wants its main generated in one file; Catch2 3 brings its own.
#ifdef QUIRE_CATCH2_V2
#define CATCH_CONFIG_MAIN
#include <catch2/catch.hpp>
#endif
