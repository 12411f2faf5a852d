#include "engine/generation/generator.h"

#include <fmt/format.h>

#include <algorithm>

#include "engine/generation/sampler.h"
#include "engine/model/kv_cache.h"

namespace quire {

namespace {

/// Most tokens a row can have, prompt included.
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

struct Sequence {
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

void check_prompt(const Gpt2Config& config, const GenerationConfig& generation,
                  const std::vector<std::int32_t>& prompt, std::size_t row) {
  if (prompt.empty()) {
    throw Error(Fault::usage, fmt::format("prompt {} is empty", row),
                {"there must be at least one token to go on from"});
  }
  for (std::size_t i = 0; i < prompt.size(); ++i) {
    if (prompt[i] < 0 || prompt[i] >= config.vocab_size) {
      throw Error(Fault::usage, fmt::format("prompt {} has id {} at place {}", row, prompt[i], i),
                  {fmt::format("the model's vocabulary has ids 0 to {}", config.vocab_size - 1)});
    }
  }
  const int length = static_cast<int>(prompt.size());
  if (length > config.n_positions) {
    throw Error(Fault::usage,
                fmt::format("prompt {} has {} tokens, the model's context holds {}", row, length,
                            config.n_positions),
                {}, "shorten the prompt to its last part");
  }
  if (generation.max_new_tokens == 0 && length >= generation.max_length) {
    throw Error(Fault::usage,
                fmt::format("prompt {} has {} tokens, max_length is {}", row, length,
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
  if (stream_ids.size() != prompts.size()) {
    throw Error(Fault::internal, fmt::format("generate: {} prompts, {} stream ids", prompts.size(),
                                             stream_ids.size()));
  }
  if (prompts.empty()) return {};

  std::vector<Sequence> rows;
  int longest_prompt = 0;
  int most_steps = 0;
  int longest_row = 0;
  for (std::size_t r = 0; r < prompts.size(); ++r) {
    check_prompt(config, generation, prompts[r], r);
    const int length = static_cast<int>(prompts[r].size());
    rows.push_back({prompts[r], length, length_limit(config, generation, length)});
    longest_prompt = std::max(longest_prompt, length);
    most_steps = std::max(most_steps, rows.back().limit - length);
    longest_row = std::max(longest_row, rows.back().limit);
  }

  // 1. The prompts side by side, padded on the left so that all of them end together.
  const auto batch = static_cast<int>(rows.size());
  std::vector<std::int32_t> ids;      // [B, T]
  std::vector<std::int32_t> padding;  // [B]
  for (const Sequence& row : rows) {
    padding.push_back(longest_prompt - row.prompt_length);
    ids.insert(ids.end(), static_cast<std::size_t>(padding.back()), 0);
    ids.insert(ids.end(), row.ids.begin(), row.ids.end());
  }
  // The last token of a row is never fed back.
  Gpt2Decoder decoder(device, config, parameters, batch, longest_prompt + most_steps - 1,
                      longest_prompt);
  decoder.reset(padding);
  Sampler sampler(device, generation, batch, longest_row, config.vocab_size);

  // 2. Step by step. Rows that are done are carried along until those behind them in the batch are
  // done too: their place in the cache is fixed. What is computed for them is ignored.
  std::vector<GeneratedSequence> results(rows.size());
  for (std::size_t active = rows.size();;) {
    const View logits = decoder.forward(static_cast<int>(active), ids);  // [B, V]
    std::vector<SamplerRow> state;
    for (std::size_t r = 0; r < active; ++r) {
      state.push_back({.row = {rows[r].ids, rows[r].prompt_length, rows[r].limit},
                       .key = {generation.seed, stream_ids[r]}});
    }
    std::vector<SampledToken> sampled = sampler.next(logits, state);
    for (std::size_t r = 0; r < active; ++r) {
      Sequence& row = rows[r];
      if (row.done) continue;
      GeneratedSequence& result = results[r];
      const std::int32_t token = sampled[r].id;
      row.ids.push_back(token);
      result.output_ids.push_back(token);
      result.logprobs.push_back(sampled[r].logprob);
      if (generation.top_logprobs > 0) result.top_logprobs.push_back(std::move(sampled[r].top));
      const bool stopped = on_token && on_token(static_cast<int>(r), token);
      if (contains(generation.eos_token_ids, token)) {
        result.finish_reason = FinishReason::eos;
        row.done = true;
      } else if (stopped) {
        result.finish_reason = FinishReason::stop;
        row.done = true;
      } else if (static_cast<int>(row.ids.size()) >= row.limit) {
        result.finish_reason = FinishReason::length;
        row.done = true;
      }
    }
    while (active > 0 && rows[active - 1].done) --active;
    if (active == 0) return results;
    ids.clear();
    for (std::size_t r = 0; r < active; ++r) ids.push_back(rows[r].ids.back());
  }
}

}  // namespace quire
