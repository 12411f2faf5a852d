// The product of few rows, c[m,n] = a[m,k]·b[k,n] + bias, is bound by reading b. Memory is at its
// fastest when a core reads it from end to end (on one Zen 5, twice as fast as in columns of a few
// hundred floats), so b is cut into pieces that are contiguous: ranges of k where its rows are,
// ranges of columns where its columns are.
//
// `x` is a with its rows side by side, [m,k].
#pragma once

#include <cstdint>

#include "kernels/cpu/gemm.h"

namespace quire::cpu {

/// At most this many rows: m of every product here.
inline constexpr std::int64_t kFewRows = 8;

/// b's rows are contiguous. One part of the sum (see kSumDepth) for columns [first, first + count):
/// sums[i][j] = sum of x[i][k]·b[k][j] over k in [first_k, first_k + depth). `sums` is [m,n].
void stream_rows(const Product& product, const float* x, std::int64_t first_k, std::int64_t depth,
                 std::int64_t first, std::int64_t count, float* sums);

/// Columns [first, first + count) of c from all parts, [parts,m,n], and the bias.
void add_parts(const Product& product, const float* sums, std::int64_t parts, std::int64_t first,
               std::int64_t count);

/// b's columns are contiguous. Columns [first, first + count) of c, whole.
void stream_columns(const Product& product, const float* x, std::int64_t first, std::int64_t count);

}  // namespace quire::cpu
