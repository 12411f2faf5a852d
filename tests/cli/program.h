// Runs the built program as a user would: with arguments, an environment, standard input, and a
// terminal or pipes; and sends it signals.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/json_lines.h"
#include "tests/support/scratch.h"
#include "tests/support/text.h"

namespace quire::test {

extern const char* const kProgram;
/// The program whose --device cuda can be used: with the kernels run on the CPU, or on a GPU.
extern const char* const kCudaProgram;

/// How a run ended and what it printed.
struct ProgramResult {
  int exit_code = -1;    ///< -1 when a signal ended it
  int signal = 0;        ///< the signal that ended it, or 0
  std::string out, err;  ///< on a terminal both are in `out`
};

enum class Streams {
  pipes,     ///< stdout and stderr apart, neither a terminal
  terminal,  ///< a pseudo-terminal for stdin, stdout and stderr
};

struct ProgramOptions {
  std::string input;  ///< standard input, closed after it; empty: end of file at once
  /// Added to the environment of the test; an empty value removes the variable.
  std::vector<std::pair<std::string, std::string>> environment;
  std::string program = kProgram;
  std::filesystem::path folder;  ///< to run in; empty: the test's own
  Streams streams = Streams::pipes;
  int columns = 80;                   ///< of the terminal
  std::filesystem::path output_file;  ///< stdout goes here instead ("/dev/full")
  /// After it the program is killed and the test fails: it hangs. The slowest takes a 20th of it.
  std::chrono::seconds limit{1000};
};

/// A program that runs. Killed by the destructor when it still does.
class Program {
 public:
  explicit Program(const std::vector<std::string>& arguments, const ProgramOptions& options = {});
  ~Program();
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  /// Reads until `text` stands in what was printed (stdout or stderr). False: it ended without.
  bool wait_for(const std::string& text);
  /// Until a file is there, of so many bytes. False: it ended without.
  bool wait_for_file(const std::filesystem::path& file, std::uintmax_t bytes = 0);
  /// What it has in the names of files that it has not finished.
  pid_t process() const { return process_; }
  void send(int signal);
  /// What a person types; on a terminal only.
  void type(const std::string& text);
  /// Closes our end of its stdout, as `| head -1` does when it has its line.
  void close_output();
  /// Reads the rest and waits for the end.
  ProgramResult wait();

 private:
  bool read_some(int or_else = -1);

  ProgramResult result_;
  std::chrono::steady_clock::time_point deadline_;
  pid_t process_ = -1;
  int in_ = -1, out_ = -1, err_ = -1;
  std::string input_;
};

/// Starts it and waits for its end.
ProgramResult run_quire(const std::vector<std::string>& arguments,
                        const ProgramOptions& options = {});

/// That it failed with this code and an error in which `message` stands, with nothing on stdout.
void check_refused(const ProgramResult& result, int exit_code, const std::string& message);

}  // namespace quire::test
