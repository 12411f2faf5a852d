// Weights as they lie in a file: to float, from float, and whether they are finite.
//
// Source pointers need no alignment. All loops are written so that compilers vectorise them: a
// check of 500 MB that come mapped from the page cache takes 27 ms on one thread of a Zen 3, the
// page faults that the first use would pay anyway included
// (23 ms, the memory's rate, when touched again).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "kernels/device.h"

namespace quire {

/// The index of the first element that is NaN or infinite.
std::optional<std::int64_t> find_not_finite(const std::byte* from, DType dtype, std::int64_t count);

/// Element `index` as a float, whatever it is: for messages.
float element(const std::byte* from, DType dtype, std::int64_t index);

/// Finite elements to float. NaN and infinity of f16 come out as large numbers:
/// look for them first.
void read_elements(const std::byte* from, DType dtype, std::span<float> to);

/// Floats to elements, rounded to nearest, ties to even. Finite values beyond f16 become infinite.
void write_elements(std::span<const float> from, DType dtype, std::byte* to);

/// A tensor of any float type on the device, as floats: both wait until the elements are there.
std::vector<float> download(Device& device, const ConstView& from);
void upload(Device& device, std::span<const float> from, const View& to);

}  // namespace quire
