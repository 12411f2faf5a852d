// The main job in a minute: a small model is fine-tuned on the quotes that come with Quire, and writes
// from the same prompts before and after. The steps are as many on every machine, however busy: the
// same seed gives the same text.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <vector>

#include "engine/formats/hub_folder.h"
#include "engine/training/trainer.h"
#include "pipeline/training_data.h"

namespace quire {

/// The table of quotes. Throws Error(bad_data) with the folders where it is not.
std::filesystem::path find_quotes();

/// Throws Error(usage) for a folder that holds what no demo has made, unless it is to be overwritten,
/// and what check_writable() throws.
void check_demo_folder(const std::filesystem::path& folder, bool overwrite);

class Demo {
 public:
  /// `model`: as resolve_model() has it. Refers to the device. It trains in float32; `writes_in`:
  /// what matrices are rounded to for texts. Throws what check_quantised() throws.
  Demo(Device& device, const std::filesystem::path& model,
       std::optional<Quantisation> writes_in = {});

  /// Reads the data that `options` name, and sets when the run logs and evaluates: eight times and
  /// four.
  void read(TrainOptions& options, const DataCallbacks& callbacks);

  const Gpt2Config& config() const { return model_.config; }
  std::int64_t train_records() const { return data_.train.size(); }
  std::int64_t held_out_records() const { return data_.validation.size(); }

  /// From each prompt a text; none where it was asked to stop before they were whole.
  std::vector<TextSample> texts(std::uint64_t seed,
                                const std::function<bool()>& stop_requested) const;
  /// Beside what the callback writes to a model folder goes the tokenizer. The output folder is the
  /// demo's from now on.
  TrainingResult fine_tune(TrainingConfig config, TrainingCallbacks callbacks) const;

 private:
  Device& device_;
  LoadedModel model_;
  std::optional<Quantisation> writes_in_;
  Tokenizer tokenizer_;
  TrainData data_;
};

}  // namespace quire
