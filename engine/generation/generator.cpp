#include "engine/generation/generator.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/text.h"
#include "engine/generation/sampler.h"
#include "engine/model/kv_cache.h"

namespace quire {

namespace {

struct Sequence {
  std::size_t caller_row = 0;
  std::uint64_t stream = 0;       // of random numbers
  std::vector<std::int32_t> ids;  // prompt and output
  int prompt_length = 0;
  int limit = 0;
  bool done = false;
};

bool contains(const std::vector<std::int32_t>& ids, std::int32_t id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

}  // namespace

const char* name_of(FinishReason reason) {
  switch (reason) {
    case FinishReason::length:
      return "length";
    case FinishReason::eos:
      return "eos";
    case FinishReason::stop:
      return "stop";
  }
  return "";
}

int length_limit(const Gpt2Config& config, const GenerationConfig& generation, int prompt_length) {
  int limit = config.n_positions;
  if (generation.max_new_tokens > 0) {
    limit =
        std::min(limit, prompt_length + std::min(generation.max_new_tokens, config.n_positions));
  } else if (generation.max_new_tokens == 0) {
    limit = std::min(limit, generation.max_length);
  }
  return std::max(limit, prompt_length + 1);
}

void check_prompt(const Gpt2Config& config, const GenerationConfig& generation,
                  const std::vector<std::int32_t>& prompt, const std::string& name) {
  if (prompt.empty()) {
    throw Error(Fault::usage, name + " is empty",
                {"there must be at least one token to go on from"});
  }
  for (std::size_t i = 0; i < prompt.size(); ++i) {
    if (prompt[i] < 0 || prompt[i] >= config.vocab_size) {
      throw Error(Fault::usage, fmt::format("{} has id {} at place {}", name, prompt[i], i),
                  {fmt::format("the model's vocabulary has ids 0 to {}", config.vocab_size - 1)});
    }
  }
  const int length = static_cast<int>(prompt.size());
  if (length > config.n_positions) {
    throw Error(Fault::usage,
                fmt::format("{} has {}, the model's context holds {}", name,
                            counted(length, "token"), config.n_positions),
                {}, "shorten the prompt to its last part");
  }
  if (generation.max_new_tokens == 0 && length >= generation.max_length) {
    throw Error(Fault::usage,
                fmt::format("{} has {}, max_length is {}", name, counted(length, "token"),
                            generation.max_length),
                {"max_length counts the prompt"}, "set max_new_tokens instead");
  }
}

std::vector<GeneratedSequence> generate(Device& device, const Gpt2Config& config,
                                        const Parameters& parameters,
                                        const std::vector<std::vector<std::int32_t>>& prompts,
                                        const GenerationConfig& generation,
                                        const std::vector<std::uint64_t>& stream_ids,
                                        const TokenCallback& on_token) {
  generation.check();
  if (!stream_ids.empty() && stream_ids.size() != prompts.size()) {
    throw Error(Fault::internal, fmt::format("generate: {} prompts, {} stream ids", prompts.size(),
                                             stream_ids.size()));
  }
  if (prompts.empty()) return {};

  // 1. Shorter prompts first. The rows that reach the end of the context earliest, those with the
  // longest prompts, are then the last, and the batch can shrink from its end.
  std::vector<Sequence> rows;
  for (std::size_t r = 0; r < prompts.size(); ++r) {
    check_prompt(config, generation, prompts[r],
                 prompts.size() == 1 ? "the prompt" : fmt::format("prompt {}", r));
    const int length = static_cast<int>(prompts[r].size());
    rows.push_back({.caller_row = r,
                    .stream = stream_ids.empty() ? r : stream_ids[r],
                    .ids = prompts[r],
                    .prompt_length = length,
                    .limit = length_limit(config, generation, length)});
  }
  std::stable_sort(rows.begin(), rows.end(), [](const Sequence& a, const Sequence& b) {
    return a.prompt_length < b.prompt_length;
  });

  // 2. The prompts side by side, padded on the left so that all of them end together.
  const int longest_prompt = rows.back().prompt_length;
  int most_new = 0;
  int longest_row = 0;
  std::vector<std::int32_t> ids;      // [B, T]
  std::vector<std::int32_t> padding;  // [B]
  for (const Sequence& row : rows) {
    most_new = std::max(most_new, row.limit - row.prompt_length);
    longest_row = std::max(longest_row, row.limit);
    padding.push_back(longest_prompt - row.prompt_length);
    ids.insert(ids.end(), static_cast<std::size_t>(padding.back()), 0);
    ids.insert(ids.end(), row.ids.begin(), row.ids.end());
  }
  const auto batch = static_cast<int>(rows.size());
  const int slots = longest_prompt + most_new - 1;  // the last token of a row is never fed back
  Gpt2Decoder decoder(device, config, parameters, batch, slots, longest_prompt);
  decoder.reset(padding);
  Sampler sampler(device, batch, longest_row, config.vocab_size);
  const RowOptions options(generation);

  // 3. Step by step. A row that is done is carried along, and ignored, while rows behind it go on:
  // its place in the cache is fixed.
  std::vector<GeneratedSequence> results(rows.size());
  for (std::size_t active = rows.size();;) {
    const View logits = decoder.forward(static_cast<int>(active), ids);  // [B, V]
    std::vector<SamplerRow> state;
    for (std::size_t r = 0; r < active; ++r) {
      state.push_back({.options = &options,
                       .row = {rows[r].ids, rows[r].prompt_length, rows[r].limit},
                       .key = {generation.seed, rows[r].stream}});
    }
    std::vector<SampledToken> sampled = sampler.next(logits, state);
    for (std::size_t r = 0; r < active; ++r) {
      Sequence& row = rows[r];
      if (row.done) continue;
      GeneratedSequence& result = results[row.caller_row];
      const std::int32_t token = sampled[r].id;
      row.ids.push_back(token);
      result.output_ids.push_back(token);
      result.logprobs.push_back(sampled[r].logprob);
      if (generation.top_logprobs > 0) result.top_logprobs.push_back(std::move(sampled[r].top));
      const bool stopped = on_token && on_token(static_cast<int>(row.caller_row), token);
      const bool is_eos = contains(generation.eos_token_ids, token);
      const bool is_full = static_cast<int>(row.ids.size()) >= row.limit;
      row.done = is_eos || stopped || is_full;
      result.finish_reason = is_eos    ? FinishReason::eos
                             : stopped ? FinishReason::stop
                                       : FinishReason::length;
    }
    while (active > 0 && rows[active - 1].done) --active;
    if (active == 0) return results;
    ids.clear();
    for (std::size_t r = 0; r < active; ++r) ids.push_back(rows[r].ids.back());
  }
}

}  // namespace quire
