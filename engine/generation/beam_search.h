// Beam search: the num_beams likeliest continuations of a prompt grow side by side, rows of the
// same Session as all other texts.
//
// The score of a beam is the sum of its tokens' log probabilities, each taken after the processors
// (which work on log probabilities here) and, when sampling, the warpers. In each step:
//   1. Of all beams and all tokens the k = max(2, 1 + number of eos ids)·num_beams best are the
//      candidates; when sampling, k are drawn without replacement from the softmax of the scores.
//   2. A candidate ends at an eos, where `stops` says so, or at the full length. Those among the
//      first num_beams that end are finished, with score / (new tokens)^length_penalty; the best
//      num_beams texts are kept.
//   3. The best num_beams candidates that do not end are the next beams.
// It is over when early_stopping says so (config.h), or when every candidate has ended. Ties go to
// the earlier beam, then to the lower token id. A search that is interrupted gives its beams as they
// are where too few texts are finished.
//
// As in transformers' _beam_search (generation/utils.py), down to the sums in float.
#pragma once

#include <algorithm>
#include <cstddef>
#include <functional>
#include <utility>
#include <vector>

#include "engine/generation/session.h"

namespace quire {

/// The score that stands for "not there": what transformers fills empty places with.
inline constexpr float kNoBeam = -1e9f;

/// Puts `one` among the k best of what it was shown, best first. Of equal ones the earlier is the
/// better.
template <class T, class Score>
void keep_best(std::vector<T>& best, T one, std::size_t k, Score score) {
  if (best.size() == k && !(score(one) > score(best.back()))) return;
  if (best.size() == k) best.pop_back();
  best.insert(std::ranges::upper_bound(best, score(one), std::greater<>(), score), std::move(one));
}

/// One step of a search whose beams `to_read()` have these scores: sets its beams, each in the row of
/// the one that it grew from, what is finished, and whether it is over.
void choose_beams(Draft& search, const AllScores& all);

}  // namespace quire
