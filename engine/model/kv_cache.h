// Incremental forward with cached keys and values, for rows of different lengths.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "engine/model/gpt2.h"

namespace quire {

/// What a call brings for a row of the cache.
struct DecoderRow {
  int row = 0;
  /// One or more that follow what the row holds. None: the row becomes a copy of the one before it
  /// in the call, with its logits.
  std::span<const std::int32_t> ids;
};

/// A cache of rows that grow by tokens. Each has its own past and may begin anew at any time; a
/// call takes some of them, with any number of tokens each. Copies share the memory of what they
/// have in common, in blocks of kCacheBlock tokens. Where Device::rows_alone(), a row's results
/// equal those of the row alone, bit for bit.
class Gpt2Decoder {
 public:
  /// Room for `batch` rows of `slots` cached positions each. `max_new` is the most tokens that a
  /// call brings for each of them, on average.
  Gpt2Decoder(Device& device, const Gpt2Config& config, const Parameters& parameters, int batch,
              int slots, int max_new);
  Gpt2Decoder(Gpt2Decoder&&) noexcept;
  ~Gpt2Decoder();

  void reset();             ///< forgets everything
  void clear_row(int row);  ///< forgets what the row holds

  /// Takes more tokens for B different rows. Returns the logits after the last token of each: a
  /// view of [B, V] in device memory, valid until the next call. Nothing is computed for padding;
  /// neighbours that bring as many tokens are one op of attention.
  View forward(std::span<const DecoderRow> rows);
  /// T more ids for each of the rows 0 … batch - 1, ids [B, T].
  View forward(int batch, std::span<const std::int32_t> ids);

  /// Row `to` holds what row `from` does. Copies what `from` has behind its last full block.
  void copy_row(int to, int from);

  int length(int row) const;  ///< slots in use
  /// What it allocates, on a device with activations of that type. Where products of few rows are
  /// faster for it (Device::prefers_out_in), the first step makes a transposed copy of the blocks'
  /// matrices besides, if that takes no more than half of the memory then free.
  static std::size_t bytes(const Gpt2Config& config, int batch, int slots, int max_new,
                           DType activations = DType::f32);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace quire
