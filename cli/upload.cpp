// quire upload: a model's folder to the Hub, as one commit (hub/upload.h).
#include "hub/upload.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "base/numbers.h"
#include "base/text.h"
#include "cli/command.h"
#include "cli/flags.h"
#include "cli/signals.h"
#include "cli/terminal.h"
#include "cli/transfer_line.h"

namespace quire {
namespace {

struct UploadCommand : UploadOptions {
  std::vector<std::string> arguments;
  std::vector<std::string> include;
  std::string revision = "main";
  bool dry_run = false, json = false;
};

void add_flags(Flags& flags, UploadCommand& c) {
  flags.positional("DIR OWNER/NAME", c.arguments);
  flags.group("What goes");
  flags.add(
      "dry-run", c.dry_run,
      "lists the files with their sizes and hashes, and sends nothing: no connection is opened");
  flags.add("include", c.include, "PATTERN",
            "further files at the top of DIR, 'report.html': without it those of the model go, its "
            "card and its licence; hidden files never do",
            ListStyle::several);
  flags.group("Where to");
  flags.add("revision", c.revision, "BRANCH", "the branch that gets the commit");
  flags.add("message", c.message, "TEXT", "the commit's");
  flags.add("create", c.create, "makes the model on the Hub where it is not there");
  flags.add("private", c.is_private, "with --create: shown to its owners alone");
  flags.group("Output");
  flags.add("json", c.json, "JSON objects a line: each file, and the commit");
  flags.add_quiet();
  flags.example("quire upload quire-demo you/quotes --dry-run");
  flags.example("quire upload quire-demo you/quotes --create --private");
  flags.example(
      "HF_TOKEN, or the file $HF_HOME/token, has a token that may write; HF_ENDPOINT "
      "names another server");
}

std::string kind_of(const UploadFile& file) {
  return file.lfs ? "LFS" : "commit";
}

void print_plan(const UploadCommand& c, const UploadPlan& plan) {
  std::vector<std::vector<std::string>> table{{"file", "size", "goes to", "SHA-256"}};
  std::uint64_t bytes = 0;
  for (const UploadFile& file : plan.files) {
    bytes += file.size;
    if (c.json) {
      print(json_text(nlohmann::ordered_json{{"file", file.name},
                                             {"bytes", file.size},
                                             {"lfs", file.lfs},
                                             {"sha256", file.sha256}}) +
            "\n");
    }
    table.push_back(
        {file.name, human_bytes(static_cast<double>(file.size)), kind_of(file), file.sha256});
  }
  if (!c.json) print(format_table(table, output_columns()));
  note(fmt::format("{}, {}; the Hub decides what goes to LFS", counted(plan.files.size(), "file"),
                   human_bytes(static_cast<double>(bytes))));
}

void note_left_out(const UploadPlan& plan) {
  if (plan.left_out.empty()) return;
  std::string list;
  for (const std::string& name : plan.left_out) list += (list.empty() ? "" : ", ") + name;
  note("left out: " + list + " (--include takes files)");
}

int stopped(const std::string& what) {
  note(what);
  return interrupt_exit_code();
}

int send(const UploadCommand& c, const HubSettings& settings, const HubModel& model,
         UploadPlan plan, UploadCallbacks& callbacks, TransferLine& line) {
  const Stopwatch watch;
  callbacks.sending = [&](const UploadProgress& p) {
    line.show("uploading", p.file, p.bytes, p.total, p.bytes);
  };
  const std::size_t files = plan.files.size();
  const Uploaded done = upload_model(settings, model, std::move(plan), c, callbacks);
  line.clear();
  if (done.stopped) {
    return stopped(
        "stopped before the commit: nothing has changed on the Hub\n"
        "  the same command goes on: files that arrived are not sent again");
  }
  if (done.ignored > 0) {
    warn(fmt::format("{} not sent: the .gitignore of {} names them", counted(done.ignored, "file"),
                     model.name));
  }
  if (done.commit.empty()) {
    note("nothing to do: the Hub has all of it already");
  } else {
    note(fmt::format("{} in {}; {} unchanged, {} to LFS",
                     counted(files - done.unchanged - done.ignored, "file"),
                     human_duration(watch.seconds()), with_commas(done.unchanged),
                     human_bytes(static_cast<double>(done.sent))));
  }
  if (c.json) {
    print(json_text(nlohmann::ordered_json{{"model", model.name},
                                           {"commit", done.commit},
                                           {"url", done.url},
                                           {"unchanged", done.unchanged},
                                           {"lfs_bytes", done.sent}}) +
          "\n");
  } else {
    print(done.url + "\n");
  }
  return 0;
}

int run_upload(const std::vector<std::string>& arguments) {
  UploadCommand command;
  Flags flags("upload", "DIR OWNER/NAME [OPTION...]",
              "Uploads a model's folder to the Hugging Face Hub, as one commit.");
  add_flags(flags, command);
  if (!flags.parse(arguments)) return 0;
  if (command.arguments.size() != 2) {
    flags.refuse("wanted are a folder and a name on the Hub");
  }
  if (command.is_private && !command.create) {
    flags.refuse("--private goes with --create", {"a model that is there stays as it is shown"});
  }
  HubSettings settings = HubSettings::from_environment();
  settings.user_agent = "quire/" QUIRE_VERSION;
  HubModel model = HubModel::parse(command.arguments[1]);
  if (model.revision != "main") flags.refuse("the branch is --revision");
  model.revision = HubModel::parse(model.name + "@" + command.revision).revision;

  const InterruptGuard interrupts("stopping");
  TransferLine line;
  UploadCallbacks callbacks;
  callbacks.say = [&](const std::string& text) { line.say(text); };
  callbacks.stop_requested = interrupted;
  callbacks.hashing = [&](const UploadProgress& p) {
    line.show("hashing", p.file, p.bytes, p.total, p.bytes);
  };
  UploadPlan plan = plan_upload(command.arguments[0], command.include);
  if (!command.dry_run) check_upload(settings, model);
  if (!hash_files(plan, callbacks)) return stopped("stopped: nothing was sent");
  line.clear();
  note_left_out(plan);
  if (command.dry_run) {
    print_plan(command, plan);
    note("nothing was sent");
    return 0;
  }
  return send(command, settings, model, std::move(plan), callbacks, line);
}

}  // namespace

const Command kUploadCommand = {"upload", "a model's folder to the Hugging Face Hub", run_upload};

}  // namespace quire
