// A model from a Hub on this machine, which does all that the real one may, and what none should.
#include "hub/download.h"

#include <sys/file.h>

#include <algorithm>
#include <atomic>
#include <thread>

#include "base/file.h"
#include "hub/partial_file.h"
#include "tests/support/catch.h"
#include "tests/support/hub_files.h"
#include "tests/support/text.h"

using namespace quire;
using namespace quire::test;
namespace fs = std::filesystem;

namespace {

struct DownloadPlace {
  HubServer hub;
  ScratchFolder scratch;
  HubSettings settings;
  DownloadCallbacks callbacks;
  std::vector<std::string> said;

  DownloadPlace() : settings(settings_of(hub, scratch)) {
    fill(hub);
    callbacks.say = [this](const std::string& line) { said.push_back(line); };
  }
  Downloaded get(const std::string& name = "acme/tiny", std::vector<std::string> include = {}) {
    return download_model(settings, HubModel::parse(name), include, callbacks);
  }
  std::string refused(Fault fault, const std::string& name = "acme/tiny") {
    return scratch.message_of(fault, [&] { get(name); });
  }
  fs::path repository() const { return settings.cache / "models--acme--tiny"; }
  fs::path blob(const std::string& file) { return repository() / "blobs" / hub.files[file].hash; }
  const std::string& weights() { return hub.files["model.safetensors"].content; }
};

/// Requests for the content of the weights.
std::vector<HttpServer::Request> gets_from_cdn(HubServer& hub) {
  std::vector<HttpServer::Request> found;
  for (const auto& request : hub.server.requests()) {
    if (request.method == "GET" && request.path().starts_with("/cdn/")) found.push_back(request);
  }
  return found;
}

}  // namespace

TEST_CASE(
    "hub: a model comes into the cache as huggingface_hub has it, and the token goes nowhere "
    "else") {
  DownloadPlace p;
  p.hub.token = p.settings.token = "hf_secret";
  const Downloaded got = p.get();
  CHECK(got.commit == p.hub.commit);
  CHECK(got.folder == p.repository() / "snapshots" / p.hub.commit);
  CHECK_FALSE(got.was_there);
  CHECK(read_file(p.repository() / "refs/main") == p.hub.commit);
  std::vector<std::string> names;
  for (const DownloadedFile& file : got.files) {
    names.push_back(file.name);
    const fs::path link = got.folder / file.name;
    CHECK(fs::read_symlink(link) == "../../blobs/" + file.hash);
    CHECK(read_file(link) == p.hub.files[file.name].content);
  }
  CHECK(names ==
        std::vector<std::string>{"config.json", "vocab.json", "merges.txt", "model.safetensors"});
  CHECK(got.come == p.weights().size() + p.hub.files["config.json"].content.size() +
                        p.hub.files["vocab.json"].content.size() +
                        p.hub.files["merges.txt"].content.size());
  CHECK(fs::exists(p.settings.cache / ".locks/models--acme--tiny" /
                   (p.hub.files["vocab.json"].hash + ".lock")));
  for (const auto& entry : fs::directory_iterator(p.repository() / "blobs")) {
    CHECK(entry.path().extension() != ".incomplete");
  }
  for (const auto& request : p.hub.server.requests()) {
    INFO(request.method << " " << request.target);
    const bool elsewhere = request.header("host").starts_with("localhost");
    CHECK(elsewhere == request.path().starts_with("/cdn/"));
    CHECK(request.header("authorization") == (elsewhere ? "" : "Bearer hf_secret"));
  }
  CHECK(gets_from_cdn(p.hub).size() == 1);
}

TEST_CASE("hub: what is whole is asked for once, and nothing else") {
  DownloadPlace p;
  p.get();
  const std::size_t before = p.hub.calls().size();
  const Downloaded again = p.get();
  CHECK(again.was_there);
  CHECK(again.come == 0);
  CHECK(again.files.size() == 4);
  const std::vector<std::string> calls = p.hub.calls();
  REQUIRE(calls.size() == before + 1);
  CHECK(calls.back() == "GET /api/models/acme/tiny/revision/main");

  // A new commit with one file changed: that one comes.
  p.hub.commit = std::string(40, 'b');
  p.hub.files["config.json"] = hub_file("{\"model_type\": \"gpt2\", \"n_layer\": 2}");
  const Downloaded later = p.get();
  CHECK(later.come == p.hub.files["config.json"].content.size());
  CHECK(gets_from_cdn(p.hub).size() == 1);
  CHECK(read_file(p.repository() / "refs/main") == p.hub.commit);
}

