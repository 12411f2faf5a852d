// A Hub of one model on 127.0.0.1: the URLs, headers and redirects that huggingface_hub talks to.
// Files in LFS are served by "another host", localhost.
#pragma once

#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "tests/support/http_server.h"

namespace quire::test {

/// A file there, with its hashes as the Hub has them: git's SHA-1, or the SHA-256 of LFS.
struct HubFile {
  std::string content;
  std::string hash;
  bool lfs = false;
};

struct HubServer {
  using Request = HttpServer::Request;
  using Reply = HttpServer::Reply;

  std::string name = "acme/tiny";
  std::string commit = "0123456789abcdef0123456789abcdef01234567";
  std::map<std::string, HubFile> files;
  std::string token;  ///< where not empty: nothing without it
  /// What a test does to an answer; asked first, where it is set.
  std::function<std::optional<Reply>(const Request&)> instead;
  std::function<void(const Request&, Reply&)> change;

  // What was uploaded.
  std::map<std::string, std::string> store;  ///< of LFS, by hash
  std::vector<nlohmann::json> batches, completions, verified, created;
  std::vector<std::vector<nlohmann::json>> commits;  ///< their lines
  std::size_t chunk_size = 0;                        ///< above 0: large files come in parts
  bool exists = true;
  std::map<std::string, std::string> parts;  ///< by their paths

  /// After all of the above, which its threads use.
  HttpServer server{[this](const Request& request) { return answer(request); }};

  std::string url() const { return server.url(); }
  /// "GET /api/models/acme/tiny/revision/main", in their order.
  std::vector<std::string> calls();

 private:
  Reply answer(const Request& request);
  Reply route(const Request& request);
  Reply listing() const;
  Reply resolve(const Request& request, const std::string& file) const;
  Reply preupload(const Request& request) const;
  Reply batch(const Request& request);
  Reply take_commit(const Request& request);
};

}  // namespace quire::test
