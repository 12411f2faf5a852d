#include "hub/upload.h"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/text.h"
#include "hub/digest.h"

namespace quire {
namespace {

using Json = nlohmann::json;

/// Of preupload: what the Hub judges a file by.
constexpr std::size_t kSample = 512;
/// What a commit may have in it as base64; the Hub wants LFS for files above 10 MB.
constexpr std::uint64_t kMostInline = std::uint64_t{64} << 20;
constexpr const char* kLfsType = "application/vnd.git-lfs+json";

std::string first_bytes(const std::filesystem::path& file) {
  std::string bytes(kSample, '\0');
  std::ifstream in(file, std::ios::binary);
  in.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  bytes.resize(static_cast<std::size_t>(in.gcount()));
  return bytes;
}

/// An address of the LFS answer with its headers, by name.
struct LfsAction {
  std::string href;
  std::map<std::string, std::string> headers;
};

class Upload {
 public:
  Upload(const HubSettings& settings, const HubModel& model, const UploadOptions& options,
         const UploadCallbacks& callbacks)
      : client_(settings, callbacks, "quire upload DIR"),
        model_(model),
        options_(options),
        callbacks_(callbacks) {}

  void run(std::vector<UploadFile> files, Uploaded& result) {
    result.url = client_.url("/" + model_.name);
    if (options_.create) create();
    ask_modes(files, result);
    if (files.empty()) return;
    send_large(files, result);
    commit(files, result);
  }

 private:
  std::string api(const char* action) const {
    return "/api/models/" + in_url(model_.name) + "/" + action + "/" +
           in_url(model_.revision, true);
  }

  [[noreturn]] void refuse_answer(const std::string& path, const std::string& wanted) const {
    throw Error(Fault::bad_data, client_.url(path) + " is not answered as the Hub does",
                {"wanted: " + wanted}, "HF_ENDPOINT, which names the server");
  }

  void create() {
    const std::size_t slash = model_.name.find('/');
    Json body = {{"name", model_.name.substr(slash + 1)},
                 {"organization", model_.name.substr(0, slash)}};
    if (options_.is_private) body["visibility"] = "private";
    const HttpResponse response = client_.post_json("/api/repos/create", body);
    if (response.is_success() || response.status == 409) return;  // 409: it is there
    client_.refuse(response, model_, "the making of " + model_.name);
  }

  /// Sets `lfs`, and takes out what is there already or ignored there.
  void ask_modes(std::vector<UploadFile>& files, Uploaded& result) {
    Json list = Json::array();
    for (const UploadFile& file : files) {
      list.push_back(
          {{"path", file.name}, {"sample", base64(first_bytes(file.path))}, {"size", file.size}});
    }
    const std::string path = api("preupload");
    const HttpResponse response = client_.post_json(path, {{"files", list}});
    if (response.header("x-error-code") == "RevisionNotFound") {
      throw Error(Fault::bad_data, model_.name + " has no branch '" + model_.revision + "'", {},
                  "main, or make it on " + client_.url("/" + model_.name + "/tree/main"));
    }
    if (response.status == 404) {
      throw Error(Fault::bad_data, "the Hub has no model '" + model_.name + "' yet",
                  {"or it is not shown to the token of " + client_.settings().token_from},
                  "`create` makes it"_named);
    }
    if (!response.is_success()) client_.refuse(response, model_, path);
    const Json json = client_.json_of(response, client_.url(path));
    const auto refuse = [&] {
      refuse_answer(path, "\"files\", each with \"path\" and \"uploadMode\"");
    };
    if (!json.is_object() || !json.contains("files") || !json["files"].is_array()) refuse();
    std::map<std::string, Json> answers;
    for (const Json& entry : json["files"]) {
      std::string name, mode;
      if (!entry.is_object() || !entry.contains("path") || !entry.contains("uploadMode") ||
          !read_json(entry["path"], name) || !read_json(entry["uploadMode"], mode) ||
          (mode != "lfs" && mode != "regular")) {
        refuse();
      }
      answers[name] = entry;
    }
    std::vector<UploadFile> kept;
    for (UploadFile& file : files) {
      const auto found = answers.find(file.name);
      if (found == answers.end()) refuse();
      const Json& answer = found->second;
      // The store takes no file without a byte.
      file.lfs = answer["uploadMode"] == "lfs" && file.size > 0;
      bool ignored = false;
      std::string there;
      if (answer.contains("shouldIgnore")) read_json(answer["shouldIgnore"], ignored);
      if (answer.contains("oid")) read_json(answer["oid"], there);
      if (ignored) {
        ++result.ignored;
      } else if (!there.empty() && there == hash_there(file)) {
        ++result.unchanged;
      } else {
        kept.push_back(std::move(file));
      }
    }
    files = std::move(kept);
  }

  static std::string hash_there(const UploadFile& file) {
    return file.lfs ? file.sha256 : digest_of_file(DigestKind::git_blob, file.path);
  }

