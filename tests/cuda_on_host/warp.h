// Operations of a whole warp, on the CPU: shuffles, votes, and the matrix instructions, whose
// fragments are laid out as the PTX ISA (9.7.14, "Warp Level Matrix Instructions") draws them.
// Like block.cpp, warp.cpp is built without sanitizers: no lane touches another one's stack.
#pragma once

#include <cstdint>

#include "tests/cuda_on_host/block.h"

namespace quire::cuda_on_host {

void sync_warp(Site site, unsigned mask = 0xffffffffu);

/// What others wrote before theirs is seen after it, and what came before it by theirs.
void thread_fence();

enum class Shuffle : std::uint8_t { index, up, exclusive_or };
/// A lane whose source is outside its segment of `width` lanes keeps its own value; one whose
/// source has ended gets all ones, NaN as a float.
std::uint64_t shuffle(Site site, Shuffle kind, unsigned mask, std::uint64_t value, int argument,
                      int width);

/// A bit for each lane of the mask whose predicate holds.
unsigned ballot(Site site, unsigned mask, bool predicate);

/// ldmatrix: lane l has brought row l%8 of matrix l/8, eight 16-bit elements, as `row`. On return
/// matrices[m] holds this lane's two elements of matrix m.
void gather_matrices(Site site, const std::uint32_t row[4], std::uint32_t matrices[4],
                     bool transposed);

enum class MmaType : std::uint8_t { f16, bf16 };
/// mma.sync.m16n8k16 .row.col, float accumulators: d = a·b + c.
void mma(Site site, MmaType type, float d[4], const std::uint32_t a[4], const std::uint32_t b[2],
         const float c[4]);

}  // namespace quire::cuda_on_host
