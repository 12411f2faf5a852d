#include "hub/settings.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <string_view>

#include "base/error.h"
#include "base/file.h"
#include "base/hub_names.h"
#include "base/text.h"

namespace quire {
namespace {

namespace fs = std::filesystem;

std::string variable(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr ? "" : value;
}

std::string trimmed(const std::string& text) {
  const std::size_t begin = text.find_first_not_of(" \t\r\n");
  if (begin == std::string::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t\r\n") - begin + 1);
}

bool is_on(const std::string& value) {
  constexpr std::array<std::string_view, 4> kWords = {"1", "on", "yes", "true"};
  return std::find(kWords.begin(), kWords.end(), lower_ascii(value)) != kWords.end();
}

void read_token(HubSettings& settings) {
  settings.token = trimmed(variable("HF_TOKEN"));
  settings.token_from = "HF_TOKEN";
  if (settings.token.empty()) {
    const std::string named = variable("HF_TOKEN_PATH");
    const fs::path file = named.empty() ? hub_home() / "token" : fs::path(named);
    settings.token_from = file.string();
    if (std::error_code trouble; fs::is_regular_file(file, trouble)) {
      settings.token = trimmed(read_file(file));
    }
  }
  // It goes into a header, which ends at the first line break.
  for (const unsigned char c : settings.token) {
    if (c > ' ' && c < 0x7f) continue;
    throw Error(Fault::usage, "the token of " + settings.token_from + " cannot be one",
                {"a token of the Hub is one word of letters, digits and '_'"},
                "HF_TOKEN=hf_… with what " + settings.endpoint + "/settings/tokens shows");
  }
}

}  // namespace

HubSettings HubSettings::from_environment() {
  HubSettings settings;
  if (std::string endpoint = trimmed(variable("HF_ENDPOINT")); !endpoint.empty()) {
    while (endpoint.ends_with('/')) endpoint.pop_back();
    settings.endpoint = endpoint;
  }
  if (!settings.endpoint.starts_with("http://") && !settings.endpoint.starts_with("https://")) {
    throw Error(Fault::usage, "HF_ENDPOINT is '" + settings.endpoint + "', which is no URL",
                {"it begins with https://, or http:// for a server of your own"});
  }
  for (const char* name : {"HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"}) {
    if (settings.offline_by.empty() && is_on(variable(name))) settings.offline_by = name;
  }
  settings.cache = hub_cache();
  read_token(settings);
  return settings;
}

void refuse_offline(const HubSettings& settings) {
  if (settings.offline_by.empty()) return;
  throw Error(Fault::usage, settings.offline_by + " is set: nothing is sent or got",
              {"models that are in " + settings.cache.string() + " are found there by their names"},
              "unset " + settings.offline_by);
}

}  // namespace quire
