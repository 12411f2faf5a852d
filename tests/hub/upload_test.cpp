// A model's folder to a Hub on this machine: every request that the real one would see.
#include "hub/upload.h"

#include <algorithm>

#include "base/file.h"
#include "tests/support/catch.h"
#include "tests/support/hub_files.h"
#include "tests/support/text.h"

using namespace quire;
using namespace quire::test;
using Json = nlohmann::json;
namespace fs = std::filesystem;

namespace {

struct UploadPlace {
  HubServer hub;
  ScratchFolder scratch;
  HubSettings settings;
  UploadCallbacks callbacks;
  UploadOptions options{.message = "The first"};
  std::string weights = some_bytes(2'500'000);
  std::string config = "{\"model_type\": \"gpt2\"}\n";

  UploadPlace() : settings(settings_of(hub, scratch)) {
    hub.token = settings.token = "hf_secret";
    scratch.write("model/config.json", config);
    scratch.write("model/model.safetensors", weights);
    scratch.write("model/README.md", "# Ein schönes Modell\n");
  }
  fs::path folder() const { return scratch.path() / "model"; }
  Uploaded send(const std::string& name = "acme/tiny",
                const std::vector<std::string>& include = {}) {
    UploadPlan plan = plan_upload(folder(), include);
    REQUIRE(hash_files(plan, callbacks));
    return upload_model(settings, HubModel::parse(name), std::move(plan), options, callbacks);
  }
  std::string refused(Fault fault, const std::string& name = "acme/tiny") {
    return scratch.message_of(fault, [&] { send(name); });
  }
  std::string hash() const { return hub_file(weights, true).hash; }
};

std::vector<std::string> names(const UploadPlan& plan) {
  std::vector<std::string> list;
  for (const UploadFile& file : plan.files) list.push_back(file.name);
  return list;
}

}  // namespace

TEST_CASE("hub: an upload is one commit, with the weights in LFS by their hash") {
  UploadPlace p;
  std::uint64_t last = 0;
  p.callbacks.sending = [&](const UploadProgress& progress) {
    CHECK(progress.total == p.weights.size());
    last = progress.bytes;
  };
  const Uploaded done = p.send("acme/tiny@next");
  CHECK(last == p.weights.size());
  CHECK(done.commit == p.hub.commit);
  CHECK(done.url == p.hub.url() + "/acme/tiny/commit/" + p.hub.commit);
  CHECK(done.sent == p.weights.size());
  CHECK(p.hub.store == std::map<std::string, std::string>{{p.hash(), p.weights}});
  CHECK(p.hub.calls() == std::vector<std::string>{"POST /api/models/acme/tiny/preupload/next",
                                                  "POST /acme/tiny.git/info/lfs/objects/batch",
                                                  "PUT /store/" + p.hash(), "POST /verify",
                                                  "POST /api/models/acme/tiny/commit/next"});
  const auto requests = p.hub.server.requests();
  const Json asked = Json::parse(requests[0].body)["files"];
  REQUIRE(asked.size() == 3);
  CHECK(asked[1] ==
        Json{{"path", "config.json"}, {"sample", base64(p.config)}, {"size", p.config.size()}});
  CHECK(asked[2]["sample"] == base64(p.weights.substr(0, 512)));
  CHECK(p.hub.batches ==
        std::vector<Json>{{{"operation", "upload"},
                           {"transfers", {"basic", "multipart"}},
                           {"objects", {{{"oid", p.hash()}, {"size", p.weights.size()}}}},
                           {"hash_algo", "sha256"},
                           {"ref", {{"name", "next"}}}}});
  CHECK(requests[1].header("content-type") == "application/vnd.git-lfs+json");
  CHECK(requests[1].header("accept") == "application/vnd.git-lfs+json");
  CHECK(requests[2].header("x-of-the-store") == "yes");
  CHECK(requests[2].header("authorization").empty());  // the store is another host
  CHECK(requests[4].header("authorization") == "Bearer hf_secret");
  CHECK(requests[4].header("content-type") == "application/x-ndjson");
  CHECK(p.hub.verified == std::vector<Json>{{{"oid", p.hash()}, {"size", p.weights.size()}}});
  REQUIRE(p.hub.commits.size() == 1);
  CHECK(p.hub.commits[0] ==
        std::vector<Json>{
            {{"key", "header"}, {"value", {{"summary", "The first"}, {"description", ""}}}},
            {{"key", "file"},
             {"value",
              {{"content", "IyBFaW4gc2Now7ZuZXMgTW9kZWxsCg=="},
               {"path", "README.md"},
               {"encoding", "base64"}}}},
            {{"key", "file"},
             {"value",
              {{"content", base64(p.config)}, {"path", "config.json"}, {"encoding", "base64"}}}},
            {{"key", "lfsFile"},
             {"value",
              {{"path", "model.safetensors"},
               {"algo", "sha256"},
               {"oid", p.hash()},
               {"size", p.weights.size()}}}}});
}

