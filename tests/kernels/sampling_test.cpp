#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <numeric>

#include "base/file.h"
#include "base/json.h"
#include "tests/support/cases.h"
#include "tests/support/catch.h"
#include "tests/support/compare.h"
#include "tests/support/data.h"
#include "tests/support/devices.h"
#include "tests/support/fixtures.h"
#include "tests/support/guarded.h"

using namespace quire;
using namespace quire::test;

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::vector<TestDevice> all_devices() {
  std::vector<TestDevice> devices = devices_under_test();
  for (const TestDevice& device : cpu_with_threads()) devices.push_back(device);
  return devices;
}

std::vector<float> warp(const TestDevice& device, const std::vector<float>& logits, std::int64_t B,
                        WarpLogits op) {
  Stage stage(device.device, "warp_logits " + device.name, 1);
  Guarded& both = stage.in_out(logits, {B, static_cast<std::int64_t>(logits.size()) / B});
  op.logits = both;
  device.device.warp_logits(op);
  return both.floats();
}

std::vector<float> penalise(const TestDevice& device, const std::vector<float>& logits,
                            std::int64_t B, const std::vector<std::int32_t>& history,
                            const std::vector<std::int32_t>& first, float penalty) {
  Stage stage(device.device, "repetition_penalty " + device.name, 1);
  Guarded& both = stage.in_out(logits, {B, static_cast<std::int64_t>(logits.size()) / B});
  RepetitionPenalty op{
      .logits = both,
      .history = stage.input(history, {B, static_cast<std::int64_t>(history.size()) / B}),
      .penalty = penalty};
  if (!first.empty()) op.first = stage.input(first, {B});
  device.device.repetition_penalty(op);
  return both.floats();
}

std::vector<std::int32_t> draw(const TestDevice& device, const std::vector<float>& logits,
                               const std::vector<float>& uniforms) {
  const auto B = static_cast<std::int64_t>(uniforms.size());
  Stage stage(device.device, "draw_tokens " + device.name, 1);
  Guarded& tokens = stage.output({B}, DType::i32);
  device.device.draw_tokens(
      {.tokens = tokens,
       .logits = stage.input(logits, {B, static_cast<std::int64_t>(logits.size()) / B}),
       .uniforms = stage.input(uniforms, {B})});
  return tokens.ints();
}

std::vector<std::int32_t> argmax(const TestDevice& device, const std::vector<float>& logits,
                                 std::int64_t B) {
  Stage stage(device.device, "argmax_tokens " + device.name, 1);
  Guarded& tokens = stage.output({B}, DType::i32);
  device.device.argmax_tokens(
      {.tokens = tokens,
       .logits = stage.input(logits, {B, static_cast<std::int64_t>(logits.size()) / B})});
  return tokens.ints();
}

/// The tokens that a row still allows.
std::vector<std::size_t> kept(const std::vector<float>& row) {
  std::vector<std::size_t> tokens;
  for (std::size_t v = 0; v < row.size(); ++v) {
    if (row[v] != -kInfinity) tokens.push_back(v);
  }
  return tokens;
}

bool has_ties(std::vector<float> row) {
  std::sort(row.begin(), row.end());
  return std::adjacent_find(row.begin(), row.end()) != row.end();
}

/// The bytes of a tensor of a safetensors file: read here, as the engine is not linked.
std::string tensor(const std::string& file, const std::string& name) {
  std::uint64_t length = 0;
  std::memcpy(&length, file.data(), sizeof(length));
  const std::size_t first = sizeof(length) + length;
  const auto header = parse_json<nlohmann::json>(file.substr(sizeof(length), length));
  const auto [begin, end] =
      header.at(name).at("data_offsets").get<std::pair<std::size_t, std::size_t>>();
  REQUIRE(first + end <= file.size());
  return file.substr(first + begin, end - begin);
}

template <class Number>
std::vector<Number> numbers(const std::string& bytes) {
  std::vector<Number> values(bytes.size() / sizeof(Number));
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

}  // namespace

