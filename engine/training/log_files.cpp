#include "engine/training/log_files.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/json.h"

namespace quire {
namespace {

using Json = nlohmann::ordered_json;  // keys in the order people expect

std::string text_of(const Json& line) {
  return json_text(line);
}

/// The shortest digits that read back as the same number; nothing for NaN.
std::string cell(double value) {
  return std::isnan(value) ? "" : fmt::format("{}", value);
}

}  // namespace

void LineLog::begin(const std::filesystem::path& output_dir, std::int64_t resumed_step) {
  const std::filesystem::path path = output_dir / file_name_;
  if (std::filesystem::exists(path)) {
    const std::string content = read_file(path);
    std::string kept;
    for (std::size_t first = 0, end; (end = content.find('\n', first)) != std::string::npos;
         first = end + 1) {
      const std::string_view line = std::string_view(content).substr(first, end - first);
      if (keeps(line, resumed_step)) kept.append(line).append("\n");
    }
    write_file(path, kept);
  }
  file_.emplace(path);
}

void LineLog::discard() {
  const std::filesystem::path path = file_->path();
  file_.reset();
  std::filesystem::remove(path);
}

bool JsonlLog::keeps(std::string_view line, std::int64_t resumed_step) const {
  const Json entry = parse_json_or_discard<Json>(line);
  return entry.is_object() && entry.contains("step") && entry["step"].is_number_integer() &&
         entry["step"].get<std::int64_t>() <= resumed_step;
}

void JsonlLog::train(const TrainingProgress& progress) {
  write(text_of({{"step", progress.step},
                 {"epoch", progress.epoch},
                 {"loss", progress.loss},
                 {"grad_norm", progress.grad_norm},
                 {"learning_rate", progress.learning_rate},
                 {"tokens", progress.tokens},
                 {"tokens_per_second", progress.tokens_per_second},
                 {"mfu", progress.mfu}}));
}

void JsonlLog::eval(std::int64_t step, double eval_loss) {
  write(text_of(
      {{"step", step}, {"eval_loss", eval_loss}, {"eval_perplexity", std::exp(eval_loss)}}));
}

void JsonlLog::sample(std::int64_t step, const TextSample& sample) {
  write(text_of({{"step", step}, {"prompt", sample.prompt}, {"sample", sample.text}}));
}

void JsonlLog::warning(std::int64_t step, const std::string& text) {
  write(text_of({{"step", step}, {"warning", text}}));
}

void CsvLog::begin(const std::filesystem::path& output_dir, std::int64_t resumed_step) {
  LineLog::begin(output_dir, resumed_step);
  if (is_empty()) write(kHeading);
}

bool CsvLog::keeps(std::string_view line, std::int64_t resumed_step) const {
  if (resumed_step >= 0 && line == kHeading) return true;
  std::int64_t step = 0;
  const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), step);
  return error == std::errc() && end != line.data() + line.size() && *end == ',' &&
         step <= resumed_step;
}

void CsvLog::train(const TrainingProgress& p) {
  write(fmt::format("{},{},{},{},{},{},,,{},{}", p.step, cell(p.epoch), cell(p.loss),
                    cell(p.grad_norm), cell(p.learning_rate), p.tokens, cell(p.tokens_per_second),
                    cell(p.mfu)));
}

void CsvLog::eval(std::int64_t step, double eval_loss) {
  write(fmt::format("{},,,,,,{},{},,", step, cell(eval_loss), cell(std::exp(eval_loss))));
}

}  // namespace quire
