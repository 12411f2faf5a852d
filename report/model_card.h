// README.md of a model folder: what the Hugging Face Hub shows of it.
#pragma once

#include <filesystem>
#include <string>

#include "engine/model/config.h"
#include "pipeline/train_options.h"

namespace quire {

/// The card of what these options trained: the Hub's fields as YAML, then what it is, what it was made
/// from, how to write with it, and that whoever publishes it should say more. An adapter's names its
/// base as the Hub has it, or says where that is to be written. The same run gives the same text.
std::string model_card(const TrainOptions& options, const Gpt2Config& config);

/// What a folder of a run gets beside the model: `saved`, its options, as quire_config.json, and the
/// output folder its card.
void write_about_run(const std::filesystem::path& folder, const std::string& saved,
                     const TrainOptions& options, const Gpt2Config& config);

}  // namespace quire
