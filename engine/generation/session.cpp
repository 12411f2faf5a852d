#include "engine/generation/session.h"

#include <fmt/format.h>

#include <algorithm>
#include <span>
#include <utility>

#include "base/error.h"

namespace quire {

Session::Session(Device& device, const Gpt2Config& config, const Parameters& parameters,
                 const SessionSize& size)
    : config_(config),
      size_(size),
      decoder_(device, config, parameters, size.texts,
               size.longest_text - 1,  // the last token of a text is never fed back
               size.longest_prompt),
      sampler_(device, size.texts, size.longest_text, config.vocab_size) {
  for (int row = size.texts; row-- > 0;) free_rows_.push_back(row);
}

int Session::add(const std::vector<std::int32_t>& prompt, const GenerationConfig& generation,
                 RandomKey key) {
  generation.check();
  check_prompt(config_, generation, prompt, "the prompt");
  const int length = static_cast<int>(prompt.size());
  const int limit = length_limit(config_, generation, length);
  if (is_full() || length > size_.longest_prompt || limit > size_.longest_text) {
    throw Error(Fault::internal,
                fmt::format("session: no room for a text of {} to {} tokens beside {} of {}",
                            length, limit, texts_.size(), size_.texts));
  }
  const auto alike = std::find_if(texts_.begin(), texts_.end(), [&](const Text& text) {
    return text.options->config == generation;
  });
  texts_.push_back({.number = added_++,
                    .row = free_rows_.back(),
                    .options = alike != texts_.end()
                                   ? alike->options
                                   : std::make_shared<const RowOptions>(generation),
                    .key = key,
                    .ids = prompt,
                    .prompt_length = length,
                    .limit = limit});
  decoder_.clear_row(free_rows_.back());
  free_rows_.pop_back();
  return texts_.back().number;
}

/// Texts that go on are one op of attention, and so are prompts of one length; equal ones are one.
bool Session::comes_before(const Text& a, const Text& b) {
  if (!a.is_new() || !b.is_new()) return !a.is_new() && b.is_new();
  return a.ids.size() != b.ids.size() ? a.ids.size() < b.ids.size() : a.ids < b.ids;
}

bool Session::take(Text& text, SampledToken token, const TokenCallback& on_token) {
  const GenerationConfig& config = text.options->config;
  GeneratedSequence& result = text.result;
  text.ids.push_back(token.id);
  result.output_ids.push_back(token.id);
  result.logprobs.push_back(token.logprob);
  if (config.top_logprobs > 0) result.top_logprobs.push_back(std::move(token.top));
  const bool stopped = on_token && on_token(text.number, token.id);
  const bool is_eos = std::find(config.eos_token_ids.begin(), config.eos_token_ids.end(),
                                token.id) != config.eos_token_ids.end();
  const bool is_full = static_cast<int>(text.ids.size()) >= text.limit;
  result.finish_reason = is_eos    ? FinishReason::eos
                         : stopped ? FinishReason::stop
                                   : FinishReason::length;
  return is_eos || stopped || is_full;
}

std::vector<Session::Ended> Session::step(const TokenCallback& on_token) {
  std::vector<Ended> ended;
  if (is_empty()) return ended;
  std::stable_sort(texts_.begin(), texts_.end(), comes_before);
  std::vector<DecoderRow> inputs;
  std::vector<SamplerRow> rows;
  const Text* before = nullptr;
  for (const Text& text : texts_) {
    const std::span<const std::int32_t> ids = text.ids;
    const bool is_copy = text.is_new() && before != nullptr && before->ids == text.ids;
    inputs.push_back({text.row, is_copy ? ids.first(0) : text.is_new() ? ids : ids.last(1)});
    rows.push_back({text.options.get(), {ids, text.prompt_length, text.limit}, text.key});
    before = text.is_new() ? &text : nullptr;
  }
  std::vector<SampledToken> sampled = sampler_.next(decoder_.forward(inputs), rows);
  std::vector<Text> going_on;
  for (std::size_t i = 0; i < texts_.size(); ++i) {
    Text& text = texts_[i];
    if (take(text, std::move(sampled[i]), on_token)) {
      free_rows_.push_back(text.row);
      ended.push_back({text.number, std::move(text.result)});
    } else {
      going_on.push_back(std::move(text));
    }
  }
  texts_ = std::move(going_on);
  return ended;
}

}  // namespace quire