TEST_CASE("argmax_tokens takes the largest, the lowest index on a tie") {
  for (const TestDevice& device : all_devices()) {
    for (const std::int64_t V : cases::kCounts) {
      const std::int64_t largest = V / 3, again = V - 1;
      std::vector<float> logits = normal(3 * V, 71);
      logits[largest] = logits[again] = 50.0f;
      logits[2 * V + again] = 50.0f;
      std::fill(logits.begin() + V, logits.begin() + 2 * V, -3.0f);
      const std::vector<std::int32_t> want = {static_cast<std::int32_t>(largest), 0,
                                              static_cast<std::int32_t>(again)};
      compare_ints(join("argmax", device.name, "V", V), argmax(device, logits, 3), want);
    }
    compare_ints("argmax among -inf",
                 argmax(device, {-kInfinity, -kInfinity, -2e38f, -kInfinity}, 1), {2});
  }
}

TEST_CASE("draw_tokens inverts the cumulative distribution") {
  for (const TestDevice& device : all_devices()) {
    for (const std::int64_t V : {1, 2, 7, 16, 33, 257, 1003}) {
      const std::vector<float> logits = normal(V, 72, 0.0, 2.0);
      Doubles cumulative;
      double sum = 0.0;
      for (const float logit : logits) cumulative.push_back(sum += std::exp(double{logit}));
      for (double& value : cumulative) value /= sum;
      std::vector<float> uniforms = uniform(60, 73, 0.0f, 1.0f);
      uniforms.push_back(0.0f);
      uniforms.push_back(0x1.fffffep-1f);
      std::vector<float> repeated;
      for (std::size_t b = 0; b < uniforms.size(); ++b) {
        repeated.insert(repeated.end(), logits.begin(), logits.end());
      }
      const std::vector<std::int32_t> tokens = draw(device, repeated, uniforms);
      // The terms may be rounded to float before they are summed: two roundings of each.
      const double slack = 2.0 * kEps;
      for (std::size_t b = 0; b < uniforms.size(); ++b) {
        const std::int32_t token = tokens[b];
        REQUIRE((token >= 0 && token < V));
        const double below = token == 0 ? 0.0 : cumulative[token - 1];
        CAPTURE(device.name, V, uniforms[b], token, below, cumulative[token]);
        CHECK(below <= uniforms[b] + slack);
        CHECK((cumulative[token] > uniforms[b] - slack || token == V - 1));
      }
    }
  }
}

TEST_CASE("draw_tokens never draws what is filtered out, at either end of the row") {
  const std::vector<float> logits = {-kInfinity, -kInfinity, 0.0f, -kInfinity, 1.0f, -kInfinity};
  for (const TestDevice& device : all_devices()) {
    CHECK(draw(device, logits, {0.0f})[0] == 2);
    CHECK(draw(device, logits, {0.26f})[0] == 2);  // 1/(1 + e) = 0.2689
    CHECK(draw(device, logits, {0.27f})[0] == 4);
    CHECK(draw(device, logits, {0x1.fffffep-1f})[0] == 4);
  }
}

TEST_CASE("draw_tokens draws each token as often as its probability says") {
  constexpr std::int64_t kDraws = 20'000;
  const std::vector<float> row = {0.0f, 1.0f, -1.0f, 0.5f};
  std::vector<float> logits;
  for (std::int64_t i = 0; i < kDraws; ++i) logits.insert(logits.end(), row.begin(), row.end());
  for (const TestDevice& device : devices_under_test()) {
    std::vector<double> drawn(row.size(), 0.0);
    for (const std::int32_t token : draw(device, logits, uniform(kDraws, 74, 0.0f, 1.0f))) {
      drawn[static_cast<std::size_t>(token)] += 1.0;
    }
    double sum = 0.0;
    for (const float logit : row) sum += std::exp(double{logit});
    for (std::size_t v = 0; v < row.size(); ++v) {
      const double p = std::exp(double{row[v]}) / sum;
      CHECK(std::abs(drawn[v] - kDraws * p) < 5.0 * std::sqrt(kDraws * p * (1.0 - p)));
    }
  }
}