TEST_CASE("hub: a connection that is cut goes on where it was, as does a later process") {
  DownloadPlace p;
  int cuts = 0;
  p.hub.change = [&](const HubServer::Request& request, HubServer::Reply& reply) {
    if (request.method == "GET" && request.path().starts_with("/cdn/") && cuts++ < 2) {
      reply.cut_after = 1'200'000;
    }
  };
  p.get();
  CHECK(read_file(p.blob("model.safetensors")) == p.weights());
  const auto gets = gets_from_cdn(p.hub);
  REQUIRE(gets.size() == 3);
  CHECK(gets[0].header("range").empty());
  CHECK(gets[1].header("range") == "bytes=1200000-");
  CHECK(gets[2].header("range") == "bytes=2400000-");
  CHECK(gets[1].header("if-range").starts_with("\"of-the-cdn-"));
  CHECK(p.said.size() == 2);
  CHECK(contains(p.said[0], "once more in"));

  // What an earlier process left.
  fs::remove(p.blob("model.safetensors"));
  fs::remove_all(p.repository() / "snapshots");
  std::ofstream(p.blob("model.safetensors").string() + ".incomplete", std::ios::binary)
      << p.weights().substr(0, 2'999'999);
  const Downloaded got = p.get();
  CHECK(got.come == 1);
  CHECK(gets_from_cdn(p.hub).back().header("range") == "bytes=2999999-");
  CHECK(read_file(p.blob("model.safetensors")) == p.weights());
}

TEST_CASE("hub: a part that is wrong, or too long, is got anew") {
  for (const std::size_t size : {1'000'000, 3'000'000, 3'000'001}) {
    DownloadPlace p;
    fs::create_directories(p.repository() / "blobs");
    std::ofstream(p.blob("model.safetensors").string() + ".incomplete", std::ios::binary)
        << std::string(size, 'x');
    p.get();
    INFO(size);
    CHECK(read_file(p.blob("model.safetensors")) == p.weights());
    CHECK(p.said.size() == (size > 3'000'000 ? 0 : 1));
  }
}

TEST_CASE("hub: a server that knows no ranges sends the whole") {
  DownloadPlace p;
  p.hub.change = [&](const HubServer::Request& request, HubServer::Reply& reply) {
    if (reply.status == 206) reply = {.body = p.weights()};
    if (request.path().starts_with("/cdn/") && request.header("range").empty()) {
      reply.cut_after = 1'100'000;
    }
  };
  p.get();
  CHECK(read_file(p.blob("model.safetensors")) == p.weights());
  CHECK(gets_from_cdn(p.hub).size() == 2);
}

TEST_CASE("hub: a range that was not asked for is refused") {
  DownloadPlace p;
  p.hub.change = [&](const HubServer::Request&, HubServer::Reply& reply) {
    if (reply.status == 206) reply.headers[0].second = "bytes 5-2999999/3000000";
  };
  fs::create_directories(p.repository() / "blobs");
  std::ofstream(p.blob("model.safetensors").string() + ".incomplete", std::ios::binary)
      << "12345678";
  CHECK(contains(p.refused(Fault::bad_data),
                 "the answer is the range 'bytes 5-2999999/3000000' of it"));
}

TEST_CASE("hub: what is not what its hash says is never kept") {
  for (const bool lfs : {true, false}) {
    DownloadPlace p;
    const std::string file = lfs ? "model.safetensors" : "vocab.json";
    p.hub.change = [&](const HubServer::Request& request, HubServer::Reply& reply) {
      if (request.method != "HEAD" &&
          (request.path().ends_with(file) || (lfs && request.path().starts_with("/cdn/"))) &&
          reply.status == 200) {
        reply.body[0] ^= 1;
      }
    };
    const std::string message = p.refused(Fault::bad_data);
    INFO(message);
    CHECK(contains(message, "error: " + file + " of acme/tiny came damaged\n"));
    CHECK(contains(
        message, (lfs ? "SHA-256 expected: " : "git's SHA-1 expected: ") + p.hub.files[file].hash));
    CHECK_FALSE(fs::exists(p.blob(file)));
    CHECK_FALSE(fs::exists(p.blob(file).string() + ".incomplete"));
    CHECK_FALSE(fs::exists(p.repository() / "snapshots"));
    CHECK_FALSE(fs::exists(p.repository() / "refs"));
  }
}

