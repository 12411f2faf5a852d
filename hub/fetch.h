// One file's content from the Hub into a blob of the cache.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

#include "hub/client.h"
#include "hub/digest.h"

namespace quire {

/// A file as the Hub tells of it to a HEAD.
struct RemoteFile {
  std::string name;
  std::string url;
  std::uint64_t size = 0;
  std::string hash;  ///< its ETag: SHA-256 for Git LFS, else git's SHA-1
  DigestKind kind = DigestKind::sha256;
};

/// Throws Error(bad_data) where the answer is none of the Hub's: another commit, no hash, a size that
/// is none.
RemoteFile describe_file(HubClient& client, const HubModel& model, const std::string& commit,
                         const std::string& name);

/// What has come, told between two parts.
struct FetchProgress {
  std::uint64_t there = 0;  ///< bytes of the file; fewer than before where it begins anew
  std::uint64_t come = 0;   ///< bytes over the network since the last call
};

/// Gets `file` as `blob`, and what is missing alone where BLOB.incomplete has a part; nothing where
/// the blob is there. `lock` is held meanwhile. Throws Error(bad_data) where the content that came is
/// not what `file` says, and HubStopped.
void fetch_blob(HubClient& client, const HubModel& model, const RemoteFile& file,
                const std::filesystem::path& blob, const std::filesystem::path& lock,
                const std::function<void(const FetchProgress&)>& progress);

}  // namespace quire
