#include "hub/download.h"

#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "base/error.h"
#include "base/file.h"
#include "base/hub_names.h"
#include "base/json.h"
#include "base/numbers.h"
#include "hub/digest.h"
#include "hub/fetch.h"
#include "hub/model_files.h"

namespace quire {
namespace {

namespace fs = std::filesystem;

class Download {
 public:
  Download(const HubSettings& settings, const HubModel& model, const DownloadCallbacks& callbacks)
      : client_(settings, callbacks, "quire download"),
        model_(model),
        callbacks_(callbacks),
        repository_(settings.cache / hub_cache_folder(model.name)),
        locks_(settings.cache / ".locks" / hub_cache_folder(model.name)) {}

  void run(const std::vector<std::string>& include, Downloaded& result) {
    read_listing();
    result.commit = commit_;
    result.folder = repository_ / "snapshots" / commit_;
    WantedFiles wanted = choose_model_files(names_, include, model_.text());
    if (is_there(wanted, result)) {
      result.was_there = true;
      return write_ref();
    }
    std::vector<RemoteFile> files;
    if (!wanted.index.empty()) {
      const RemoteFile index = describe_file(client_, model_, commit_, wanted.index);
      get({index});
      add_shards(wanted, read_file(blob_of(index)));
    }
    for (const std::string& name : wanted.files) {
      files.push_back(describe_file(client_, model_, commit_, name));
    }
    begin(files);
    get(files);
    for (const RemoteFile& file : files) {
      link(file, result.folder / file.name);
      result.files.push_back({file.name, file.size, file.hash});
    }
    result.come = come_;
    write_ref();
  }

  std::uint64_t come() const { return come_; }

 private:
  fs::path blob_of(const RemoteFile& file) const { return repository_ / "blobs" / file.hash; }

  /// Which commit the revision is at, and its files.
  void read_listing() {
    const std::string path =
        "/api/models/" + in_url(model_.name) + "/revision/" + in_url(model_.revision, true);
    const nlohmann::json json = client_.get_json(path, model_);
    bool well = json.is_object() && json.contains("sha") && json.contains("siblings") &&
                read_json(json["sha"], commit_) && json["siblings"].is_array() &&
                kind_of_digest(commit_) == DigestKind::git_blob;  // a commit is a SHA-1, too
    if (well) {
      for (const auto& entry : json["siblings"]) {
        std::string name;
        well = well && entry.is_object() && entry.contains("rfilename") &&
               read_json(entry["rfilename"], name);
        names_.push_back(name);
      }
    }
    if (well) return;
    throw Error(Fault::bad_data, client_.url(path) + " is not answered as the Hub does",
                {"wanted: \"sha\", a commit, and \"siblings\", its files"},
                "HF_ENDPOINT, which names the server");
  }

  void add_shards(WantedFiles& wanted, const std::string& index) const {
    for (std::string& shard : shards_of_index(index, wanted.index, names_, model_.text())) {
      wanted.files.push_back(std::move(shard));
    }
  }

  /// Whether the snapshot has all of it.
  bool is_there(WantedFiles wanted, Downloaded& result) const {
    std::error_code trouble;
    if (!wanted.index.empty()) {
      if (!fs::exists(result.folder / wanted.index, trouble)) return false;
      add_shards(wanted, read_file(result.folder / wanted.index));
    }
    std::vector<DownloadedFile> files;
    for (const std::string& name : wanted.files) {
      const fs::path link = result.folder / name;
      if (!fs::exists(link, trouble)) return false;
      files.push_back({name, fs::file_size(link), fs::canonical(link).filename().string()});
    }
    result.files = std::move(files);
    return true;
  }

  /// Room for what is missing, before any of it comes.
  void begin(const std::vector<RemoteFile>& files) {
    std::set<std::string> seen;
    std::size_t missing = 0;
    std::uint64_t bytes = 0;
    for (const RemoteFile& file : files) {
      if (!seen.insert(file.hash).second) continue;
      total_ += file.size;
      if (fs::exists(blob_of(file))) continue;
      ++missing;
      std::error_code ignored;
      const std::uintmax_t part = fs::file_size(blob_of(file).string() + ".incomplete", ignored);
      bytes += file.size - (ignored ? 0 : std::min<std::uint64_t>(part, file.size));
    }
    make_folder(repository_ / "blobs");
    const std::uint64_t room = fs::space(repository_).available;
    if (bytes > room) {
      throw Error(
          Fault::no_space,
          model_.text() + " wants " + human_bytes(static_cast<double>(bytes)) + " on disk",
          {repository_.string() + " has room for " + human_bytes(static_cast<double>(room))},
          "HF_HUB_CACHE=FOLDER on another disk");
    }
    if (callbacks_.begin) callbacks_.begin(missing, bytes);
  }

  void get(const std::vector<RemoteFile>& files) {
    make_folder(repository_ / "blobs");
    std::uint64_t before = 0;
    std::set<std::string> seen;
    for (const RemoteFile& file : files) {
      if (!seen.insert(file.hash).second) continue;
      const auto progress = [&](const FetchProgress& now) {
        come_ += now.come;
        if (!callbacks_.progress) return;
        callbacks_.progress(
            {.file = file.name, .bytes = before + now.there, .total = total_, .come = come_});
      };
      fetch_blob(client_, model_, file, blob_of(file), locks_ / (file.hash + ".lock"), progress);
      before += file.size;
    }
  }

  /// By a way that holds where the cache is moved.
  void link(const RemoteFile& file, const fs::path& at) const {
    const fs::path target = fs::path(blob_of(file)).lexically_relative(at.parent_path());
    std::error_code trouble;
    if (fs::read_symlink(at, trouble) == target) return;
    make_folder(at.parent_path());
    const fs::path made = at.string() + ".new-" + std::to_string(::getpid());
    fs::remove(made, trouble);
    fs::create_symlink(target, made);
    fs::rename(made, at);
  }

  void write_ref() const {
    if (model_.revision == commit_) return;
    const fs::path ref = repository_ / "refs" / model_.revision;
    std::error_code trouble;
    if (fs::exists(ref, trouble) && read_file(ref) == commit_) return;
    make_folder(ref.parent_path());
    write_file(ref, commit_);
  }

  HubClient client_;
  const HubModel& model_;
  const DownloadCallbacks& callbacks_;
  fs::path repository_, locks_;
  std::string commit_;
  std::vector<std::string> names_;  // of all files of the commit
  std::uint64_t total_ = 0, come_ = 0;
};

}  // namespace

Downloaded download_model(const HubSettings& settings, const HubModel& model,
                          const std::vector<std::string>& include,
                          const DownloadCallbacks& callbacks) {
  refuse_offline(settings);
  Downloaded result;
  Download download(settings, model, callbacks);
  try {
    download.run(include, result);
  } catch (const HubStopped&) {
    result.stopped = true;
    result.come = download.come();
  }
  return result;
}

}  // namespace quire
