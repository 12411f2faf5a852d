// Where a model comes from that is not there: `quire download`, one line of Python, and where these
// put it; and the model for which there is nothing to get.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace quire {

/// The model that comes with the program, by the name that --model takes.
inline constexpr const char* kBundledModel = "narrator";
/// The model that most people mean: it does not come with the program.
inline constexpr const char* kUsualModel = "gpt2";

/// Lines that say how a model of that name is got from the Hub; none for what cannot be one:
/// a path, or a word without an organisation that is not one of GPT-2's sizes.
std::vector<std::string> how_to_get(const std::string& name);

/// The same for a folder that is there and lacks something: one in the Hub's cache, or one that is
/// called as one of GPT-2's sizes.
std::vector<std::string> how_to_get(const std::filesystem::path& folder);

/// "narrator, which comes with Quire and needs nothing, …": what to try where a model is missing.
std::string models_to_try();

}  // namespace quire
