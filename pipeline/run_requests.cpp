#include "pipeline/run_requests.h"

#include <algorithm>
#include <chrono>
#include <map>
#include <utility>

#include "base/random.h"
#include "engine/generation/beam_search.h"
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

/// Rows that are answered before the next ones are begun, as places in the list of rows.
struct Chunk {
  std::size_t begin = 0, end = 0;
  std::vector<std::vector<std::size_t>> batches;  // of like options and like lengths
};

/// A chunk of rows is put into batches of like options and like lengths, and answered before the
/// next one: long files are answered as they go, and little is computed for padding.
std::vector<Chunk> chunks_of(const std::vector<GenerateRequest>& requests,
                             const std::vector<RowToRun>& rows, int batch_size) {
  const auto batch = static_cast<std::size_t>(batch_size);
  const std::size_t length = batch == 1 ? 1 : 16 * batch;
  const auto request_of = [&](std::size_t row) -> const GenerateRequest& {
    return requests[rows[row].request];
  };
  std::vector<Chunk> chunks;
  for (std::size_t begin = 0; begin < rows.size(); begin += length) {
    Chunk chunk{.begin = begin, .end = std::min(begin + length, rows.size()), .batches = {}};
    std::vector<std::vector<std::size_t>> groups;  // of equal options
    for (std::size_t r = begin; r < chunk.end; ++r) {
      const GenerationConfig& wanted = request_of(r).options.generation;
      auto group = std::find_if(groups.begin(), groups.end(), [&](const auto& places) {
        return request_of(places[0]).options.generation == wanted;
      });
      if (group == groups.end()) group = groups.emplace(groups.end());
      group->push_back(r);
    }
    for (std::vector<std::size_t>& group : groups) {
      std::stable_sort(group.begin(), group.end(), [&](std::size_t a, std::size_t b) {
        return request_of(a).prompt_ids.size() < request_of(b).prompt_ids.size();
      });
      for (std::size_t first = 0; first < group.size(); first += batch) {
        const auto from = group.begin() + static_cast<std::ptrdiff_t>(first);
        const std::size_t count = std::min(batch, group.size() - first);
        chunk.batches.emplace_back(from, from + static_cast<std::ptrdiff_t>(count));
      }
    }
    chunks.push_back(std::move(chunk));
  }
  return chunks;
}

class Runner {
 public:
  Runner(Device& device, const Gpt2Config& config, const Parameters& parameters,
         const std::optional<Tokenizer>& tokenizer, const std::vector<GenerateRequest>& requests,
         const RunCallbacks& callbacks)
      : device_(device),
        config_(config),
        parameters_(parameters),
        tokenizer_(tokenizer),
        requests_(requests),
        callbacks_(callbacks) {}

  /// Rows of one GenerationConfig. The texts of each.
  std::vector<std::vector<GeneratedSequence>> run_batch(const std::vector<RowToRun>& rows);

  bool stopped() const { return callbacks_.stop_requested && callbacks_.stop_requested(); }
  const GenerateRequest& request_of(const RowToRun& row) const { return requests_[row.request]; }
  RunTimes times;

 private:
  std::vector<GeneratedSequence> run_search(const RowToRun& row);

  Device& device_;
  const Gpt2Config& config_;
  const Parameters& parameters_;
  const std::optional<Tokenizer>& tokenizer_;
  const std::vector<GenerateRequest>& requests_;
  const RunCallbacks& callbacks_;
};

std::vector<GeneratedSequence> Runner::run_search(const RowToRun& row) {
  const GenerateRequest& request = request_of(row);
  const RequestOptions& options = request.options;
  times.prompt_tokens += std::ssize(request.prompt_ids);
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
  times.prompt_seconds += prompt_seconds;
  times.decode_seconds += seconds - prompt_seconds;
  times.decode_tokens += std::max(steps - 1, 0);  // of a text, whatever the number of beams
  for (const GeneratedSequence& text : texts) times.new_tokens += std::ssize(text.output_ids);
  return texts;
}