TEST_CASE("hub: lengths that cannot be are refused") {
  struct Case {
    const char* what;
    std::function<void(const HubServer::Request&, HubServer::Reply&)> change;
    Fault fault;
    const char* message;
  };
  const auto head_of_weights = [](const HubServer::Request& request) {
    return request.method == "HEAD" && request.path().ends_with(".safetensors");
  };
  const auto linked_size = [&](const std::string& size) {
    return [=](const HubServer::Request& request, HubServer::Reply& reply) {
      if (!head_of_weights(request)) return;
      for (auto& [name, value] : reply.headers) {
        if (name == "X-Linked-Size") value = size;
      }
    };
  };
  const auto length_of_vocabulary = [](const std::string& length) {
    return [=](const HubServer::Request& request, HubServer::Reply& reply) {
      if (!request.path().ends_with("vocab.json")) return;
      reply.add_length = false;
      reply.headers.emplace_back("Content-Length", length);
    };
  };
  const auto body_of_weights = [](std::function<void(HubServer::Reply&)> change) {
    return [=](const HubServer::Request& request, HubServer::Reply& reply) {
      if (request.path().starts_with("/cdn/")) change(reply);
    };
  };
  const std::vector<Case> cases = {
      {"negative", linked_size("-1"), Fault::bad_data, "its size is '-1'"},
      {"beyond 64 bits", linked_size("99999999999999999999999"), Fault::bad_data,
       "its size is '99999999999999999999999'"},
      {"no number", linked_size("3000000x"), Fault::bad_data, "its size is '3000000x'"},
      {"huge", linked_size("4611686018427387904"), Fault::no_space, "has room for"},
      {"a negative Content-Length", length_of_vocabulary("-5"), Fault::bad_data, "Content-Length"},
      {"a Content-Length beyond 64 bits", length_of_vocabulary("99999999999999999999999"),
       Fault::bad_data, ""},
      {"shorter than said", body_of_weights([](auto& reply) { reply.body.resize(2'000'000); }),
       Fault::bad_data, "the answer has '2000000' bytes"},
      {"longer than said", body_of_weights([](auto& reply) { reply.body += "more"; }),
       Fault::bad_data, "the answer has '3000004' bytes"},
      {"longer, without a length", body_of_weights([](auto& reply) {
         reply.body += "more";
         reply.add_length = false;
       }),
       Fault::bad_data, "the answer has more"},
  };
  for (const Case& c : cases) {
    DownloadPlace p;
    p.hub.change = c.change;
    const std::string message = p.refused(c.fault);
    INFO(c.what << "\n" << message);
    CHECK(contains(message, c.message));
    CHECK_FALSE(fs::exists(p.repository() / "snapshots"));
  }
}

TEST_CASE("hub: an answer that always ends early is given up") {
  DownloadPlace p;
  p.hub.change = [](const HubServer::Request& request, HubServer::Reply& reply) {
    if (request.path().starts_with("/cdn/")) reply.cut_after = 1000;
  };
  const std::string message = p.refused(Fault::device);
  CHECK(contains(message, "does not hold"));
  CHECK(gets_from_cdn(p.hub).size() == 5);
  // It is kept for the next time.
  CHECK(fs::file_size(p.blob("model.safetensors").string() + ".incomplete") == 5000);
}

