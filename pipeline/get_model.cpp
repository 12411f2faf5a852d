#include "pipeline/get_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "base/hub_names.h"

namespace quire {

namespace fs = std::filesystem;

namespace {

/// Of the names without an organisation, those that the Hub knows as GPT-2.
bool is_size_of_gpt2(const std::string& name) {
  constexpr std::array<std::string_view, 5> kSizes = {kUsualModel, "gpt2-medium", "gpt2-large",
                                                      "gpt2-xl", "distilgpt2"};
  return std::find(kSizes.begin(), kSizes.end(), name) != kSizes.end();
}

/// The Hub moved "gpt2" to "openai-community/gpt2"; both are known.
std::string without_organisation(const std::string& name) {
  for (const std::string_view organisation : {"openai-community/", "distilbert/"}) {
    if (name.starts_with(organisation)) return name.substr(organisation.size());
  }
  return name;
}

}  // namespace

std::vector<std::string> how_to_get(const std::string& name) {
  const bool known = is_size_of_gpt2(without_organisation(name));
  if (!may_be_hub_name(name) || (!known && name.find('/') == std::string::npos)) return {};
  return {(known ? name + " does not come with Quire" : "if " + name + " is a model of the Hub") +
              ", this gets it:",
          "  quire download " + name,
          "it goes to the Hub's cache, where the name is enough: " + hub_cache().string(),
          "or one line of Python does (pip install huggingface_hub):",
          "  python3 -c \"from huggingface_hub import snapshot_download as get; get('" + name +
              "', local_dir='" + name + "', allow_patterns=['*.json', '*.txt', '*.safetensors'])\"",
          "that writes the folder " + name +
              " here; moved, also to a machine without a network, it is named by its path"};
}

std::vector<std::string> how_to_get(const fs::path& folder) {
  for (const fs::path& part : folder) {
    const std::string name = name_of_hub_cache_folder(part.string());
    if (!name.empty()) return how_to_get(name);
  }
  const fs::path last = folder.has_filename() ? folder.filename() : folder.parent_path().filename();
  return is_size_of_gpt2(last.string()) ? how_to_get(last.string()) : std::vector<std::string>();
}

std::string models_to_try() {
  return fmt::format(
      "{}, which comes with Quire and needs nothing, or a folder with config.json and "
      "model.safetensors",
      kBundledModel);
}

}  // namespace quire
