#include "tests/support/http_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <optional>
#include <stdexcept>

namespace quire::test {
namespace {

void check(bool ok, const char* what) {
  if (!ok) throw std::runtime_error(std::string("test server: cannot ") + what);
}

/// What comes over a connection, line by line and in pieces.
class Reader {
 public:
  explicit Reader(int connection) : connection_(connection) {}

  std::optional<std::string> line() {
    std::size_t end;
    while ((end = held_.find("\r\n")) == std::string::npos) {
      if (!more()) return std::nullopt;
    }
    std::string text = held_.substr(0, end);
    held_.erase(0, end + 2);
    return text;
  }
  std::optional<std::string> bytes(std::size_t count) {
    while (held_.size() < count) {
      if (!more()) return std::nullopt;
    }
    std::string text = held_.substr(0, count);
    held_.erase(0, count);
    return text;
  }

 private:
  bool more() {
    std::array<char, 1 << 16> part;
    const ssize_t count = ::recv(connection_, part.data(), part.size(), 0);
    if (count <= 0) return false;
    held_.append(part.data(), static_cast<std::size_t>(count));
    return true;
  }

  int connection_;
  std::string held_;
};

std::optional<std::string> read_chunks(Reader& reader) {
  std::string body;
  while (const auto size = reader.line()) {
    const std::size_t count = std::stoul(*size, nullptr, 16);
    const auto part = reader.bytes(count);
    if (!part || !reader.line()) return std::nullopt;
    if (count == 0) return body;
    body += *part;
  }
  return std::nullopt;
}

std::optional<HttpServer::Request> read_request(Reader& reader) {
  const auto first = reader.line();
  if (!first) return std::nullopt;
  HttpServer::Request request;
  const std::size_t space = first->find(' ');
  request.method = first->substr(0, space);
  request.target = first->substr(space + 1, first->rfind(' ') - space - 1);
  while (const auto line = reader.line()) {
    if (line->empty()) break;
    std::string name = line->substr(0, line->find(':'));
    for (char& c : name) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    request.headers[name] = line->substr(std::min(line->find(':') + 2, line->size()));
  }
  std::optional<std::string> body = std::string();
  if (request.header("transfer-encoding") == "chunked") {
    body = read_chunks(reader);
  } else if (const std::string length = request.header("content-length"); !length.empty()) {
    body = reader.bytes(std::stoul(length));
  }
  if (!body) return std::nullopt;
  request.body = std::move(*body);
  return request;
}

bool send_all(int connection, std::string_view text) {
  while (!text.empty()) {
    const ssize_t count = ::send(connection, text.data(), text.size(), MSG_NOSIGNAL);
    if (count <= 0) return false;
    text.remove_prefix(static_cast<std::size_t>(count));
  }
  return true;
}

}  // namespace

std::string HttpServer::Request::header(const std::string& lower_name) const {
  const auto found = headers.find(lower_name);
  return found == headers.end() ? "" : found->second;
}

HttpServer::HttpServer(Handler handler) : handler_(std::move(handler)) {
  socket_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  check(socket_ >= 0 && ::bind(socket_, reinterpret_cast<sockaddr*>(&address), size) == 0, "bind");
  check(::getsockname(socket_, reinterpret_cast<sockaddr*>(&address), &size) == 0, "name itself");
  check(::listen(socket_, 64) == 0, "listen");
  port_ = ntohs(address.sin_port);
  acceptor_ = std::thread([this] { accept_all(); });
}

HttpServer::~HttpServer() {
  ended_ = true;
  ::shutdown(socket_, SHUT_RDWR);
  acceptor_.join();
  {
    const std::lock_guard lock(mutex_);
    for (const int connection : open_) ::shutdown(connection, SHUT_RDWR);
  }
  for (std::thread& thread : threads_) thread.join();
  ::close(socket_);
}

std::string HttpServer::url(const std::string& host) const {
  return "http://" + host + ":" + std::to_string(port_);
}

std::vector<HttpServer::Request> HttpServer::requests() {
  const std::lock_guard lock(mutex_);
  return requests_;
}

void HttpServer::accept_all() {
  while (!ended_) {
    const int connection = ::accept4(socket_, nullptr, nullptr, SOCK_CLOEXEC);
    if (connection < 0) continue;
    // Head and body are written apart: the second would wait for the first one's receipt, 40 ms.
    const int at_once = 1;
    ::setsockopt(connection, IPPROTO_TCP, TCP_NODELAY, &at_once, sizeof(at_once));
    const std::lock_guard lock(mutex_);
    open_.push_back(connection);
    threads_.emplace_back([this, connection] { serve(connection); });
  }
}

void HttpServer::serve(int connection) {
  Reader reader(connection);
  while (auto request = read_request(reader)) {
    Reply reply;
    {
      const std::lock_guard lock(mutex_);
      requests_.push_back(*request);
      reply = handler_(*request);
    }
    std::string head = "HTTP/1.1 " + std::to_string(reply.status) + " Answer\r\n";
    for (const auto& [name, value] : reply.headers) head += name + ": " + value + "\r\n";
    if (reply.add_length) head += "Content-Length: " + std::to_string(reply.body.size()) + "\r\n";
    const std::size_t sent = std::min(reply.cut_after, reply.stall_after);
    const bool body = request->method != "HEAD";
    const bool cut = body && sent < reply.body.size();
    if (!send_all(connection, head + "\r\n") ||
        (body && !send_all(connection, std::string_view(reply.body).substr(0, sent))) ||
        (cut && reply.cut_after <= reply.stall_after) || !reply.add_length) {
      break;
    }
    if (cut) reader.line();  // until the other side goes
  }
  const std::lock_guard lock(mutex_);
  std::erase(open_, connection);
  ::close(connection);
}

}  // namespace quire::test