TEST_CASE("hub: 429 and 5xx are waited for, as long as the Hub says") {
  DownloadPlace p;
  int failures = 0;
  std::chrono::steady_clock::time_point refused_at;
  double waited = 0;
  p.hub.instead = [&](const HubServer::Request& request) -> std::optional<HubServer::Reply> {
    if (request.method != "HEAD") return std::nullopt;
    if (failures == 1) {
      waited = std::chrono::duration<double>(std::chrono::steady_clock::now() - refused_at).count();
    }
    refused_at = std::chrono::steady_clock::now();
    ++failures;
    if (failures == 1) return HubServer::Reply{.status = 429, .headers = {{"Retry-After", "1"}}};
    if (failures == 2) return HubServer::Reply{.status = 500};
    if (failures == 3) return HubServer::Reply{.status = 503};
    return std::nullopt;
  };
  p.get();
  CHECK(waited >= 1);
  REQUIRE(p.said.size() == 3);
  CHECK(p.said[0] == "the Hub answers 429: once more in 1.0s");

  p.hub.instead = [](const HubServer::Request&) { return HubServer::Reply{.status = 500}; };
  CHECK(contains(p.refused(Fault::device), "error: the Hub cannot answer: 500\n"));
  p.hub.instead = [](const HubServer::Request&) {
    return HubServer::Reply{.status = 429, .headers = {{"Retry-After", "86400"}}};
  };
  const std::string later = p.refused(Fault::device);
  CHECK(contains(later, "takes no more requests from here"));
  CHECK(contains(later, "it asks to wait for "));
}

TEST_CASE("hub: refusals say what to do") {
  DownloadPlace p;
  CHECK(contains(p.refused(Fault::bad_data, "acme/tinny"),
                 "error: the Hub has no model 'acme/tinny' that is open to all\n"
                 "  did you mean acme/tiny?\n"));
  CHECK(contains(p.refused(Fault::bad_data, "acme/tinny"), "\n  try: quire download acme/tiny"));
  CHECK(contains(p.refused(Fault::bad_data, "gtp2"), "did you mean gpt2?"));
  CHECK(contains(p.refused(Fault::bad_data, "acme/tiny@v1"),
                 "has no revision 'v1'\n  did you mean v1.0?\n  it has main, v1.0"));
  CHECK(p.get("acme/tiny@v1.0").commit == p.hub.commit);
  CHECK(read_file(p.repository() / "refs/v1.0") == p.hub.commit);

  p.hub.token = "hf_right";
  CHECK(contains(p.refused(Fault::bad_data), "a private or gated model wants a token of " +
                                                 p.hub.url() + "/settings/tokens in HF_TOKEN"));
  p.settings.token = "hf_wrong";
  CHECK(contains(p.refused(Fault::bad_data), "that the token of HF_TOKEN may see"));
  p.hub.instead = [](const HubServer::Request&) {
    return HubServer::Reply{.status = 401,
                            .body = R"({"error": "Invalid credentials in Authorization header"})"};
  };
  CHECK(contains(p.refused(Fault::bad_data),
                 "the Hub does not know the token of HF_TOKEN\n  it says: Invalid credentials"));
  p.hub.instead = [](const HubServer::Request&) {
    return HubServer::Reply{.status = 403, .headers = {{"X-Error-Code", "GatedRepo"}}};
  };
  CHECK(contains(p.refused(Fault::bad_data),
                 "is gated: its owners want their terms accepted\n  try: accept them on " +
                     p.hub.url() + "/acme/tiny"));
  p.hub.instead = [](const HubServer::Request&) { return HubServer::Reply{.status = 403}; };
  CHECK(contains(p.refused(Fault::bad_data), "may not do this"));
}

TEST_CASE("hub: what is no Hub is told so") {
  DownloadPlace p;
  p.hub.instead = [](const HubServer::Request&) {
    return HubServer::Reply{.headers = {{"Content-Type", "text/html"}},
                            .body = "<!DOCTYPE html><html><body>Sign in"};
  };
  CHECK(contains(p.refused(Fault::bad_data), "answers with what is not JSON\n  it is a web page"));
  for (const char* body :
       {"[]", "{}", R"({"sha": 1, "siblings": []})", R"({"sha": "main", "siblings": []})",
        R"({"sha": "0123456789abcdef0123456789abcdef01234567", "siblings": [{"name": 1}]})"}) {
    p.hub.instead = [&](const HubServer::Request&) { return HubServer::Reply{.body = body}; };
    INFO(body);
    CHECK(contains(p.refused(Fault::bad_data), "is not answered as the Hub does"));
  }
  p.hub.instead = nullptr;
  const auto without = [&](const std::string& header, const std::string& value,
                           const std::string& message) {
    p.hub.change = [=](const HubServer::Request&, HubServer::Reply& reply) {
      std::erase_if(reply.headers, [&](const auto& h) { return h.first == header; });
      if (!value.empty()) reply.headers.emplace_back(header, value);
    };
    CHECK(contains(p.refused(Fault::bad_data), message));
  };
  without("X-Repo-Commit", "", "there is no X-Repo-Commit");
  without("X-Repo-Commit", std::string(40, '0'), "it is of the commit");
  without("ETag", "", "its ETag is no hash: ''");
  without("ETag", "\"../../../evil\"", "its ETag is no hash: '../../../evil'");
}

