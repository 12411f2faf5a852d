#include "cli/prompt_flags.h"

#include <unistd.h>

#include <iostream>

#include "base/error.h"
#include "cli/terminal.h"
#include "pipeline/resources.h"

namespace quire {

void PromptFlags::add_to(Flags& flags) {
  flags.group("Prompts (none: standard input, or asked for on a terminal)");
  flags.add("prompt,p", prompts, "TEXT",
            "a prompt; may be given again; an empty one starts a text");
  flags.add("prompt-file", prompt_files, "FILE",
            "a file that is one prompt (its last line break is dropped); may be given again");
  format_.add_to(flags);
  flags.add("line-by-line", line_by_line, "every line of a file or of standard input is a prompt");
  flags.add("prompt-ids", prompt_ids, "IDS", "a prompt as token ids, \"15496 995\"");
  flags.add("keywords", keywords, "A,B",
            "what the template's first field holds, a prompt each; may be given again");
  flags.add(
      "template", template_text, "TEXT",
      "how --keywords or a table's columns become a prompt; without it the one that the model "
      "was trained on");
  flags.add(
      "requests", requests, "FILE",
      "JSON lines of {\"prompt\"} or {\"prompt_ids\"} and any option; - is standard input; or "
      "a .csv whose rows fill the template");
  split_.add_to(
      flags,
      "of a .csv of requests that a training run read the rows that it held out, or those "
      "that it learned from");
  flags.add("limit", limit, "N", "only the first N of the requests; 0: all", at_least(0));
}

void PromptFlags::finish(const std::filesystem::path& model_folder) {
  format = format_.finish();
  if (!split_.asked()) return;
  lines_of = [split = split_, model_folder](const std::filesystem::path& table) {
    return split.read(model_folder.string(), {}).lines_of(table);
  };
}

std::string read_prompt() {
  std::string text, why = "standard input is empty";
  if (::isatty(STDIN_FILENO) == 0) {
    text = read_standard_input();
  } else if (::isatty(STDERR_FILENO) != 0) {
    why = "nothing was typed";
    ask("The text begins with: ");
    if (!std::getline(std::cin, text)) ask("\n");  // Ctrl-D: what follows has a line of its own
  } else {
    why = "standard input is a terminal, and the question for one would not be seen";
  }
  if (!without_last_line_break(text).empty()) return text;
  throw Error(Fault::usage, "there is no prompt", {why},
              program_as_typed() + " generate -p \"Once upon a time\"; -p \"\" begins a text anew");
}

}  // namespace quire
