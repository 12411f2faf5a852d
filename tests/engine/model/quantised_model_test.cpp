// A model whose matrices lie in blocks: alone and in a batch, at once and token by token, on any number
// of threads, and against the floats that the blocks stand for.
#include "engine/formats/packed_weights.h"
#include "engine/model/elements.h"
#include "engine/model/kv_cache.h"

#include "tests/engine/model/model_case.h"
#include "tests/support/blocks.h"

using namespace quire;
using namespace quire::test;

namespace {

using Ids = std::vector<std::int32_t>;

Gpt2Config config_of_blocks() {
  Gpt2Config config;
  config.vocab_size = 61;
  config.n_positions = 32;
  config.n_embd = 96;
  config.n_layer = 3;
  config.n_head = 3;
  config.n_inner = 160;
  config.initializer_range = 0.3f;
  return config;
}

constexpr int kRows = 3, kTokens = 24;

Ids some_ids() {
  Ids ids;
  for (unsigned i = 0; i < kRows * kTokens; ++i) {
    ids.push_back(static_cast<std::int32_t>(random_bits({.seed = 3, .stream = 1}, i) % 61));
  }
  return ids;
}

Ids row_of(const Ids& ids, int row) {
  return {ids.begin() + row * kTokens, ids.begin() + (row + 1) * kTokens};
}

/// [rows, kTokens, V]
std::vector<float> logits_of(Device& device, const Parameters& parameters, const Ids& ids) {
  Gpt2 gpt2(device, config_of_blocks(), parameters);
  return gpt2.logits(
      {.batch = static_cast<int>(ids.size()) / kTokens, .length = kTokens, .ids = ids});
}

Parameters packed(Device& device, Quantisation to) {
  const Gpt2Config config = config_of_blocks();
  return quantised(device, config, initialize_parameters(device, config, 1), to);
}

constexpr Quantisation kBoth[] = {Quantisation::int8, Quantisation::int4};

/// What rounding the inputs of products may do to logits. Each of 4·L + 1 products rounds an input to
/// a 32767th of the largest in its block, which a layernorm then passes on in proportion; those of a
/// model with random weights add up as random errors do, so their number bounds it with much to spare.
double rounding_of(std::span<const float> logits) {
  return (4 * 3 + 1) * std::ldexp(1.0, -15) * largest_magnitude(logits);
}

}  // namespace

TEST_CASE("in blocks, a row of a batch has the bits of the row alone, on any number of threads") {
  const Ids ids = some_ids();
  for (const Quantisation to : kBoth) {
    INFO(name_of(to));
    const auto device = open_test_device("cpu", 1);
    const Parameters parameters = packed(*device, to);
    const std::vector<float> all = logits_of(*device, parameters, ids);
    for (const int threads : {2, 3}) {
      const auto other = open_test_device("cpu", threads);
      CHECK((logits_of(*other, packed(*other, to), ids) == all));
    }
    for (int row = 0; row < kRows; ++row) {
      const std::vector<float> alone = logits_of(*device, parameters, row_of(ids, row));
      const auto first = all.begin() + row * std::ssize(alone);
      CHECK((std::vector<float>(first, first + std::ssize(alone)) == alone));
    }
  }
}

TEST_CASE(
    "in blocks, the cached decoder has the logits of the full forward pass, however it is fed") {
  const Gpt2Config config = config_of_blocks();
  const Ids ids = row_of(some_ids(), 0);
  for (const std::string& name : {std::string("cpu"), std::string("reference")}) {
    const auto device = open_test_device(name);
    for (const Quantisation to : kBoth) {
      const Parameters parameters = packed(*device, to);
      const std::vector<float> all = logits_of(*device, parameters, ids);
      for (const std::vector<int>& pieces :
           std::vector<std::vector<int>>{{24}, {1, 23}, {9, 1, 1, 5, 8}, std::vector<int>(24, 1)}) {
        INFO(name << ", " << name_of(to) << ", " << pieces.size() << " pieces");
        Gpt2Decoder decoder(*device, config, parameters, 1, kTokens, kTokens);
        int fed = 0;
        for (const int piece : pieces) {
          const auto part = std::span<const std::int32_t>(ids).subspan(
              static_cast<std::size_t>(fed), static_cast<std::size_t>(piece));
          const std::vector<float> got = to_host(*device, decoder.forward(1, part));
          fed += piece;
          const auto first = all.begin() + std::ptrdiff_t{fed - 1} * config.vocab_size;
          compare_rows(fed == piece, "logits", got,
                       std::vector<float>(first, first + config.vocab_size), rounding_of(all));
        }
      }
    }
  }
}

TEST_CASE("a model in blocks is the model of the floats that the blocks stand for") {
  const Gpt2Config config = config_of_blocks();
  const Ids ids = some_ids();
  const auto device = open_test_device("cpu");
  const auto reference = open_test_device("reference");
  for (const Quantisation to : kBoth) {
    INFO(name_of(to));
    const Parameters blocks = packed(*device, to);
    const Parameters floats = initialize_parameters(*reference, config, 1);
    const auto put = [&](std::size_t i, const std::vector<float>& values) {
      upload(*reference, values, floats.tensors()[i]);
    };
    put(0, values_of(blocks.table()));
    for (int layer = 0; layer < config.n_layer; ++layer) {
      for (const Role product : kProducts) {
        const Weight w = blocks.matrix(layer, product);
        put(weight_index(layer, product), turned(values_of(w), w.in()));
      }
    }
    const std::vector<float> want = logits_of(*reference, floats, ids);
    check_close("logits", logits_of(*device, blocks, ids), want, rounding_of(want));
    check_close("reference", logits_of(*reference, packed(*reference, to), ids), want,
                64 * kEps * largest_magnitude(want));
  }
}
