#include "cli/train_progress.h"

#include <fmt/format.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "base/json.h"
#include "base/text.h"

namespace quire {
namespace {

using Json = nlohmann::ordered_json;

void print_event(const Json& event) {
  print(json_text(event) + "\n");
}

/// "0.104s", where human_duration() would say 0.1s: there are many of them.
std::string seconds_of_one(double seconds) {
  return rounded_number(seconds, 3) + "s";
}

/// Lines after the first as far to the right as the first.
std::string indented(std::string text) {
  for (std::size_t at = 0; (at = text.find('\n', at)) != std::string::npos; at += 3) {
    text.replace(at, 1, "\n  ");
  }
  return text;
}

/// One JSON object a line for each event.
TrainingCallbacks event_callbacks() {
  TrainingCallbacks callbacks;
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
  callbacks.on_estimate = [](const TrainingEstimate& e) {
    print_event({{"event", "estimate"},
                 {"seconds", e.seconds},
                 {"steps", e.steps},
                 {"asked_steps", e.asked_steps},
                 {"step_seconds", e.step_seconds},
                 {"evaluations", e.evaluations},
                 {"evaluation_seconds", e.evaluation_seconds},
                 {"eval_rows", e.eval_rows},
                 {"held_out_rows", e.held_out_rows}});
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

}  // namespace

std::vector<LinePart> TrainProgress::parts(const TrainingProgress& progress) {
  std::vector<LinePart> parts = {{fmt::format("step {}/{}", progress.step, progress.total_steps)},
                                 {fmt::format("loss {:.3f}", progress.loss), 1}};
  if (!std::isnan(progress.eval_loss)) {
    parts.push_back({fmt::format("val {:.3f}", progress.eval_loss), 2});
  }
  parts.push_back({"lr " + rounded_number(progress.learning_rate), 4});
  parts.push_back(
      {fmt::format("{} tok/s", with_commas(std::llround(progress.tokens_per_second))), 3});
  if (!std::isnan(progress.mfu)) {
    parts.push_back({fmt::format("{:.0f}% peak", 100 * progress.mfu), 5});
  }
  if (progress.step < progress.total_steps) {
    parts.push_back({human_duration(progress.seconds_left) + " left"});
  }
  return parts;
}

std::vector<std::string> TrainProgress::lines(const TrainingEstimate& e) const {
  std::string time = fmt::format("  time        about {}: {} of {}", human_duration(e.seconds),
                                 counted(e.steps, "step"), seconds_of_one(e.step_seconds));
  if (e.evaluations > 0) {
    time += fmt::format(", {} of {}", counted(e.evaluations, "validation"),
                        seconds_of_one(e.evaluation_seconds));
  }
  std::vector<std::string> lines = {time};
  if (e.steps < e.asked_steps) {
    lines.push_back(fmt::format(
        "              {} of {} steps fit into --max-time; the learning rate falls over these",
        with_commas(e.steps), with_commas(e.asked_steps)));
  } else if (max_seconds_ > 0 && e.seconds > max_seconds_) {
    lines.push_back(fmt::format(
        "              --max-time {} cuts it; --fit-to-time takes the steps that fit, to a low "
        "learning rate",
        human_duration(max_seconds_)));
  }
  if (e.eval_rows < e.held_out_rows) {
    lines.push_back(fmt::format(
        "              a validation takes {} of {} held-out rows: a tenth of the run at most",
        with_commas(e.eval_rows), with_commas(e.held_out_rows)));
  }
  lines.back() += "\n";
  return lines;
}

TrainingCallbacks TrainProgress::callbacks() {
  if (json_) return event_callbacks();
  TrainingCallbacks callbacks;
  callbacks.on_estimate = [this](const TrainingEstimate& e) {
    for (const std::string& text : lines(e)) line_.print(text);
  };
  callbacks.on_batch = [this](const StepProgress& p) {
    if (!line_.due()) return;
    std::vector<LinePart> parts = latest_;
    if (parts.empty()) parts.push_back({fmt::format("step {}/{}", p.step, p.total_steps)});
    if (p.batches > 1) {
      parts.push_back({fmt::format("batch {}/{}", p.batches_done + 1, p.batches), 6});
    }
    line_.show(std::move(parts));
  };
  callbacks.on_step = [this](const TrainingProgress& p) {
    latest_ = parts(p);
    if (line_.due() || (stderr_is_terminal() && p.step == p.total_steps)) line_.show(latest_);
  };
  callbacks.on_eval_batch = [this](std::int64_t rows_done, std::int64_t rows) {
    if (line_.due()) line_.show(fmt::format("evaluating: row {} of {}", rows_done + 1, rows));
  };
  if (!stderr_is_terminal()) {
    callbacks.on_log = [this](const TrainingProgress& p) {
      line_.print(fit_parts(parts(p), std::numeric_limits<int>::max()));
    };
  }
  callbacks.on_eval = [this](std::int64_t step, double loss) {
    line_.print(fmt::format("step {}: validation loss {:.4f}, perplexity {}", step, loss,
                            rounded_number(std::exp(loss), 4)));
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

void note_left_readme(const std::filesystem::path& folder) {
  note((folder / "README.md").string() +
       " was written by hand or by an older version, and stays as it is\n  try: quire card " +
       in_shell(folder.string()) + " --overwrite");
}

void print_end(const TrainingResult& result, bool interrupted, double seconds,
               const std::string& output_dir) {
  print_event({{"event", result.out_of_time    ? "out_of_time"
                         : !result.interrupted ? "done"
                         : interrupted         ? "interrupted"
                                               : "stopped"},
               {"steps", result.steps},
               {"tokens", result.tokens},
               {"loss", result.final_loss},
               {"first_eval_loss", result.first_eval_loss},
               {"eval_loss", result.final_eval_loss},
               {"seconds", seconds},
               {"output_dir", output_dir}});
}

}  // namespace quire