TEST_CASE("hub: large files go in parts where the store wants them") {
  for (const std::size_t chunk : {1'000'000, 1'250'000, 2'500'000, 3'000'000}) {
    UploadPlace p;
    p.hub.chunk_size = chunk;
    const std::size_t parts = (p.weights.size() + chunk - 1) / chunk;
    p.send();
    INFO(chunk);
    CHECK(p.hub.store[p.hash()] == p.weights);
    REQUIRE(p.hub.completions.size() == 1);
    Json list = Json::array();
    for (std::size_t part = 1; part <= parts; ++part) {
      list.push_back({{"partNumber", part}, {"etag", "\"part/" + std::to_string(part) + "\""}});
    }
    CHECK(p.hub.completions[0] == Json{{"oid", p.hash()}, {"parts", list}});
    CHECK(p.hub.parts.size() == parts);
  }
}

TEST_CASE("hub: parts that do not make up the file are refused") {
  for (const char* header : {R"({"chunk_size": "0", "1": "http://localhost/1"})",
                             R"({"chunk_size": "1000000", "1": "http://localhost/1"})",
                             R"({"chunk_size": "-5", "1": "http://localhost/1"})",
                             R"({"chunk_size": "2500000", "2": "http://localhost/1"})",
                             R"({"chunk_size": "2500000", "1": "file:///etc/passwd"})"}) {
    UploadPlace p;
    p.hub.instead = [&](const HubServer::Request& request) -> std::optional<HubServer::Reply> {
      if (!request.path().ends_with("/batch")) return std::nullopt;
      return HubServer::Reply{.body = Json{{"objects",
                                            {{{"oid", p.hash()},
                                              {"size", 2500000},
                                              {"actions",
                                               {{"upload",
                                                 {{"href", p.hub.url() + "/complete"},
                                                  {"header", Json::parse(header)}}}}}}}}}
                                          .dump()};
    };
    INFO(header);
    CHECK(contains(p.refused(Fault::bad_data), "is not answered as the Hub does"));
    CHECK(p.hub.commits.empty());
  }
}

TEST_CASE("hub: what is there is not sent again") {
  UploadPlace p;
  p.hub.store[p.hash()] = "there";
  CHECK(p.send().sent == 0);
  CHECK(p.hub.store[p.hash()] == "there");
  CHECK(p.hub.commits.size() == 1);

  p.hub.files["config.json"] = hub_file(p.config);
  p.hub.files["model.safetensors"] = hub_file(p.weights, true);
  CHECK(p.send().unchanged == 2);
  CHECK(p.hub.commits[1].size() == 2);  // header and card
  p.hub.files["README.md"] = hub_file(read_file(p.folder() / "README.md"));
  const Uploaded none = p.send();
  CHECK(none.commit.empty());
  CHECK(none.unchanged == 3);
  CHECK(none.url == p.hub.url() + "/acme/tiny");
  CHECK(p.hub.commits.size() == 2);
}

TEST_CASE(
    "hub: an upload whose connection is cut, or whose store fails for a moment, is sent again") {
  UploadPlace p;
  int failures = 0;
  p.hub.instead = [&](const HubServer::Request& request) -> std::optional<HubServer::Reply> {
    if (request.method != "PUT" || failures++ > 1) return std::nullopt;
    if (failures == 1) return HubServer::Reply{.status = 500};
    return HubServer::Reply{.body = "cut", .cut_after = 0};
  };
  p.send();
  CHECK(failures == 3);
  CHECK(p.hub.store[p.hash()] == p.weights);

  // A commit is not: it may have been made.
  p.hub.instead = [&](const HubServer::Request& request) -> std::optional<HubServer::Reply> {
    if (!contains(request.path(), "/commit/")) return std::nullopt;
    return HubServer::Reply{.body = "cut", .cut_after = 0};
  };
  const std::size_t before = p.hub.calls().size();
  CHECK(contains(p.refused(Fault::device), "it may be there, or not\n  try: look at " +
                                               p.hub.url() + "/acme/tiny/commits/main"));
  const auto calls = p.hub.calls();
  CHECK(std::count_if(calls.begin() + static_cast<std::ptrdiff_t>(before), calls.end(),
                      [](const std::string& call) { return contains(call, "/commit/"); }) == 1);
}

TEST_CASE("hub: a model is made where it was asked for") {
  UploadPlace p;
  p.hub.exists = false;
  CHECK(contains(p.refused(Fault::bad_data), "error: the Hub has no model 'acme/tiny' yet\n"));
  p.options.create = true;
  p.options.is_private = true;
  CHECK(p.send().commit == p.hub.commit);
  CHECK(p.send().commit == p.hub.commit);  // it is there: 409
  CHECK(p.hub.created ==
        std::vector<Json>(2,
                          {{"name", "tiny"}, {"organization", "acme"}, {"visibility", "private"}}));
}

TEST_CASE("hub: without token, owner or network nothing is sent") {
  UploadPlace p;
  CHECK(
      contains(p.refused(Fault::usage, "tiny"), "error: 'tiny' does not say whose model it is\n"));
  p.settings.offline_by = "HF_HUB_OFFLINE";
  CHECK(contains(p.refused(Fault::usage), "error: HF_HUB_OFFLINE is set"));
  p.settings.offline_by.clear();
  p.settings.token.clear();
  CHECK(contains(p.refused(Fault::usage), "error: there is no token"));
  CHECK(p.hub.calls().empty());
}

TEST_CASE("hub: refusals of an upload are told") {
  UploadPlace p;
  p.hub.instead = [](const HubServer::Request&) {
    return HubServer::Reply{.status = 404, .headers = {{"X-Error-Code", "RevisionNotFound"}}};
  };
  CHECK(contains(p.refused(Fault::bad_data), "error: acme/tiny has no branch 'main'\n"));
  p.hub.instead = nullptr;
  p.settings.token = "hf_wrong";
  CHECK(contains(p.refused(Fault::bad_data, "acme/tinny"), "try: quire upload DIR acme/tiny"));
  p.settings.token = p.hub.token;
  p.hub.instead = [](const HubServer::Request& request) -> std::optional<HubServer::Reply> {
    if (!contains(request.path(), "/commit/")) return std::nullopt;
    return HubServer::Reply{.status = 403, .body = R"({"error": "You don't have the rights"})"};
  };
  CHECK(contains(
      p.refused(Fault::bad_data),
      "error: the Hub does not allow this with acme/tiny\n  it says: You don't have the rights\n"));
  p.hub.instead = [&](const HubServer::Request& request) -> std::optional<HubServer::Reply> {
    if (!request.path().ends_with("/batch")) return std::nullopt;
    return HubServer::Reply{.body = Json{{"objects",
                                          {{{"oid", p.hash()},
                                            {"size", 1},
                                            {"error", {{"code", 422}, {"message", "too large"}}}}}}}
                                        .dump()};
  };
  CHECK(contains(p.refused(Fault::bad_data),
                 "error: the Hub does not take model.safetensors\n  it says: too large"));
  for (const char* body :
       {"[]", "{}", R"({"files": [{"path": "config.json"}]})", R"({"files": []})",
        R"({"files": [{"path": "config.json", "uploadMode": "magic"}]})", "<html>"}) {
    p.hub.instead = [&](const HubServer::Request&) { return HubServer::Reply{.body = body}; };
    INFO(body);
    const std::string message = p.refused(Fault::bad_data);
    CHECK(
        (contains(message, "is not answered as the Hub does") || contains(message, "is not JSON")));
  }
  p.hub.instead = [&](const HubServer::Request& request) -> std::optional<HubServer::Reply> {
    if (!request.path().ends_with("/batch")) return std::nullopt;
    return HubServer::Reply{
        .body =
            Json{{"objects",
                  {{{"oid", p.hash()},
                    {"size", 1},
                    {"actions",
                     {{"upload",
                       {{"href", p.hub.url()}, {"header", {{"A", "b\r\nAuthorization: c"}}}}}}}}}}}
                .dump()};
  };
  CHECK(contains(p.refused(Fault::bad_data), "is not answered as the Hub does"));
}

TEST_CASE("hub: a file that changes while it is sent stops the upload") {
  UploadPlace p;
  UploadPlan plan = plan_upload(p.folder());
  REQUIRE(hash_files(plan, p.callbacks));
  fs::resize_file(p.folder() / "model.safetensors", 1000);
  CHECK(contains(p.scratch.message_of(Fault::bad_data,
                                      [&] {
                                        upload_model(p.settings, HubModel::parse("acme/tiny"), plan,
                                                     p.options, p.callbacks);
                                      }),
                 "the file became shorter while it was sent"));
  CHECK(p.hub.commits.empty());
}

TEST_CASE("hub: a model's own files are uploaded, and no others") {
  UploadPlace p;
  for (const char* name :
       {"vocab.json", "merges.txt", "LICENSE", "generation_config.json", "log.jsonl",
        "quire_config.json", "report.html", "optimizer.safetensors", ".env", ".git/config",
        "checkpoint-20/model.safetensors", "model.safetensors.tmp-12"}) {
    p.scratch.write(std::string("model/") + name, "x");
  }
  fs::create_symlink(p.scratch.write("elsewhere", "{}"), p.folder() / "tokenizer.json");
  fs::create_symlink("nowhere", p.folder() / "added_tokens.json");
  const UploadPlan plan = plan_upload(p.folder());
  CHECK(names(plan) == std::vector<std::string>{
                           "LICENSE", "README.md", "config.json", "generation_config.json",
                           "merges.txt", "model.safetensors", "tokenizer.json", "vocab.json"});
  CHECK(plan.left_out == std::vector<std::string>{"added_tokens.json (no file)", "checkpoint-20/",
                                                  "log.jsonl", "model.safetensors.tmp-12",
                                                  "optimizer.safetensors", "quire_config.json",
                                                  "report.html"});
  for (const UploadFile& file : plan.files) CHECK(file.lfs == (file.name == "model.safetensors"));
  CHECK(names(plan_upload(p.folder(), {"*"})).size() == 13);
  CHECK(names(plan_upload(p.folder(), {"report.html", ".*"})).size() == 9);

  fs::remove(p.folder() / "model.safetensors");
  CHECK(contains(p.scratch.message_of(Fault::bad_data, [&] { plan_upload(p.folder()); }),
                 "DIR/model is no model folder\n  it has no model.safetensors\n"));
  CHECK(contains(p.scratch.message_of(Fault::bad_data, [&] { plan_upload(p.folder() / "none"); }),
                 "cannot read the folder DIR/model/none\n"));
  p.scratch.write("gguf/a.gguf", "GGUF");
  CHECK(names(plan_upload(p.scratch / "gguf")).size() == 1);
}

TEST_CASE("hub: what the .gitignore there names stays out, and a stop sends no commit") {
  UploadPlace p;
  p.scratch.write("model/a.ignored", "x");
  const Uploaded done = p.send("acme/tiny", {"*.ignored"});
  CHECK(done.ignored == 1);
  CHECK(p.hub.commits[0].size() == 4);

  p.hub.store.clear();
  bool sending = false;
  p.callbacks.sending = [&](const UploadProgress&) { sending = true; };
  p.callbacks.stop_requested = [&] { return sending; };
  CHECK(p.send().stopped);
  CHECK(p.hub.commits.size() == 1);
}

TEST_CASE("hub: what goes to LFS is what the Hub says, and no file without a byte") {
  UploadPlace p;
  p.scratch.write("model/pytorch_model.bin", "small");
  p.scratch.write("model/model-0.safetensors", "");
  p.send();
  REQUIRE(p.hub.commits.size() == 1);
  std::map<std::string, Json> keys;
  for (const Json& line : p.hub.commits[0]) {
    if (line["value"].contains("path")) keys[line["value"]["path"]] = line["key"];
  }
  CHECK(keys == std::map<std::string, Json>{{"README.md", "file"},
                                            {"config.json", "file"},
                                            {"model-0.safetensors", "file"},
                                            {"model.safetensors", "lfsFile"},
                                            {"pytorch_model.bin", "file"}});
}
