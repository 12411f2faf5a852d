// Requests to the Hub: redirects, the token, patience, and what its refusals mean.
//
// The token goes to HF_ENDPOINT's own scheme, host and port alone: what the Hub redirects to (a CDN)
// and what it names for uploads (a store) has its permission in the URL.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "hub/http.h"
#include "hub/settings.h"

namespace quire {

/// Thrown where stop_requested() answered true.
struct HubStopped {};

/// A model on the Hub, at a branch, tag or commit.
struct HubModel {
  std::string name;  ///< "org/name", or "gpt2"
  std::string revision = "main";

  /// "org/name@revision", or "org/name" for main. Throws Error(usage).
  static HubModel parse(const std::string& text);
  std::string text() const;
};

/// Whether a name may be that of a file below a folder: no "..", no "/" in front, no control
/// characters. Names of a server are not used otherwise.
bool is_safe_file_name(const std::string& name);

/// A path as it stands in a URL; with `whole` as one part of it, so that '/' is %2F.
std::string in_url(const std::string& path, bool whole = false);

/// How often something is tried again.
class Patience {
 public:
  Patience(const HubSettings& settings, const HubCallbacks& callbacks)
      : settings_(settings), callbacks_(callbacks) {}

  /// True after a wait, where another try may succeed. Throws HubStopped.
  bool wait_after(const HttpResponse& response);
  /// Something new has come.
  void begin_anew() { failures_ = 0; }

 private:
  void sleep(double seconds) const;

  const HubSettings& settings_;
  const HubCallbacks& callbacks_;
  int failures_ = 0;
};

class HubClient {
 public:
  /// `command`: what a model is named behind, where another name is to be tried: "quire download".
  HubClient(const HubSettings& settings, const HubCallbacks& callbacks, std::string command);

  const HubSettings& settings() const { return settings_; }
  const HubCallbacks& callbacks() const { return callbacks_; }
  /// The endpoint with this behind it.
  std::string url(const std::string& path) const { return settings_.endpoint + path; }

  /// With redirects followed, at most 10: all for GET and HEAD, but none of an answer that has
  /// X-Linked-Etag to a HEAD, which tells of the file by itself; for POST and PUT those that keep the
  /// method. Once: an answer may be anything. Throws HubStopped, and Error(bad_data) for redirects in
  /// a circle or to what is not HTTP, or no longer HTTPS.
  HttpResponse send_once(HttpRequest request);
  /// The same, with patience where trouble may pass; throws Error(device) where it does not.
  HttpResponse send(const HttpRequest& request);

  /// The JSON of a successful answer. Throws Error(bad_data) where it is something else.
  nlohmann::json json_of(const HttpResponse& response, const std::string& url) const;
  /// Of a GET; an answer that is no success ends in refuse().
  nlohmann::json get_json(const std::string& path, const HubModel& model);
  HttpResponse post_json(const std::string& path, const nlohmann::json& body,
                         const std::string& type = "application/json");

  /// Throws the Error that an answer stands for, which is no success: a name or a revision that is
  /// not there, with the nearest one that is, a token that is missing, terms not accepted, ….
  /// `what` was asked for: "model.safetensors".
  [[noreturn]] void refuse(const HttpResponse& response, const HubModel& model,
                           const std::string& what);
  /// Of trouble on the way.
  [[noreturn]] void refuse_connection(const HttpResponse& response, const std::string& url) const;

 private:
  [[noreturn]] void refuse_name(const HttpResponse& response, const HubModel& model);
  [[noreturn]] void refuse_revision(const HubModel& model);
  /// What may help to tell more: null where it does not come.
  nlohmann::json asked_in_passing(const std::string& path);
  std::string similar_name(const std::string& name);
  std::string where_tokens_go() const;

  const HubSettings& settings_;
  const HubCallbacks& callbacks_;
  std::string command_;
  HttpSession session_;
  std::string origin_;  // of the endpoint
};

}  // namespace quire
