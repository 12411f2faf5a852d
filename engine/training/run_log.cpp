#include "engine/training/run_log.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <string_view>

#include "base/file.h"

namespace quire {
namespace {

using Json = nlohmann::ordered_json;  // keys in the order people expect

/// The lines of steps up to `step`. A line cut short by a crash is dropped too.
std::string lines_up_to(std::string_view text, std::int64_t step) {
  std::string kept;
  while (!text.empty()) {
    const std::size_t end = text.find('\n');
    if (end == std::string_view::npos) break;
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(end + 1);
    const Json entry = Json::parse(line, nullptr, false);
    if (entry.is_object() && entry.contains("step") && entry["step"].is_number_integer() &&
        entry["step"].get<std::int64_t>() <= step) {
      kept.append(line).push_back('\n');
    }
  }
  return kept;
}

}  // namespace

RunLog::RunLog(const std::filesystem::path& output_dir, std::int64_t resumed_step)
    : path_(output_dir / kFileName) {
  if (std::filesystem::exists(path_))
    write_file(path_, lines_up_to(read_file(path_), resumed_step));
  descriptor_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (descriptor_ < 0) {
    throw Error(Fault::bad_data, "cannot write " + path_.string(), {std::strerror(errno)});
  }
}

RunLog::~RunLog() {
  ::close(descriptor_);
}

void RunLog::train(const TrainingProgress& progress) {
  write_line(Json{{"step", progress.step},
                  {"epoch", progress.epoch},
                  {"loss", progress.loss},
                  {"grad_norm", progress.grad_norm},
                  {"learning_rate", progress.learning_rate},
                  {"tokens", progress.tokens},
                  {"tokens_per_second", progress.tokens_per_second}}
                 .dump());
}

void RunLog::eval(std::int64_t step, double eval_loss) {
  write_line(
      Json{{"step", step}, {"eval_loss", eval_loss}, {"eval_perplexity", std::exp(eval_loss)}}
          .dump());
}

void RunLog::write_line(const std::string& line) {
  const std::string text = line + "\n";  // one write: a line is there whole or not at all
  if (::write(descriptor_, text.data(), text.size()) == static_cast<ssize_t>(text.size())) return;
  const bool full = errno == ENOSPC || errno == EDQUOT || errno == EFBIG;
  throw Error(full ? Fault::no_space : Fault::bad_data, "cannot write " + path_.string(),
              {std::strerror(errno)});
}

}  // namespace quire
