#include "hub/http.h"

#include <curl/curl.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "base/error.h"
#include "base/file.h"
#include "base/text.h"
#include "hub/shared_library.h"

namespace quire {
namespace {

/// What is called of libcurl.
struct Curl {
  SharedLibrary library{"libcurl.so.4", "libcurl4"};
#define QUIRE_CURL(name) \
  decltype(&curl_##name) name = library.function<decltype(&curl_##name)>("curl_" #name)
  QUIRE_CURL(global_init);
  QUIRE_CURL(easy_init);
  QUIRE_CURL(easy_cleanup);
  QUIRE_CURL(easy_reset);
  QUIRE_CURL(easy_setopt);
  QUIRE_CURL(easy_perform);
  QUIRE_CURL(easy_getinfo);
  QUIRE_CURL(easy_strerror);
  QUIRE_CURL(slist_append);
  QUIRE_CURL(slist_free_all);
  QUIRE_CURL(url);
  QUIRE_CURL(url_cleanup);
  QUIRE_CURL(url_set);
  QUIRE_CURL(url_get);
  QUIRE_CURL(free);
#undef QUIRE_CURL

  Curl() {
    global_init(CURL_GLOBAL_DEFAULT);
  }
};

const Curl& curl() {
  static const Curl kCurl;
  return kCurl;
}

/// What says why an answer is none may be a page of any length.
constexpr std::size_t kLongestRefusal = std::size_t{64} << 10;

/// A request that is under way.
struct Exchange {
  const HttpRequest& request;
  const std::function<bool()>& stop_requested;
  CURL* easy;
  HttpResponse response;
  bool begun = false;
  std::uint64_t sent = 0;  // of request.part
  Descriptor part{-1};

  Exchange(const HttpRequest& what, const std::function<bool()>& stop, CURL* handle)
      : request(what),
        stop_requested(stop),
        easy(handle),
        part(what.part ? ::open(what.part->file.c_str(), O_RDONLY | O_CLOEXEC) : -1) {}

  bool begin() {
    if (begun) return true;
    begun = true;
    long status = 0;
    curl().easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
    response.status = static_cast<int>(status);
    response.ended_by_us = response.is_success() && request.begin && !request.begin(response);
    return !response.ended_by_us;
  }

  bool take(std::string_view bytes) {
    if (!begin()) return false;
    if (response.is_success() && request.sink) {
      response.ended_by_us = !request.sink(bytes);
      return !response.ended_by_us;
    }
    if (!response.is_success()) {
      response.body += bytes.substr(0, kLongestRefusal - response.body.size());
      return true;
    }
    response.body += bytes;
    return response.body.size() <= request.body_limit;
  }

