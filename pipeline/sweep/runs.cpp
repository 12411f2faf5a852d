#include "pipeline/sweep/runs.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstring>
#include <list>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "engine/training/checkpoint.h"
#include "engine/training/log_files.h"

namespace quire {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;
using Json = nlohmann::ordered_json;

constexpr const char* kResult = "result.json";
constexpr const char* kLog = "train.log";
constexpr const char* kModel = "model";

/// A number as JSON has it, where NaN is null.
double to_double(const Json& value) {
  return value.is_number() ? value.get<double>() : std::numeric_limits<double>::quiet_NaN();
}

/// Runs in the child: never returns. It gets a process group of its own, so that Ctrl-C comes to it
/// once, from us, and not a second time from the terminal; when we are killed it is told to end.
[[noreturn]] void become_training(const std::vector<std::string>& arguments, const fs::path& log,
                                  pid_t parent) {
  ::setpgid(0, 0);
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (::getppid() != parent) ::_exit(128 + SIGTERM);
  ::signal(SIGINT, SIG_DFL);
  ::signal(SIGTERM, SIG_DFL);
  const int input = ::open("/dev/null", O_RDONLY);
  const int output = ::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0666);
  if (input < 0 || output < 0 || ::dup2(input, STDIN_FILENO) < 0 ||
      ::dup2(output, STDOUT_FILENO) < 0 || ::dup2(output, STDERR_FILENO) < 0) {
    ::_exit(static_cast<int>(Fault::bad_data));
  }
  std::vector<char*> argv;
  argv.reserve(arguments.size() + 1);
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  ::execv("/proc/self/exe", argv.data());
  ::_exit(static_cast<int>(Fault::internal));
}

/// A training process.
class Training {
 public:
  Training(std::size_t place, const RunTask& task, const RunOptions& options)
      : place_(place), task_(task), start_(Clock::now()) {
    const fs::path log = task.folder / kLog;
    const std::vector<std::string> arguments =
        options.command(task, !checkpoint_steps(task.folder / kModel).empty());
    std::error_code none;
    const std::uintmax_t size = fs::file_size(log, none);
    log_begin_ = none ? 0 : static_cast<std::size_t>(size);
    const pid_t parent = ::getpid();
    process_ = ::fork();
    if (process_ < 0) {
      throw Error(Fault::no_space, "cannot start a run", {std::strerror(errno)},
                  "a smaller `parallel`"_named);
    }
    if (process_ == 0) become_training(arguments, log, parent);
  }
  Training(const Training&) = delete;
  Training& operator=(const Training&) = delete;
  ~Training() {
    if (process_ < 0) return;
    ::kill(process_, SIGTERM);  // an exception of ours: it saves and ends
    ::waitpid(process_, nullptr, 0);
  }

  std::size_t place() const { return place_; }
  void send(int signal) const { ::kill(process_, signal); }

  /// True when it has ended; then result() can be asked.
  bool has_ended() {
    int status = 0;
    if (::waitpid(process_, &status, WNOHANG) != process_) return false;
    process_ = -1;
    exit_code_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return true;
  }

  RunResult result(const std::string& metric) const {
    RunResult result;
    result.round = task_.round;
    result.exit_code = exit_code_;
    result.seconds =
        task_.before.seconds + std::chrono::duration<double>(Clock::now() - start_).count();
    const LossCurve curve = read_curve(task_.folder);
    if (!curve.training.empty()) result.step = curve.training.back().first;
    if (!curve.validation.empty()) {
      result.step = std::max(result.step, curve.validation.back().first);
    }
    if (exit_code_ == static_cast<int>(Fault::diverged)) {
      result.status = RunStatus::diverged;
    } else if (exit_code_ != 0) {
      result.status = RunStatus::failed;
      result.error = last_error();
    } else {
      result.value = metric_of(curve, metric);
      result.status = std::isnan(result.value) ? RunStatus::diverged : RunStatus::done;
    }
    return result;
  }

 private:
  std::string last_error() const {
    std::istringstream lines(read_file(task_.folder / kLog).substr(log_begin_));
    std::string found;
    for (std::string line; std::getline(lines, line);) {
      if (line.starts_with("error: ")) found = line.substr(7);
    }
    if (!found.empty()) return found;
    return exit_code_ > 128 ? fmt::format("ended by signal {}", exit_code_ - 128)
                            : fmt::format("exit code {}", exit_code_);
  }