TEST_CASE("repetition_penalty touches each distinct token once, and no padding") {
  for (const TestDevice& device : all_devices()) {
    const std::vector<float> logits = {1.0f, -2.0f, 3.0f, 4.0f, -5.0f, 6.0f, 7.0f, -8.0f};
    // Row 0 has no padding and repeats itself; row 1 skips its first two entries.
    compare_bits("repetition_penalty " + device.name,
                 penalise(device, logits, 2, {1, 1, 2, 1, 3, 0, 0, 2}, {0, 2}, 2.0f),
                 {1.0f, -4.0f, 1.5f, 4.0f, -2.5f * 4.0f, 6.0f, 3.5f, -8.0f});
    compare_bits("repetition_penalty without padding " + device.name,
                 penalise(device, logits, 2, {1, 1, 2, 1, 3, 0, 0, 2}, {}, 2.0f),
                 {1.0f, -4.0f, 1.5f, 4.0f, -10.0f, 6.0f, 3.5f, -16.0f});
    compare_bits("repetition_penalty of all padding " + device.name,
                 penalise(device, logits, 2, {1, 1, 2, 1, 3, 0, 0, 2}, {4, 4}, 2.0f), logits);
    if (!device.device.shares_host_memory()) {  // check.h: the host reads no ids there
      compare_bits("impossible tokens " + device.name,
                   penalise(device, logits, 2, {-1, 4, 100, 7}, {0, 0}, 2.0f), logits);
      continue;
    }
    CHECK(error_of([&] {
            penalise(device, logits, 2, {1, 4, 0, 0}, {0, 0}, 2.0f);
          }) == "repetition_penalty: history[1] is 4, wants 0 to 3");
  }
}