  void take_header(std::string_view line) {
    if (line.starts_with("HTTP/")) response.headers.clear();  // of an answer before this one: 100
    const std::size_t colon = line.find(':');
    if (colon == std::string_view::npos) return;
    std::string_view value = line.substr(colon + 1);
    value.remove_prefix(std::min(value.find_first_not_of(" \t\r\n"), value.size()));
    value = value.substr(0, value.find_last_not_of(" \t\r\n") + 1);
    response.headers[lower_ascii(line.substr(0, colon))] = value;
  }
};

// libcurl calls these with the last argument that it was given.

std::size_t on_body(char* bytes, std::size_t size, std::size_t count, void* exchange) {
  const std::size_t all = size * count;
  return static_cast<Exchange*>(exchange)->take({bytes, all}) ? all : CURL_WRITEFUNC_ERROR;
}

std::size_t on_header(char* bytes, std::size_t size, std::size_t count, void* exchange) {
  static_cast<Exchange*>(exchange)->take_header({bytes, size * count});
  return size * count;
}

std::size_t on_send(char* to, std::size_t size, std::size_t count, void* exchange) {
  Exchange& e = *static_cast<Exchange*>(exchange);
  const FilePart& part = *e.request.part;
  const std::size_t wanted = std::min<std::uint64_t>(size * count, part.size - e.sent);
  if (wanted == 0) return 0;
  const ssize_t bytes = ::pread(e.part, to, wanted, static_cast<off_t>(part.offset + e.sent));
  if (bytes <= 0) return CURL_READFUNC_ABORT;  // the file has become shorter
  e.sent += static_cast<std::uint64_t>(bytes);
  if (e.request.sent) e.request.sent(e.sent);
  return static_cast<std::size_t>(bytes);
}

/// Where a connection that was kept turns out to be closed, the body is sent once more.
int on_seek(void* exchange, curl_off_t offset, int) {
  static_cast<Exchange*>(exchange)->sent = static_cast<std::uint64_t>(offset);
  return CURL_SEEKFUNC_OK;
}

int on_progress(void* exchange, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
  Exchange& e = *static_cast<Exchange*>(exchange);
  e.response.stopped = e.stop_requested && e.stop_requested();
  return e.response.stopped ? 1 : 0;
}

void set_body(CURL* easy, const HttpRequest& request) {
  if (request.method == "HEAD") {
    curl().easy_setopt(easy, CURLOPT_NOBODY, 1L);
  } else if (request.part) {
    curl().easy_setopt(easy, CURLOPT_UPLOAD, 1L);
    curl().easy_setopt(easy, CURLOPT_INFILESIZE_LARGE, static_cast<curl_off_t>(request.part->size));
    curl().easy_setopt(easy, CURLOPT_READFUNCTION, on_send);
    curl().easy_setopt(easy, CURLOPT_SEEKFUNCTION, on_seek);
  } else if (request.method != "GET") {
    curl().easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE,
                       static_cast<curl_off_t>(request.body.size()));
    curl().easy_setopt(easy, CURLOPT_POSTFIELDS, request.body.data());
    curl().easy_setopt(easy, CURLOPT_CUSTOMREQUEST, request.method.c_str());
  }
}

void set_options(CURL* easy, Exchange& exchange, const std::string& user_agent, char* message) {
  curl().easy_reset(easy);  // keeps its connections
  const auto set = [&](CURLoption option, auto value) { curl().easy_setopt(easy, option, value); };
  set(CURLOPT_URL, exchange.request.url.c_str());
  set(CURLOPT_PROTOCOLS_STR, "http,https");
  set(CURLOPT_USERAGENT, user_agent.c_str());
  set(CURLOPT_ERRORBUFFER, message);
  set(CURLOPT_NOSIGNAL, 1L);
  set(CURLOPT_CONNECTTIMEOUT, 15L);
  set(CURLOPT_LOW_SPEED_LIMIT, 1L);  // bytes a second
  set(CURLOPT_LOW_SPEED_TIME, 60L);
  set(CURLOPT_WRITEFUNCTION, on_body);
  set(CURLOPT_WRITEDATA, static_cast<void*>(&exchange));
  set(CURLOPT_HEADERFUNCTION, on_header);
  set(CURLOPT_HEADERDATA, static_cast<void*>(&exchange));
  set(CURLOPT_READDATA, static_cast<void*>(&exchange));
  set(CURLOPT_SEEKDATA, static_cast<void*>(&exchange));
  set(CURLOPT_NOPROGRESS, 0L);
  set(CURLOPT_XFERINFOFUNCTION, on_progress);
  set(CURLOPT_XFERINFODATA, static_cast<void*>(&exchange));
  set_body(easy, exchange.request);
}

/// What went wrong, into the response.
void judge(CURLcode code, const char* message, Exchange& exchange) {
  HttpResponse& response = exchange.response;
  if (code == CURLE_OK || response.ended_by_us) return;
  response.trouble = *message != '\0' ? message : curl().easy_strerror(code);
  switch (code) {
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT:
      response.connected = false;
      response.passing = true;
      break;
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
      response.connected = false;
      break;
    case CURLE_OPERATION_TIMEDOUT:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_PARTIAL_FILE:
    case CURLE_RECV_ERROR:
    case CURLE_SEND_ERROR:
    case CURLE_GOT_NOTHING:
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM:
      response.passing = true;
      break;
    case CURLE_WRITE_ERROR:
      response.trouble =
          "the answer is longer than " + with_commas(exchange.request.body_limit) + " bytes";
      break;
    case CURLE_ABORTED_BY_CALLBACK:
      if (!response.stopped) response.trouble = "the file became shorter while it was sent";
      break;
    default:
      break;
  }
}

}  // namespace

std::string origin_of(const std::string& url) {
  const std::shared_ptr<CURLU> parsed(curl().url(), curl().url_cleanup);
  if (curl().url_set(parsed.get(), CURLUPART_URL, url.c_str(), 0) != CURLUE_OK) return {};
  std::string origin;
  for (const auto& [part, before] :
       {std::pair(CURLUPART_SCHEME, ""), {CURLUPART_HOST, "://"}, {CURLUPART_PORT, ":"}}) {
    char* text = nullptr;
    if (curl().url_get(parsed.get(), part, &text, CURLU_DEFAULT_PORT) != CURLUE_OK) return {};
    origin += before + lower_ascii(text);
    curl().free(text);
  }
  return origin.starts_with("http://") || origin.starts_with("https://") ? origin : "";
}

std::string HttpResponse::header(const std::string& lower_name) const {
  const auto found = headers.find(lower_name);
  return found == headers.end() ? "" : found->second;
}

HttpSession::HttpSession(std::string user_agent, std::function<bool()> stop_requested)
    : user_agent_(std::move(user_agent)),
      stop_requested_(std::move(stop_requested)),
      easy_(curl().easy_init()) {}

HttpSession::~HttpSession() {
  curl().easy_cleanup(easy_);
}

HttpResponse HttpSession::exchange(const HttpRequest& request) {
  Exchange exchange(request, stop_requested_, easy_);
  if (request.part && exchange.part < 0) {
    throw Error(Fault::bad_data, "cannot read " + request.part->file.string(),
                {std::strerror(errno)});
  }
  std::array<char, CURL_ERROR_SIZE> message{};
  set_options(easy_, exchange, user_agent_, message.data());
  curl_slist* headers =
      curl().slist_append(nullptr, "Expect:");  // no second of waiting for a "go on"
  for (const auto& [name, value] : request.headers) {
    headers = curl().slist_append(headers, (name + ": " + value).c_str());
  }
  const std::shared_ptr<curl_slist> freed(headers, curl().slist_free_all);
  curl().easy_setopt(easy_, CURLOPT_HTTPHEADER, headers);

  const CURLcode code = curl().easy_perform(easy_);
  HttpResponse& response = exchange.response;
  long status = 0;
  curl().easy_getinfo(easy_, CURLINFO_RESPONSE_CODE, &status);
  response.status = static_cast<int>(status);
  judge(code, message.data(), exchange);
  if (code == CURLE_OK) exchange.begin();  // of a body without a byte
  char* redirect = nullptr;
  curl().easy_getinfo(easy_, CURLINFO_REDIRECT_URL, &redirect);
  if (redirect != nullptr) response.redirect = redirect;
  curl_off_t seconds = 0;
  curl().easy_getinfo(easy_, CURLINFO_RETRY_AFTER, &seconds);
  if (response.headers.contains("retry-after")) {
    response.retry_after = static_cast<double>(seconds);
  }
  return std::move(response);
}

}  // namespace quire
