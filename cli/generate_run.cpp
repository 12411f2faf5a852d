#include "cli/generate_run.h"

#include <algorithm>
#include <chrono>
#include <map>
#include <utility>

#include "base/random.h"
#include "cli/generate_stop.h"
#include "cli/inference_memory.h"
#include "engine/generation/beam_search.h"
#include "engine/generation/session.h"

namespace quire {

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// One text, or all texts of a beam search.
struct RowToRun {
  std::size_t request = 0;
  int sequence = 0;  ///< number of its (first) text among those of the request
  std::uint64_t stream = 0;
};

std::uint64_t name_stream(const std::vector<std::int32_t>& prompt, std::uint64_t occurrence) {
  std::uint64_t name = 0;
  for (const std::int32_t id : prompt) name = mix(name, static_cast<std::uint64_t>(id));
  return mix(name, occurrence);
}

std::vector<RowToRun> rows_of(const std::vector<GenerateRequest>& requests) {
  // For each prompt: the options it was asked with, and how often.
  std::map<std::vector<std::int32_t>, std::vector<std::pair<GenerationConfig, std::uint64_t>>> seen;
  std::vector<RowToRun> rows;
  for (std::size_t r = 0; r < requests.size(); ++r) {
    const GenerateRequest& request = requests[r];
    if (request.error) continue;
    auto& counts = seen[request.prompt_ids];
    auto count = std::find_if(counts.begin(), counts.end(), [&](const auto& entry) {
      return entry.first == request.options.generation;
    });
    if (count == counts.end()) {
      count = counts.insert(counts.end(), {request.options.generation, 0});
    }
    const bool one_search = request.options.generation.num_beams > 1;
    for (int s = 0; s < (one_search ? 1 : request.options.num_return_sequences); ++s) {
      rows.push_back({r, s, name_stream(request.prompt_ids, count->second++)});
    }
  }
  return rows;
}

/// Rows that are generated together: those of a search alone.
struct Part {
  std::size_t begin = 0, end = 0;
};

class Runner {
 public:
  Runner(Device& device, const Gpt2Config& config, const Parameters& parameters,
         const std::optional<Tokenizer>& tokenizer, const std::vector<GenerateRequest>& requests,
         int batch_size, const RunCallbacks& callbacks)
      : device_(device),
        config_(config),
        parameters_(parameters),
        tokenizer_(tokenizer),
        requests_(requests),
        batch_size_(batch_size),
        callbacks_(callbacks),
        rows_(rows_of(requests)),
        answers_(rows_.size()) {}

  RunTimes run();

 private:
  bool stopped() const { return callbacks_.stop_requested && callbacks_.stop_requested(); }
  const GenerateRequest& request_of(std::size_t row) const { return requests_[rows_[row].request]; }
  bool is_search(std::size_t row) const { return request_of(row).options.generation.num_beams > 1; }
  std::vector<Part> parts() const;
  GenerationShape shape_of(const Part& part) const;
  std::vector<GeneratedSequence> run_search(const RowToRun& row);
  void run_texts(const Part& part);
  void answer(std::size_t row, std::vector<GeneratedSequence> texts);

