#include "corpus/template.h"

#include "corpus/records.h"
#include "tests/corpus/tokenized.h"
#include "tests/support/catch.h"
#include "tests/support/scratch.h"

using namespace quire;
using quire::test::ScratchFolder;
using quire::test::tokenized;

namespace {

/// The prompt for the last of the values, with which the filled text begins.
std::string prompt(const std::string& pattern, const std::vector<std::string_view>& values) {
  const Template with(pattern);
  const std::string text = with.prompt(values);
  CHECK(with.fill(values).starts_with(text));
  return text;
}

}  // namespace

TEST_CASE("a template's prompt ends before its last field and the space in front of that") {
  CHECK(prompt("{name} => {emoji}", {"smile", ":)"}) == "smile =>");
  CHECK(prompt("Q: {q}\\nA: {a}.", {"why?", "so"}) == "Q: why?\nA:");
  CHECK(prompt("{a}{b}", {"x", "y"}) == "x");
  CHECK(prompt("{a} {b}", {"", "y"}).empty());
  CHECK(prompt("{only}!", {"text"}).empty());
  CHECK(prompt("say {only}", {"text"}) == "say");
}

TEST_CASE("labels of a completion leave out the tokens of its prompt") {
  const ScratchFolder folder;
  const std::filesystem::path text = folder.write("t.txt", "smile => :) frown => :(\n");
  const Tokenizer tokenizer = train_bpe({&text, 1}, {.vocab_size = 270});
  const std::string data = folder.write("d.csv", "name,face\nsmile,:)\n\xFF\xFE frown,:(\n,:|\n");
  CorpusOptions options{.paths = {data},
                        .text_column = "",
                        .template_text = "{name} => {face}",
                        .line_by_line = false,
                        .loss_on_completion = true};
  const TokenRecords corpus = tokenized(read_records(options), tokenizer, 1);
  REQUIRE(corpus.size() == 3);
  const std::vector<std::string> completions = {" :)", " :(", " :|"};
  for (std::size_t r = 0; r < 3; ++r) {
    std::string learned, ignored;
    for (auto i = static_cast<std::size_t>(corpus.offsets[r]);
         i < static_cast<std::size_t>(corpus.offsets[r + 1]); ++i) {
      const bool is_ignored = corpus.labels[i] == kIgnoredTarget;
      if (!is_ignored) CHECK(corpus.labels[i] == corpus.ids[i]);
      if (is_ignored) CHECK(learned.empty());
      (is_ignored ? ignored : learned) += tokenizer.token_bytes(corpus.ids[i]);
    }
    // A token that reaches beyond the prompt is learned: never less than the completion.
    CHECK(learned.ends_with(completions[r] + "<|endoftext|>"));
    CHECK(learned.size() <= completions[r].size() + 13 + 3);
    CHECK(ignored.size() + learned.size() ==
          tokenizer
              .decode(
                  std::span(corpus.ids)
                      .subspan(static_cast<std::size_t>(corpus.offsets[r]),
                               static_cast<std::size_t>(corpus.offsets[r + 1] - corpus.offsets[r])))
              .size());
  }
  options.loss_on_completion = false;
  CHECK(tokenized(read_records(options), tokenizer, 1).labels.empty());
  options.loss_on_completion = true;
  options.template_text.clear();
  CHECK_THROWS_WITH(read_records(options), Catch::Contains("needs a template"));
}
