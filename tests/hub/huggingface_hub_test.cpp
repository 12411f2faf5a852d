// The real huggingface_hub beside ours, on one Hub and one cache. $QUIRE_PYTHON names a Python that has
// it; without, these are skipped.
#include <algorithm>

#include "base/file.h"
#include "hub/download.h"
#include "hub/upload.h"
#include "tests/support/catch.h"
#include "tests/support/hub_files.h"
#include "tests/support/python.h"
#include "tests/support/text.h"

using namespace quire;
using namespace quire::test;
using Json = nlohmann::json;
namespace fs = std::filesystem;

namespace {

struct PeerPlace {
  HubServer hub;
  ScratchFolder scratch;
  std::string python = python_with({"huggingface_hub"});

  PeerPlace() { fill(hub); }
  HubSettings settings(const std::string& home) {
    HubSettings settings = settings_of(hub, scratch);
    settings.cache = scratch / home / "hub";
    settings.token = "hf_of_a_test";
    return settings;
  }
  /// What a script prints, whose home is that folder; the test fails where it fails.
  std::string run(const std::string& home, const std::string& script) {
    const fs::path file = scratch.write("script.py", script);
    std::string command =
        "env NO_PROXY=127.0.0.1,localhost HF_TOKEN=hf_of_a_test HF_HUB_DISABLE_XET=1 "
        "HF_HUB_DISABLE_TELEMETRY=1 HF_HUB_DISABLE_UPDATE_CHECK=1 "
        "HF_HUB_DISABLE_PROGRESS_BARS=1 HF_ENDPOINT=" +
        hub.url() + " HF_HOME=" + (scratch / home).string();
    for (const char* name :
         {"HF_HUB_CACHE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_TOKEN_PATH"}) {
      command.insert(3, std::string(" -u ") + name);
    }
    const fs::path errors = scratch / "errors";
    const auto [out, well] = output_of("(" + command + " '" + python + "' '" + file.string() +
                                       "' 2>" + errors.string() + ")");
    INFO(read_file(errors));
    CHECK(well);
    return out;
  }
  /// Every file and link below a cache of one model, with what it holds or leads to; without what
  /// huggingface_hub keeps for itself.
  std::map<std::string, std::string> layout(const std::string& home) {
    std::map<std::string, std::string> found;
    const fs::path cache = scratch.path() / home / "hub";
    for (const auto& entry : fs::recursive_directory_iterator(cache)) {
      const std::string name = entry.path().lexically_relative(cache).string();
      if (contains(name, "/trees") || name == "CACHEDIR.TAG" || entry.is_directory()) continue;
      found[name] = entry.is_symlink() ? "-> " + fs::read_symlink(entry.path()).string()
                                       : read_file(entry.path());
    }
    return found;
  }
};

const char* const kGet =
    "from huggingface_hub import snapshot_download as get\n"
    "print(get('acme/tiny', allow_patterns=['config.json', 'vocab.json', 'merges.txt', "
    "'*.safetensors']))\n";

/// The bodies of requests to a path, as JSON.
std::vector<Json> bodies(HubServer& hub, const std::string& path) {
  std::vector<Json> found;
  for (const auto& request : hub.server.requests()) {
    if (request.path() == path) found.push_back(Json::parse(request.body));
  }
  return found;
}

}  // namespace

