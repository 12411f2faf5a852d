#include "pipeline/run_requests.h"

#include <algorithm>
#include <chrono>
#include <map>
#include <utility>

#include "base/random.h"
#include "engine/generation/beam_search.h"
#include "engine/generation/session.h"
#include "pipeline/inference_memory.h"
#include "pipeline/stop_strings.h"

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

struct Runner {
  Device& device;
  const Gpt2Config& config;
  const Parameters& parameters;
  const std::optional<Tokenizer>& tokenizer;
  const std::vector<GenerateRequest>& requests;
  int batch_size;
  const RunCallbacks& callbacks;
  std::vector<RowToRun> rows;
  /// Of rows that wait for one before them.
  std::vector<std::vector<GeneratedSequence>> answers = {};
  std::size_t done = 0, told = 0;  // rows
  RunTimes times = {};

  bool stopped() const { return callbacks.stop_requested && callbacks.stop_requested(); }
  const GenerateRequest& request_of(std::size_t row) const { return requests[rows[row].request]; }
  int beams_of(std::size_t row) const { return request_of(row).options.generation.num_beams; }
  std::size_t end_of_part(std::size_t begin) const;
  SessionSize size_of_part(std::size_t begin) const;
  std::vector<GeneratedSequence> run_search(const RowToRun& row);
  void run_texts(std::size_t begin);
  void answer(std::size_t row, std::vector<GeneratedSequence> texts);
  void run();
};

/// Rows from `begin` up to there are generated together: a search alone.
std::size_t Runner::end_of_part(std::size_t begin) const {
  std::size_t end = begin + 1;
  while (beams_of(begin) == 1 && end < rows.size() && beams_of(end) == 1) ++end;
  return end;
}

SessionSize Runner::size_of_part(std::size_t begin) const {
  const std::size_t end = end_of_part(begin);
  const int together =
      static_cast<int>(std::min(end - begin, static_cast<std::size_t>(batch_size)));
  SessionSize size{.texts = std::max(beams_of(begin), together)};
  for (std::size_t row = begin; row < end; ++row) {
    const int length = static_cast<int>(request_of(row).prompt_ids.size());
    const int limit = length_limit(config, request_of(row).options.generation, length);
    size.longest_prompt = std::max(size.longest_prompt, length);
    size.longest_text = std::max(size.longest_text, limit);
  }
  return size;
}

std::vector<GeneratedSequence> Runner::run_search(const RowToRun& row) {
  const GenerateRequest& request = requests[row.request];
  const RequestOptions& options = request.options;
  times.prompt_tokens += std::ssize(request.prompt_ids);
  const Clock::time_point start = Clock::now();
  double prompt_seconds = -1;
  int steps = 0;
  BeamCallbacks search;
  search.on_step = [&](int new_tokens) {
    if (prompt_seconds < 0) prompt_seconds = seconds_since(start);
    steps = new_tokens;
    return stopped();
  };
  if (!options.stop.empty()) {
    search.stops = [&](std::span<const std::int32_t> output_ids) {
      StopWatch watch(*tokenizer, options.stop, request.prompt_ids);
      bool found = false;
      for (const std::int32_t id : output_ids) found = watch.push(id);
      return found;
    };
  }
  std::vector<GeneratedSequence> texts =
      beam_search(device, config, parameters, request.prompt_ids, options.generation,
                  options.num_return_sequences, {options.generation.seed, row.stream}, search);
  const double seconds = seconds_since(start);
  if (prompt_seconds < 0) prompt_seconds = seconds;  // over with the first step
  times.prompt_seconds += prompt_seconds;
  times.decode_seconds += seconds - prompt_seconds;
  times.decode_tokens += std::max(steps - 1, 0);  // of a text, whatever the number of beams
  return texts;
}

void Runner::run_texts(std::size_t begin) {
  const std::size_t end = end_of_part(begin);
  Session session(device, config, parameters, size_of_part(begin));
  std::vector<std::optional<StopWatch>> watches(end - begin);
  std::int64_t drawn = 0;
  const auto on_token = [&](int text, std::int32_t token) {
    ++drawn;
    const auto number = static_cast<std::size_t>(text);
    if (callbacks.on_token) callbacks.on_token(rows[begin + number].request, token);
    const bool at_stop_string = watches[number] && watches[number]->push(token);
    return at_stop_string || stopped();
  };
  for (std::size_t next = begin;;) {
    const std::size_t first = next;
    for (; next < end && !session.is_full() && !stopped(); ++next) {
      const GenerateRequest& request = request_of(next);
      const GenerationConfig& generation = request.options.generation;
      session.add(request.prompt_ids, generation, {generation.seed, rows[next].stream});
      times.prompt_tokens += std::ssize(request.prompt_ids);
      if (request.options.stop.empty()) continue;
      watches[next - begin].emplace(*tokenizer, request.options.stop, request.prompt_ids);
    }
    if (session.is_empty()) return;
    drawn = 0;
    const Clock::time_point start = Clock::now();
    std::vector<Session::Ended> ended = session.step(on_token);
    (next > first ? times.prompt_seconds : times.decode_seconds) += seconds_since(start);
    if (next == first) times.decode_tokens += drawn;
    for (Session::Ended& text : ended) {
      const auto number = static_cast<std::size_t>(text.text);
      watches[number].reset();
      answer(begin + number, {std::move(text.sequence)});
    }
  }
}

void Runner::answer(std::size_t row, std::vector<GeneratedSequence> texts) {
  for (const GeneratedSequence& text : texts) times.new_tokens += std::ssize(text.output_ids);
  answers[row] = std::move(texts);
  ++done;
  for (; told < rows.size() && !answers[told].empty(); ++told) {
    int sequence = rows[told].sequence;
    for (GeneratedSequence& text : std::exchange(answers[told], {})) {
      callbacks.on_text({rows[told].request, sequence++, std::move(text)});
    }
  }
  if (callbacks.on_progress) callbacks.on_progress(done, rows.size());
}

void Runner::run() {
  answers.resize(rows.size());
  for (std::size_t row = 0; row < rows.size(); row = end_of_part(row)) {
    check_generation_memory(device, config, parameters.wte().dtype(), size_of_part(row),
                            beams_of(row) > 1);
  }
  for (std::size_t row = 0; row < rows.size() && !stopped(); row = end_of_part(row)) {
    if (beams_of(row) > 1) {
      answer(row, run_search(rows[row]));
    } else {
      run_texts(row);
    }
  }
}

}  // namespace

RunTimes run_requests(Device& device, const Gpt2Config& config, const Parameters& parameters,
                      const std::optional<Tokenizer>& tokenizer,
                      const std::vector<GenerateRequest>& requests, int batch_size,
                      const RunCallbacks& callbacks) {
  Runner runner{.device = device,
                .config = config,
                .parameters = parameters,
                .tokenizer = tokenizer,
                .requests = requests,
                .batch_size = batch_size,
                .callbacks = callbacks,
                .rows = rows_of(requests)};
  runner.run();
  return runner.times;
}

}  // namespace quire