  Device& device_;
  const Gpt2Config& config_;
  const Parameters& parameters_;
  const std::optional<Tokenizer>& tokenizer_;
  const std::vector<GenerateRequest>& requests_;
  int batch_size_;
  const RunCallbacks& callbacks_;
  std::vector<RowToRun> rows_;
  std::vector<std::vector<GeneratedSequence>> answers_;  // of rows that wait for one before them
  std::size_t done_ = 0, told_ = 0;                      // rows
  RunTimes times_;
};

std::vector<Part> Runner::parts() const {
  std::vector<Part> parts;
  for (std::size_t row = 0; row < rows_.size(); ++row) {
    const bool alone = is_search(row) || (row > 0 && is_search(row - 1));
    if (row == 0 || alone) parts.push_back({row, row});
    parts.back().end = row + 1;
  }
  return parts;
}

GenerationShape Runner::shape_of(const Part& part) const {
  const int beams = request_of(part.begin).options.generation.num_beams;
  const std::size_t rows = std::min(part.end - part.begin, static_cast<std::size_t>(batch_size_));
  GenerationShape shape{.batch = beams > 1 ? beams : static_cast<int>(rows), .beams = beams > 1};
  for (std::size_t row = part.begin; row < part.end; ++row) {
    const int length = static_cast<int>(request_of(row).prompt_ids.size());
    const int limit = length_limit(config_, request_of(row).options.generation, length);
    shape.longest_prompt = std::max(shape.longest_prompt, length);
    shape.longest_text = std::max(shape.longest_text, limit);
  }
  return shape;
}

std::vector<GeneratedSequence> Runner::run_search(const RowToRun& row) {
  const GenerateRequest& request = requests_[row.request];
  const RequestOptions& options = request.options;
  times_.prompt_tokens += std::ssize(request.prompt_ids);
  const Clock::time_point start = Clock::now();
  double prompt_seconds = -1;
  int steps = 0;
  BeamCallbacks callbacks;
  callbacks.on_step = [&](int new_tokens) {
    if (prompt_seconds < 0) prompt_seconds = seconds_since(start);
    steps = new_tokens;
    return stopped();
  };
  if (!options.stop.empty()) {
    callbacks.stops = [&](std::span<const std::int32_t> output_ids) {
      StopWatch watch(*tokenizer_, options.stop, request.prompt_ids);
      bool found = false;
      for (const std::int32_t id : output_ids) found = watch.push(id);
      return found;
    };
  }
  std::vector<GeneratedSequence> texts =
      beam_search(device_, config_, parameters_, request.prompt_ids, options.generation,
                  options.num_return_sequences, {options.generation.seed, row.stream}, callbacks);
  const double seconds = seconds_since(start);
  if (prompt_seconds < 0) prompt_seconds = seconds;  // over with the first step
  times_.prompt_seconds += prompt_seconds;
  times_.decode_seconds += seconds - prompt_seconds;
  times_.decode_tokens += std::max(steps - 1, 0);  // of a text, whatever the number of beams
  return texts;
}

void Runner::run_texts(const Part& part) {
  const GenerationShape shape = shape_of(part);
  Session session(device_, config_, parameters_,
                  {.texts = shape.batch,
                   .longest_prompt = shape.longest_prompt,
                   .longest_text = shape.longest_text});
  std::vector<std::optional<StopWatch>> watches(part.end - part.begin);
  std::int64_t drawn = 0;
  const auto on_token = [&](int text, std::int32_t token) {
    ++drawn;
    const auto number = static_cast<std::size_t>(text);
    if (callbacks_.on_token) callbacks_.on_token(rows_[part.begin + number].request, token);
    const bool at_stop_string = watches[number] && watches[number]->push(token);
    return at_stop_string || stopped();
  };
  for (std::size_t next = part.begin;;) {
    const std::size_t first = next;
    for (; next < part.end && !session.is_full() && !stopped(); ++next) {
      const GenerateRequest& request = request_of(next);
      const GenerationConfig& generation = request.options.generation;
      session.add(request.prompt_ids, generation, {generation.seed, rows_[next].stream});
      times_.prompt_tokens += std::ssize(request.prompt_ids);
      if (request.options.stop.empty()) continue;
      watches[next - part.begin].emplace(*tokenizer_, request.options.stop, request.prompt_ids);
    }
    if (session.is_empty()) return;
    drawn = 0;
    const Clock::time_point start = Clock::now();
    std::vector<Session::Ended> ended = session.step(on_token);
    (next > first ? times_.prompt_seconds : times_.decode_seconds) += seconds_since(start);
    if (next == first) times_.decode_tokens += drawn;
    for (Session::Ended& text : ended) {
      const auto number = static_cast<std::size_t>(text.text);
      watches[number].reset();
      answer(part.begin + number, {std::move(text.sequence)});
    }
  }
}

void Runner::answer(std::size_t row, std::vector<GeneratedSequence> texts) {
  for (const GeneratedSequence& text : texts) times_.new_tokens += std::ssize(text.output_ids);
  answers_[row] = std::move(texts);
  ++done_;
  for (; told_ < rows_.size() && !answers_[told_].empty(); ++told_) {
    int sequence = rows_[told_].sequence;
    for (GeneratedSequence& text : std::exchange(answers_[told_], {})) {
      callbacks_.on_text({rows_[told_].request, sequence++, std::move(text)});
    }
  }
  if (callbacks_.on_progress) callbacks_.on_progress(done_, rows_.size());
}

RunTimes Runner::run() {
  const std::vector<Part> all = parts();
  for (const Part& part : all) {
    check_generation_memory(device_, config_, parameters_.wte().dtype(), shape_of(part));
  }
  for (const Part& part : all) {
    if (stopped()) break;
    if (is_search(part.begin)) {
      answer(part.begin, run_search(rows_[part.begin]));
    } else {
      run_texts(part);
    }
  }
  return times_;
}

}  // namespace

RunTimes run_requests(Device& device, const Gpt2Config& config, const Parameters& parameters,
                      const std::optional<Tokenizer>& tokenizer,
                      const std::vector<GenerateRequest>& requests, int batch_size,
                      const RunCallbacks& callbacks) {
  return Runner(device, config, parameters, tokenizer, requests, batch_size, callbacks).run();
}

}  // namespace quire
