// The packed product of operands rounded to bfloat16, on processors with AVX-512 BF16.
#pragma once

#include <string>

#include "kernels/cpu/gemm.h"

namespace quire::cpu {

/// Why there is none, as a sentence goes on; empty where there is. Only then call what follows.
std::string why_no_bf16();

/// Each sum over k is taken in parts of this many: a part is one chain of dot products of two
/// neighbours, from zero, and parts are added in order of k, whatever the number of rows or threads.
/// Parts of 256 multiply many rows 2 % faster, but C = 768 has three of them, which two threads do
/// not share evenly (one row: 9 % slower); of 128, many rows and few take 4 % longer.
inline constexpr std::int64_t kBf16SumDepth = 192;

/// Two neighbours of k are one word. Subnormal numbers count as zero, and sums that would be are zero.
PackedFormat bf16_format();

/// Panels of `width` lanes, a multiple of 16, one behind the other, panel[k/2][lane]: element
/// (first_lane + lane, first_k + k) of `lanes` times `scale` for the first `count` lanes and k below
/// `depth`, zero for the others of the last panel and for the second half of the last word where
/// `depth` is odd. What is stored in bfloat16 has no scale but 1.
void pack_pairs(const Operand& lanes, std::int64_t first_lane, std::int64_t count,
                std::int64_t first_k, std::int64_t depth, float scale, std::int64_t width,
                void* words);

/// Does `rounds` rounds of independent dot products in registers and returns their flops; the
/// result is handed out so that it is computed.
double bf16_rounds(std::int64_t rounds, float* result);

}  // namespace quire::cpu
