// Properties that hold for every input, as libFuzzer calls them: each returns 0, throws nothing,
// and aborts when a property does not hold.
//
// Under Clang, `cmake -DQUIRE_FUZZ=ON` builds a fuzzer for each (fuzz_safetensors, fuzz_csv,
// fuzz_keywords, fuzz_shard, fuzz_decompress, fuzz_json_line). Everywhere, fuzz_test.cpp drives them with seeded
// mutations of valid files.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

/// Opening a file of these bytes throws Error(bad_data), or every tensor lies inside the file, has
/// the bytes that its shape takes, and together they cover the data.
int fuzz_safetensors(const std::uint8_t* data, std::size_t size);
/// Reading these bytes as a table throws Error(bad_data), or all rows have as many fields as the
/// header, and written again, by field or as they were, they read back the same.
int fuzz_csv(const std::uint8_t* data, std::size_t size);
/// Reading these bytes as a line of JSON throws Error(bad_data), or each field is found as it is
/// written, and its text is that of the line where it is a number.
int fuzz_json_line(const std::uint8_t* data, std::size_t size);
/// The first two bytes are options, the rest is a text: its sentences leave out nothing but white
/// space, no word is empty, and its keywords are as many, as long and in the order asked for.
int fuzz_keywords(const std::uint8_t* data, std::size_t size);
/// Opening these bytes as a token shard throws Error(bad_data), or its records are in order and all
/// ids lie in the file.
int fuzz_shard(const std::uint8_t* data, std::size_t size);
/// Unpacking these bytes throws Error(bad_data), or gives a text that comes twice where they do.
int fuzz_decompress(const std::uint8_t* data, std::size_t size);

#define QUIRE_FUZZ_REQUIRE(condition)                                                \
  do {                                                                               \
    if (!(condition)) {                                                              \
      std::fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition); \
      std::abort();                                                                  \
    }                                                                                \
  } while (false)
