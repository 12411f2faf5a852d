// The awkward shapes of every op, shared by the tests and the benchmarks.
//
// Vectors are 4, 8 or 16 floats wide, so widths hug those: one less, equal, one more. The rest are
// what breaks kernels in practice: 1 everywhere, odd C, T = 1, vocabularies that leave 0, 1 and 3
// over, and extents past every blocking size (257, 513, 1025).
#pragma once

#include <cstdint>

namespace quire::cases {

struct Rows {
  std::int64_t N, C;
};
/// The last four are kept in a GPU's registers by groups of 256 elements: 5, 7, 7 and not at all.
inline constexpr Rows kLayernorm[] = {
    {1, 1},   {1, 2},    {2, 3},    {3, 4},    {1, 5},     {2, 7},    {5, 8},    {3, 9},
    {1, 15},  {4, 16},   {2, 17},   {7, 31},   {1, 32},    {2, 33},   {9, 48},   {3, 63},
    {2, 64},  {1, 65},   {1, 96},   {2, 97},   {5, 127},   {33, 129}, {65, 40},  {3, 257},
    {2, 768}, {2, 1025}, {257, 20}, {3, 1272}, {19, 1600}, {2, 1792}, {2, 1800},
};
inline constexpr Rows kCrossEntropy[] = {
    {1, 1},     {3, 2},    {2, 3},    {1, 4},    {5, 5},    {2, 7},     {3, 8},  {1, 9},
    {2, 15},    {4, 16},   {3, 17},   {1, 31},   {2, 33},   {66, 63},   {3, 65}, {2, 257},
    {33, 1000}, {5, 1001}, {3, 1003}, {129, 20}, {2, 8192}, {2, 50257},
};

struct Embedding {
  std::int64_t B, T, C, V, P;
};
inline constexpr Embedding kEmbedding[] = {
    {1, 1, 1, 1, 1},    {1, 2, 3, 2, 2},    {2, 1, 4, 5, 1},      {3, 5, 7, 4, 8},
    {2, 9, 8, 3, 9},    {1, 4, 9, 100, 16}, {2, 17, 15, 11, 17},  {2, 3, 16, 50, 64},
    {4, 33, 17, 7, 33}, {1, 3, 33, 9, 3},   {2, 65, 48, 257, 64}, {1, 7, 257, 40, 1024},
};

/// out [M, N] = x [M, K] · weight [K, N]
struct Matmul {
  std::int64_t M, K, N;
};
inline constexpr Matmul kMatmul[] = {
    {1, 1, 1},
    {1, 2, 3},
    {2, 1, 5},
    {3, 4, 1},
    {1, 7, 8},
    {2, 8, 9},
    {3, 9, 7},
    {4, 15, 16},
    {5, 16, 17},
    {6, 17, 15},
    {7, 31, 33},
    {8, 32, 32},
    {9, 33, 31},
    {11, 48, 48},
    {12, 47, 49},
    {13, 63, 65},
    {14, 64, 64},
    {15, 65, 63},
    {16, 3, 129},
    {17, 129, 4},
    {1, 257, 513},
    {1, 1025, 31},
    {1, 64, 1025},
    {2, 513, 257},
    {3, 257, 1},
    {4, 1025, 3},
    {5, 96, 288},
    {6, 513, 130},
    {8, 300, 70},
    {24, 257, 40},
    {31, 40, 96},
    {33, 48, 257},
    {63, 24, 17},
    {65, 17, 48},
    {129, 65, 33},
    {257, 33, 65},
    {300, 20, 5},
    {40, 130, 1003},
    {66, 513, 20},
    {70, 260, 264},
    // Past what is packed at once: deep sums, wide rows, many rows.
    {3, 20, 4000},
    {20, 9, 8200},
    {300, 8200, 3},
    {8200, 9, 3},
};

struct Attention {
  std::int64_t B, T, H, D;
};
inline constexpr Attention kAttention[] = {
    {1, 1, 1, 1},    {1, 1, 2, 64},   {2, 2, 1, 2},    {1, 3, 3, 3},   {2, 4, 2, 4},
    {1, 5, 1, 5},    {1, 7, 2, 7},    {3, 8, 2, 8},    {1, 9, 3, 9},   {2, 15, 1, 12},
    {1, 16, 2, 16},  {2, 17, 3, 16},  {1, 31, 2, 15},  {1, 33, 1, 17}, {2, 33, 4, 32},
    {1, 63, 1, 33},  {1, 64, 2, 64},  {2, 65, 2, 24},  {1, 66, 1, 80}, {1, 40, 2, 96},
    {1, 70, 1, 128}, {1, 129, 2, 20}, {1, 257, 1, 64},
};

/// Around the edges of tiles of 16, 32, 64 and 128 queries and keys, in heads of whole vectors.
inline constexpr Attention kAttentionTiles[] = {
    {1, 1, 2, 64},   {2, 16, 1, 8},   {1, 17, 2, 16},  {2, 31, 1, 24},  {1, 63, 2, 64},
    {1, 64, 1, 40},  {1, 65, 1, 64},  {2, 66, 1, 64},  {1, 96, 1, 64},  {1, 127, 1, 32},
    {1, 128, 1, 64}, {1, 129, 1, 8},  {1, 130, 1, 64}, {1, 70, 1, 80},  {1, 65, 2, 96},
    {1, 97, 1, 128}, {1, 34, 1, 128}, {1, 193, 1, 64}, {1, 257, 1, 64}, {1, 140, 1, 128},
    {1, 131, 1, 64}, {1, 33, 1, 64},
};

/// Counts of elements, for ops that know no rows.
inline constexpr std::int64_t kCounts[] = {1,  2,  3,  4,  5,  7,   8,   9,   15,   16,   17,
                                           31, 32, 33, 63, 65, 127, 257, 999, 1025, 70001};

}  // namespace quire::cases