std::vector<std::vector<GeneratedSequence>> Runner::run_batch(const std::vector<RowToRun>& rows) {
  if (request_of(rows[0]).options.generation.num_beams > 1) {
    std::vector<std::vector<GeneratedSequence>> texts;
    for (const RowToRun& row : rows) {
      if (stopped()) break;
      texts.push_back(run_search(row));
    }
    return texts;
  }
  std::vector<std::vector<std::int32_t>> prompts;
  std::vector<std::uint64_t> streams;
  std::vector<std::optional<StopWatch>> watches;
  for (const RowToRun& row : rows) {
    const GenerateRequest& request = request_of(row);
    prompts.push_back(request.prompt_ids);
    streams.push_back(row.stream);
    watches.emplace_back();
    if (!request.options.stop.empty()) {
      watches.back().emplace(*tokenizer_, request.options.stop, request.prompt_ids);
    }
    times.prompt_tokens += std::ssize(request.prompt_ids);
  }
  const Clock::time_point start = Clock::now();
  double prompt_seconds = -1;
  const auto on_token = [&](int row, std::int32_t token) {
    if (prompt_seconds < 0) prompt_seconds = seconds_since(start);
    const auto r = static_cast<std::size_t>(row);
    if (callbacks_.on_token) callbacks_.on_token(rows[r].request, token);
    const bool at_stop_string = watches[r] && watches[r]->push(token);
    return at_stop_string || stopped();
  };
  std::vector<GeneratedSequence> generated =
      generate(device_, config_, parameters_, prompts, request_of(rows[0]).options.generation,
               streams, on_token);
  times.prompt_seconds += prompt_seconds;
  times.decode_seconds += seconds_since(start) - prompt_seconds;
  std::vector<std::vector<GeneratedSequence>> texts;
  for (GeneratedSequence& sequence : generated) {
    times.new_tokens += std::ssize(sequence.output_ids);
    times.decode_tokens += std::ssize(sequence.output_ids) - 1;
    texts.push_back({std::move(sequence)});
  }
  return texts;
}

}  // namespace

RunTimes run_requests(Device& device, const Gpt2Config& config, const Parameters& parameters,
                      const std::optional<Tokenizer>& tokenizer,
                      const std::vector<GenerateRequest>& requests, int batch_size,
                      const RunCallbacks& callbacks) {
  Runner runner(device, config, parameters, tokenizer, requests, callbacks);
  const std::vector<RowToRun> rows = rows_of(requests);
  const std::vector<Chunk> chunks = chunks_of(requests, rows, batch_size);
  for (const Chunk& chunk : chunks) {
    for (const std::vector<std::size_t>& batch : chunk.batches) {
      // The rows of a batch together, or the beams of one search after the other.
      const int beams = runner.request_of(rows[batch[0]]).options.generation.num_beams;
      GenerationShape shape{.batch = beams > 1 ? beams : static_cast<int>(batch.size()),
                            .beams = beams > 1};
      for (const std::size_t row : batch) {
        const GenerateRequest& request = runner.request_of(rows[row]);
        const int length = static_cast<int>(request.prompt_ids.size());
        const int limit = length_limit(config, request.options.generation, length);
        shape.longest_prompt = std::max(shape.longest_prompt, length);
        shape.most_new = std::max(shape.most_new, limit - length);
      }
      check_generation_memory(device, config, parameters.wte().dtype(), shape);
    }
  }

  std::size_t done = 0;
  for (const Chunk& chunk : chunks) {
    std::vector<std::vector<GeneratedSequence>> results(chunk.end - chunk.begin);
    for (const std::vector<std::size_t>& batch : chunk.batches) {
      if (runner.stopped()) break;
      std::vector<RowToRun> together;
      together.reserve(batch.size());
      for (const std::size_t row : batch) together.push_back(rows[row]);
      auto texts = runner.run_batch(together);
      for (std::size_t i = 0; i < texts.size(); ++i) {
        results[batch[i] - chunk.begin] = std::move(texts[i]);
      }
      done += batch.size();
      if (callbacks.on_progress) callbacks.on_progress(done, rows.size());
    }
    for (std::size_t r = chunk.begin; r < chunk.end; ++r) {
      int sequence = rows[r].sequence;
      for (GeneratedSequence& text : results[r - chunk.begin]) {  // none where Ctrl-C came first
        callbacks.on_text({rows[r].request, sequence++, std::move(text)});
      }
    }
    if (runner.stopped()) break;
  }
  return runner.times;
}

}  // namespace quire
