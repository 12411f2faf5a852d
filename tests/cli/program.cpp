#include "tests/cli/program.h"

#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <sys/inotify.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <iterator>
#include <stdexcept>

#include "tests/support/catch.h"

namespace quire::test {

const char* const kProgram = QUIRE_PROGRAM;
#ifdef QUIRE_TEST_ON_GPU
const char* const kCudaProgram = QUIRE_PROGRAM;
#else
const char* const kCudaProgram = QUIRE_PROGRAM_ON_HOST;
#endif

namespace {

void check(bool ok, const char* what) {
  if (!ok) throw std::runtime_error(std::string("test harness: ") + what);
}

void close_descriptor(int& descriptor) {
  if (descriptor >= 0) ::close(descriptor);
  descriptor = -1;
}

// Runs in the child: never returns.
[[noreturn]] void become_program(const std::vector<std::string>& arguments,
                                 const ProgramOptions& options) {
  for (const auto& [name, value] : options.environment) {
    if (value.empty()) {
      ::unsetenv(name.c_str());
    } else {
      ::setenv(name.c_str(), value.c_str(), 1);
    }
  }
  if (!options.output_file.empty()) {
    const int file = ::open(options.output_file.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (file < 0 || ::dup2(file, STDOUT_FILENO) < 0) ::_exit(126);
  }
  if (!options.folder.empty() && ::chdir(options.folder.c_str()) != 0) ::_exit(126);
  std::vector<char*> argv = {const_cast<char*>(options.program.c_str())};
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  ::execv(options.program.c_str(), argv.data());
  ::_exit(127);
}

}  // namespace

Program::Program(const std::vector<std::string>& arguments, const ProgramOptions& options)
    : deadline_(std::chrono::steady_clock::now() + options.limit), input_(options.input) {
  ::signal(SIGPIPE, SIG_IGN);  // a program may end without reading its input
  if (options.streams == Streams::terminal) {
    winsize size{};
    size.ws_col = static_cast<unsigned short>(options.columns);
    size.ws_row = 24;
    process_ = ::forkpty(&out_, nullptr, nullptr, &size);
    check(process_ >= 0, "forkpty failed");
    if (process_ == 0) {
      ::setenv("TERM", "xterm", 1);
      become_program(arguments, options);
    }
    return;
  }
  int in[2], out[2], err[2];
  check(::pipe2(in, O_CLOEXEC) == 0 && ::pipe2(out, O_CLOEXEC) == 0 && ::pipe2(err, O_CLOEXEC) == 0,
        "pipe failed");
  process_ = ::fork();
  check(process_ >= 0, "fork failed");
  if (process_ == 0) {
    ::signal(SIGPIPE, SIG_DFL);
    ::dup2(in[0], STDIN_FILENO);
    ::dup2(out[1], STDOUT_FILENO);
    ::dup2(err[1], STDERR_FILENO);
    become_program(arguments, options);
  }
  ::close(in[0]);
  ::close(out[1]);
  ::close(err[1]);
  in_ = in[1];
  out_ = out[0];
  err_ = err[0];
  ::fcntl(in_, F_SETFL, O_NONBLOCK);
  if (input_.empty()) close_descriptor(in_);
}

Program::~Program() {
  if (process_ > 0) {
    ::kill(process_, SIGKILL);
    ::waitpid(process_, nullptr, 0);
  }
  close_descriptor(in_);
  close_descriptor(out_);
  close_descriptor(err_);
}

// Moves what can be moved now, or returns when there is something to read from `or_else`; false when
// both outputs have ended.
bool Program::read_some(int or_else) {
  if (out_ < 0 && err_ < 0) return false;
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
      deadline_ - std::chrono::steady_clock::now());
  check(left.count() > 0,
        ("the program did not end in time; it printed:\n" + result_.out + result_.err).c_str());
  pollfd watched[] = {
      {out_, POLLIN, 0}, {err_, POLLIN, 0}, {in_, POLLOUT, 0}, {or_else, POLLIN, 0}};
  ::poll(watched, std::size(watched), static_cast<int>(left.count()));
  if (in_ >= 0 && watched[2].revents != 0) {
    const ssize_t written = ::write(in_, input_.data(), input_.size());
    if (written > 0) input_.erase(0, static_cast<std::size_t>(written));
    if (input_.empty() || (written < 0 && errno != EAGAIN)) close_descriptor(in_);
  }
  const auto take = [](int& descriptor, short events, std::string& text) {
    if (descriptor < 0 || events == 0) return;
    char buffer[65536];
    const ssize_t count = ::read(descriptor, buffer, sizeof buffer);
    if (count > 0) {
      text.append(buffer, static_cast<std::size_t>(count));
    } else if (count == 0 || errno != EINTR) {  // a terminal whose program has ended gives EIO
      close_descriptor(descriptor);
    }
  };
  take(out_, watched[0].revents, result_.out);
  take(err_, watched[1].revents, result_.err);
  return true;
}

bool Program::wait_for(const std::string& text) {
  const auto there = [&] {
    return result_.out.find(text) != std::string::npos ||
           result_.err.find(text) != std::string::npos;
  };
  while (!there()) {
    if (!read_some()) return there();
  }
  return true;
}

bool Program::wait_for_file(const std::filesystem::path& file, std::uintmax_t bytes) {
  int events = ::inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
  check(events >= 0, "inotify_init1 failed");
  const auto there = [&] {
    return std::filesystem::exists(file) && std::filesystem::file_size(file) >= bytes;
  };
  const auto nearest_folder = [&] {
    std::filesystem::path folder = file.parent_path();
    while (!std::filesystem::exists(folder)) folder = folder.parent_path();
    return folder;
  };
  bool runs = true;
  while (runs) {
    const std::filesystem::path folder = nearest_folder();
    check(::inotify_add_watch(events, folder.c_str(), IN_CREATE | IN_MODIFY | IN_MOVED_TO) >= 0,
          "inotify_add_watch failed");
    if (there()) break;
    if (folder != nearest_folder()) continue;  // it came before the watch
    runs = read_some(events);
    char seen[4096];
    while (::read(events, seen, sizeof seen) > 0) {}
  }
  close_descriptor(events);
  return runs || there();
}

void Program::send(int signal) {
  ::kill(process_, signal);
}

void Program::type(const std::string& text) {
  check(::write(out_, text.data(), text.size()) == static_cast<ssize_t>(text.size()), "not typed");
}

void Program::close_output() {
  close_descriptor(out_);
}

ProgramResult Program::wait() {
  while (read_some()) {}
  int status = 0;
  check(::waitpid(process_, &status, 0) == process_, "waitpid failed");
  process_ = -1;
  if (WIFEXITED(status)) result_.exit_code = WEXITSTATUS(status);
  if (WIFSIGNALED(status)) result_.signal = WTERMSIG(status);
  return result_;
}

ProgramResult run_quire(const std::vector<std::string>& arguments, const ProgramOptions& options) {
  return Program(arguments, options).wait();
}

void check_refused(const ProgramResult& result, int exit_code, const std::string& message) {
  INFO(result.err);
  CHECK(result.exit_code == exit_code);
  CHECK(result.out.empty());
  CHECK(contains(result.err, "error: "));
  CHECK(contains(result.err, message));
}

}  // namespace quire::test
