// A server on 127.0.0.1 that answers as a test wants it to, down to answers that no server should give:
// wrong lengths, connections cut in the middle.
#pragma once

#include <atomic>
#include <cstddef>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace quire::test {

class HttpServer {
 public:
  struct Request {
    std::string method;
    std::string target;                          ///< path and query, as sent
    std::map<std::string, std::string> headers;  ///< by their names in lower case
    std::string body;

    std::string path() const { return target.substr(0, target.find('?')); }
    /// Empty where there is none.
    std::string header(const std::string& lower_name) const;
  };
  struct Reply {
    int status = 200;
    std::vector<std::pair<std::string, std::string>> headers;
    std::string body;
    /// After so many bytes of the body the connection is closed.
    std::size_t cut_after = std::string::npos;
    /// After so many bytes nothing more comes, and the connection stays.
    std::size_t stall_after = std::string::npos;
    bool add_length = true;  ///< Content-Length of the whole body
  };
  using Handler = std::function<Reply(const Request&)>;

  /// `handler` is called by one thread at a time.
  explicit HttpServer(Handler handler);
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  /// "http://127.0.0.1:PORT", or the same server by another name: "localhost".
  std::string url(const std::string& host = "127.0.0.1") const;
  /// Those that came so far, in their order.
  std::vector<Request> requests();

 private:
  void accept_all();
  void serve(int connection);

  Handler handler_;
  int socket_ = -1;
  int port_ = 0;
  std::atomic<bool> ended_{false};
  std::mutex mutex_;  // of what follows, and of calls of handler_
  std::vector<Request> requests_;
  std::vector<std::thread> threads_;
  std::vector<int> open_;  // connections
  std::thread acceptor_;
};

}  // namespace quire::test
