#include "engine/training/log_jsonl.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "base/json.h"

namespace quire {
namespace {

using Json = nlohmann::ordered_json;  // keys in the order people expect

std::string text_of(const Json& line) {
  return json_text(line);
}

}  // namespace

void JsonlLog::begin(const std::filesystem::path& output_dir, std::int64_t resumed_step) {
  file_.emplace(output_dir / kFileName, [&](std::string_view line) {
    const Json entry = parse_json_or_discard<Json>(line);
    return entry.is_object() && entry.contains("step") && entry["step"].is_number_integer() &&
           entry["step"].get<std::int64_t>() <= resumed_step;
  });
}

void JsonlLog::train(const TrainingProgress& progress) {
  file_->write(text_of({{"step", progress.step},
                        {"epoch", progress.epoch},
                        {"loss", progress.loss},
                        {"grad_norm", progress.grad_norm},
                        {"learning_rate", progress.learning_rate},
                        {"tokens", progress.tokens},
                        {"tokens_per_second", progress.tokens_per_second},
                        {"mfu", progress.mfu}}));
}

void JsonlLog::eval(std::int64_t step, double eval_loss) {
  file_->write(text_of(
      {{"step", step}, {"eval_loss", eval_loss}, {"eval_perplexity", std::exp(eval_loss)}}));
}

void JsonlLog::sample(std::int64_t step, const TextSample& sample) {
  file_->write(text_of({{"step", step}, {"prompt", sample.prompt}, {"sample", sample.text}}));
}

void JsonlLog::warning(std::int64_t step, const std::string& text) {
  file_->write(text_of({{"step", step}, {"warning", text}}));
}

void JsonlLog::discard() {
  const std::filesystem::path path = file_->path();
  file_.reset();
  std::filesystem::remove(path);
}

}  // namespace quire
