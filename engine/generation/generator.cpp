#include "engine/generation/generator.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/text.h"
#include "engine/generation/session.h"

namespace quire {

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
                  {fmt::format("the model's vocabulary has ids 0 to {}", config.vocab_size - 1)},
                  "the `tokenizer` that the model was trained with, or more rows: "_named
                  "quire convert MODEL OUT `resize_vocab` N"_named);
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

  SessionSize size{.rows = static_cast<int>(prompts.size()) * generation.num_beams};
  for (std::size_t r = 0; r < prompts.size(); ++r) {
    check_prompt(config, generation, prompts[r],
                 prompts.size() == 1 ? "the prompt" : fmt::format("prompt {}", r));
    const int length = static_cast<int>(prompts[r].size());
    size.longest_prompt = std::max(size.longest_prompt, length);
    size.longest_text = std::max(size.longest_text, length_limit(config, generation, length));
  }
  Session session(device, config, parameters, size);
  for (std::size_t r = 0; r < prompts.size(); ++r) {
    session.add(prompts[r], generation, {generation.seed, stream_ids.empty() ? r : stream_ids[r]});
  }
  std::vector<GeneratedSequence> results(prompts.size());
  while (!session.is_empty()) {
    for (Session::Ended& ended : session.step(on_token)) {
      results[static_cast<std::size_t>(ended.text)] = std::move(ended.sequences[0]);
    }
  }
  return results;
}

}  // namespace quire
