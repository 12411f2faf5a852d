// The product of many rows, bound by its flops. Rows of A are packed, a group of rows at a time, and tiles
// of rows × columns are the tasks. Each reads B where it lies, in slabs that are on their way to level-2
// cache while the one before is multiplied; a panel is packed while the first rows are multiplied by it,
// for the others. Until a sum over k is whole it stays in scratch memory, tile after tile: C is written
// once.
#pragma once

#include "kernels/cpu/epilogue.h"
#include "kernels/cpu/gemm.h"

namespace quire::cpu {

/// Any number of rows; p.b in panels only where the format reads them.
void many_rows(const Product& p, const PackedFormat& format, const Epilogue& epilogue,
               ThreadPool& pool);

}  // namespace quire::cpu
