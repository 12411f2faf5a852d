#include "engine/training/log_csv.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>

namespace quire {
namespace {

/// The shortest digits that read back as the same number; nothing for NaN.
std::string cell(double value) {
  return std::isnan(value) ? "" : fmt::format("{}", value);
}

}  // namespace

void CsvLog::begin(const std::filesystem::path& output_dir, std::int64_t resumed_step) {
  file_.emplace(output_dir / kFileName, [&](std::string_view line) {
    if (resumed_step >= 0 && line == kHeading) return true;
    std::int64_t step = 0;
    const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), step);
    return error == std::errc() && end != line.data() + line.size() && *end == ',' &&
           step <= resumed_step;
  });
  if (std::filesystem::file_size(file_->path()) == 0) file_->write(kHeading);
}

void CsvLog::train(const TrainingProgress& p) {
  file_->write(fmt::format("{},{},{},{},{},{},,,{},{}", p.step, cell(p.epoch), cell(p.loss),
                           cell(p.grad_norm), cell(p.learning_rate), p.tokens,
                           cell(p.tokens_per_second), cell(p.mfu)));
}

void CsvLog::eval(std::int64_t step, double eval_loss) {
  file_->write(fmt::format("{},,,,,,{},{},,", step, cell(eval_loss), cell(std::exp(eval_loss))));
}

void CsvLog::discard() {
  const std::filesystem::path path = file_->path();
  file_.reset();
  std::filesystem::remove(path);
}

}  // namespace quire