TEST_CASE("hub: redirects end, and do not lead away from HTTP") {
  DownloadPlace p;
  p.hub.instead = [&](const HubServer::Request& request) -> std::optional<HubServer::Reply> {
    if (!request.path().starts_with("/cdn/")) return std::nullopt;
    return HubServer::Reply{.status = 302, .headers = {{"Location", request.path()}}};
  };
  CHECK(contains(p.refused(Fault::bad_data), "redirects more than 10 times"));
  const fs::path secret = p.scratch.write("secret", "of this machine");
  p.hub.instead = [&](const HubServer::Request& request) -> std::optional<HubServer::Reply> {
    if (!request.path().starts_with("/cdn/")) return std::nullopt;
    return HubServer::Reply{.status = 302, .headers = {{"Location", "file://" + secret.string()}}};
  };
  CHECK(contains(p.refused(Fault::bad_data), "redirects to where nothing is got from"));
}

TEST_CASE("hub: a name that was changed there is followed") {
  DownloadPlace p;
  p.hub.instead = [&](const HubServer::Request& request) -> std::optional<HubServer::Reply> {
    const std::size_t at = request.target.find("/tiny-old");
    if (at == std::string::npos) return std::nullopt;
    std::string target = request.target;
    return HubServer::Reply{.status = 307,
                            .headers = {{"Location", target.replace(at, 9, "/acme/tiny")}}};
  };
  const Downloaded got = p.get("tiny-old");
  CHECK(got.folder == p.settings.cache / "models--tiny-old/snapshots" / p.hub.commit);
  CHECK(read_file(got.folder / "model.safetensors") == p.weights());
}

TEST_CASE("hub: shards come with their index, and none from outside the folder") {
  DownloadPlace p;
  p.hub.files.erase("model.safetensors");
  p.hub.files["model-00001-of-00002.safetensors"] = hub_file(some_bytes(100), true);
  p.hub.files["model-00002-of-00002.safetensors"] = hub_file(some_bytes(200), true);
  const auto index = [&](const std::string& map) {
    p.hub.files["model.safetensors.index.json"] = hub_file("{\"weight_map\": " + map + "}");
  };
  for (const char* name : {"../../../../evil", "/etc/passwd", "a/../b", "", ".", "a//b", "a\\b"}) {
    index(nlohmann::json{{"wte.weight", name}}.dump());
    INFO(name);
    CHECK(contains(p.refused(Fault::bad_data), "which would lie outside the model's folder"));
  }
  index(R"({"wte.weight": "model-3.safetensors"})");
  CHECK(contains(p.refused(Fault::bad_data), "names model-3.safetensors, which is not there"));
  for (const char* map : {"[]", "{\"wte.weight\": 1}"}) {
    index(map);
    p.refused(Fault::bad_data);
  }
  index(R"({"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors",
            "c": "model-00001-of-00002.safetensors"})");
  const Downloaded got = p.get();
  CHECK(got.files.size() == 6);
  CHECK(fs::file_size(got.folder / "model-00002-of-00002.safetensors") == 200);
  CHECK(p.get().was_there);

  fs::remove(got.folder / "model-00002-of-00002.safetensors");
  CHECK(p.get().come == 0);  // the link alone was missing
  CHECK(p.get().was_there);
}

