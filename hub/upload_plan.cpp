// Which files of a folder are uploaded, and their hashes.
#include <fnmatch.h>

#include <algorithm>

#include "base/error.h"
#include "hub/digest.h"
#include "hub/upload.h"

namespace quire {
namespace {

namespace fs = std::filesystem;

constexpr const char* kOwnFiles[] = {
    "config.json",
    "generation_config.json",
    "adapter_config.json",
    // tokenizer
    "vocab.json",
    "merges.txt",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    // card and licence
    "README.md",
    "LICENSE*",
    "NOTICE*",
    "CITATION*",
};
constexpr const char* kWeightPatterns[] = {
    "model.safetensors",
    "model-*.safetensors",
    "model.safetensors.index.json",
    "adapter_model.safetensors",
    "adapter_model.bin",
    "pytorch_model.bin",
    "pytorch_model-*.bin",
    "*.gguf",
    "pytorch_model.bin.index.json",
};
/// What the Hub keeps in LFS whatever its size: its own .gitattributes of a new model.
constexpr const char* kLargeFiles[] = {"*.safetensors", "*.bin",  "*.gguf",
                                       "*.pt",          "*.onnx", "*.zip"};
/// Above it all goes there.
constexpr std::uint64_t kLargest = 10'000'000;

template <class Patterns>
bool matches(const std::string& name, const Patterns& patterns) {
  return std::any_of(std::begin(patterns), std::end(patterns), [&](const std::string& pattern) {
    return ::fnmatch(pattern.c_str(), name.c_str(), 0) == 0;
  });
}

}  // namespace

UploadPlan plan_upload(const fs::path& folder, const std::vector<std::string>& include) {
  std::error_code trouble;
  UploadPlan plan;
  bool config = false, weights = false, gguf = false;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, trouble)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with('.')) continue;
    if (!entry.is_regular_file(trouble)) {
      plan.left_out.push_back(name + (entry.is_directory(trouble) ? "/" : " (no file)"));
      continue;
    }
    const bool of_weights = matches(name, kWeightPatterns);
    if (!of_weights && !matches(name, kOwnFiles) && !matches(name, include)) {
      plan.left_out.push_back(name);
      continue;
    }
    config = config || name == "config.json" || name == "adapter_config.json";
    weights = weights || of_weights;
    gguf = gguf || name.ends_with(".gguf");
    UploadFile file{.name = name, .path = entry.path(), .size = entry.file_size()};
    file.lfs = file.size > kLargest || matches(name, kLargeFiles);
    plan.files.push_back(file);
  }
  if (trouble) {
    throw Error(Fault::bad_data, "cannot read the folder " + folder.string(), {trouble.message()});
  }
  if (!gguf && !(config && weights)) {
    throw Error(Fault::bad_data, folder.string() + " is no model folder",
                {config ? "it has no model.safetensors" : "it has no config.json"},
                "the `output_dir` of a training"_named);
  }
  std::sort(plan.files.begin(), plan.files.end(),
            [](const UploadFile& a, const UploadFile& b) { return a.name < b.name; });
  std::sort(plan.left_out.begin(), plan.left_out.end());
  return plan;
}

bool hash_files(UploadPlan& plan, const UploadCallbacks& callbacks) {
  UploadProgress progress;
  for (const UploadFile& file : plan.files) progress.total += file.size;
  for (UploadFile& file : plan.files) {
    progress.file = file.name;
    file.sha256 = digest_of_file(DigestKind::sha256, file.path, [&](std::size_t bytes) {
      progress.bytes += bytes;
      if (callbacks.hashing) callbacks.hashing(progress);
      return !callbacks.stop_requested || !callbacks.stop_requested();
    });
    if (file.sha256.empty()) return false;
  }
  return true;
}

}  // namespace quire
