// A model's folder to the Hub, as one commit. Large files go to its Git LFS store first, each by its
// hash; what is there already is not sent again, so an upload that was cut goes on where it stopped.
//
//   POST /api/repos/create                       where it was asked for
//   POST /api/models/NAME/preupload/REVISION     which files go to LFS, which are there already
//   POST /NAME.git/info/lfs/objects/batch        where to: one PUT, or one for each part
//   POST /api/models/NAME/commit/REVISION        small files as base64, of the others their hashes
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "hub/client.h"
#include "hub/settings.h"

namespace quire {

struct UploadFile {
  std::string name;
  std::filesystem::path path;
  std::uint64_t size = 0;
  std::string sha256;
  bool lfs = false;  ///< a guess until the Hub has said so
};

struct UploadPlan {
  std::vector<UploadFile> files;
  std::vector<std::string> left_out;  ///< in the folder, and why: "checkpoint-20/ (a folder)"
};

struct UploadProgress {
  std::string file;
  std::uint64_t bytes = 0, total = 0;  ///< of all files
};

struct UploadCallbacks : HubCallbacks {
  std::function<void(const UploadProgress& progress)> hashing;
  std::function<void(const UploadProgress& progress)> sending;
};

/// The files of a model's folder that a model is made of: config, tokenizer, weights, card and licence,
/// at its top, links followed. Not checkpoints and optimizers, from which training alone goes on, and
/// not logs and saved options, which tell of this machine's folders; `include` names more by patterns
/// as a shell has them. Never hidden files. Throws Error(bad_data) where there is no model in it.
UploadPlan plan_upload(const std::filesystem::path& folder,
                       const std::vector<std::string>& include = {});

/// Their hashes. False: stopped.
bool hash_files(UploadPlan& plan, const UploadCallbacks& callbacks);

struct UploadOptions {
  bool create = false;      ///< where the Hub has no such model
  bool is_private = false;  ///< then it is shown to its owners alone
  std::string message = "Upload model with Quire";
};

struct Uploaded {
  std::string commit;                      ///< empty where nothing had changed
  std::string url;                         ///< of the commit, or of the model
  std::uint64_t sent = 0;                  ///< bytes to LFS
  std::size_t unchanged = 0, ignored = 0;  ///< files, ignored: by the .gitignore there
  bool stopped = false;
};

/// Throws Error(usage) where upload_model() would before it opens a connection: a variable forbids the
/// network, there is no token, the name has no owner.
void check_upload(const HubSettings& settings, const HubModel& model);

/// Sends what hash_files() has seen. Throws Error: as check_upload(), bad_data for what the Hub
/// refuses, device where it cannot be reached.
Uploaded upload_model(const HubSettings& settings, const HubModel& model, UploadPlan plan,
                      const UploadOptions& options, const UploadCallbacks& callbacks);

}  // namespace quire
