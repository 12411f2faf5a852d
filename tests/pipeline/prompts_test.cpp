#include "pipeline/prompts.h"

#include "tests/support/catch.h"
#include "tests/support/letter_model.h"

using namespace quire;
using namespace quire::test;

namespace {

struct Asked {
  std::vector<std::string> names;
  std::vector<std::vector<TokenId>> ids;
  std::vector<std::string> warnings;
  int reports = 0;
};

Asked collect(const PromptOptions& prompts, const std::string& typed = "") {
  Asked asked;
  Gpt2Config model;
  model.vocab_size = 40;
  model.n_positions = 16;
  const RequestReader reader(model, letter_tokenizer(), {},
                             [&](const std::string& line) { asked.warnings.push_back(line); });
  const PromptCallbacks callbacks{.on_read = [&](const ReadingReport&) { ++asked.reports; },
                                  .read_prompt = [&] { return typed; }};
  for (const GenerateRequest& request : collect_requests(prompts, reader, {}, "", callbacks)) {
    asked.names.push_back(request.name);
    asked.ids.push_back(request.prompt_ids);
  }
  return asked;
}

}  // namespace

TEST_CASE("prompts come in the order of their sources, and are asked for where there is none") {
  const ScratchFolder scratch;
  const std::string lines = scratch.write("lines.txt", "ab\nb\n");
  const Asked all = collect({.prompts = {"b"},
                             .positional_prompts = {"a"},
                             .prompt_files = {lines},
                             .prompt_ids = {"7 8"},
                             .line_by_line = true});
  CHECK(all.ids == std::vector<std::vector<TokenId>>{{0}, {1}, {0, 1}, {1}, {7, 8}});
  CHECK(all.names ==
        std::vector<std::string>{"prompt 1", "prompt 2", lines + ":1", lines + ":2", "prompt 5"});
  CHECK(all.reports == 1);
  CHECK(collect({}, "th\n").ids == std::vector<std::vector<TokenId>>{{38}});
}

TEST_CASE("of a table those rows are asked for that are named, and warnings go to the caller") {
  const ScratchFolder scratch;
  const std::string table = scratch.write("t.csv", "k,q\na,x\nb,y\nc,z\n");
  PromptOptions some{.requests = table, .template_text = "{k}d{q}"};
  CHECK(collect(some).ids.size() == 3);
  some.lines_of = [&](const std::filesystem::path& asked) {
    CHECK(asked == table);
    return std::set<std::size_t>{2, 4};
  };
  CHECK(collect(some).ids == std::vector<std::vector<TokenId>>{{0, 3}, {2, 3}});

  const std::string requests =
      scratch.write("r.jsonl", R"({"prompt": "a", "top_k": 3, "max_new_tokens": 2})");
  const Asked warned = collect({.requests = requests});
  CHECK(warned.warnings ==
        std::vector<std::string>{requests + ":1: top_k has no effect without do_sample"});
}
