// Weights in panels (WeightLayout), which a core reads from end to end with the sums of a panel's columns
// in registers. Of one row, weights out of memory, on one core of a Zen 5: as fast as memory is read,
// where [K, N] with its sums in cache takes 1.15 to 1.2 times as long, and [N, K], transposed in registers, 1.3.
#pragma once

#include "kernels/cpu/epilogue.h"
#include "kernels/cpu/gemm.h"

namespace quire::cpu {

/// How few rows are multiplied.
struct FormatByPanels {
  PackedFormat packed;
  /// a·a_scale as x[word of k][row], as in StreamedFormat.
  void (*prepare)(const Product& product, void* x);
};
FormatByPanels floats_by_panels();

/// The product of few rows, b in panels that the format reads; the bits of any other way.
void few_rows_by_panels(const Product& p, const FormatByPanels& format, const Epilogue& epilogue,
                        ThreadPool& pool);

}  // namespace quire::cpu
