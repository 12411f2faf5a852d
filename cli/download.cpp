// quire download: a model from the Hub into its cache (hub/download.h), where --model finds it by its name.
#include "hub/download.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/text.h"
#include "cli/command.h"
#include "cli/flags.h"
#include "cli/hub_model.h"
#include "cli/signals.h"
#include "cli/terminal.h"

namespace quire {
namespace {

struct DownloadCommand {
  std::vector<std::string> names;
  std::vector<std::string> include;
  bool json = false;
};

void add_flags(Flags& flags, DownloadCommand& c) {
  flags.positional("NAME[@REVISION]", c.names);
  flags.group("Files");
  flags.add("include", c.include, "PATTERN",
            "further files: 'README.md', '*.msgpack'; where it names weights ('*Q8_0.gguf'), these "
            "come instead of model.safetensors, pytorch_model.bin or the one .gguf",
            ListStyle::several);
  flags.group("Output");
  flags.add("json", c.json, "a JSON object with the folder, the commit and the files");
  flags.add_quiet();
  flags.example("quire download gpt2");
  flags.example("quire download acme/tiny-stories@v1.0 --include README.md");
  flags.example(
      "HF_TOKEN (or $HF_HOME/token), HF_HOME, HF_HUB_CACHE, HF_ENDPOINT and "
      "HF_HUB_OFFLINE are huggingface_hub's");
}

void print_result(const DownloadCommand& c, const HubModel& model, const Downloaded& got) {
  if (!c.json) return print(got.folder.string() + "\n");
  nlohmann::ordered_json files = nlohmann::ordered_json::array();
  for (const DownloadedFile& file : got.files) {
    files.push_back({{"name", file.name}, {"bytes", file.size}, {"hash", file.hash}});
  }
  print(json_text(nlohmann::ordered_json{{"model", model.name},
                                         {"revision", model.revision},
                                         {"commit", got.commit},
                                         {"folder", got.folder.string()},
                                         {"files", files},
                                         {"downloaded_bytes", got.come}}) +
        "\n");
}

int run_download(const std::vector<std::string>& arguments) {
  DownloadCommand command;
  Flags flags(
      "download", "NAME[@REVISION] [OPTION...]",
      "Gets a model from the Hugging Face Hub into its cache, where --model finds it by its "
      "name. What was begun goes on where it stopped; every file is checked by its hash.");
  add_flags(flags, command);
  if (!flags.parse(arguments)) return 0;
  if (command.names.size() != 1) {
    flags.refuse(command.names.empty() ? "there is no name of a model" : "one model at a time");
  }
  const HubModel model = HubModel::parse(command.names[0]);
  const Downloaded got = download_for_people(model, command.include);
  if (got.stopped) return interrupt_exit_code();
  print_result(command, model, got);
  // By its name --model finds what refs/main names; other revisions by their folders.
  const std::string name = model.revision == "main" ? model.name : got.folder.string();
  note("next: quire generate -m " + in_shell(name) + " -p 'Once upon a time'");
  return 0;
}

}  // namespace

const Command kDownloadCommand = {"download", "a model from the Hugging Face Hub, resumable",
                                  run_download};

}  // namespace quire
