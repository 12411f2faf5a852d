// PyTorch's checkpoints: pytorch_model.bin, nanoGPT's ckpt.pt. Nothing that they say is run.
#pragma once

#include <filesystem>

#include "engine/formats/source.h"

namespace quire {

/// What torch.save() wrote of a state dict, as a zip archive or, before PyTorch 1.6, as a row of
/// pickles. The dict is the whole, or its entry "model" (nanoGPT), "state_dict" or
/// "model_state_dict"; the wrappers' prefixes "_orig_mod." and "module." go. nanoGPT's
/// "model_args" become config(), its Linear weights are transposed, and biases that it was trained
/// without are zeros. Throws Error(bad_data) with file, tensor and place.
class TorchCheckpoint : public TensorSource {
 public:
  explicit TorchCheckpoint(const std::filesystem::path& path);
};

}  // namespace quire
