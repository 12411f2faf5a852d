// Where the Hub is, who asks it, and where its cache lies: huggingface_hub's variables.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace quire {

struct HubSettings {
  std::string endpoint = "https://huggingface.co";  ///< without '/' at its end
  std::string token;                                ///< empty: nobody in particular asks
  std::string token_from;                           ///< "HF_TOKEN", or its file: for messages
  std::string offline_by;                           ///< the variable that forbids it all, or empty
  std::filesystem::path cache;
  std::string user_agent = "quire";
  /// A request that fails for a moment is sent again: so often at most without anything new having
  /// come, after a wait that doubles each time. What the Hub asks to wait (429) is waited for, too.
  int tries = 5;
  double first_wait = 1;      ///< seconds
  double longest_wait = 300;  ///< seconds that the Hub may ask for; asked for more, it is an error

  /// HF_ENDPOINT, HF_TOKEN, HF_TOKEN_PATH or "token" in hub_home(), HF_HUB_OFFLINE and
  /// TRANSFORMERS_OFFLINE, hub_cache(). Throws Error(usage) for an endpoint that is no URL of http or
  /// https and for a token that cannot be one.
  static HubSettings from_environment();
};

/// How the work on the Hub is told of, and stopped.
struct HubCallbacks {
  std::function<void(const std::string& line)> say;  ///< of waits and what is tried again
  std::function<bool()> stop_requested;
};

/// Throws Error(usage) where a variable says that there is no network.
void refuse_offline(const HubSettings& settings);

}  // namespace quire
