#include "pipeline/completions.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "base/error.h"
#include "base/text.h"
#include "engine/generation/session.h"
#include "pipeline/model_path.h"
#include "pipeline/model_tokenizer.h"
#include "tokenizer/tokenizer.h"

namespace quire {

namespace {

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n";
  const std::size_t first = text.find_first_not_of(kSpace);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kSpace) - first + 1);
}

struct Question {
  std::vector<TokenId> prompt;
  std::string_view answer;
  int answer_tokens = 0;
};

Question question_of(const Record& record, std::size_t number, const Tokenizer& tokenizer,
                     const Gpt2Config& config) {
  Question question;
  const std::string_view text = record.text;
  tokenizer.encode(text.substr(0, record.prompt_bytes), SpecialTokens::parse, question.prompt);
  question.answer = trimmed(text.substr(record.prompt_bytes));
  std::vector<TokenId> answer;
  tokenizer.encode(text.substr(record.prompt_bytes), SpecialTokens::parse, answer);
  question.answer_tokens = static_cast<int>(answer.size());
  if (question.prompt.empty()) {
    throw Error(Fault::bad_data, fmt::format("record {} has an empty prompt", number + 1),
                {"the template's fields before the last are empty"});
  }
  const auto needed = static_cast<int>(question.prompt.size()) + question.answer_tokens + 1;
  if (needed > config.n_positions) {
    throw Error(Fault::bad_data,
                fmt::format("record {} has {}, the model's context holds {}", number + 1,
                            counted(needed, "token"), config.n_positions));
  }
  return question;
}

}  // namespace

CompletionScores score_completions(const ScoringOptions& options,
                                   const std::vector<Record>& records, int top,
                                   const ScoringCallbacks& callbacks,
                                   const OnCompletion& on_progress) {
  const std::filesystem::path folder = resolve_model(options.model);
  const Tokenizer tokenizer = tokenizer_of(folder, options.tokenizer);
  const std::optional<TokenId> end = tokenizer.end_of_text();
  if (!end) throw Error(Fault::usage, "the tokenizer has no <|endoftext|> to end a completion");
  const Gpt2Config config = resolved_config(folder);
  std::vector<Question> questions;
  int longest = 0;
  SessionSize size{.rows = top, .longest_prompt = 1};
  for (std::size_t r = 0; r < records.size(); ++r) {
    questions.push_back(question_of(records[r], r, tokenizer, config));
    longest = std::max(longest, questions.back().answer_tokens);
    size.longest_prompt =
        std::max(size.longest_prompt, static_cast<int>(questions.back().prompt.size()));
  }
  GenerationConfig generation;
  generation.num_beams = top;
  generation.max_new_tokens = longest + 1;  // with the end of text
  generation.length_penalty = 0;            // by probability alone
  generation.eos_token_ids = {*end};
  size.longest_text = length_limit(config, generation, size.longest_prompt);

  const std::unique_ptr<Device> device = callbacks.open_device();
  const LoadedModel model = load_resolved(*device, folder, options.storage);
  for (const std::string& line : model.notes) callbacks.note(line);
  Session session(*device, model.config, model.parameters, size);
  callbacks.on_begin();
  CompletionScores scores;
  for (const Question& question : questions) {
    on_progress(scores);
    scores.stopped = callbacks.stop_requested();
    if (scores.stopped) break;
    session.add(question.prompt, generation, {});
    std::vector<Session::Ended> ended;
    while (ended.empty()) ended = session.step();
    const std::vector<GeneratedSequence>& found = ended[0].sequences;
    const auto is_answer = [&](const GeneratedSequence& text) {
      return trimmed(tokenizer.decode(text.output_ids, /*skip_special_tokens=*/true)) ==
             question.answer;
    };
    scores.best += is_answer(found.front());
    scores.among += std::any_of(found.begin(), found.end(), is_answer);
    ++scores.records;
  }
  return scores;
}

}  // namespace quire
