// The packed product of operands rounded to bfloat16, on processors with AMX (Intel's Xeons from
// Sapphire Rapids on).
//
// TDPBF16PS adds a step of 32 k to a tile of C: from zero, one chain of fused multiply-adds over the
// even k and one over the odd, then c += even + odd; all is rounded to the nearest, subnormal numbers
// count as zero and results that would be are zero (Intel's manual of instructions). Tiles, streams of
// few rows (amx_streams()) and tile_arithmetic.h have that order.
#pragma once

#include <string>

#include "kernels/cpu/gemm.h"

namespace quire::cpu {

/// Why there is none, as a sentence goes on; empty where there is. Asks the processor, then Linux for
/// the permission to use tiles, and then multiplies a small product (agrees_with_loops()): once in a
/// process. Only then call amx_format() and amx_rounds(). Where it is empty, why_no_bf16() is, too.
std::string why_no_amx();

/// Each sum over k is taken in parts of this many, each from zero, which are added in order of k: a
/// whole number of steps. That of 32 × 32 sums takes 768 cycles of the unit that multiplies tiles,
/// beside which 64 vectors are stored and added; its panels of A and B fill a first-level cache of
/// 48 KB.
inline constexpr std::int64_t kAmxSumDepth = 384;

/// Steps of 32 k.
PackedFormat amx_format();

/// Whether a product of that format has the bits of plain loops in the order above.
bool agrees_with_loops(const PackedFormat& format);

/// Does `rounds` rounds of independent products of tiles in registers and returns their flops; the
/// result is handed out as by bf16_rounds().
double amx_rounds(std::int64_t rounds, float* result);

}  // namespace quire::cpu
