#include "hub/client.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <nlohmann/json.hpp>
#include <thread>
#include <utility>

#include "base/error.h"
#include "base/hub_names.h"
#include "base/json.h"
#include "base/numbers.h"
#include "base/text.h"

namespace quire {
namespace {

constexpr int kMostRedirects = 10;

bool is_redirect(const HttpResponse& response) {
  constexpr std::array<int, 5> kRedirects = {301, 302, 303, 307, 308};
  return !response.redirect.empty() &&
         std::find(kRedirects.begin(), kRedirects.end(), response.status) != kRedirects.end();
}

/// Whether the same request is to be sent there.
bool keeps_method(const HttpRequest& request, int status) {
  return request.method == "GET" || request.method == "HEAD" || status == 307 || status == 308;
}

bool is_permission(const std::pair<std::string, std::string>& header) {
  const std::string name = lower_ascii(header.first);
  return name == "authorization" || name == "cookie";
}

bool has_permission(const HttpRequest& request) {
  return std::any_of(request.headers.begin(), request.headers.end(), is_permission);
}

bool may_pass(const HttpResponse& response) {
  constexpr std::array<int, 6> kPassing = {408, 429, 500, 502, 503, 504};
  return response.passing ||
         std::find(kPassing.begin(), kPassing.end(), response.status) != kPassing.end();
}

std::string summary_of(const HttpResponse& response) {
  if (!response.trouble.empty()) return response.trouble;
  return "the Hub answers " + std::to_string(response.status);
}

}  // namespace

HubModel HubModel::parse(const std::string& text) {
  const std::size_t at = text.find('@');
  HubModel model{.name = text.substr(0, at)};
  if (at != std::string::npos) model.revision = text.substr(at + 1);
  if (!may_be_hub_name(model.name)) {
    throw Error(Fault::usage, "'" + model.name + "' is no name of a model on the Hub",
                {"such names are NAME or ORG/NAME, of letters, digits, '-', '_' and '.'"});
  }
  if (!is_safe_file_name(model.revision)) {
    throw Error(Fault::usage, "'" + model.revision + "' is no revision of a model on the Hub",
                {"behind @ stands a branch, a tag or a commit"});
  }
  return model;
}

std::string HubModel::text() const {
  return revision == "main" ? name : name + "@" + revision;
}

bool is_safe_file_name(const std::string& name) {
  if (name.size() > 1024) return false;
  for (const unsigned char c : name) {
    if (c < ' ' || c == 0x7f || c == '\\') return false;
  }
  std::string_view rest = name;
  do {
    const std::string_view part = take_until('/', rest);
    if (part.empty() || part == "." || part == "..") return false;
  } while (!rest.empty());
  return !name.ends_with('/');
}

std::string in_url(const std::string& path, bool whole) {
  constexpr const char* kDigits = "0123456789ABCDEF";
  constexpr std::string_view kPlain = "-._~";
  std::string text;
  for (const unsigned char c : path) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       kPlain.find(static_cast<char>(c)) != std::string_view::npos;
    if (plain || (c == '/' && !whole)) {
      text += static_cast<char>(c);
    } else {
      text += {'%', kDigits[c / 16], kDigits[c % 16]};
    }
  }
  return text;
}

void Patience::sleep(double seconds) const {
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  while (std::chrono::steady_clock::now() < end) {
    if (callbacks_.stop_requested && callbacks_.stop_requested()) throw HubStopped();
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
}

bool Patience::wait_after(const HttpResponse& response) {
  if (!may_pass(response)) return false;
  // Where nobody could be reached there may be no network at all: that is told sooner.
  failures_ += response.connected ? 1 : 2;
  if (failures_ >= settings_.tries) return false;
  double seconds = settings_.first_wait;
  for (int i = 1; i < failures_; ++i) seconds *= 2;
  if (response.retry_after) {
    if (*response.retry_after > settings_.longest_wait) return false;
    seconds = *response.retry_after;
  }
  if (callbacks_.say) {
    callbacks_.say(summary_of(response) + ": once more in " + human_duration(seconds));
  }
  sleep(seconds);
  return true;
}

HubClient::HubClient(const HubSettings& settings, const HubCallbacks& callbacks,
                     std::string command)
    : settings_(settings),
      callbacks_(callbacks),
      command_(std::move(command)),
      session_(settings.user_agent, callbacks.stop_requested),
      origin_(origin_of(settings.endpoint)) {}

HttpResponse HubClient::send_once(HttpRequest request) {
  const std::string first = request.url;
  const auto refuse_redirect = [&](const std::string& why, const std::string& where) {
    throw Error(Fault::bad_data, first + why, {"the last one is to " + where.substr(0, 200)});
  };
  for (int redirects = 0;; ++redirects) {
    HttpRequest hop = request;
    const std::string here = origin_of(hop.url);
    if (!settings_.token.empty() && here == origin_ && !has_permission(hop)) {
      hop.headers.emplace_back("Authorization", "Bearer " + settings_.token);
    }
    HttpResponse response = session_.exchange(hop);
    if (response.stopped) throw HubStopped();
    if (!is_redirect(response) || !keeps_method(request, response.status)) return response;
    if (request.method == "HEAD" && response.headers.contains("x-linked-etag")) return response;
    const std::string there = origin_of(response.redirect);
    if (redirects == kMostRedirects) {
      refuse_redirect(" redirects more than 10 times", response.redirect);
    }
    if (there.empty() || (here.starts_with("https:") && !there.starts_with("https:"))) {
      refuse_redirect(" redirects to where nothing is got from", response.redirect);
    }
    request.url = response.redirect;
    if (there != here) std::erase_if(request.headers, is_permission);  // given to another
  }
}

HttpResponse HubClient::send(const HttpRequest& request) {
  Patience patience(settings_, callbacks_);
  while (true) {
    HttpResponse response = send_once(request);
    if (patience.wait_after(response)) continue;
    if (!response.trouble.empty()) refuse_connection(response, request.url);
    return response;
  }
}

nlohmann::json HubClient::json_of(const HttpResponse& response, const std::string& url) const {
  auto json = parse_json_or_discard<nlohmann::json>(response.body);
  if (!json.is_discarded()) return json;
  const bool page = response.body.find("<html") != std::string::npos ||
                    response.body.find("<!DOCTYPE") != std::string::npos ||
                    response.body.find("<!doctype") != std::string::npos;
  throw Error(Fault::bad_data, url + " answers with what is not JSON",
              {page ? "it is a web page: of a proxy or a network's login, or of a server that is "
                      "no Hub"
                    : "it begins with " + in_quotes(response.body.substr(0, 40))},
              "look at it in a browser; HF_ENDPOINT names another server");
}

nlohmann::json HubClient::get_json(const std::string& path, const HubModel& model) {
  const HttpResponse response = send({.url = url(path)});
  if (!response.is_success()) refuse(response, model, path);
  return json_of(response, url(path));
}

HttpResponse HubClient::post_json(const std::string& path, const nlohmann::json& body,
                                  const std::string& type) {
  return send({.method = "POST",
               .url = url(path),
               .headers = {{"Content-Type", type}, {"Accept", type}},
               .body = json_text(body)});
}

}  // namespace quire
