// What the Hub's refusals mean for a person, and what is to be done.
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json.h"
#include "base/nearest.h"
#include "base/numbers.h"
#include "base/text.h"
#include "hub/client.h"

namespace quire {
namespace {

using Json = nlohmann::json;

/// What it says of it, in one line; empty where it says nothing.
std::string said_by_hub(const HttpResponse& response) {
  std::string text = response.header("x-error-message");
  const auto json = parse_json_or_discard<Json>(response.body);
  if (text.empty() && json.is_object() && json.contains("error")) read_json(json["error"], text);
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < ' ') c = ' ';
  }
  return replace_invalid_utf8(text.substr(0, 300));
}

/// The names in a list of objects.
std::vector<std::string> names_of(const Json& list, const char* key) {
  std::vector<std::string> names;
  if (!list.is_array()) return names;
  for (const Json& entry : list) {
    std::string name;
    if (entry.is_object() && entry.contains(key) && read_json(entry[key], name)) {
      names.push_back(name);
    }
  }
  return names;
}

std::string settings_page(const HubSettings& settings) {
  return settings.endpoint + "/settings/tokens";
}

}  // namespace

std::string HubClient::where_tokens_go() const {
  const std::string file = settings_.token_from == "HF_TOKEN" ? "" : " or " + settings_.token_from;
  return "a private or gated model wants a token of " + settings_page(settings_) + " in HF_TOKEN" +
         file;
}

nlohmann::json HubClient::asked_in_passing(const std::string& path) {
  try {
    const HttpResponse response = send_once({.url = url(path)});
    auto json = parse_json_or_discard<Json>(response.is_success() ? response.body : "");
    return json.is_discarded() ? Json() : json;
  } catch (const Error&) {
    return {};
  }
}

std::string HubClient::similar_name(const std::string& name) {
  std::vector<std::string> names = {"gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl", "distilgpt2"};
  const std::string word = name.substr(name.find('/') + 1);
  const Json found = asked_in_passing("/api/models?limit=20&search=" + in_url(word, true));
  const std::vector<std::string> more = names_of(found, "id");
  names.insert(names.end(), more.begin(), more.end());
  std::erase(names, name);
  return nearest(name, names);
}

void HubClient::refuse_name(const HttpResponse& response, const HubModel& model) {
  const std::string said = said_by_hub(response);
  if (!settings_.token.empty() && response.status == 401 &&
      (lower_ascii(said).find("credentials") != std::string::npos ||
       lower_ascii(said).find("token") != std::string::npos)) {
    throw Error(Fault::bad_data, "the Hub does not know the token of " + settings_.token_from,
                {"it says: " + said}, "a new one from " + settings_page(settings_));
  }
  std::vector<std::string> details;
  const std::string similar = similar_name(model.name);
  if (!similar.empty()) details.push_back("did you mean " + similar + "?");
  if (!said.empty()) details.push_back("it says: " + said);
  if (settings_.token.empty()) {
    details.push_back(where_tokens_go());
  } else {
    details.push_back("a private one is shown to its owners' tokens alone");
  }
  throw Error(Fault::bad_data,
              "the Hub has no model '" + model.name + "' that " +
                  (settings_.token.empty() ? "is open to all"
                                           : "the token of " + settings_.token_from + " may see"),
              std::move(details), similar.empty() ? "" : command_ + " " + similar);
}

void HubClient::refuse_revision(const HubModel& model) {
  const Json refs = asked_in_passing("/api/models/" + in_url(model.name) + "/refs");
  std::vector<std::string> names;
  for (const char* kind : {"branches", "tags"}) {
    if (!refs.is_object() || !refs.contains(kind)) continue;
    const auto more = names_of(refs[kind], "name");
    names.insert(names.end(), more.begin(), more.end());
  }
  std::vector<std::string> details;
  const std::string near = nearest(model.revision, names);
  if (!near.empty()) details.push_back("did you mean " + near + "?");
  std::string all;
  for (std::size_t i = 0; i < names.size() && i < 20; ++i) all += (i == 0 ? "" : ", ") + names[i];
  if (!all.empty()) details.push_back("it has " + all);
  throw Error(Fault::bad_data, model.name + " has no revision '" + model.revision + "'",
              std::move(details),
              command_ + " " + HubModel{model.name, near.empty() ? "main" : near}.text());
}

void HubClient::refuse(const HttpResponse& response, const HubModel& model,
                       const std::string& what) {
  const std::string code = response.header("x-error-code"), said = said_by_hub(response);
  std::vector<std::string> details;
  if (!said.empty()) details.push_back("it says: " + said);
  const int status = response.status;
  if (code == "GatedRepo" ||
      (status == 403 && lower_ascii(said).find("gated") != std::string::npos)) {
    if (settings_.token.empty()) details.push_back(where_tokens_go());
    throw Error(Fault::bad_data, model.name + " is gated: its owners want their terms accepted",
                std::move(details),
                "accept them on " + url("/" + model.name) + ", and HF_TOKEN of the same account");
  }
  if (code == "RevisionNotFound") refuse_revision(model);
  if (code == "EntryNotFound") {
    throw Error(Fault::bad_data, model.text() + " has no file " + what, std::move(details));
  }
  if (status == 401 || status == 404 || code == "RepoNotFound") refuse_name(response, model);
  if (status == 403) {
    details.push_back(settings_.token.empty()
                          ? where_tokens_go()
                          : "the token of " + settings_.token_from + " may not do this");
    throw Error(Fault::bad_data, "the Hub does not allow this with " + model.name,
                std::move(details), "a token that may, from " + settings_page(settings_));
  }
  if (status == 429) {
    if (response.retry_after) {
      details.push_back("it asks to wait for " + human_duration(*response.retry_after));
    }
    throw Error(
        Fault::device, "the Hub takes no more requests from here for now", std::move(details),
        settings_.token.empty() ? "later, or with a token in HF_TOKEN: then more are allowed"
                                : "later");
  }
  if (status >= 500) {
    throw Error(Fault::device, "the Hub cannot answer: " + std::to_string(status),
                std::move(details), "later: what has come is kept");
  }
  throw Error(Fault::bad_data, "the Hub answers " + std::to_string(status) + " to " + what,
              std::move(details));
}

void HubClient::refuse_connection(const HttpResponse& response, const std::string& url) const {
  const std::string host = origin_of(url);
  if (response.passing || !response.connected) {
    throw Error(Fault::device,
                response.connected ? "the connection to " + host + " does not hold"
                                   : host + " cannot be reached",
                {response.trouble},
                response.connected ? "the same again: what has come is kept"
                                   : "the network, https_proxy and HF_ENDPOINT");
  }
  throw Error(Fault::bad_data, "the answer of " + host + " cannot be used", {response.trouble});
}

}  // namespace quire
