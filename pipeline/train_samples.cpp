#include "pipeline/train_samples.h"

#include <fmt/format.h>

#include <utility>

#include "base/error.h"
#include "engine/generation/generator.h"

namespace quire {

TrainSamples::TrainSamples(Device& device, const Gpt2Config& config, const Tokenizer& tokenizer,
                           std::vector<std::string> prompts, std::uint64_t seed)
    : device_(device), config_(config), tokenizer_(tokenizer), prompts_(std::move(prompts)) {
  options_.max_new_tokens = 60;
  options_.do_sample = true;
  options_.temperature = 0.8f;
  options_.top_p = 0.95f;
  options_.seed = seed;
  const std::optional<std::int32_t> end = tokenizer.end_of_text();
  if (end) options_.eos_token_ids = {*end};
  if (prompts_.empty()) prompts_.emplace_back();
  for (const std::string& prompt : prompts_) {
    ids_.push_back(tokenizer.encode(prompt));
    if (ids_.back().empty() && end) ids_.back().push_back(*end);
    if (ids_.back().empty()) {
      throw Error(Fault::usage, "there is nothing for a sample to begin with",
                  {"the tokenizer has no end-of-text token"}, "`sample_prompts` TEXT"_named);
    }
    check_prompt(config, options_, ids_.back(),
                 fmt::format(fmt::runtime("`sample_prompts` \"{}\""_named), prompt));
    streams_.push_back(streams_.size());
  }
}

std::vector<TextSample> TrainSamples::make(const Parameters& parameters,
                                           const std::function<bool()>& stop_requested) const {
  const std::vector<GeneratedSequence> rows =
      generate(device_, config_, parameters, ids_, options_, streams_,
               [&](int, std::int32_t) { return stop_requested(); });
  std::vector<TextSample> samples;
  if (stop_requested()) return samples;
  for (std::size_t row = 0; row < rows.size(); ++row) {
    samples.push_back({prompts_[row], tokenizer_.decode(rows[row].output_ids,
                                                        /*skip_special_tokens=*/true)});
  }
  return samples;
}

}  // namespace quire
