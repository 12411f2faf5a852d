#include "cli/train_progress.h"

#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "base/json.h"
#include "base/text.h"

namespace quire {
namespace {

using Json = nlohmann::ordered_json;

void print_event(const Json& event) {
  print(json_text(event) + "\n");
}

/// Lines after the first as far to the right as the first.
std::string indented(std::string text) {
  for (std::size_t at = 0; (at = text.find('\n', at)) != std::string::npos; at += 3) {
    text.replace(at, 1, "\n  ");
  }
  return text;
}

}  // namespace

std::string TrainProgress::text(const TrainingProgress& progress) const {
  std::string line =
      fmt::format("step {}/{} loss {:.3f}", progress.step, progress.total_steps, progress.loss);
  if (!std::isnan(progress.eval_loss)) line += fmt::format(" val {:.3f}", progress.eval_loss);
  line += fmt::format(" lr {:.1e} {} tok/s", progress.learning_rate,
                      with_commas(std::llround(progress.tokens_per_second)));
  if (!std::isnan(progress.mfu)) line += fmt::format(" {:.0f}% peak", 100 * progress.mfu);
  if (progress.step < progress.total_steps) {
    line += fmt::format(" {} left", human_duration(progress.seconds_left));
  }
  return line;
}

TrainingCallbacks TrainProgress::callbacks() {
  TrainingCallbacks callbacks;
  if (json_) {
    callbacks.on_log = [](const TrainingProgress& p) {
      print_event({{"event", "log"},
                   {"step", p.step},
                   {"total_steps", p.total_steps},
                   {"epoch", p.epoch},
                   {"loss", p.loss},
                   {"grad_norm", p.grad_norm},
                   {"learning_rate", p.learning_rate},
                   {"tokens", p.tokens},
                   {"tokens_per_second", p.tokens_per_second},
                   {"mfu", p.mfu},
                   {"seconds_left", p.seconds_left}});
    };
    callbacks.on_eval = [](std::int64_t step, double loss) {
      print_event({{"event", "eval"},
                   {"step", step},
                   {"eval_loss", loss},
                   {"eval_perplexity", std::exp(loss)}});
    };
    callbacks.on_save = [](const std::filesystem::path& path) {
      print_event({{"event", "save"}, {"path", path.string()}});
    };
    callbacks.on_note = [](const std::string& text) {
      print_event({{"event", "note"}, {"text", text}});
    };
    callbacks.on_warning = [](const std::string& text) {
      print_event({{"event", "warning"}, {"text", text}});
    };
    return callbacks;
  }
  if (stderr_is_terminal()) {
    callbacks.on_step = [this](const TrainingProgress& p) {
      if (line_.due() || p.step == p.total_steps) line_.show(text(p));
    };
    callbacks.on_eval_batch = [this](std::int64_t rows_done, std::int64_t rows) {
      if (line_.due()) line_.show(fmt::format("evaluating: row {} of {}", rows_done, rows));
    };
  } else {
    callbacks.on_log = [this](const TrainingProgress& p) { line_.print(text(p)); };
  }
  callbacks.on_eval = [this](std::int64_t step, double loss) {
    line_.print(fmt::format("step {}: validation loss {:.4f}, perplexity {:.2f}", step, loss,
                            std::exp(loss)));
  };
  callbacks.on_save = [this](const std::filesystem::path& path) {
    line_.print("saved " + path.string());
  };
  callbacks.on_note = [this](const std::string& text) { line_.print(text); };
  callbacks.on_warning = [this](const std::string& text) {
    line_.clear();
    warn(text);
  };
  return callbacks;
}

void TrainProgress::show(std::int64_t step, const TextSample& sample) {
  if (json_) {
    print_event(
        {{"event", "sample"}, {"step", step}, {"prompt", sample.prompt}, {"text", sample.text}});
  } else {
    line_.print(fmt::format("step {}, from \"{}\":\n  {}", step, sample.prompt,
                            indented(sample.prompt + sample.text)));
  }
}

}  // namespace quire
