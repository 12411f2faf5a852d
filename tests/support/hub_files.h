// Files for the Hub of the tests, with their hashes; and what a program or the library is told of it.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "hub/digest.h"
#include "hub/settings.h"
#include "tests/support/hub_server.h"
#include "tests/support/scratch.h"

namespace quire::test {

inline HubFile hub_file(const std::string& content, bool lfs = false) {
  Digest digest(lfs ? DigestKind::sha256 : DigestKind::git_blob, content.size());
  digest.add(content);
  return {.content = content, .hash = digest.hex(), .lfs = lfs};
}

/// So many bytes that do not repeat soon.
inline std::string some_bytes(std::size_t count) {
  std::string text(count, '\0');
  std::uint32_t state = 1;
  for (char& c : text) {
    state = state * 1664525 + 1013904223;
    c = static_cast<char>(state >> 24);
  }
  return text;
}

/// A model of 3 MB and a tokenizer of two files.
inline void fill(HubServer& hub) {
  hub.files["config.json"] = hub_file("{\"model_type\": \"gpt2\"}\n");
  hub.files["vocab.json"] = hub_file("{\"a\": 0}");
  hub.files["merges.txt"] = hub_file("#version: 0.2\n");
  hub.files["README.md"] = hub_file("# Tiny\n");
  hub.files["model.safetensors"] = hub_file(some_bytes(3'000'000), true);
  hub.files["pytorch_model.bin"] = hub_file(some_bytes(1000), true);
}

inline HubSettings settings_of(HubServer& hub, const ScratchFolder& scratch) {
  HubSettings settings;
  settings.endpoint = hub.url();
  settings.cache = scratch / "hub";
  settings.token_from = "HF_TOKEN";
  settings.first_wait = 0.001;
  return settings;
}

/// The same for a program: its environment, in which nothing of this machine's own is left.
inline std::vector<std::pair<std::string, std::string>> environment_of(
    HubServer& hub, const ScratchFolder& scratch) {
  return {{"HF_ENDPOINT", hub.url()},
          {"HF_HOME", scratch / "hf"},
          {"HF_HUB_CACHE", ""},
          {"HF_TOKEN", ""},
          {"HF_TOKEN_PATH", ""},
          {"HF_HUB_OFFLINE", ""},
          {"TRANSFORMERS_OFFLINE", ""},
          {"http_proxy", ""},
          {"all_proxy", ""},
          {"ALL_PROXY", ""}};
}

}  // namespace quire::test
