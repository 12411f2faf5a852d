// What the Hugging Face Hub calls models, and where its cache has them: the layout of huggingface_hub,
// which transformers and Quire share.
//
//   CACHE/models--ORG--NAME/
//     blobs/HASH                     what is in a file, named by its hash: SHA-256 of Git LFS, else git's SHA-1
//     refs/main                      the commit that a branch or tag stood at
//     snapshots/COMMIT/FILE          a link to ../../blobs/HASH
//   CACHE/.locks/models--ORG--NAME/HASH.lock
#pragma once

#include <filesystem>
#include <string>

namespace quire {

/// $HF_HOME, $XDG_CACHE_HOME/huggingface or ~/.cache/huggingface.
std::filesystem::path hub_home();

/// $HF_HUB_CACHE, or "hub" in hub_home().
std::filesystem::path hub_cache();

/// "name" or "org/name", as the Hub has them; no path that begins or ends otherwise.
bool may_be_hub_name(const std::string& name);

/// "org/name" -> "models--org--name".
std::string hub_cache_folder(const std::string& name);

/// The way back; "" for other folders.
std::string name_of_hub_cache_folder(const std::string& folder);

}  // namespace quire