  void send_large(const std::vector<UploadFile>& files, Uploaded& result) {
    std::map<std::string, const UploadFile*> by_hash;
    Json objects = Json::array();
    for (const UploadFile& file : files) {
      if (!file.lfs || !by_hash.emplace(file.sha256, &file).second) continue;
      objects.push_back({{"oid", file.sha256}, {"size", file.size}});
      progress_.total += file.size;
    }
    if (by_hash.empty()) return;
    const std::string path = "/" + in_url(model_.name) + ".git/info/lfs/objects/batch";
    const HttpResponse response = client_.post_json(path,
                                                    {{"operation", "upload"},
                                                     {"transfers", {"basic", "multipart"}},
                                                     {"objects", objects},
                                                     {"hash_algo", "sha256"},
                                                     {"ref", {{"name", model_.revision}}}},
                                                    kLfsType);
    if (!response.is_success()) client_.refuse(response, model_, path);
    const Json json = client_.json_of(response, client_.url(path));
    if (!json.is_object() || !json.contains("objects") || !json["objects"].is_array()) {
      refuse_answer(path, "\"objects\"");
    }
    std::set<std::string> answered;
    for (const Json& object : json["objects"]) {
      std::string hash;
      if (!object.is_object() || !object.contains("oid") || !read_json(object["oid"], hash) ||
          !by_hash.contains(hash)) {
        refuse_answer(path, "objects that were asked for");
      }
      answered.insert(hash);
      send_object(object, *by_hash[hash], path, result);
    }
    if (answered.size() != by_hash.size()) refuse_answer(path, "every object that was asked for");
  }

  LfsAction action_of(const Json& json, const std::string& path) const {
    LfsAction action;
    bool well = json.is_object() && json.contains("href") && read_json(json["href"], action.href);
    if (well && json.contains("header") && json["header"].is_object()) {
      for (const auto& [name, value] : json["header"].items()) {
        std::string text;
        // A line break would begin a header of its own.
        well = well && read_json(value, text) &&
               (name + text).find_first_of("\r\n") == std::string::npos;
        action.headers[name] = text;
      }
    }
    if (!well || origin_of(action.href).empty()) {
      refuse_answer(path, "actions with \"href\" and \"header\"");
    }
    return action;
  }

  void send_object(const Json& object, const UploadFile& file, const std::string& path,
                   Uploaded& result) {
    if (object.contains("error")) {
      std::string why;
      const Json& error = object["error"];
      if (error.is_object() && error.contains("message")) read_json(error["message"], why);
      throw Error(Fault::bad_data, "the Hub does not take " + file.name, {"it says: " + why});
    }
    const bool wanted = object.contains("actions") && object["actions"].is_object() &&
                        object["actions"].contains("upload");
    if (wanted) {
      const LfsAction action = action_of(object["actions"]["upload"], path);
      progress_.file = file.name;
      if (action.headers.contains("chunk_size")) {
        send_parts(file, action, path);
      } else {
        std::vector<std::pair<std::string, std::string>> headers(action.headers.begin(),
                                                                 action.headers.end());
        put(file, action.href, std::move(headers), 0, file.size);
      }
      result.sent += file.size;
      if (object["actions"].contains("verify")) {
        verify(file, action_of(object["actions"]["verify"], path));
      }
    }
    done_ += file.size;
    report(0);
  }

  void report(std::uint64_t of_file) {
    progress_.bytes = done_ + of_file;
    if (callbacks_.sending) callbacks_.sending(progress_);
  }

  HttpResponse put(const UploadFile& file, const std::string& href,
                   std::vector<std::pair<std::string, std::string>> headers, std::uint64_t offset,
                   std::uint64_t size) {
    HttpRequest request{.method = "PUT", .url = href, .headers = std::move(headers)};
    request.part = FilePart{.file = file.path, .offset = offset, .size = size};
    request.sent = [&](std::uint64_t bytes) { report(offset + bytes); };
    HttpResponse response = client_.send(request);
    if (!response.is_success()) client_.refuse(response, model_, file.name + " in its store");
    return response;
  }