TEST_CASE("repetition_penalty finds tokens anywhere in a large vocabulary") {
  constexpr std::int64_t kV = 600'000;
  const std::vector<float> logits = normal(kV, 78);
  const std::vector<std::int32_t> history = {0, 599'999, 262'143, 262'144, 5, 599'999, 524'288, 0};
  std::vector<float> want = logits;
  for (const std::int32_t token : {0, 5, 262'143, 262'144, 524'288, 599'999}) {
    want[token] = want[token] < 0.0f ? want[token] * 1.5f : want[token] / 1.5f;
  }
  for (const TestDevice& device : devices_under_test()) {
    compare_bits("repetition_penalty " + device.name,
                 penalise(device, logits, 1, history, {}, 1.5f), want);
  }
}

TEST_CASE("draw_tokens draws alike on every device from rows longer than a GPU's shared memory") {
  constexpr std::int64_t kV = 60'001;
  std::vector<float> logits = normal(kV, 79, 0.0, 3.0);
  for (std::int64_t v = 0; v < kV; v += 3) logits[v] = -kInfinity;
  logits[1000] = std::numeric_limits<float>::quiet_NaN();  // no candidate
  std::vector<float> finite = logits;
  finite[1000] = -kInfinity;
  for (const float u : {0.0f, 0.1f, 0.5f, 0.93f, 0x1.fffffep-1f}) {
    const std::vector<std::int32_t> want = draw(devices_under_test().front(), finite, {u});
    for (const TestDevice& device : devices_under_test()) {
      compare_ints(join("draw_tokens", device.name, u), draw(device, finite, {u}), want);
      if (device.name == "reference") continue;  // which has no use for NaN
      compare_ints(join("draw_tokens beside NaN", device.name, u), draw(device, logits, {u}), want);
    }
  }
}

namespace {

struct Crowd {
  const char* name;
  std::vector<float> logits;
};

/// Rows whose scores do not spread as a model's do.
std::vector<Crowd> crowds() {
  std::vector<Crowd> rows;
  rows.push_back({"all equal", std::vector<float>(1003, 0.5f)});
  std::vector<float> close;  // neighbouring floats in a mixed order
  for (std::int32_t i = 0; i < 3001; ++i) {
    close.push_back(1.0f + static_cast<float>(i * 1000 % 3001) * 0x1p-23f);
  }
  rows.push_back({"neighbours", close});
  std::vector<float> outliers = normal(2049, 80, 0.0, 3.0);
  outliers[7] = -1e30f;
  outliers[2000] = -3e38f;
  rows.push_back({"outliers", outliers});
  std::vector<float> filtered = normal(2050, 81, 0.0, 3.0);
  for (std::size_t v = 0; v < filtered.size(); v += 2) filtered[v] = -kInfinity;
  rows.push_back({"half filtered", filtered});
  std::vector<float> zeros = normal(1025, 82, 0.0, 1e-3);
  for (std::size_t v = 0; v < zeros.size(); v += 2) zeros[v] = v % 4 == 0 ? 0.0f : -0.0f;
  rows.push_back({"zeros of both signs", zeros});
  std::vector<float> tied = normal(1500, 83, 0.0, 2.0);
  for (float& score : tied) score = std::round(score * 4.0f) / 4.0f;
  rows.push_back({"a few values", tied});
  rows.push_back({"one", {3.0f}});
  rows.push_back({"nothing left", std::vector<float>(40, -kInfinity)});
  rows.push_back({"longer than shared memory", normal(60'001, 84, 0.0, 2.0)});
  return rows;
}

}  // namespace

TEST_CASE("warp_logits keeps the same tokens on every device, however scores crowd") {
  const TestDevice& reference = devices_under_test().front();
  const WarpLogits chains[] = {{.top_k = 77},
                               {.top_k = 1},
                               {.top_p = 0.3f},
                               {.top_p = 0.01f, .min_tokens_to_keep = 5},
                               {.top_p = 0.97f},
                               {.min_p = 0.6f},
                               {.min_p = 0.999f, .min_tokens_to_keep = 7},
                               {.temperature = 100.0f, .top_p = 0.4f},
                               {.temperature = 0.01f, .top_p = 0.9f, .min_p = 0.1f},
                               {.top_k = 300, .top_p = 0.7f, .min_p = 0.3f}};
  for (const Crowd& row : crowds()) {
    int number = 0;
    for (const WarpLogits& chain : chains) {
      const std::vector<float> want = warp(reference, row.logits, 1, chain);
      for (const TestDevice& device : all_devices()) {
        compare_bits(join("warp_logits", device.name, row.name, "chain", number),
                     warp(device, row.logits, 1, chain), want);
      }
      ++number;
    }
  }
}

TEST_CASE("warp_logits: ties, limits and what is off") {
  for (const TestDevice& device : all_devices()) {
    const std::vector<float> logits = {1.0f, 3.0f, 2.0f, 3.0f, 2.0f, -1.0f};
    const auto tokens = [&](WarpLogits op) { return kept(warp(device, logits, 1, op)); };
    using Tokens = std::vector<std::size_t>;
    INFO(device.name);
    compare_bits("nothing on", warp(device, logits, 1, {}), logits);
    CHECK(tokens({.top_k = 1}) == Tokens{1, 3});
    CHECK(tokens({.top_k = 2}) == Tokens{1, 3});
    CHECK(tokens({.top_k = 3}) == Tokens{1, 2, 3, 4});
    CHECK(tokens({.top_k = 100}).size() == 6);
    CHECK(tokens({.top_p = 0.0f}).size() == 1);
    CHECK(tokens({.top_p = 0.0f, .min_tokens_to_keep = 2}) == Tokens{1, 3});
    CHECK(tokens({.min_p = 0.5f}) == Tokens{1, 3});
    CHECK(tokens({.min_p = 0.3f}) == Tokens{1, 2, 3, 4});  // e^-1 = 0.37
    CHECK(tokens({.min_p = 1.0f, .min_tokens_to_keep = 6}).size() == 6);
    CHECK(tokens({.top_k = 1, .min_tokens_to_keep = 3}) == Tokens{1, 2, 3, 4});
    // A low temperature leaves all the mass to the best two.
    CHECK(tokens({.temperature = 0.05f, .top_p = 0.9f}) == Tokens{1, 3});
    compare_bits("temperature", warp(device, logits, 1, {.temperature = 0.5f}),
                 {2.0f, 6.0f, 4.0f, 6.0f, 4.0f, -2.0f});
  }
}

TEST_CASE("warp_logits keeps the same tokens on every device, whatever the vocabulary") {
  const TestDevice& reference = devices_under_test().front();
  for (const TestDevice& device : all_devices()) {
    for (const std::int64_t V : {1, 2, 7, 9, 16, 33, 257, 1003, 50257}) {
      const std::vector<float> logits = normal(2 * V, 75, 0.0, 3.0);
      const WarpLogits chains[] = {{.top_k = 50},
                                   {.top_p = 0.9f},
                                   {.min_p = 0.05f},
                                   {.temperature = 0.7f, .top_k = 40, .top_p = 0.95f},
                                   {.temperature = 1.3f, .top_p = 0.8f, .min_p = 0.02f}};
      for (const WarpLogits& chain : chains) {
        compare_bits(join("warp_logits", device.name, V), warp(device, logits, 2, chain),
                     warp(reference, logits, 2, chain));
      }
    }
  }
}

TEST_CASE("a row's sampling does not depend on the rows beside it") {
  constexpr std::int64_t B = 7, V = 1003;
  const std::vector<float> logits = normal(B * V, 76, 0.0, 3.0),
                           uniforms = uniform(B, 77, 0.0f, 1.0f);
  const WarpLogits chain{.temperature = 0.9f, .top_k = 100, .top_p = 0.95f, .min_p = 0.01f};
  for (const TestDevice& device : all_devices()) {
    const std::vector<float> warped = warp(device, logits, B, chain);
    const std::vector<std::int32_t> tokens = draw(device, warped, uniforms);
    for (std::int64_t b = 0; b < B; ++b) {
      const std::vector<float> row = warp(device, slice(logits, b * V, V), 1, chain);
      compare_bits(join("row", b, device.name), row, slice(warped, b * V, V));
      CHECK(draw(device, row, {uniforms[b]})[0] == tokens[b]);
    }
  }
}

TEST_CASE("filters and penalties agree with the ecosystem's on 200 rows a chain") {
  QUIRE_FIXTURE(folder, "warpers");
  const auto list = parse_json<nlohmann::json>(read_file(folder / "warpers.json"));
  const std::string file = read_file(folder / "warpers.safetensors");
  const auto scores = numbers<float>(tensor(file, "scores"));
  const auto history = numbers<std::int32_t>(tensor(file, "history"));
  constexpr std::int64_t B = 200, V = 100;
  int chains = 0;
  for (const TestDevice& device : devices_under_test()) {
    for (const auto& entry : list) {
      std::vector<float> got = scores;
      bool ours = true;
      for (const auto& step : entry.at("chain")) {
        const std::string processor = step.at("processor");
        WarpLogits op{.min_tokens_to_keep = step.value("min_tokens_to_keep", 1)};
        if (processor == "repetition_penalty") {
          got = penalise(device, got, B, history, {}, step.at("penalty"));
          continue;
        }
        if (processor == "temperature")
          op.temperature = step.at("temperature");
        else if (processor == "top_k")
          op.top_k = step.at("top_k");
        else if (processor == "top_p")
          op.top_p = step.at("top_p");
        else if (processor == "min_p")
          op.min_p = step.at("min_p");
        else
          ours = false;
        if (!ours) break;
        got = warp(device, got, B, op);
      }
      if (!ours) continue;  // processors that are no device op
      ++chains;
      const std::string name = entry.at("name");
      const auto want = numbers<float>(tensor(file, "out." + name));
      const auto robust = numbers<std::uint8_t>(tensor(file, "robust." + name));
      for (std::int64_t b = 0; b < B; ++b) {
        if (robust[b] == 0) continue;
        // 100 equal scores: one of them lies on 1 - 0.99 exactly, which 0.99 as a float misses.
        if (name == "top_p_0.99" && b == 10) continue;
        // Quotients and products of two floats have one right answer. Which of several equal scores
        // top_p drops first is an accident of the sort over there, so rows with ties are compared
        // as sorted lists.
        std::vector<float> got_row = slice(got, b * V, V), want_row = slice(want, b * V, V);
        if (has_ties(slice(scores, b * V, V))) {
          std::sort(got_row.begin(), got_row.end());
          std::sort(want_row.begin(), want_row.end());
        }
        compare(join(name, device.name, "row", b), got_row, widened(want_row), Doubles(V, 0.0));
      }
    }
  }
  CHECK(chains == 19 * static_cast<int>(devices_under_test().size()));
}
