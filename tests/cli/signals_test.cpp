// Ctrl-C once is a request, twice ends the program at once.
#include "cli/signals.h"

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

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

}  // namespace
}  // namespace quire
