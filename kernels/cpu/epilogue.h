// What follows a product, on columns that are finished and still in cache.
#pragma once

#include <cstdint>

#include "kernels/cpu/activation.h"
#include "kernels/cpu/gemm.h"

namespace quire::cpu {

/// What is done to finished elements of C.
struct Epilogue {
  Activation activation = Activation::none;
  // Rows c_stride apart like C; C itself where the pre-activation is not kept; null: nothing to do.
  float* out = nullptr;
  // Like out, or null. Where given, C is the gradient of activation(x) for this x: out is that of x.
  const float* gradient_at = nullptr;
};

/// Does it for rows [first_row, first_row + rows) of columns [first_column, first_column + columns).
inline void finish(const Product& p, const Epilogue& epilogue, std::int64_t first_row,
                   std::int64_t rows, std::int64_t first_column, std::int64_t columns) {
  if (epilogue.out == nullptr) return;
  // Without an activation a pre-activation that is kept is still copied.
  if (epilogue.activation == Activation::none && epilogue.out == p.c) return;
  for (std::int64_t i = first_row; i < first_row + rows; ++i) {
    const std::int64_t at = i * p.c_stride + first_column;
    if (epilogue.gradient_at == nullptr) {
      activation_row(epilogue.activation, p.c + at, epilogue.out + at, columns);
    } else {
      activation_backward_row(epilogue.activation, epilogue.gradient_at + at, p.c + at,
                              epilogue.out + at, columns);
    }
  }
}

}  // namespace quire::cpu
