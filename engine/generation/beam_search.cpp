#include "engine/generation/beam_search.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace quire {

namespace {

/// Beam number `beam` and one token more.
struct Candidate {
  std::size_t beam = 0;
  std::int32_t token = 0;
  float score = 0;  // the beam's with the token's log probability
  float rank = 0;   // what candidates are chosen by: the score, or its draw
};

/// Of a beam, the values of all tokens. The beams of a new search share a row.
std::span<const float> row_of(const Draft& search, const std::vector<float>& rows,
                              std::size_t beam) {
  const std::size_t count = search.to_read().size(), vocab_size = rows.size() / count;
  return std::span(rows).subspan(std::min(beam, count - 1) * vocab_size, vocab_size);
}

std::vector<Candidate> candidates(const Draft& search, const std::vector<float>& scores) {
  const GenerationConfig& config = search.options->config;
  const std::size_t width = search.beams.size();
  const std::size_t new_tokens =
      search.beams[0].ids.size() - static_cast<std::size_t>(search.prompt_length);
  const std::size_t count = std::max<std::size_t>(2, 1 + config.eos_token_ids.size()) * width;
  std::vector<Candidate> best;
  for (std::size_t b = 0; b < width; ++b) {
    const std::span<const float> row = row_of(search, scores, b);
    for (std::size_t v = 0; v < row.size(); ++v) {
      Candidate c{b, static_cast<std::int32_t>(v), search.beams[b].text.score + row[v], 0};
      c.rank = c.score;
      if (config.do_sample && std::isfinite(c.score)) {
        // The k largest of score + Gumbel noise are k draws without replacement, in their order.
        const std::uint64_t draw = (new_tokens * width + b) * row.size() + v;
        const float uniform = random_uniform(search.key, draw) + 0x1p-25f;  // never 0
        c.rank -= std::log(-std::log(uniform));
      }
      keep_best(best, c, count, [](const Candidate& one) { return one.rank; });
    }
  }
  return best;
}

bool is_over(const Draft& search) {
  using EarlyStopping = GenerationConfig::EarlyStopping;
  const GenerationConfig& config = search.options->config;
  if (search.finished.size() < search.beams.size()) return false;
  if (config.early_stopping == EarlyStopping::yes) return true;
  const bool may_grow = config.early_stopping == EarlyStopping::never && config.length_penalty > 0;
  const Beam& best = search.beams[0];
  const int length = may_grow ? search.limit : static_cast<int>(best.ids.size());
  return search.per_length(best.text.score, length - search.prompt_length) <=
         search.finished.back().text.score;
}

}  // namespace

void choose_beams(Draft& search, const AllScores& all) {
  const int top = search.options->config.top_logprobs;
  const std::vector<Candidate> best = candidates(search, all.scores);
  std::vector<Beam> going_on;
  for (std::size_t i = 0; i < best.size(); ++i) {
    const Candidate& c = best[i];
    const std::span<const float> of_model = row_of(search, all.of_model, c.beam);
    SampledToken token{c.token, of_model[static_cast<std::size_t>(c.token)], {}};
    if (top > 0) token.top = best_logprobs(of_model, top);
    Beam beam = search.beams[c.beam];
    beam.text.score = c.score;
    if (!search.take(beam, std::move(token))) {
      going_on.push_back(std::move(beam));
    } else if (i < search.beams.size()) {
      search.finish(std::move(beam));
    }
  }
  if (going_on.empty()) {
    search.is_over = true;
    return;
  }
  // Draws come in the order drawn; beams go on in the order of their scores.
  std::stable_sort(going_on.begin(), going_on.end(),
                   [](const Beam& a, const Beam& b) { return a.text.score > b.text.score; });
  // Only where nearly every token ends a text can there be too few: beams that are not there.
  Beam nothing = going_on.back();
  nothing.text.score = kNoBeam;
  going_on.resize(search.beams.size(), nothing);
  search.beams = std::move(going_on);
  search.is_over = is_over(search);
}

}  // namespace quire