TEST_CASE("hub: which files of a model are wanted") {
  DownloadPlace p;
  CHECK(p.get("acme/tiny", {"README*"}).files.size() == 5);
  const Downloaded bin = p.get("acme/tiny", {"*.bin"});
  CHECK(bin.files.back().name == "pytorch_model.bin");
  CHECK(bin.files.size() == 4);
  CHECK(contains(p.scratch.message_of(Fault::bad_data, [&] { p.get("acme/tiny", {"*.h5"}); }),
                 "has no file '*.h5'"));
  p.hub.files.erase("model.safetensors");
  CHECK(p.get().files.back().name == "pytorch_model.bin");
  p.hub.files.erase("pytorch_model.bin");
  CHECK(contains(p.refused(Fault::bad_data), "holds no weights that Quire reads"));
  p.hub.files["tiny-f16.gguf"] = hub_file("GGUF", true);
  CHECK(p.get().files.back().name == "tiny-f16.gguf");
  p.hub.files["tiny-q8_0.gguf"] = hub_file("GGUF8", true);
  const std::string several = p.refused(Fault::usage);
  CHECK(contains(several, "has several models in GGUF\n  tiny-f16.gguf, tiny-q8_0.gguf"));
  CHECK(p.get("acme/tiny", {"*q8_0.gguf"}).files.back().name == "tiny-q8_0.gguf");
  p.hub.files["../evil.gguf"] = hub_file("GGUF", true);
  CHECK(contains(p.scratch.message_of(Fault::bad_data, [&] { p.get("acme/tiny", {"*evil*"}); }),
                 "outside the model's folder"));
}

TEST_CASE("hub: stopped, it keeps what came and makes no model of it") {
  DownloadPlace p;
  std::uint64_t come = 0;
  p.callbacks.progress = [&](const DownloadProgress& progress) {
    if (progress.file == "model.safetensors") come = progress.come;
  };
  p.callbacks.stop_requested = [&] { return come > 100'000; };
  const Downloaded stopped = p.get();
  CHECK(stopped.stopped);
  CHECK(stopped.come >= come);
  const auto kept = fs::file_size(p.blob("model.safetensors").string() + ".incomplete");
  CHECK(kept > 100'000);
  CHECK(kept < p.weights().size());
  CHECK_FALSE(fs::exists(p.repository() / "snapshots"));
  p.callbacks.stop_requested = nullptr;
  CHECK(p.get().come == p.weights().size() - kept);
}

TEST_CASE("hub: a second download of a file waits for the first") {
  DownloadPlace p;
  fs::create_directories(p.settings.cache / ".locks/models--acme--tiny");
  std::atomic<bool> waits = false;
  p.callbacks.say = [&](const std::string& line) {
    CHECK(line == "another process gets model.safetensors: waiting for it");
    waits = true;
  };
  {
    FileLock held(p.settings.cache / ".locks/models--acme--tiny" /
                  (p.hub.files["model.safetensors"].hash + ".lock"));
    REQUIRE(held.try_lock());
    p.callbacks.stop_requested = [&] { return waits.load(); };
    CHECK(p.get().stopped);
  }
  CHECK(waits);
  p.callbacks.stop_requested = nullptr;
  CHECK(p.get().folder.filename() == p.hub.commit);
}

TEST_CASE(
    "hub: no connection is opened where a variable forbids it, and none is reached where nobody "
    "listens") {
  DownloadPlace p;
  p.settings.offline_by = "HF_HUB_OFFLINE";
  CHECK(contains(p.refused(Fault::usage), "error: HF_HUB_OFFLINE is set"));
  CHECK(p.hub.calls().empty());
  p.settings.offline_by.clear();
  p.settings.endpoint = "http://127.0.0.1:1";
  const std::string message = p.refused(Fault::device);
  CHECK(contains(message, "error: http://127.0.0.1:1 cannot be reached\n"));
}

TEST_CASE("hub: names and revisions that are none are refused before anything is sent") {
  for (const char* name :
       {"", "a/b/c", "../x", "a/..", "a b", "a@", "a@../x", "a@x/../../y", "a@/x", "a@x\n"}) {
    INFO(name);
    CHECK_THROWS_AS(HubModel::parse(name), Error);
  }
  CHECK(HubModel::parse("a/b@refs/pr/1").revision == "refs/pr/1");
  CHECK(in_url("refs/pr/1", true) == "refs%2Fpr%2F1");
  CHECK(in_url("a b/\xC3\xA4#?%") == "a%20b/%C3%A4%23%3F%25");
}
