// A model from the Hub into its cache (base/hub_names.h), as huggingface_hub puts it there. Every file is checked
// by its hash before it gets its name, and links and refs are made when all is there: a model that
// is found by its name is whole.
//
// What has come of a file lies in blobs/HASH.incomplete. The next try, of this process or a later
// one, asks for the rest alone: the name says what it is part of, and the hash of the whole decides.
// While it is written, .locks/…/HASH.lock is held with flock().
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "hub/client.h"
#include "hub/settings.h"

namespace quire {

struct DownloadProgress {
  std::string file;
  std::uint64_t bytes = 0;  ///< that are there, of all files
  std::uint64_t total = 0;
  std::uint64_t come = 0;  ///< of `bytes`, those that came over the network by this call
};

struct DownloadCallbacks : HubCallbacks {
  /// What is about to be got: files and their bytes together.
  std::function<void(std::size_t files, std::uint64_t bytes)> begin;
  std::function<void(const DownloadProgress& progress)> progress;
};

struct DownloadedFile {
  std::string name;
  std::uint64_t size = 0;
  std::string hash;  ///< as its blob is named
};

struct Downloaded {
  std::filesystem::path folder;  ///< snapshots/COMMIT
  std::string commit;
  std::vector<DownloadedFile> files;  ///< that are wanted
  std::uint64_t come = 0;             ///< bytes that came
  bool was_there = false;             ///< all of it: nothing but the commit was asked for
  bool stopped = false;               ///< by stop_requested(): what has come is kept
};

/// `include`: choose_model_files(). Throws Error: usage where a variable forbids the network; bad_data
/// for names that are not there, hashes and sizes that are wrong and answers that are none of the
/// Hub; device where it cannot be reached; no_space.
Downloaded download_model(const HubSettings& settings, const HubModel& model,
                          const std::vector<std::string>& include,
                          const DownloadCallbacks& callbacks);

}  // namespace quire
