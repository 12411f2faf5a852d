// quire card: README.md of a model folder, written anew from what lies there (report/model_card.h).
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "base/error.h"
#include "base/file.h"
#include "base/hub_names.h"
#include "base/text.h"
#include "cli/command.h"
#include "cli/flags.h"
#include "cli/option_names.h"
#include "cli/terminal.h"
#include "report/front_matter.h"
#include "report/model_card.h"

namespace quire {
namespace {

namespace fs = std::filesystem;

struct CardCommand {
  std::vector<std::string> folders;
  CardFields fields;
  bool overwrite = false, dry_run = false;
};

void add_flags(Flags& flags, CardCommand& c) {
  flags.positional("DIR", c.folders);
  flags.group("Fields");
  flags.add("license", c.fields.license, "ID", "as the Hub has it: mit, apache-2.0, cc-by-4.0, …");
  flags.add("language", c.fields.languages, "CODE", "of its texts: en, de, …", ListStyle::several);
  flags.add("base-model", c.fields.base_model, "NAME", "what it was trained on from, on the Hub");
  flags.add("dataset", c.fields.datasets, "NAME", "what it was trained on, on the Hub",
            ListStyle::several);
  flags.group("Output");
  flags.add(kOverwriteFileNames, c.overwrite, "replace a README.md that Quire did not write");
  flags.add("dry-run", c.dry_run, "the card on stdout, and nothing is written");
  flags.add_quiet();
  flags.example("quire card out");
  flags.example("quire card out --license mit --language en --dry-run");
}

/// What would make fields that the Hub refuses.
void check_fields(const CardFields& fields, const Flags& flags) {
  const auto is_code = [](const std::string& word) {
    return std::all_of(word.begin(), word.end(), [](unsigned char c) {
      return std::islower(c) != 0 || std::isdigit(c) != 0 || c == '-' || c == '.';
    });
  };
  if (!is_code(fields.license)) {
    flags.refuse("--license '" + fields.license + "' is no identifier of the Hub's",
                 {"these are of small letters, digits, '-' and '.': mit, apache-2.0, other"});
  }
  for (const std::string& language : fields.languages) {
    if (language.size() < 2 || !is_code(language)) {
      flags.refuse("--language '" + language + "' is no language's code", {"en, de, fr, …"});
    }
  }
  if (!fields.base_model.empty() && !may_be_hub_name(fields.base_model)) {
    flags.refuse("--base-model '" + fields.base_model + "' cannot be a name on the Hub",
                 {"these are NAME or OWNER/NAME"});
  }
  for (const std::string& dataset : fields.datasets) {
    if (!may_be_hub_name(dataset)) {
      flags.refuse("--dataset '" + dataset + "' cannot be a name on the Hub",
                   {"these are NAME or OWNER/NAME"});
    }
  }
}

std::string card_for(const CardCommand& c, const fs::path& folder) {
  if (const std::optional<std::string> card = model_card_for_folder(folder, c.fields)) return *card;
  if (c.overwrite || c.dry_run) return model_card(facts_of_folder(folder), c.fields);
  throw Error(Fault::usage, (folder / "README.md").string() + " is not a card of Quire's",
              {"it was written by hand, or by an older version"},
              "--overwrite to replace it, or --dry-run to see the card");
}

int run_card(const std::vector<std::string>& arguments) {
  CardCommand c;
  Flags flags("card", "DIR [OPTION...]",
              "Writes the card of a model folder, README.md, anew: its generated part from config, "
              "weights, log\nand recorded options; what you wrote above and below it stays.");
  add_flags(flags, c);
  if (!flags.parse(arguments)) return 0;
  if (c.folders.size() != 1) {
    flags.refuse(c.folders.empty() ? "no model folder is named" : "one model folder at a time");
  }
  check_fields(c.fields, flags);
  const fs::path folder = c.folders.front();
  if (std::error_code ignored; fs::exists(folder, ignored) && !fs::is_directory(folder, ignored)) {
    flags.refuse(folder.string() + " is a file: a card describes a folder");
  }
  const std::string card = card_for(c, folder);
  if (c.dry_run) {
    print(card);
    return 0;
  }
  write_file(folder / "README.md", card);
  std::string_view rest = card;
  note((folder / "README.md").string() + " is written" +
       (FrontMatter::take(rest).has("license")
            ? ""
            : "\n  it names no licence yet\n  try: quire card " + in_shell(folder.string()) +
                  " --license mit, or another"));
  return 0;
}

}  // namespace

const Command kCardCommand = {
    "card", "write a model's README.md anew, from what lies in its folder", run_card};

}  // namespace quire
