// Products in bfloat16 where activations are float: Multiply::in_bf16.
#pragma once

#include <string>

#include "kernels/device.h"
#include "tests/support/catch.h"

namespace quire::test {

/// Whether a model can be trained on the device with TrainingOptions::activations of that type.
inline bool trains_in(const Device& device, DType activations) {
  return device.activation_type(activations) == activations ||
         (activations == DType::bf16 && device.why_not_in_bf16().empty());
}

}  // namespace quire::test

/// Ends the test as skipped where the device does not multiply in bfloat16, saying why. Catch2 2
/// knows no skipping: there the test says so by name and ends.
#ifdef QUIRE_CATCH2_V2
#define QUIRE_NEEDS_BF16(device)                                          \
  if (const std::string why = (device).why_not_in_bf16(); !why.empty()) { \
    WARN("SKIPPED: no products in bfloat16 on the CPU: " << why);         \
    return;                                                               \
  }
#else
#define QUIRE_NEEDS_BF16(device)                                          \
  if (const std::string why = (device).why_not_in_bf16(); !why.empty()) { \
    SKIP("no products in bfloat16 on the CPU: " << why);                  \
  }
#endif
