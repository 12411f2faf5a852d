// Ctrl-C once is a request, twice ends the program at once.
#include "cli/signals.h"

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <string>

#include "tests/support/catch.h"

namespace quire {
namespace {

enum Outcome { kNotSeen = 1, kSurvived = 2 };

/// Sends `signal` to itself twice, in a process of its own.
int exit_code_of_two(int signal) {
  const pid_t child = ::fork();
  if (child == 0) {
    const InterruptGuard guard;
    std::raise(signal);
    if (!interrupted() || interrupt_exit_code() != 128 + signal) ::_exit(kNotSeen);
    std::raise(signal);
    ::_exit(kSurvived);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  REQUIRE(WIFEXITED(status));
  return WEXITSTATUS(status);
}

TEST_CASE("the first signal is a request, the second ends the program") {
  CHECK(exit_code_of_two(SIGINT) == 130);
  CHECK(exit_code_of_two(SIGTERM) == 143);
  CHECK_FALSE(interrupted());
}

TEST_CASE("a guard within another one answers, and leaves the other one in force") {
  int ends[2] = {-1, -1};
  REQUIRE(::pipe(ends) == 0);
  const pid_t child = ::fork();
  if (child == 0) {
    ::dup2(ends[1], STDERR_FILENO);
    const InterruptGuard outer;
    { const InterruptGuard inner("finishing this step"); }
    {
      const InterruptGuard inner("finishing this record");
      std::raise(SIGTERM);
    }
    if (!interrupted()) ::_exit(kNotSeen);
    std::raise(SIGINT);
    ::_exit(kSurvived);
  }
  ::close(ends[1]);
  std::string said;
  char buffer[256];
  for (ssize_t count; (count = ::read(ends[0], buffer, sizeof buffer)) > 0;) {
    said.append(buffer, static_cast<std::size_t>(count));
  }
  ::close(ends[0]);
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  REQUIRE(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 130);
  CHECK(said == "finishing this record; again to stop now\n");  // the outer one has no words
}

}  // namespace
}  // namespace quire
