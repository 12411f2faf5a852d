#include "engine/generation/session.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/error.h"
#include "engine/generation/beam_search.h"

namespace quire {

bool Draft::take(Beam& beam, SampledToken token) const {
  const GenerationConfig& config = options->config;
  GeneratedSequence& text = beam.text;
  beam.ids.push_back(token.id);
  text.logprobs.push_back(token.logprob);
  if (config.top_logprobs > 0) text.top_logprobs.push_back(std::move(token.top));
  const auto& eos = config.eos_token_ids;
  const bool is_eos = std::find(eos.begin(), eos.end(), token.id) != eos.end();
  text.finish_reason = is_eos                     ? FinishReason::eos
                       : stops && stops(beam.ids) ? FinishReason::stop
                                                  : FinishReason::length;
  return text.finish_reason != FinishReason::length || std::ssize(beam.ids) >= limit;
}

float Draft::per_length(float score, int new_tokens) const {
  const auto penalty = static_cast<double>(options->config.length_penalty);
  return score / static_cast<float>(std::pow(static_cast<double>(new_tokens), penalty));
}

void Draft::finish(Beam beam) {
  if (is_search()) {
    const int new_tokens = static_cast<int>(beam.ids.size()) - prompt_length;
    beam.text.score = per_length(beam.text.score, new_tokens);
  }
  keep_best(finished, std::move(beam), beams.size(),
            [](const Beam& one) { return one.text.score; });
}

Session::Session(Device& device, const Gpt2Config& config, const Parameters& parameters,
                 const SessionSize& size)
    : config_(config),
      size_(size),
      decoder_(device, config, parameters, size.rows,
               size.longest_text - 1,  // the last token of a text is never fed back
               size.longest_prompt),
      sampler_(device, size.rows, size.longest_text, config.vocab_size) {
  for (int row = size.rows; row-- > 0;) free_rows_.push_back(row);
}

int Session::add(const std::vector<std::int32_t>& prompt, const GenerationConfig& generation,
                 RandomKey key, StopCallback stops) {
  generation.check();
  check_prompt(config_, generation, prompt, "the prompt");
  const int length = static_cast<int>(prompt.size());
  const int limit = length_limit(config_, generation, length);
  const auto first = std::ssize(free_rows_) - generation.num_beams;
  if (first < 0 || length > size_.longest_prompt || limit > size_.longest_text) {
    throw Error(Fault::internal,
                fmt::format("session: no room for a text of {} to {} tokens beside {} of {}",
                            length, limit, rows_in_use(), size_.rows));
  }
  const auto alike = std::find_if(drafts_.begin(), drafts_.end(), [&](const Draft& draft) {
    return draft.options->config == generation;
  });
  Draft draft{.number = added_++,
              .options = alike != drafts_.end() ? alike->options
                                                : std::make_shared<const RowOptions>(generation),
              .key = key,
              .stops = std::move(stops),
              .prompt_length = length,
              .limit = limit,
              .rows = {free_rows_.begin() + first, free_rows_.end()}};
  free_rows_.resize(static_cast<std::size_t>(first));
  // All beams start from the prompt; but for one they count as not there.
  decoder_.clear_row(draft.rows.back());
  draft.beams.assign(draft.rows.size(),
                     {.ids = prompt, .text = {.score = kNoBeam}, .row = draft.rows.back()});
  draft.beams[0].text.score = 0;
  drafts_.push_back(std::move(draft));
  return drafts_.back().number;
}

/// Texts that go on are one op of attention, and so are prompts of one length; equal ones are one.
bool Session::comes_before(const Draft& a, const Draft& b) {
  if (a.is_new() != b.is_new()) return b.is_new();
  if (!a.is_new()) return !a.is_search() && b.is_search();
  const std::vector<std::int32_t>&left = a.beams[0].ids, &right = b.beams[0].ids;
  return left.size() != right.size() ? left.size() < right.size() : left < right;
}

/// The next token of each row: neighbours are sampled together, a search chooses for itself.
void Session::choose(View logits, std::span<const SamplerRow> rows, const TokenCallback& on_token) {
  const auto part_of = [&](std::size_t first, std::size_t count) {
    return logits.rows(static_cast<std::int64_t>(first), static_cast<std::int64_t>(count));
  };
  std::size_t row = 0;
  for (auto draft = drafts_.begin(); draft != drafts_.end();) {
    if (draft->is_search()) {
      const std::size_t count = draft->to_read().size();
      choose_beams(*draft, sampler_.score_all(part_of(row, count), rows.subspan(row, count)));
      row += count;
      ++draft;
      continue;
    }
    const auto end =
        std::find_if(draft, drafts_.end(), [](const Draft& d) { return d.is_search(); });
    const auto count = static_cast<std::size_t>(end - draft);
    for (SampledToken& token : sampler_.next(part_of(row, count), rows.subspan(row, count))) {
      Beam& beam = draft->beams[0];
      const std::int32_t id = token.id;
      draft->is_over = draft->take(beam, std::move(token));
      if (on_token && on_token(draft->number, id)) {
        draft->is_over = true;
        if (beam.text.finish_reason == FinishReason::length) {
          beam.text.finish_reason = FinishReason::stop;
        }
      }
      if (draft->is_over) draft->finish(std::move(beam));
      ++draft;
    }
    row += count;
  }
}

/// Of beams that grew from the same one, the first keeps its row of the cache, others copy it.
void Session::part_rows(Draft& search) {
  std::vector<int> spare = search.rows;
  std::vector<Beam*> others;
  for (Beam& beam : search.beams) {
    if (std::erase(spare, beam.row) == 0) others.push_back(&beam);
  }
  for (Beam* const beam : others) {
    decoder_.copy_row(spare.back(), beam->row);
    beam->row = spare.back();
    spare.pop_back();
  }
}

std::vector<Session::Ended> Session::step(const TokenCallback& on_token,
                                          const std::function<bool()>& stop_requested) {
  std::vector<Ended> ended;
  if (is_empty()) return ended;
  std::stable_sort(drafts_.begin(), drafts_.end(), comes_before);
  std::vector<DecoderRow> inputs;
  std::vector<SamplerRow> rows;
  const Beam* before = nullptr;  // the prompt before this one
  for (const Draft& draft : drafts_) {
    for (const Beam& beam : draft.to_read()) {
      const std::span<const std::int32_t> ids = beam.ids;
      const bool is_copy = draft.is_new() && before != nullptr && before->ids == beam.ids;
      inputs.push_back({beam.row, is_copy ? ids.first(0) : draft.is_new() ? ids : ids.last(1)});
      rows.push_back({draft.options.get(), {ids, draft.prompt_length, draft.limit}, draft.key});
      before = draft.is_new() ? &beam : nullptr;
    }
  }
  choose(decoder_.forward(inputs), rows, on_token);

  const bool all_end =
      !std::ranges::all_of(drafts_, &Draft::is_over) && stop_requested && stop_requested();
  std::vector<Draft> going_on;
  for (Draft& draft : drafts_) {
    if (!draft.is_over && !all_end) {
      part_rows(draft);
      going_on.push_back(std::move(draft));
      continue;
    }
    for (Beam& beam : draft.beams) {
      if (draft.is_over || draft.finished.size() == draft.beams.size()) break;
      beam.text.finish_reason = FinishReason::stop;
      draft.finish(std::move(beam));
    }
    free_rows_.insert(free_rows_.end(), draft.rows.begin(), draft.rows.end());
    ended.push_back({draft.number, {}});
    for (Beam& beam : draft.finished) {
      beam.text.output_ids.assign(beam.ids.begin() + draft.prompt_length, beam.ids.end());
      ended.back().sequences.push_back(std::move(beam.text));
    }
  }
  drafts_ = std::move(going_on);
  return ended;
}

}  // namespace quire
