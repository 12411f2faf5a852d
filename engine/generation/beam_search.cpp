#include "engine/generation/beam_search.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "engine/generation/sampler.h"
#include "engine/model/kv_cache.h"

namespace quire {

namespace {

/// Stands for "not there": what transformers fills the scores of empty places with.
constexpr float kNothing = -1e9f;

/// A text that grows, or a finished one.
struct Beam {
  GeneratedSequence text;
  float score = 0;  // running: the sum; finished: divided by the length
  int row = 0;      // of the cache
};

/// Beam number `beam` and one token more.
struct Candidate {
  std::size_t beam = 0;
  std::int32_t token = 0;
  float score = 0;  // the beam's with the token's log probability
  float rank = 0;   // what candidates are chosen by: the score, or its draw
};

/// The best k of what it is shown, best first. Of equal ones the earlier is the better.
class BestCandidates {
 public:
  explicit BestCandidates(std::size_t k) : k_(k) {}
  void show(const Candidate& c) {
    if (best_.size() == k_) {
      if (!(c.rank > best_.back().rank)) return;
      best_.pop_back();
    }
    const auto place =
        std::upper_bound(best_.begin(), best_.end(), c,
                         [](const Candidate& a, const Candidate& b) { return a.rank > b.rank; });
    best_.insert(place, c);
  }
  std::vector<Candidate> take() { return std::move(best_); }

 private:
  std::size_t k_;
  std::vector<Candidate> best_;
};

class Search {
 public:
  Search(Device& device, const Gpt2Config& config, const Parameters& parameters,
         const std::vector<std::int32_t>& prompt, const GenerationConfig& generation, RandomKey key,
         const BeamCallbacks& callbacks)
      : options_(generation),
        generation_(options_.config),
        callbacks_(callbacks),
        key_(key),
        prompt_(prompt),
        limit_(length_limit(config, generation, static_cast<int>(prompt.size()))),
        most_new_(limit_ - static_cast<int>(prompt.size())),
        width_(static_cast<std::size_t>(generation.num_beams)),
        decoder_(device, config, parameters, generation.num_beams, limit_ - 1,
                 static_cast<int>(prompt.size())),
        sampler_(device, generation.num_beams, limit_, config.vocab_size),
        vocab_size_(static_cast<std::size_t>(config.vocab_size)) {}

  std::vector<GeneratedSequence> run(int count);

 private:
  /// What the model makes of every beam: of_model_ and scores_.
  void score_next_tokens();
  std::vector<Candidate> candidates() const;
  Beam grown(const Candidate& c) const;
  /// Makes candidates finished texts or the next beams; false where all have ended.
  bool advance(const std::vector<Candidate>& best);
  /// Of beams that grew from the same one, the first keeps its row of the cache, others copy it.
  void part_rows();
  bool ends(GeneratedSequence& text) const;
  void finish(Beam beam);
  bool is_over() const;
  float per_length(float score, int new_tokens) const {
    return score / static_cast<float>(std::pow(static_cast<double>(new_tokens),
                                               static_cast<double>(generation_.length_penalty)));
  }
  bool is_full() const { return finished_.size() == width_; }

  std::span<const float> row_of(const std::vector<float>& rows, std::size_t row) const {
    return {rows.data() + row * vocab_size_, vocab_size_};
  }

