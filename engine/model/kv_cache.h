// Incremental forward with cached keys and values, for rows of different lengths.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "engine/model/gpt2.h"

namespace quire {

/// Rows of a batch that grow token by token. Left padding is how rows of different lengths meet in
/// one batch; each row's results equal those of the row alone, bit for bit.
class Gpt2Decoder {
 public:
  /// Room for `batch` rows of `slots` cached positions each (padding included). `max_new` is the
  /// most tokens a row that one call of forward() brings (the longest prompt).
  Gpt2Decoder(Device& device, const Gpt2Config& config, const Parameters& parameters, int batch,
              int slots, int max_new);
  Gpt2Decoder(Gpt2Decoder&&) noexcept;
  ~Gpt2Decoder();

  /// Forgets everything; the next forward() starts rows with padding[b] pad tokens
  /// on the left (empty: none).
  void reset(std::span<const std::int32_t> padding);

  /// Takes T more ids for each of B rows, ids [B, T] on the host; B at most `batch`. Returns the
  /// logits after the last id of each row: a view of [B, V] in device memory, valid until the next
  /// call. Positions count from the first id that is not padding.
  View forward(int batch, std::span<const std::int32_t> ids);

  /// Row r goes on from what row sources[r] holds, for every r below sources.size(). Several rows
  /// may go on from the same one.
  void select_rows(std::span<const int> sources);

  int length() const;  ///< slots used, padding included
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
