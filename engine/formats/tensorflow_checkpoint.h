// TensorFlow's checkpoints, as OpenAI published GPT-2: model.ckpt.index says what lies where in
// model.ckpt.data-00000-of-00001 (or several such shards); hparams.json beside them is the config.
//
// The index is a table of LevelDB: under the empty key a Header, under each tensor's name an Entry
// (tensor_bundle.proto). LevelDB reads it and checks its checksums. Those of tensors, a pass over
// all weights before the first is used, are not checked, as in no other format.
#pragma once

#include <filesystem>
#include <string_view>

#include "engine/formats/source.h"

namespace quire {

/// Tensors of GPT-2's graph have Hugging Face's names and shapes: "model/h0/attn/c_attn/w" [1, in,
/// out] is "h.0.attn.c_attn.weight" [in, out]; others the names that they have. config() is from
/// hparams.json, where that is there. Throws Error(bad_data) with file, tensor and numbers.
class TensorflowCheckpoint : public TensorSource {
 public:
  /// model.ckpt.index, or the file `checkpoint` that names the newest of those beside it.
  explicit TensorflowCheckpoint(const std::filesystem::path& index_or_checkpoint);
};

/// Whether a file begins as an index does, or as a `checkpoint`.
bool begins_as_tensorflow_index(std::string_view beginning);
bool begins_as_tensorflow_checkpoint(std::string_view beginning);

}  // namespace quire
