// The program: finds the command, runs it, and turns what it throws into an exit code.
#include <fcntl.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <new>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/nearest.h"
#include "cli/command.h"
#include "cli/flags.h"
#include "cli/help_text.h"
#include "cli/signals.h"
#include "cli/terminal.h"

namespace {

using namespace quire;

std::string overview() {
  std::string text = "Quire " QUIRE_VERSION
                     ": trains, fine-tunes, evaluates and runs GPT-2 models.\n\n"
                     "Usage: quire COMMAND [OPTION...]\n\nCommands:\n";
  for (const Command& command : commands()) {
    std::string line = "  " + std::string(command.name);
    line.resize(14, ' ');
    text += line + std::string(command.summary) + "\n";
  }
  return text +
         "\nquire COMMAND --help tells more. Results go to stdout, all else to stderr.\n"
         "First steps: quire demo\n" +
         where_models_come_from() + "\n";
}

int run(std::vector<std::string> arguments) {
  const std::string name = arguments.empty() ? "" : arguments.front();
  if (name == "--help" || name == "-h" || (name == "help" && arguments.size() == 1)) {
    print_lines(overview());
    return 0;
  }
  if (name == "--version" || name == "version") {
    print("quire " QUIRE_VERSION "\n");
    return 0;
  }
  if (name.empty()) {
    std::fputs(for_terminal(overview()).c_str(), stderr);
    return static_cast<int>(Fault::usage);
  }
  std::string wanted = name;
  arguments.erase(arguments.begin());
  if (name == "help") {  // quire help train = quire train --help
    wanted = arguments.front();
    arguments = {"--help"};
  }
  std::vector<std::string> names;
  for (const Command& command : commands()) {
    if (command.name == wanted) return run_command(command, arguments);
    names.emplace_back(command.name);
  }
  const std::string near = nearest(wanted, names);
  std::vector<std::string> details;
  if (!near.empty()) details.push_back("did you mean quire " + near + "?");
  throw Error(Fault::usage, "there is no command '" + wanted + "'", std::move(details),
              "quire --help");
}

int report(Fault fault, const std::string& message) {
  std::fprintf(stderr, "%s\n", for_terminal(without_controls(message)).c_str());
  return static_cast<int>(fault);
}

/// Where one of them is closed (`quire train >&-`), the next file that is opened would get
/// its number and what is printed. Instead it cannot be used, as before.
void keep_standard_descriptors() {
  for (const int descriptor : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (::fcntl(descriptor, F_GETFD) >= 0) continue;
    const int wrong_way = descriptor == STDIN_FILENO ? O_WRONLY : O_RDONLY;
    if (::open("/dev/null", wrong_way) < 0) return;
  }
}

const char* const kReport =
    "\n  this is a fault of Quire: please report it with the command and its input";

}  // namespace

int main(int argc, char** argv) {
  name_fields_by(flag_of);
  std::signal(SIGPIPE, SIG_IGN);  // print() reports a closed pipe instead
  std::signal(SIGXFSZ, SIG_IGN);  // so does a write beyond the limit on file sizes
  keep_standard_descriptors();
  leave_clean_line_on_signals();
  try {
    return run({argv + 1, argv + argc});
  } catch (const OutputClosed&) {
    return 0;
  } catch (const Error& error) {
    return report(error.fault(),
                  error.message() + (error.fault() == Fault::internal ? kReport : ""));
  } catch (const std::filesystem::filesystem_error& error) {
    const Fault fault =
        error.code() == std::errc::no_space_on_device ? Fault::no_space : Fault::bad_data;
    return report(fault, "error: cannot work with " + error.path1().string() + "\n  " +
                             error.code().message());
  } catch (const std::bad_alloc&) {
    return report(
        Fault::no_space,
        "error: out of memory\n  try: a smaller batch, a shorter block or a smaller model");
  } catch (const std::exception& error) {
    return report(Fault::internal, std::string("error: ") + error.what() + kReport);
  }
}
