// What a device's own products reach, measured: a run's MFU is held against it.
#pragma once

#include "kernels/ops.h"

namespace quire {

/// What "products in `dtype`" are on a device: of operands of that type where it keeps activations
/// in it, of float ones that are rounded where it can do that, of float ones where it cannot.
struct ProductType {
  DType operands = DType::f32;
  Multiply multiply = Multiply::as_stored;
};
ProductType product_type(const Device& device, DType dtype);

/// Flops a second of the device's own product at a shape of GPT-2's, [256, 768]·[768, 3072]: the
/// best of those that fit into `seconds`, and of three at least.
double measure_matmul(Device& device, DType dtype = DType::f32, double seconds = 0.4);

}  // namespace quire
