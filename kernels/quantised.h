// Weights in blocks of small integers, as GGUF has them, and how they lie for the kernels.
//
// A block is 32 neighbours of a row: a scale d in float16, then the codes. As GGUF stores it:
//
//   q8_0  34 bytes: d, 32 int8 q                                     element i is d·q[i]
//   q4_0  18 bytes: d, 16 bytes of two codes of 4 bits, q in 0…15    element i is d·(q[i] - 8);
//         byte i has code i in its low bits and code i + 16 in its high ones
//
// Either way a block is a column of words of 16 bits, 17 or 9 of them: d, then two neighbours of k
// in each (in q4_0, two more in the high bits). Packed, 16 rows are a panel, and the blocks that
// they have at the same k are transposed as words:
//
//   packed[panel][block of k][word][row of the panel]
//
// so that one load brings a word for each of 16 rows, which a multiply-add of pairs takes, and a
// product reads its weight from end to end. The last panel is filled up with rows of zeros.
// Packing changes no bit of a block.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/weight.h"

namespace quire {

/// What a packed [N, K] takes, as Weight::size_bytes() says it. K is a multiple of 32.
std::size_t packed_bytes(WeightFormat format, std::int64_t N, std::int64_t K);

/// Rows [first, first + count) of [N, K]: whole panels, or up to N.
struct PackedRows {
  std::int64_t N, K;
  std::int64_t first, count;
};

/// `blocks` are those of the first row and on, row after row; `packed` is where row 0 begins, so
/// that several threads can each pack rows of their own. Throws Error(internal) where rows or K do
/// not fit.
void pack_rows(WeightFormat format, const PackedRows& rows, const std::byte* blocks,
               std::byte* packed);
/// The exact inverse: `blocks` is overwritten with those of the rows.
void unpack_rows(WeightFormat format, const PackedRows& rows, const std::byte* packed,
                 std::byte* blocks);

/// Row `row` of a packed weight, K floats: exact, as d·q has no more than 19 bits.
void read_row(const Weight& weight, std::int64_t row, float* to);

}  // namespace quire
