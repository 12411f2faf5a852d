// Texts that come and go beside each other, each held to what it is alone.
#include "engine/generation/session.h"

#include <map>

#include "tests/engine/generation/tiny_model.h"
#include "tests/support/catch.h"

using namespace quire;
using namespace quire::test;

namespace {

using Ids = std::vector<std::int32_t>;

struct Request {
  Ids prompt;
  GenerationConfig generation;
  std::uint64_t stream = 0;
};

/// Options that share little: greedy, drawn, with the penalty alone, with processors, both, and
/// searches, two of one width.
std::vector<GenerationConfig> different_options() {
  std::vector<GenerationConfig> all(8);
  for (GenerationConfig& config : all) config.max_new_tokens = 6;
  all[1].do_sample = true;
  all[1].temperature = 1.5f;
  all[1].top_logprobs = 2;
  all[2].repetition_penalty = 3.0f;
  all[3].no_repeat_ngram_size = 1;
  all[3].suppress_tokens = {0, 1, 2, 3};
  all[3].max_new_tokens = 3;
  all[4] = all[1];
  all[4].top_logprobs = 0;
  all[4].top_k = 5;
  all[4].repetition_penalty = 1.3f;
  all[4].min_new_tokens = 4;
  all[4].eos_token_ids = {5, 6, 7, 8, 9, 10, 11, 12};
  all[4].max_new_tokens = 9;
  all[5].num_beams = 2;
  all[5].no_repeat_ngram_size = 2;
  all[5].top_logprobs = 1;
  all[6] = all[4];
  all[6].num_beams = 3;
  all[7].num_beams = 3;
  all[7].eos_token_ids = {5, 6, 7, 8};
  all[7].length_penalty = -1.0f;
  return all;
}

std::vector<Request> different_requests() {
  const std::vector<GenerationConfig> options = different_options();
  const std::vector<Ids> prompts = tiny_prompts();
  std::vector<Request> requests;
  for (std::size_t i = 0; i < 20; ++i) {
    // Neighbours have other options; some share a prompt, with the same options or not.
    requests.push_back({prompts[i / 3 % prompts.size()], options[i * 3 % 8], i % 4});
  }
  requests[7] = requests[6];
  requests[16] = requests[15];  // a search
  return requests;
}

void check_equal(const GeneratedSequence& got, const GeneratedSequence& want) {
  CHECK(got.output_ids == want.output_ids);
  CHECK(got.logprobs == want.logprobs);  // bit for bit
  CHECK(got.top_logprobs == want.top_logprobs);
  CHECK(got.finish_reason == want.finish_reason);
  CHECK(got.score == want.score);
}

SessionSize size_for(const TinyModel& model, int rows) {
  return {.rows = rows,
          .longest_prompt = model.config.n_positions,
          .longest_text = model.config.n_positions};
}

}  // namespace

TEST_CASE("requests with different options, beside each other, are each as alone") {
  const std::vector<Request> requests = different_requests();
  CHECK(requests[15].generation.num_beams > 1);
  const TinyModel reference(open_reference_device()), cpu(cpu_with_threads(2));
  for (const TinyModel* model : {&reference, &cpu}) {
    std::vector<GeneratedSequence> alone;
    int longest = 0, work = 0, row_steps = 0;
    for (const Request& r : requests) {
      alone.push_back(generate(*model->device, model->config, model->parameters, {r.prompt},
                               r.generation, {r.stream})[0]);
    }
    for (const int rows : {3, 5, 20}) {
      Session session(*model->device, model->config, model->parameters, size_for(*model, rows));
      std::map<int, std::vector<GeneratedSequence>> results;
      std::size_t next = 0;
      longest = work = row_steps = 0;
      std::map<int, int> began;  // the step before each
      int steps = 0;
      while (next < requests.size() || !session.is_empty()) {
        for (; next < requests.size(); ++next) {
          const Request& r = requests[next];
          if (session.rows_in_use() + r.generation.num_beams > rows) break;
          began[static_cast<int>(next)] = steps;
          CHECK(session.add(r.prompt, r.generation, {r.generation.seed, r.stream}) ==
                static_cast<int>(next));
        }
        row_steps += session.rows_in_use();
        ++steps;
        for (Session::Ended& ended : session.step()) {
          const int took = steps - began.at(ended.text);
          longest = std::max(longest, took);
          work += took * requests[static_cast<std::size_t>(ended.text)].generation.num_beams;
          REQUIRE(results.emplace(ended.text, std::move(ended.sequences)).second);
        }
      }
      CHECK(work == row_steps);  // a row is a text's until it ends, and no longer
      REQUIRE(results.size() == requests.size());
      for (std::size_t i = 0; i < requests.size(); ++i) {
        INFO("request " << i << ", " << rows << " rows");
        const auto& texts = results.at(static_cast<int>(i));
        CHECK(std::ssize(texts) == requests[i].generation.num_beams);
        check_equal(texts[0], alone[i]);
      }
      // A place that gets free is taken at once: where the widest finds no room, at most two rows
      // are empty.
      CHECK((steps - longest) * (rows - 2) <= work);
    }
  }
}

TEST_CASE("a session has room for as many texts as it was made for, of such lengths") {
  const TinyModel model(open_reference_device());
  Session session(*model.device, model.config, model.parameters,
                  {.rows = 2, .longest_prompt = 3, .longest_text = 5});
  GenerationConfig one, two, three;
  one.max_new_tokens = 1;
  two.max_new_tokens = 2;
  three.max_new_tokens = 3;
  const auto fault_of = [&](const Ids& prompt, const GenerationConfig& generation) {
    try {
      session.add(prompt, generation, {});
    } catch (const Error& error) {
      return error.fault();
    }
    FAIL("no exception");
    return Fault::internal;
  };
  CHECK(fault_of({1, 2, 3, 4}, one) == Fault::internal);
  CHECK(fault_of({1, 2, 3}, three) == Fault::internal);
  CHECK(fault_of({}, two) == Fault::usage);
  CHECK(fault_of({61}, two) == Fault::usage);
  CHECK(session.is_empty());
  CHECK(session.step().empty());
  session.add({1, 2, 3}, two, {});
  session.add({1, 2}, three, {});
  CHECK(session.rows_in_use() == 2);
  CHECK(fault_of({1}, two) == Fault::internal);
  CHECK(session.step().empty());
  const auto ended = session.step([](int text, std::int32_t) { return text == 1; });
  CHECK(ended.size() == 2);
  for (const Session::Ended& text : ended) {
    CHECK(text.sequences[0].output_ids.size() == 2);
    CHECK(text.sequences[0].finish_reason ==
          (text.text == 0 ? FinishReason::length : FinishReason::stop));
  }
  CHECK(session.is_empty());
}
