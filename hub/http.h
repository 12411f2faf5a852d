// One request over HTTP, by libcurl: no redirects are followed and nothing is tried again here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace quire {

/// The beginning of a URL, by which it is known who is talked to: "https://huggingface.co:443".
/// Empty for what is no URL of http or https.
std::string origin_of(const std::string& url);

/// Bytes of a file as a request's body.
struct FilePart {
  std::filesystem::path file;
  std::uint64_t offset = 0, size = 0;
};

struct HttpRequest {
  std::string method = "GET";  ///< GET, HEAD, POST or PUT
  std::string url;
  std::vector<std::pair<std::string, std::string>> headers;
  std::string body;              ///< of POST and PUT
  std::optional<FilePart> part;  ///< instead of it, of PUT
  /// The most that an answer may have in memory; there is trouble with a longer one.
  std::size_t body_limit = std::size_t{64} << 20;
  /// Once, before the first byte of an answer with a status of 2xx; false ends the request there.
  std::function<bool(const struct HttpResponse& so_far)> begin;
  /// Takes the body of such an answer, which then is not kept in memory; false ends the request.
  std::function<bool(std::string_view bytes)> sink;
  /// How many bytes of `part` have gone out.
  std::function<void(std::uint64_t bytes)> sent;
};

struct HttpResponse {
  int status = 0;                              ///< 0: there was no answer
  std::map<std::string, std::string> headers;  ///< by their names in lower case
  std::string body;
  std::string redirect;               ///< where a status of 3xx sends to, as a whole URL
  std::optional<double> retry_after;  ///< seconds
  std::string trouble;                ///< why there is no answer, or only a part of it
  bool connected = true;              ///< false: nobody was reached, or name and certificate differ
  bool passing = false;               ///< whether the trouble may be gone in a moment
  bool ended_by_us = false;           ///< `begin` or `sink` answered false
  bool stopped = false;               ///< stop_requested() answered true

  /// Empty where there is none.
  std::string header(const std::string& lower_name) const;
  bool is_success() const { return status >= 200 && status < 300; }
};

/// Keeps its connections. For one thread.
class HttpSession {
 public:
  /// Throws Error(device) where libcurl is missing.
  HttpSession(std::string user_agent, std::function<bool()> stop_requested);
  ~HttpSession();
  HttpSession(const HttpSession&) = delete;
  HttpSession& operator=(const HttpSession&) = delete;

  HttpResponse exchange(const HttpRequest& request);

 private:
  std::string user_agent_;
  std::function<bool()> stop_requested_;
  void* easy_;
};

}  // namespace quire