TEST_CASE("hub: huggingface_hub takes our cache for its own") {
  PeerPlace p;
  if (p.python.empty()) {
    QUIRE_SKIP("no Python with huggingface_hub; QUIRE_PYTHON can name one");
  }
  const Downloaded got = download_model(p.settings("ours"), HubModel::parse("acme/tiny"), {}, {});
  const std::size_t calls = p.hub.calls().size();
  CHECK(p.run("ours",
              "from huggingface_hub import snapshot_download as get, scan_cache_dir, "
              "try_to_load_from_cache as find\n"
              "print(get('acme/tiny', local_files_only=True))\n"
              "print(find('acme/tiny', 'model.safetensors'))\n"
              "scan = scan_cache_dir()\n"
              "repo, = scan.repos\n"
              "revision, = repo.revisions\n"
              "print(len(scan.warnings), repo.repo_id, repo.nb_files, repo.size_on_disk, "
              "revision.commit_hash, *revision.refs)\n") ==
        got.folder.string() + "\n" + (got.folder / "model.safetensors").string() +
            "\n0 acme/tiny 4 " + std::to_string(got.come) + " " + p.hub.commit + " main\n");
  CHECK(p.hub.calls().size() == calls);

  // It finds all of it there, and gets no content again.
  CHECK(p.run("ours", kGet) == got.folder.string() + "\n");
  const auto all = p.hub.calls();
  CHECK(std::none_of(all.begin() + static_cast<std::ptrdiff_t>(calls), all.end(),
                     [](const std::string& call) { return contains(call, "GET /cdn/"); }));
}

TEST_CASE(
    "hub: huggingface_hub gets from the Hub of these tests what we get, into the same layout") {
  PeerPlace p;
  if (p.python.empty()) {
    QUIRE_SKIP("no Python with huggingface_hub; QUIRE_PYTHON can name one");
  }
  p.hub.token = "hf_of_a_test";
  p.run("theirs", kGet);
  download_model(p.settings("ours"), HubModel::parse("acme/tiny"), {}, {});
  const auto theirs = p.layout("theirs");
  CHECK(theirs.size() == 13);  // four blobs, links and locks, and a ref
  CHECK(p.layout("ours") == theirs);
  CHECK(download_model(p.settings("theirs"), HubModel::parse("acme/tiny"), {}, {}).was_there);
}

TEST_CASE("hub: huggingface_hub sends what we send") {
  for (const std::size_t chunk : {0, 1'000'000}) {
    PeerPlace p;
    if (p.python.empty()) {
      QUIRE_SKIP("no Python with huggingface_hub; QUIRE_PYTHON can name one");
    }
    p.hub.files.clear();
    p.hub.chunk_size = chunk;
    p.hub.exists = false;
    p.scratch.write("model/config.json", "{}");
    p.scratch.write("model/README.md", "---\nlicense: mit\n---\n# Tiny\n");
    p.scratch.write("model/model.safetensors", some_bytes(2'500'000));
    p.run("theirs",
          "from huggingface_hub import HfApi\n"
          "HfApi().create_repo('acme/tiny', private=True, exist_ok=True)\n"
          "HfApi().upload_folder(repo_id='acme/tiny', folder_path='" +
              (p.scratch / "model").string() + "', commit_message='The first')\n");
    p.hub.store.clear();
    p.hub.exists = false;
    UploadPlan plan = plan_upload(p.scratch / "model");
    REQUIRE(hash_files(plan, {}));
    upload_model(p.settings("ours"), HubModel::parse("acme/tiny"), plan,
                 {.create = true, .is_private = true, .message = "The first"}, {});
    const auto sorted = [](std::vector<Json> lines) {
      std::sort(lines.begin() + 1, lines.end());
      return lines;
    };
    REQUIRE(p.hub.commits.size() == 2);
    CHECK(p.hub.commits[0].size() == 4);
    CHECK(sorted(p.hub.commits[1]) == sorted(p.hub.commits[0]));
    REQUIRE(p.hub.batches.size() == 2);
    CHECK(p.hub.batches[1] == p.hub.batches[0]);
    REQUIRE(p.hub.created.size() == 2);
    CHECK(p.hub.created[1] == p.hub.created[0]);
    CHECK(p.hub.verified == std::vector<Json>(2, p.hub.verified.at(0)));
    CHECK(p.hub.completions.size() == (chunk > 0 ? 2 : 0));
    if (chunk > 0) CHECK(p.hub.completions[1] == p.hub.completions[0]);
    auto asked = bodies(p.hub, "/api/models/acme/tiny/preupload/main");
    REQUIRE(asked.size() == 2);
    for (Json& one : asked) {
      std::sort(one["files"].begin(), one["files"].end());
      one.erase("gitIgnore");
    }
    CHECK(asked[1] == asked[0]);
  }
}
