// Matrices as blocks of 8 or 4 bits, packed for the kernels (kernels/quantised.h), out of whatever
// their file has.
//
// In blocks are what products multiply with: the matrices of the layers, the table of tokens and the
// head. Positions, biases and layernorms are few, and stay as they are. Blocks go along the summed
// dimension: along `in` of a Conv1D [in, out], along the channels of a table [V, C].
//
//   int8  Q8_0 for all of them
//   int4  Q4_0 for the layers, Q8_0 for table and head. With Q4_0 for these too, it costs the fixtures'
//         tiny-char 0.8 % of perplexity instead of 0.2 (its own kind of text), and the bundled model
//         3.6 instead of 3.3 (both with llama.cpp's rounding); of GPT-2's 124M it would be 70 MB a
//         token instead of 89. llama.cpp's own Q4_0 files have 6 bits there.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "engine/formats/source.h"
#include "engine/model/config.h"
#include "engine/model/parameters.h"
#include "kernels/device.h"
#include "kernels/weight.h"

namespace quire {

enum class Quantisation : std::uint8_t { int8, int4 };
const char* name_of(Quantisation quantisation);

/// What so many bytes of a weight take among others that each begin on a line of the cache.
std::size_t whole_lines(std::size_t bytes);

/// Whether a parameter is a matrix [in, out] of a layer, which some files have as [out, in].
bool is_conv1d(const NamedParameter& parameter);
/// Whether a parameter is one that products multiply with.
bool multiplies(const NamedParameter& parameter);
/// Of such a one as products have it in blocks: [N, K] of a Conv1D [K, N].
Shape out_in_shape(const NamedParameter& parameter);
/// The format that a parameter has in memory; nullopt: it stays as it is, as products do not
/// multiply with it, or as its K is not a multiple of a block.
std::optional<WeightFormat> format_in(Quantisation quantisation, const NamedParameter& parameter);
/// The format of the blocks of a file's type; nullopt for the others.
std::optional<WeightFormat> format_of_blocks(const FileTensor& tensor);

/// What a model's weights take in memory with matrices in blocks where they can be, and all else as
/// `rest`.
std::size_t quantised_bytes(const Gpt2Config& config, Quantisation quantisation, DType rest);

/// A tensor of the shape of `parameter`, to be packed as `format` into memory of packed_bytes().
struct ToPack {
  const NamedParameter* parameter;
  const FileTensor* from;
  WeightFormat format;
  void* to;
};
/// On all threads that are available; each takes memory for 64 rows of N beside. Blocks of the same
/// format that lie as [N, K] keep their bits; all else becomes float, and Q8_0 as quantise() rounds, Q4_0
/// as quantise_q4_0_closely() does. Throws Error(bad_data) for what is not finite, or too large for
/// a block's scale.
void pack_weights(const std::vector<ToPack>& all);

/// Copies of the parameters, on a device that shares the host's memory, with matrices in blocks.
/// Throws what check_quantised() throws.
Parameters quantised(Device& device, const Gpt2Config& config, const Parameters& parameters,
                     Quantisation quantisation);

/// Throws Error(device) where the device has no products with such weights, and Error(bad_data) where
/// no matrix of a model of that config can be in blocks.
void check_quantised(const Device& device, const Gpt2Config& config, Quantisation quantisation);
/// For people, where some matrices are not in blocks of `quantisation`; or empty.
std::string note_of_unfit(const Gpt2Config& config, Quantisation quantisation);

}  // namespace quire
