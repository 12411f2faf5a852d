// README.md of a model folder: what the Hugging Face Hub shows of it.
//
// Fields as YAML, the name, then a part between two comments that is written anew whenever the card
// is, from facts: what it is, what it was made from, its losses, how to write with it. All else is
// the person's who wrote it, fields too, and stays.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/model/config.h"
#include "pipeline/train_options.h"
#include "report/card_facts.h"

namespace quire {

/// What no file tells; empty: unknown, and not in the card. Names and words of the Hub's.
struct CardFields {
  std::string license, base_model;
  std::vector<std::string> languages, datasets;
};

/// A whole card; the same facts give the same text. Of data it names the files' last parts. An
/// adapter's names its base as the Hub has it, or says where that is to be written.
std::string model_card(const CardFacts& facts, const CardFields& fields = {});

/// The card with its generated part and fields anew and all else as it is; nullopt: it is no card of
/// Quire's, since the comments around that part are not there.
std::optional<std::string> renewed_card(std::string_view card, const CardFacts& facts,
                                        const CardFields& fields = {});

/// What README.md in a folder with a model is to be: renewed where there is a card, else a new one;
/// nullopt where somebody wrote a README.md without the comments. Throws as facts_of_folder().
std::optional<std::string> model_card_for_folder(const std::filesystem::path& folder,
                                                 const CardFields& fields = {});

/// What a folder of a run gets beside the model: `saved`, its options, as quire_config.json, and the
/// output folder its card. False where a README.md of somebody's own is left there as it is.
bool write_about_run(const std::filesystem::path& folder, const std::string& saved,
                     const TrainOptions& options, const Gpt2Config& config);

}  // namespace quire