  std::size_t place_;
  RunTask task_;
  Clock::time_point start_;
  std::size_t log_begin_ = 0;
  pid_t process_ = -1;
  int exit_code_ = 0;
};

}  // namespace

std::string run_name(std::size_t place) {
  return fmt::format("run-{:03}", place + 1);
}

const char* name_of(RunStatus status) {
  constexpr const char* kNames[] = {"done", "diverged", "failed", "open"};
  return kNames[static_cast<int>(status)];
}

LossCurve read_curve(const fs::path& run_folder) {
  LossCurve curve;
  const fs::path path = run_folder / kModel / JsonlLog::kFileName;
  if (!fs::exists(path)) return curve;
  std::istringstream lines(read_file(path));
  for (std::string line; std::getline(lines, line);) {
    const Json entry = parse_json_or_discard<Json>(line);
    if (!entry.is_object() || !entry.contains("step")) continue;  // cut off by a crash
    const std::int64_t step = entry["step"].get<std::int64_t>();
    if (entry.contains("eval_loss")) {
      curve.validation.emplace_back(step, to_double(entry["eval_loss"]));
    } else if (entry.contains("loss")) {
      curve.training.emplace_back(step, to_double(entry["loss"]));
    }
  }
  return curve;
}

double metric_of(const LossCurve& curve, const std::string& metric) {
  const auto& points = metric == "loss" ? curve.training : curve.validation;
  double value = points.empty() ? std::numeric_limits<double>::quiet_NaN() : points.back().second;
  if (metric == "best_eval_loss") {
    for (const auto& [step, loss] : points) {
      if (step > 0) value = std::fmin(value, loss);  // leaves out NaN
    }
  }
  return value;
}

RunResult read_result(const fs::path& run_folder) {
  const fs::path path = run_folder / kResult;
  RunResult result;
  if (!fs::exists(path)) return result;
  try {
    const Json object = parse_json<Json>(read_file(path));
    const std::string status = object.at("status").get<std::string>();
    for (const RunStatus known : {RunStatus::done, RunStatus::diverged, RunStatus::failed}) {
      if (status == name_of(known)) result.status = known;
    }
    result.round = object.at("round").get<int>();
    result.step = object.at("step").get<std::int64_t>();
    result.value = to_double(object.at("value"));
    result.seconds = object.at("seconds").get<double>();
    result.exit_code = object.at("exit_code").get<int>();
    result.error = object.at("error").get<std::string>();
  } catch (const Json::exception& error) {
    throw Error(Fault::bad_data, path.string() + " is not a run's result", {json_trouble(error)},
                "remove the file: the run is made again");
  }
  return result;
}

void write_result(const fs::path& run_folder, const RunResult& result) {
  const Json object = {
      {"round", result.round}, {"step", result.step},       {"status", name_of(result.status)},
      {"value", result.value}, {"seconds", result.seconds}, {"exit_code", result.exit_code},
      {"error", result.error}};
  write_file(run_folder / kResult, json_text(object, 2) + "\n");
}

void make_runs(const std::vector<RunTask>& tasks, const RunOptions& options,
               const std::function<void(std::size_t, const RunResult&)>& on_end,
               const std::function<void()>& on_wait) {
  std::list<Training> running;
  std::size_t begun = 0;
  bool told = false;
  const auto stopped = [&] { return options.stop_signal() != 0; };
  while (!running.empty() || (begun < tasks.size() && !stopped())) {
    while (std::ssize(running) < options.parallel && begun < tasks.size() && !stopped()) {
      running.emplace_back(begun, tasks[begun], options);
      ++begun;
    }
    if (stopped() && !told) {
      told = true;
      for (const Training& training : running) training.send(options.stop_signal());
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    running.remove_if([&](Training& training) {
      if (!training.has_ended()) return false;
      const RunResult result = training.result(options.metric);
      if (stopped() && result.exit_code > 128) return true;  // stays open
      write_result(tasks[training.place()].folder, result);
      on_end(training.place(), result);
      return true;
    });
    on_wait();
  }
}

}  // namespace quire