  void send_parts(const UploadFile& file, const LfsAction& action, const std::string& path) {
    const auto number_of = [](const std::string& text) {
      std::uint64_t number = 0;
      const auto [end, trouble] = std::from_chars(text.data(), text.data() + text.size(), number);
      return trouble == std::errc() && end == text.data() + text.size() ? number : 0;
    };
    const std::uint64_t chunk = number_of(action.headers.at("chunk_size"));
    std::map<std::uint64_t, std::string> addresses;  // by the part's number, from 1 on
    for (const auto& [name, value] : action.headers) {
      if (const std::uint64_t number = number_of(name); number > 0) addresses[number] = value;
    }
    const std::uint64_t parts = chunk == 0 ? 0 : (file.size - 1) / chunk + 1;
    if (parts == 0 || addresses.size() != parts || addresses.rbegin()->first != parts) {
      refuse_answer(path, "\"chunk_size\" and an address for each part of " + file.name);
    }
    Json sent = Json::array();
    for (const auto& [number, href] : addresses) {
      if (origin_of(href).empty()) refuse_answer(path, "addresses of parts");
      const std::uint64_t offset = (number - 1) * chunk;
      const HttpResponse response =
          put(file, href, {}, offset, std::min(chunk, file.size - offset));
      if (response.header("etag").empty()) refuse_answer(path, "a store that answers with ETag");
      sent.push_back({{"partNumber", number}, {"etag", response.header("etag")}});
    }
    const HttpResponse done =
        client_.send({.method = "POST",
                      .url = action.href,
                      .headers = {{"Content-Type", kLfsType}, {"Accept", kLfsType}},
                      .body = json_text(Json{{"oid", file.sha256}, {"parts", sent}})});
    if (!done.is_success()) client_.refuse(done, model_, file.name + " in its store");
  }

  void verify(const UploadFile& file, const LfsAction& action) {
    HttpRequest request{.method = "POST",
                        .url = action.href,
                        .headers = {action.headers.begin(), action.headers.end()},
                        .body = json_text(Json{{"oid", file.sha256}, {"size", file.size}})};
    request.headers.emplace_back("Content-Type", "application/json");
    const HttpResponse response = client_.send(request);
    if (!response.is_success()) client_.refuse(response, model_, file.name + " in its store");
  }

  std::string commit_body(const std::vector<UploadFile>& files) const {
    std::string body =
        json_text(Json{{"key", "header"},
                       {"value", {{"summary", options_.message}, {"description", ""}}}}) +
        "\n";
    for (const UploadFile& file : files) {
      Json line;
      if (file.lfs) {
        line = {
            {"key", "lfsFile"},
            {"value",
             {{"path", file.name}, {"algo", "sha256"}, {"oid", file.sha256}, {"size", file.size}}}};
      } else {
        if (body.size() + file.size > kMostInline) {
          throw Error(Fault::bad_data, "the Hub wants " + file.name + " in the commit itself",
                      {"it has " + with_commas(file.size) + " bytes"},
                      "a line for it in the .gitattributes of " + client_.url("/" + model_.name));
        }
        line = {{"key", "file"},
                {"value",
                 {{"content", base64(read_file(file.path))},
                  {"path", file.name},
                  {"encoding", "base64"}}}};
      }
      body += json_text(line) + "\n";
    }
    return body;
  }

  /// Not sent again where the answer was lost: it might be made twice.
  void commit(const std::vector<UploadFile>& files, Uploaded& result) {
    const std::string path = api("commit");
    const HttpRequest request{.method = "POST",
                              .url = client_.url(path),
                              .headers = {{"Content-Type", "application/x-ndjson"}},
                              .body = commit_body(files)};
    Patience patience(client_.settings(), callbacks_);
    HttpResponse response;
    do {
      response = client_.send_once(request);
    } while ((response.status == 429 || response.status == 503) && patience.wait_after(response));
    if (!response.trouble.empty()) {
      throw Error(Fault::device, "the connection did not hold while the commit was made",
                  {response.trouble, "it may be there, or not"},
                  "look at " + client_.url("/" + model_.name + "/commits/" + model_.revision));
    }
    if (!response.is_success()) client_.refuse(response, model_, path);
    const Json json = client_.json_of(response, client_.url(path));
    if (!json.is_object() || !json.contains("commitOid") ||
        !read_json(json["commitOid"], result.commit)) {
      refuse_answer(path, "\"commitOid\"");
    }
    if (json.contains("commitUrl")) read_json(json["commitUrl"], result.url);
  }

  HubClient client_;
  const HubModel& model_;
  const UploadOptions& options_;
  const UploadCallbacks& callbacks_;
  UploadProgress progress_;
  std::uint64_t done_ = 0;
};

}  // namespace

void check_upload(const HubSettings& settings, const HubModel& model) {
  refuse_offline(settings);
  if (model.name.find('/') == std::string::npos) {
    throw Error(Fault::usage, "'" + model.name + "' does not say whose model it is",
                {"a name on the Hub to upload to is OWNER/NAME"}, "YOUR-ACCOUNT/" + model.name);
  }
  if (settings.token.empty()) {
    throw Error(
        Fault::usage, "there is no token, without which the Hub takes nothing",
        {"it is looked for in HF_TOKEN and in " + settings.token_from},
        "HF_TOKEN=hf_… with one of " + settings.endpoint + "/settings/tokens that may write");
  }
}

Uploaded upload_model(const HubSettings& settings, const HubModel& model, UploadPlan plan,
                      const UploadOptions& options, const UploadCallbacks& callbacks) {
  check_upload(settings, model);
  Uploaded result;
  try {
    Upload(settings, model, options, callbacks).run(std::move(plan.files), result);
  } catch (const HubStopped&) {
    result.stopped = true;
  }
  return result;
}

}  // namespace quire