  RowOptions options_;
  const GenerationConfig& generation_;
  const BeamCallbacks& callbacks_;
  RandomKey key_;
  const std::vector<std::int32_t>& prompt_;
  int limit_;  // tokens of a text, prompt included
  int most_new_;
  std::size_t width_;  // num_beams
  Gpt2Decoder decoder_;
  Sampler sampler_;
  std::vector<float> of_model_, scores_;  // [B, V], the log probabilities of every token
  std::size_t vocab_size_;
  int new_tokens_ = 0;
  std::vector<Beam> beams_;
  std::vector<Beam> finished_;  // best first
};

std::vector<Candidate> Search::candidates() const {
  const std::size_t k = std::max<std::size_t>(2, 1 + generation_.eos_token_ids.size()) * width_;
  BestCandidates best(k);
  for (std::size_t b = 0; b < width_; ++b) {
    const std::span<const float> row = row_of(scores_, b);
    for (std::size_t v = 0; v < vocab_size_; ++v) {
      Candidate c{b, static_cast<std::int32_t>(v), beams_[b].score + row[v], 0};
      c.rank = c.score;
      if (generation_.do_sample && std::isfinite(c.score)) {
        // The k largest of score + Gumbel noise are k draws without replacement, in their order.
        const std::uint64_t draw =
            (static_cast<std::uint64_t>(new_tokens_) * width_ + b) * vocab_size_ + v;
        const float uniform = random_uniform(key_, draw) + 0x1p-25f;  // never 0
        c.rank -= std::log(-std::log(uniform));
      }
      best.show(c);
    }
  }
  return best.take();
}

bool Search::ends(GeneratedSequence& text) const {
  const auto& eos = generation_.eos_token_ids;
  if (std::find(eos.begin(), eos.end(), text.output_ids.back()) != eos.end()) {
    text.finish_reason = FinishReason::eos;
  } else if (callbacks_.stops && callbacks_.stops(text.output_ids)) {
    text.finish_reason = FinishReason::stop;
  } else {
    text.finish_reason = FinishReason::length;
    return std::ssize(text.output_ids) == most_new_;
  }
  return true;
}

void Search::finish(Beam beam) {
  beam.score = per_length(beam.score, new_tokens_);
  const auto place =
      std::upper_bound(finished_.begin(), finished_.end(), beam,
                       [](const Beam& a, const Beam& b) { return a.score > b.score; });
  finished_.insert(place, std::move(beam));
  if (finished_.size() > width_) finished_.pop_back();
}

bool Search::is_over() const {
  using EarlyStopping = GenerationConfig::EarlyStopping;
  if (!is_full()) return false;
  if (generation_.early_stopping == EarlyStopping::yes) return true;
  const bool may_grow =
      generation_.early_stopping == EarlyStopping::never && generation_.length_penalty > 0;
  return per_length(beams_[0].score, may_grow ? most_new_ : new_tokens_) <= finished_.back().score;
}

void Search::score_next_tokens() {
  std::vector<std::vector<std::int32_t>> ids;
  std::vector<DecoderRow> inputs;
  std::vector<SamplerRow> rows;
  for (const Beam& beam : beams_) {
    const std::span<const std::int32_t> output = beam.text.output_ids;
    const bool reads_prompt = output.empty() && beam.row == 0;  // the others copy its row
    inputs.push_back(
        {beam.row, reads_prompt ? prompt_ : output.last(std::min<std::size_t>(output.size(), 1))});
    ids.push_back(prompt_);
    ids.back().insert(ids.back().end(), output.begin(), output.end());
    rows.push_back({&options_, {ids.back(), static_cast<int>(prompt_.size()), limit_}, key_});
  }
  sampler_.log_probabilities(decoder_.forward(inputs), rows, of_model_, scores_);
}

Beam Search::grown(const Candidate& c) const {
  Beam beam = beams_[c.beam];
  beam.score = c.score;
  const std::span<const float> of_model = row_of(of_model_, c.beam);
  beam.text.output_ids.push_back(c.token);
  beam.text.logprobs.push_back(of_model[static_cast<std::size_t>(c.token)]);
  if (generation_.top_logprobs > 0) {
    beam.text.top_logprobs.push_back(best_logprobs(of_model, generation_.top_logprobs));
  }
  return beam;
}

bool Search::advance(const std::vector<Candidate>& best) {
  std::vector<Beam> going_on;
  for (std::size_t i = 0; i < best.size(); ++i) {
    Beam beam = grown(best[i]);
    if (!ends(beam.text)) {
      going_on.push_back(std::move(beam));
    } else if (i < width_) {
      finish(std::move(beam));
    }
  }
  if (going_on.empty()) return false;
  // Draws come in the order drawn; beams go on in the order of their scores.
  std::stable_sort(going_on.begin(), going_on.end(),
                   [](const Beam& a, const Beam& b) { return a.score > b.score; });
  // Only where nearly every token ends a text can there be too few: beams that are not there.
  Beam nothing = going_on.back();
  nothing.score = kNothing;
  going_on.resize(width_, nothing);
  beams_ = std::move(going_on);
  return true;
}

void Search::part_rows() {
  std::vector<bool> taken(width_, false);
  std::vector<Beam*> others;
  for (Beam& beam : beams_) {
    const auto row = static_cast<std::size_t>(beam.row);
    if (taken[row]) others.push_back(&beam);
    taken[row] = true;
  }
  int row = 0;
  for (Beam* const beam : others) {
    while (taken[static_cast<std::size_t>(row)]) ++row;
    decoder_.copy_row(row, beam->row);
    beam->row = row++;
  }
}

std::vector<GeneratedSequence> Search::run(int count) {
  // All beams start from the prompt; but for one they count as not there.
  for (int b = 0; b < generation_.num_beams; ++b) {
    beams_.push_back({.text = {}, .score = b == 0 ? 0 : kNothing, .row = b});
  }
  for (;;) {
    score_next_tokens();
    const std::vector<Candidate> best = candidates();
    ++new_tokens_;
    if (!advance(best) || is_over()) break;
    if (callbacks_.on_step && callbacks_.on_step(new_tokens_)) {
      for (Beam& beam : beams_) {
        beam.text.finish_reason = FinishReason::stop;
        if (!is_full()) finish(std::move(beam));
      }
      break;
    }
    part_rows();
  }
  std::vector<GeneratedSequence> texts;
  for (Beam& beam : finished_) {
    if (std::ssize(texts) == count) break;
    beam.text.score = beam.score;
    texts.push_back(std::move(beam.text));
  }
  return texts;
}

}  // namespace

std::vector<GeneratedSequence> beam_search(Device& device, const Gpt2Config& config,
                                           const Parameters& parameters,
                                           const std::vector<std::int32_t>& prompt,
                                           const GenerationConfig& generation, int count,
                                           RandomKey key, const BeamCallbacks& callbacks) {
  generation.check();
  check_prompt(config, generation, prompt, "the prompt");
  if (count < 1 || count > generation.num_beams) {
    throw Error(
        Fault::usage,
        fmt::format("num_return_sequences is {}, num_beams {}", count, generation.num_beams),
        {"a search has no more texts than beams"}, fmt::format("num_beams {}", count));
  }
  return Search(device, config, parameters, prompt, generation, key, callbacks).run(count);
}

}  // namespace quire
