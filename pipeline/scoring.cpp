#include "pipeline/scoring.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>

#include "base/error.h"
#include "base/text.h"
#include "pipeline/inference_memory.h"
#include "pipeline/model_path.h"
#include "pipeline/model_tokenizer.h"
#include "tokens/shards.h"

namespace quire {
namespace {

using Clock = std::chrono::steady_clock;

/// A text as ids, and its length in bytes.
struct Text {
  std::vector<TokenId> ids;
  std::vector<TokenId> labels;  ///< empty: every id is scored
  std::size_t bytes = 0;        ///< of what is scored
};

std::vector<Text> encode(const std::vector<Record>& records, const ScoringOptions& o,
                         const Tokenizer& tokenizer) {
  if (o.prepend_endoftext && !tokenizer.end_of_text()) {
    throw Error(Fault::usage, "`prepend_endoftext`: the tokenizer has no <|endoftext|>"_named);
  }
  std::vector<Text> texts;
  texts.reserve(records.size());
  for (const Record& record : records) {
    if (!record.labels.empty()) {
      throw Error(Fault::usage, "the data has labels, and perplexity scores every token",
                  {"eval reads texts, or input_ids alone"});
    }
    Text text;
    if (o.prepend_endoftext) text.ids.push_back(*tokenizer.end_of_text());
    if (record.input_ids.empty()) {
      tokenizer.encode(record.text, SpecialTokens::parse, text.ids);
      text.bytes = record.text.size();
    } else {
      text.ids.insert(text.ids.end(), record.input_ids.begin(), record.input_ids.end());
      for (const TokenId id : record.input_ids) text.bytes += tokenizer.token_bytes(id).size();
    }
    texts.push_back(std::move(text));
  }
  return texts;
}

/// Records as they are trained on.
std::vector<Text> texts_of(const TokenView& records, const Tokenizer& tokenizer) {
  std::vector<Text> texts(static_cast<std::size_t>(records.size()));
  for (std::size_t r = 0; r < texts.size(); ++r) {
    const std::int64_t begin = records.offsets[static_cast<std::int64_t>(r)];
    const std::int64_t end = records.offsets[static_cast<std::int64_t>(r) + 1];
    Text& text = texts[r];
    text.ids.resize(static_cast<std::size_t>(end - begin));
    records.ids.copy(begin, text.ids);
    text.labels = text.ids;
    if (records.labels.size() > 0) records.labels.copy(begin, text.labels);
    for (const TokenId label : text.labels) {
      if (label == kIgnoredTarget || tokenizer.end_of_text() == label) continue;
      text.bytes += tokenizer.token_bytes(label).size();
    }
  }
  return texts;
}

/// How many ids of a text will be scored.
std::int64_t count_scored(const Text& text, const PerplexityOptions& windows) {
  if (text.labels.empty()) return count_scored(std::ssize(text.ids), windows);
  return std::count_if(text.labels.begin() + 1, text.labels.end(),
                       [](TokenId label) { return label != kIgnoredTarget; });
}

/// Ids that the model has no row for would be out of bounds in its tables.
void check_ids(const std::vector<Text>& texts, const Gpt2Config& config,
               const Tokenizer& tokenizer) {
  for (const Text& text : texts) {
    for (const TokenId id : text.ids) {
      if (id >= 0 && id < config.vocab_size) continue;
      throw Error(
          Fault::bad_data,
          fmt::format("the data has token {}, the model's vocabulary has {}", id,
                      config.vocab_size),
          {"the tokenizer is that of another model, or has got more tokens"},
          fmt::format(
              fmt::runtime("the `tokenizer` that the model was trained with, or more rows: "_named
                           "quire convert MODEL OUT `resize_vocab` {}"_named),
              tokenizer.vocab_size()));
    }
  }
}

/// That the most tokens that are scored together fit into the device's memory.
void check_largest_batch(const Device& device, const LoadedModel& model,
                         const std::vector<Text>& texts, const PerplexityOptions& windows) {
  std::int64_t most_rows = 1, longest = 0;
  for (const Text& text : texts) {
    const std::int64_t length = std::min<std::int64_t>(windows.window, std::ssize(text.ids));
    const std::int64_t beyond = std::ssize(text.ids) - length;
    const std::int64_t rows =
        std::min<std::int64_t>(windows.batch, 1 + (beyond + windows.stride - 1) / windows.stride);
    if (rows * length <= most_rows * longest) continue;
    most_rows = rows;
    longest = length;
  }
  check_scoring_memory(device, model.config, model.parameters.table().dtype(),
                       static_cast<int>(most_rows), static_cast<int>(longest));
}

using MakeTexts = std::function<std::vector<Text>(const Tokenizer& of_the_model)>;

Scored score_texts(const ScoringOptions& options, const ScoringCallbacks& callbacks,
                   const OnScored& on_scored, const MakeTexts& make_texts) {
  const std::filesystem::path folder = resolve_model(options.model);
  const Gpt2Config config = resolved_config(folder);
  const PerplexityOptions windows = resolve(options.perplexity, config);
  const Tokenizer tokenizer = tokenizer_of(folder, options.tokenizer);
  const std::vector<Text> texts = make_texts(tokenizer);
  check_ids(texts, config, tokenizer);
  Scored scored{.windows = windows};
  for (const Text& text : texts) {
    scored.tokens += std::ssize(text.ids);
    scored.to_score += count_scored(text, windows);
    scored.bytes += text.bytes;
  }
  if (scored.to_score == 0) {
    throw Error(
        Fault::bad_data,
        fmt::format("the data has {}, none of them to score", counted(scored.tokens, "token")),
        {"the first token of a text has nothing before it"}, "`prepend_endoftext`"_named);
  }
  if (windows.stride == windows.window && scored.to_score >= windows.window) {
    callbacks.note(
        "note: with the stride as long as the window, the first token of each window has nothing "
        "before it and is not scored; a smaller `stride` scores all of them"_named);
  }

  const std::unique_ptr<Device> device = callbacks.open_device();
  const LoadedModel model = load_resolved(*device, folder, options.storage);
  for (const std::string& line : model.notes) callbacks.note(line);
  check_largest_batch(*device, model, texts, windows);
  Gpt2 gpt2(*device, model.config, model.parameters);
  callbacks.on_begin();
  const Clock::time_point start = Clock::now();
  const auto seconds = [&] { return std::chrono::duration<double>(Clock::now() - start).count(); };
  const auto on_progress = [&](const PerplexityResult& text_so_far, std::int64_t) {
    Scored so_far = scored;
    so_far.result += text_so_far;
    so_far.seconds = seconds();
    on_scored(so_far);
    return callbacks.stop_requested();
  };
  for (const Text& text : texts) {
    scored.result += perplexity(gpt2, model.config, text.ids, windows, on_progress, text.labels);
    scored.stopped = callbacks.stop_requested();
    if (scored.stopped) break;
  }
  scored.seconds = seconds();
  return scored;
}

}  // namespace

double Scored::bits_per_byte() const {
  return result.loss_sum / std::log(2.0) / static_cast<double>(bytes);
}

Scored score(const ScoringOptions& options, const std::vector<Record>& records,
             const ScoringCallbacks& callbacks, const OnScored& on_progress) {
  return score_texts(options, callbacks, on_progress, [&](const Tokenizer& of_the_model) {
    return encode(records, options, of_the_model);
  });
}

Scored score(const ScoringOptions& options, const TokenView& records, const Tokenizer& tokenizer,
             const ScoringCallbacks& callbacks, const OnScored& on_progress) {
  return score_texts(options, callbacks, on_progress, [&](const Tokenizer& of_the_model) {
    if (vocabulary_of(of_the_model) != vocabulary_of(tokenizer)) {
      throw Error(Fault::usage, options.model + " has another tokenizer than the run",
                  {"it cannot score the tokens that were held out"},
                  "quire eval `paths` FILE, which compares models by their bits per byte"_named);
    }
    return texts_of(records, tokenizer);
  });
}

}  // namespace quire
