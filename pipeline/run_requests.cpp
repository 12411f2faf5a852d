#include "pipeline/run_requests.h"

#include <algorithm>
#include <chrono>
#include <map>
#include <utility>

#include "base/random.h"
#include "engine/generation/session.h"
#include "pipeline/inference_memory.h"
#include "pipeline/stop_strings.h"

namespace quire {

namespace {

using Clock = std::chrono::steady_clock;

/// One text, or a search.
struct Job {
  std::size_t request = 0;
  std::uint64_t stream = 0;
};

std::uint64_t name_stream(const std::vector<std::int32_t>& prompt, std::uint64_t occurrence) {
  std::uint64_t name = 0;
  for (const std::int32_t id : prompt) name = mix(name, static_cast<std::uint64_t>(id));
  return mix(name, occurrence);
}

std::vector<Job> jobs_of(const std::vector<GenerateRequest>& requests) {
  // For each prompt: the options it was asked with, and how often.
  std::map<std::vector<std::int32_t>, std::vector<std::pair<GenerationConfig, std::uint64_t>>> seen;
  std::vector<Job> jobs;
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
      jobs.push_back({r, name_stream(request.prompt_ids, count->second++)});
    }
  }
  return jobs;
}

struct Runner {
  Device& device;
  const Gpt2Config& config;
  const Parameters& parameters;
  const std::optional<Tokenizer>& tokenizer;
  const std::vector<GenerateRequest>& requests;
  int batch_size;
  const RunCallbacks& callbacks;
  std::vector<Job> jobs;
  /// Of jobs that wait for one before them.
  std::vector<std::vector<GeneratedSequence>> answers = {};
  std::size_t next = 0, done = 0, told = 0;  // jobs
  RunTimes times = {};

  bool stopped() const { return callbacks.stop_requested && callbacks.stop_requested(); }
  const GenerateRequest& request_of(std::size_t job) const { return requests[jobs[job].request]; }
  int beams_of(std::size_t job) const { return request_of(job).options.generation.num_beams; }

  SessionSize checked_size() const {
    SessionSize size{.rows = 0};
    int widest = 1;
    for (std::size_t job = 0; job < jobs.size(); ++job) {
      const int length = static_cast<int>(request_of(job).prompt_ids.size());
      const int limit = length_limit(config, request_of(job).options.generation, length);
      widest = std::max(widest, beams_of(job));
      size.rows = std::min(size.rows + beams_of(job), std::max(batch_size, widest));
      size.longest_prompt = std::max(size.longest_prompt, length);
      size.longest_text = std::max(size.longest_text, limit);
    }
    check_generation_memory(device, config, parameters.table().dtype(), size, widest);
    return size;
  }

  void begin_next(Session& session) {
    const GenerateRequest& request = request_of(next);
    const RequestOptions& options = request.options;
    StopCallback stops;
    if (!options.stop.empty()) {
      stops = [&](std::span<const TokenId> ids) {
        return ends_at_stop(*tokenizer, options.stop, ids);
      };
    }
    session.add(request.prompt_ids, options.generation,
                {options.generation.seed, jobs[next].stream}, std::move(stops));
    times.prompt_tokens += std::ssize(request.prompt_ids);
    ++next;
  }

  void answer(std::size_t job, std::vector<GeneratedSequence> texts) {
    const auto wanted = static_cast<std::size_t>(request_of(job).options.num_return_sequences);
    if (beams_of(job) > 1 && texts.size() > wanted) texts.resize(wanted);
    for (const GeneratedSequence& text : texts) times.new_tokens += std::ssize(text.output_ids);
    answers[job] = std::move(texts);
    ++done;
    for (; told < jobs.size() && !answers[told].empty(); ++told) {
      for (const GeneratedSequence& text : std::exchange(answers[told], {})) {
        callbacks.on_text(jobs[told].request, text);
      }
    }
    if (callbacks.on_progress) callbacks.on_progress(done, jobs.size());
  }

  void run() {
    if (jobs.empty()) return;
    answers.resize(jobs.size());
    Session session(device, config, parameters, checked_size());
    const auto on_token = [&](int text, std::int32_t token) {
      if (callbacks.on_token)
        callbacks.on_token(jobs[static_cast<std::size_t>(text)].request, token);
      return false;
    };
    const auto has_room = [&] {
      return session.is_empty() || session.rows_in_use() + beams_of(next) <= batch_size;
    };
    for (;;) {
      const std::size_t first = next;
      while (next < jobs.size() && has_room() && !stopped()) begin_next(session);
      if (session.is_empty()) return;
      const auto drawn = static_cast<std::int64_t>(next - done);  // a token each
      const Clock::time_point start = Clock::now();
      std::vector<Session::Ended> ended = session.step(on_token, callbacks.stop_requested);
      (next > first ? times.prompt_seconds : times.decode_seconds) +=
          std::chrono::duration<double>(Clock::now() - start).count();
      if (next == first) times.decode_tokens += drawn;
      for (Session::Ended& text : ended) {
        answer(static_cast<std::size_t>(text.text), std::move(text.sequences));
      }
    }
  }
};

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
                .jobs = jobs_of(requests)};
  runner.run();
  return runner.times;
}

}  // namespace quire
