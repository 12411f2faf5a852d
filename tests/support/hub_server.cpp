#include "tests/support/hub_server.h"

#include <algorithm>
#include <sstream>

namespace quire::test {
namespace {

using Json = nlohmann::json;
using Request = HttpServer::Request;
using Reply = HttpServer::Reply;

Reply json_reply(const Json& json, int status = 200) {
  return {.status = status,
          .headers = {{"Content-Type", "application/json; charset=utf-8"}},
          .body = json.dump()};
}

Reply refusal(int status, const std::string& code, const std::string& message) {
  Reply reply = json_reply({{"error", message}}, status);
  reply.headers.emplace_back("X-Error-Code", code);
  reply.headers.emplace_back("X-Error-Message", message);
  return reply;
}

/// The content, or the part of it that a range asks for.
Reply content(const Request& request, const std::string& text) {
  const std::string range = request.header("range");
  if (!range.starts_with("bytes=")) return {.body = text};
  const std::size_t from = std::stoul(range.substr(6));
  if (from >= text.size()) return {.status = 416};
  return {.status = 206,
          .headers = {{"Content-Range", "bytes " + std::to_string(from) + "-" +
                                            std::to_string(text.size() - 1) + "/" +
                                            std::to_string(text.size())}},
          .body = text.substr(from)};
}

}  // namespace

std::vector<std::string> HubServer::calls() {
  std::vector<std::string> list;
  for (const Request& request : server.requests())
    list.push_back(request.method + " " + request.target);
  return list;
}

Reply HubServer::answer(const Request& request) {
  if (instead) {
    if (std::optional<Reply> reply = instead(request)) return *reply;
  }
  Reply reply = route(request);
  if (change) change(request, reply);
  return reply;
}

Reply HubServer::route(const Request& request) {
  const std::string path = request.path();
  if (path.starts_with("/cdn/")) {
    for (const auto& [file, what] : files) {
      if (what.hash != path.substr(5)) continue;
      Reply reply = content(request, what.content);
      reply.headers.emplace_back("ETag", "\"of-the-cdn-" + what.hash.substr(0, 8) + "\"");
      return reply;
    }
    return {.status = 404};
  }
  if (path.starts_with("/store/") && request.method == "PUT") {
    parts[path] = request.body;
    const std::string hash = path.substr(7, 64);
    if (path.size() == 7 + 64) store[hash] = request.body;
    return {.headers = {
                {"ETag", "\"part" + path.substr(std::min<std::size_t>(path.size(), 71)) + "\""}}};
  }
  if (path == "/api/models") return json_reply(Json::array({{{"id", name}}}));
  if (!token.empty() && request.header("authorization") != "Bearer " + token) {
    return refusal(401, "RepoNotFound", "Repository not found");
  }
  const std::string api = "/api/models/" + name, at = "/resolve/" + commit + "/";
  if (request.method == "POST") {
    if (path == "/api/validate-yaml") {  // huggingface_hub asks it of a card
      return json_reply({{"errors", Json::array()}, {"warnings", Json::array()}});
    }
    if (path == "/api/repos/create") {
      created.push_back(Json::parse(request.body));
      if (exists) return refusal(409, "", "You already created this model repo");
      exists = true;
      return json_reply({{"url", url() + "/" + name}});
    }
    if (!exists) return refusal(404, "RepoNotFound", "Repository not found");
    if (path.starts_with(api + "/preupload/")) return preupload(request);
    if (path == "/" + name + ".git/info/lfs/objects/batch") return batch(request);
    if (path.starts_with(api + "/commit/")) return take_commit(request);
    if (path == "/complete") {
      const Json done = Json::parse(request.body);
      completions.push_back(done);
      std::string whole;
      for (const Json& part : done["parts"]) {
        whole +=
            parts["/store/" + done["oid"].get<std::string>() + "/" + part["partNumber"].dump()];
      }
      store[done["oid"]] = whole;
      return json_reply(Json::object());
    }
    if (path == "/verify") {
      verified.push_back(Json::parse(request.body));
      return json_reply(Json::object());
    }
  }
  if (path == api + "/refs") {
    return json_reply({{"branches", Json::array({{{"name", "main"}}})},
                       {"tags", Json::array({{{"name", "v1.0"}}})}});
  }
  for (const std::string& revision : {std::string("main"), std::string("v1.0"), commit}) {
    if (path == api + "/revision/" + revision) return listing();
  }
  if (path.starts_with(api + "/revision/")) {
    return refusal(404, "RevisionNotFound", "Invalid rev id: " + path.substr(api.size() + 10));
  }
  if (path == api + "/tree/" + commit) {
    Json list = Json::array();
    for (const auto& [file, what] : files) {
      Json entry = {{"type", "file"},
                    {"path", file},
                    {"size", what.content.size()},
                    {"oid", what.hash.substr(0, 40)}};
      if (what.lfs) {
        entry["lfs"] = {{"oid", what.hash}, {"size", what.content.size()}, {"pointerSize", 133}};
      }
      list.push_back(entry);
    }
    return json_reply(list);
  }
  if (path.starts_with("/" + name + at))
    return resolve(request, path.substr(1 + name.size() + at.size()));
  return refusal(404, "RepoNotFound", "Repository not found");
}

Reply HubServer::listing() const {
  Json siblings = Json::array();
  for (const auto& [file, what] : files) siblings.push_back({{"rfilename", file}});
  return json_reply({{"_id", "1"},
                     {"id", name},
                     {"modelId", name},
                     {"sha", commit},
                     {"private", false},
                     {"tags", Json::array()},
                     {"downloads", 0},
                     {"likes", 0},
                     {"siblings", siblings}});
}

Reply HubServer::resolve(const Request& request, const std::string& file) const {
  const auto found = files.find(file);
  if (found == files.end()) return refusal(404, "EntryNotFound", "Entry not found");
  const HubFile& what = found->second;
  Reply reply;
  if (what.lfs) {
    reply.status = 302;
    reply.headers = {{"Location", server.url("localhost") + "/cdn/" + what.hash},
                     {"X-Linked-Etag", "\"" + what.hash + "\""},
                     {"X-Linked-Size", std::to_string(what.content.size())}};
    reply.body = "Found. Redirecting";
  } else {
    reply = content(request, what.content);
    reply.headers.emplace_back("ETag", "\"" + what.hash + "\"");
  }
  reply.headers.emplace_back("X-Repo-Commit", commit);
  return reply;
}

Reply HubServer::preupload(const Request& request) const {
  Json answers = Json::array();
  const Json asked = Json::parse(request.body);
  for (const Json& file : asked["files"]) {
    const std::string path = file["path"];
    const auto there = files.find(path);
    Json answer = {{"path", path},
                   {"uploadMode", path.ends_with(".safetensors") ? "lfs" : "regular"},
                   {"shouldIgnore", path.ends_with(".ignored")}};
    if (there != files.end()) answer["oid"] = there->second.hash;
    answers.push_back(answer);
  }
  return json_reply({{"files", answers}});
}

Reply HubServer::batch(const Request& request) {
  const Json asked = Json::parse(request.body);
  batches.push_back(asked);
  Json objects = Json::array();
  for (const Json& object : asked["objects"]) {
    const std::string hash = object["oid"];
    Json answer = object;
    if (!store.contains(hash)) {
      const std::string where = server.url("localhost") + "/store/" + hash;
      Json upload = {{"href", where}, {"header", {{"X-Of-The-Store", "yes"}}}};
      if (chunk_size > 0) {
        upload = {{"href", url() + "/complete"},
                  {"header", {{"chunk_size", std::to_string(chunk_size)}}}};
        const std::size_t size = object["size"], parts_of_it = (size + chunk_size - 1) / chunk_size;
        for (std::size_t part = 1; part <= parts_of_it; ++part) {
          upload["header"][std::to_string(part)] = where + "/" + std::to_string(part);
        }
      }
      answer["actions"] = {{"upload", upload}, {"verify", {{"href", url() + "/verify"}}}};
    }
    objects.push_back(answer);
  }
  return json_reply({{"transfer", chunk_size > 0 ? "multipart" : "basic"}, {"objects", objects}});
}

Reply HubServer::take_commit(const Request& request) {
  std::vector<Json> lines;
  std::istringstream body(request.body);
  for (std::string line; std::getline(body, line);) lines.push_back(Json::parse(line));
  commits.push_back(lines);
  return json_reply({{"success", true},
                     {"commitOid", commit},
                     {"commitUrl", url() + "/" + name + "/commit/" + commit},
                     {"hookOutput", ""}});
}

}  // namespace quire::test
