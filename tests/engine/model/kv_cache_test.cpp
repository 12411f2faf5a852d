// The cached decoder against the full forward pass, and rows of a batch against rows alone.
#include "engine/model/kv_cache.h"
#include "base/json.h"

#include "tests/engine/model/model_case.h"
#ifndef QUIRE_TEST_ON_GPU
#include "tests/cuda_on_host/runtime.h"
#endif

using namespace quire;
using namespace quire::test;

namespace {

using Ids = std::vector<std::int32_t>;

Gpt2Config odd_scaled_config() {
  Gpt2Config config;
  config.vocab_size = 61;
  config.n_positions = 32;
  config.n_embd = 21;
  config.n_layer = 3;
  config.n_head = 3;
  config.n_inner = 50;
  config.initializer_range = 0.3f;
  config.scale_attn_by_inverse_layer_idx = true;
  return config;
}

Ids random_ids(int count, int vocabulary, std::uint64_t stream) {
  Ids ids;
  for (int i = 0; i < count; ++i) {
    const std::uint32_t bits = random_bits({.seed = 3, .stream = stream}, static_cast<unsigned>(i));
    ids.push_back(static_cast<std::int32_t>(bits % static_cast<std::uint32_t>(vocabulary)));
  }
  return ids;
}

/// Logits of row `row` of what the decoder returned.
std::vector<float> row_of(Device& device, View logits, int row) {
  return to_host(device, logits.rows(row, 1));
}

/// The row alone: its prompt at once, then one token after the other; logits after each call.
std::vector<std::vector<float>> decode_alone(Device& device, const Gpt2Config& config,
                                             const Parameters& parameters, const Ids& prompt,
                                             const Ids& more) {
  const int slots = static_cast<int>(prompt.size() + more.size());
  Gpt2Decoder decoder(device, config, parameters, 1, slots, static_cast<int>(prompt.size()));
  std::vector<std::vector<float>> all = {row_of(device, decoder.forward(1, prompt), 0)};
  for (const std::int32_t id : more) {
    all.push_back(row_of(device, decoder.forward(1, Ids{id}), 0));
  }
  return all;
}

}  // namespace

TEST_CASE("the cached decoder has the logits of the full forward pass, however it is fed") {
  const Gpt2Config config = odd_scaled_config();
  const int T = 20;
  const Ids ids = random_ids(T, config.vocab_size, 1);
  for (const std::string& name : kDevices) {
    INFO(name);
    const auto device = open_test_device(name);
    const Parameters parameters = initialize_parameters(*device, config, 1);
    Gpt2 gpt2(*device, config, parameters);
    const std::vector<float> logits = gpt2.logits({.batch = 1, .length = T, .ids = ids});  // [T, V]
    const auto want = [&](int t) {
      const auto first = logits.begin() + t * config.vocab_size;
      return std::vector<float>(first, first + config.vocab_size);
    };
    for (const std::vector<int>& pieces : std::vector<std::vector<int>>{
             {20}, {1, 19}, {2, 18}, {7, 1, 1, 5, 6}, std::vector<int>(20, 1)}) {
      Gpt2Decoder decoder(*device, config, parameters, 2, T, T);
      int fed = 0;
      for (const int piece : pieces) {
        const auto part = std::span<const std::int32_t>(ids).subspan(
            static_cast<std::size_t>(fed), static_cast<std::size_t>(piece));
        const View got = decoder.forward(1, part);
        fed += piece;
        CHECK(decoder.length(0) == fed);
        // The whole prompt at once is the same arithmetic, where the number of rows does not change
        // the order of a product's sums. Against keys from the cache, sums may
        // run in another order: a few roundings, seen through the logits (largest: about 10).
        compare_rows(device->rows_alone() && fed == piece, "logits", row_of(*device, got, 0),
                     want(fed - 1), 64 * kEps * largest_magnitude(logits));
      }
    }
  }
}

TEST_CASE("a row equals the same prompt alone in any company, bit for bit where rows are alone") {
  const Gpt2Config config = odd_scaled_config();
  const std::vector<int> lengths = {5, 17, 1, 5, 16, 9};
  constexpr int kSteps = 8, kRows = 4;
  std::vector<Ids> prompts, more;
  for (std::size_t i = 0; i < lengths.size(); ++i) {
    prompts.push_back(random_ids(lengths[i], config.vocab_size, i + 10));
    more.push_back(random_ids(kSteps, config.vocab_size, i + 20));
  }
  for (const std::string& name : kDevices) {
    const auto device = open_test_device(name);
    const Parameters parameters = initialize_parameters(*device, config, 1);
    std::vector<std::vector<std::vector<float>>> alone;
    for (std::size_t i = 0; i < prompts.size(); ++i) {
      alone.push_back(decode_alone(*device, config, parameters, prompts[i], more[i]));
    }
    // Sequence i comes at step i and stays for i / 2 + 2 steps, so rows of the cache are taken by
    // the next, and prompts are read beside rows that go on, before and behind them.
    Gpt2Decoder decoder(*device, config, parameters, kRows, 17 + kSteps + 3, 17);
    for (const bool backwards : {false, true}) {
      decoder.reset();
      for (int step = 0; step < 12; ++step) {
        std::vector<DecoderRow> rows;
        std::vector<std::pair<std::size_t, std::size_t>> what;  // sequence and its own step
        for (std::size_t i = 0; i < prompts.size(); ++i) {
          const int own = step - static_cast<int>(i);
          if (own < 0 || own > static_cast<int>(i) / 2 + 1) continue;
          const auto n = static_cast<std::size_t>(own);
          const int row = static_cast<int>(i) * 3 % kRows;
          if (n == 0) decoder.clear_row(row);
          rows.push_back({row, n == 0 ? std::span<const std::int32_t>(prompts[i])
                                      : std::span(more[i]).subspan(n - 1, 1)});
          what.emplace_back(i, n);
        }
        if (rows.empty()) continue;
        if (backwards) {
          std::reverse(rows.begin(), rows.end());
          std::reverse(what.begin(), what.end());
        }
        const View logits = decoder.forward(rows);
        for (std::size_t b = 0; b < rows.size(); ++b) {
          const auto [i, n] = what[b];
          INFO(name << ", sequence " << i << ", its step " << n << ", row " << rows[b].row);
          CHECK(decoder.length(rows[b].row) == lengths[i] + static_cast<int>(n));
          compare_rows(device->rows_alone(), "logits", row_of(*device, logits, static_cast<int>(b)),
                       alone[i][n], 64 * kEps * largest_magnitude(alone[i][n]));
        }
      }
    }
  }
}

TEST_CASE("a row that copies another one is its twin, in the call of the prompt or later") {
  const Gpt2Config config = odd_scaled_config();
  const std::vector<Ids> prompts = {random_ids(5, 61, 1), random_ids(3, 61, 2)};
  for (const std::string& name : kDevices) {
    INFO(name);
    const auto device = open_test_device(name);
    const Parameters parameters = initialize_parameters(*device, config, 5);
    const auto check = [&](View logits, int row, const Ids& prompt, const Ids& more) {
      const auto want = decode_alone(*device, config, parameters, prompt, more).back();
      compare_rows(device->rows_alone(), "logits", row_of(*device, logits, row), want,
                   64 * kEps * largest_magnitude(want));
    };
    Gpt2Decoder decoder(*device, config, parameters, 5, 12, 5);
    View logits = decoder.forward(
        std::vector<DecoderRow>{{4, prompts[0]}, {0, {}}, {2, {}}, {1, prompts[1]}, {3, {}}});
    for (int b = 0; b < 5; ++b) check(logits, b, prompts[b < 3 ? 0 : 1], {});
    logits = decoder.forward(5, Ids{7, 8, 9, 10, 11});
    check(logits, 0, prompts[0], {7});
    check(logits, 1, prompts[1], {8});
    check(logits, 2, prompts[0], {9});
    check(logits, 3, prompts[1], {10});
    check(logits, 4, prompts[0], {11});
    decoder.copy_row(1, 2);
    CHECK(decoder.length(1) == 6);
    const Ids next = {12, 13};
    logits = decoder.forward(
        std::vector<DecoderRow>{{2, std::span(next).first(1)}, {1, std::span(next).last(1)}});
    check(logits, 0, prompts[0], {9, 12});
    check(logits, 1, prompts[0], {9, 13});
  }
}

TEST_CASE("rows that share a long past go on from it, each as if alone, and leave it as it is") {
  Gpt2Config config = odd_scaled_config();
  config.n_positions = 2 * kCacheBlock + 10;
  struct Row {
    Ids prompt, more;
  };
  for (const std::string& name : kDevices) {
    INFO(name);
    const auto device = open_test_device(name);
    const Parameters parameters = initialize_parameters(*device, config, 5);
    Gpt2Decoder decoder(*device, config, parameters, 3, config.n_positions, 2 * kCacheBlock + 2);
    std::vector<Row> rows(3);
    std::int32_t next = 0;
    // Begins a row anew, or lets it go on.
    const auto write = [&](std::vector<int> numbers, int new_prompt = 0) {
      std::vector<Ids> ids;
      std::vector<DecoderRow> inputs;
      ids.reserve(numbers.size());
      for (const int number : numbers) {
        Row& row = rows[static_cast<std::size_t>(number)];
        if (new_prompt > 0 && number == numbers.back()) {
          row = {random_ids(new_prompt, config.vocab_size, 30 + static_cast<unsigned>(number)), {}};
          decoder.clear_row(number);
          ids.push_back(row.prompt);
        } else {
          row.more.push_back(next = (next + 7) % config.vocab_size);
          ids.push_back({next});
        }
        inputs.push_back({number, ids.back()});
      }
      const View logits = decoder.forward(inputs);
      for (std::size_t b = 0; b < numbers.size(); ++b) {
        const Row& row = rows[static_cast<std::size_t>(numbers[b])];
        const auto want = decode_alone(*device, config, parameters, row.prompt, row.more).back();
        INFO("row " << numbers[b] << " after " << row.prompt.size() << " + " << row.more.size());
        compare_rows(device->rows_alone(), "logits", row_of(*device, logits, static_cast<int>(b)),
                     want, 64 * kEps * largest_magnitude(want));
      }
    };
    const auto copy = [&](int to, int from) {
      decoder.copy_row(to, from);
      rows[static_cast<std::size_t>(to)] = rows[static_cast<std::size_t>(from)];
    };
    write({1}, kCacheBlock - 1);
    copy(0, 1);
    write({0, 1});  // fills a block of each
    copy(2, 1);     // which are shared from now on
    write({2, 0, 1});
    write({2, 1, 0}, 2 * kCacheBlock + 2);  // takes blocks between theirs
    copy(1, 0);
    write({0, 2, 1});
    copy(2, 1);
    write({2, 1, 0});
    write({2, 1}, 5);
    write({0, 2});
  }
}

TEST_CASE("the decoder writes what transformers writes") {
  for (const std::string& name : kDevices) {
    for (const std::string& model : kSmallModels) {
      ModelCase c = small_case(model, name);
      std::string line;
      std::istringstream lines(read_file(c.folder / "generation.jsonl"));
      while (std::getline(lines, line)) {
        const auto generation = parse_json<nlohmann::json>(line);
        if (generation["name"].get<std::string>().rfind("greedy", 0) != 0) continue;
        INFO(name << ", " << model << ", " << line);
        const Ids prompt = generation["prompt_ids"][0];
        const Ids want = generation["output_ids"][0];
        Gpt2Decoder decoder(*c.device, c.model.config, c.model.parameters, 1,
                            static_cast<int>(want.size()), static_cast<int>(prompt.size()));
        Ids written = prompt;
        View logits = decoder.forward(1, prompt);
        while (true) {
          const std::vector<float> scores = row_of(*c.device, logits, 0);
          const auto best = std::max_element(scores.begin(), scores.end()) - scores.begin();
          written.push_back(static_cast<std::int32_t>(best));
          if (written.size() == want.size()) break;
          logits = decoder.forward(1, Ids{written.back()});
        }
        CHECK(written == want);
      }
    }
  }
}

TEST_CASE("a sequence beyond context or cache is refused before anything is written") {
  const Gpt2Config config = odd_scaled_config();
  const auto device = open_test_device(kDevices.back());
  const Parameters parameters = initialize_parameters(*device, config, 1);
  const Ids ids = random_ids(40, config.vocab_size, 1);
  const auto first = [&](std::size_t count) {
    return std::span<const std::int32_t>(ids).subspan(0, count);
  };
  Gpt2Decoder decoder(*device, config, parameters, 2, 36, 36);
  try {
    decoder.forward(1, first(33));
    FAIL("no exception");
  } catch (const Error& error) {
    CHECK(error.fault() == Fault::usage);
    CHECK(error.message().find("33 tokens") != std::string::npos);
    CHECK(error.message().find("32") != std::string::npos);
  }
  CHECK(decoder.length(0) == 0);
  decoder.forward(1, first(32));
  CHECK_THROWS_AS(decoder.forward(1, first(1)), Error);
  CHECK(decoder.length(0) == 32);

  decoder.clear_row(0);
  CHECK_THROWS_AS(decoder.forward(3, first(3)), Error);
  CHECK_THROWS_AS(decoder.forward(2, first(3)), Error);
  CHECK_THROWS_AS(decoder.forward(1, first(0)), Error);
  CHECK_THROWS_AS(decoder.forward(1, Ids{61}), Error);
  const auto call = [&](const std::vector<DecoderRow>& rows) { decoder.forward(rows); };
  CHECK_THROWS_AS(call({{0, first(1)}, {0, first(1)}}), Error);
  CHECK_THROWS_AS(call({{-1, first(1)}}), Error);
  CHECK_THROWS_AS(call({{0, {}}, {1, first(1)}}), Error);
  CHECK(decoder.length(0) + decoder.length(1) == 0);
}

TEST_CASE("a recorded step in 16 bits, which reads early, has the bits of one that waits") {
  Gpt2Config config = odd_scaled_config();
  config.n_positions = 96;
  config.n_embd = 64;
  config.n_head = 2;
  config.n_inner = 128;
  const Ids prompt = random_ids(60, config.vocab_size, 1);
  const Ids more = random_ids(8, config.vocab_size, 2);  // past a chunk of 64 slots
  const auto decoded = [&](bool on_trial) {
    const auto device = open_cuda_device(0, {.on_trial = on_trial});
    const Parameters masters = initialize_parameters(*device, config, 5);
    const Parameters narrow = Parameters::with_matrices(*device, config, masters, DType::bf16);
    for (std::size_t i = 0; i < narrow.tensors().size(); ++i) {
      const View to = narrow.tensors()[i], from = masters.tensors()[i];
      if (!to) continue;
      std::vector<BFloat16> values;
      for (const float value : to_host(*device, from)) values.push_back(to_bfloat16(value));
      device->copy_to_device(to.bytes(), values.data(), to.size_bytes());
      device->synchronize();
    }
    return decode_alone(*device, config, narrow, prompt, more);
  };
  CHECK(decoded(true) == decoded(false));
}

#ifndef QUIRE_TEST_ON_GPU
TEST_CASE("a decode step on CUDA is five kernels a layer and four around them, replayed as well") {
  Gpt2Config config = odd_scaled_config();
  config.n_embd = 32;
  config.n_head = 2;
  config.n_inner = 64;
  const auto device = open_cuda_device(0);
  const Parameters parameters = initialize_parameters(*device, config, 5);
  Gpt2Decoder decoder(*device, config, parameters, 1, 9, 4);
  std::int64_t& countdown = cuda_on_host::machine().fail_launch;  // of kernels that run
  constexpr std::int64_t kMany = 1'000'000;
  const auto kernels = [&](const Ids& ids) {
    countdown = kMany;
    decoder.forward(1, ids);
    device->synchronize();
    return kMany - countdown;
  };
  kernels({1, 2, 3, 4});
  const int of_step = 5 * config.n_layer + 4;
  CHECK(kernels({5}) == 4 * config.n_layer + of_step);  // the first one transposes the matrices
  for (int step = 0; step < 4; ++step) CHECK(kernels({5}) == of_step);
  countdown = 0;
}

TEST_CASE("steps have the same bits where no memory is left for transposed weights") {
  Gpt2Config config = odd_scaled_config();
  config.n_embd = 40;
  config.n_head = 2;
  config.n_inner = 72;
  const auto device = open_cuda_device(0, {.on_trial = true});
  const Parameters parameters = initialize_parameters(*device, config, 5);
  std::size_t& memory = cuda_on_host::machine().memory;
  const std::size_t all = memory;
  const auto decoded = [&](std::size_t left) {
    Gpt2Decoder decoder(*device, config, parameters, 3, 9, 2);
    const DeviceMemory before = device->memory().value();
    memory = std::min(all, before.total - before.free + left);
    std::vector<std::vector<float>> logits;
    for (const Ids& ids : {Ids{1, 2, 3, 4, 5, 6}, {7, 8, 9}, {1, 2, 3}}) {
      logits.push_back(to_host(*device, decoder.forward(3, ids)));
    }
    const std::size_t taken = before.free - device->memory()->free - (all - memory);
    memory = all;
    return std::pair{logits, taken};
  };
  decoded(all);  // scratch grows
  std::size_t matrices = 0;
  for (int l = 0; l < config.n_layer; ++l) {
    const auto& p = parameters.layer(l);
    for (const Role product : kProducts) matrices += p[product].weight.size_bytes();
  }
  const auto [with, taken] = decoded(2 * matrices + 4096);
  const auto [without, nothing] = decoded(2 * matrices - 4096);
  CHECK(taken >= matrices);
  CHECK(nothing == 0);
  CHECK(with == without);
}
#endif

TEST_CASE("the cache takes what its plan says") {
  const Gpt2Config config = Gpt2Config::preset("gpt2").value();
  // 2 · L · B · S · C floats, and a workspace that is small beside it at one token a call.
  const std::size_t caches = 2ull * 12 * 8 * 1024 * 768 * sizeof(float);
  const std::size_t bytes = Gpt2Decoder::bytes(config, 8, 1024, 1);
  CHECK(bytes >= caches);
  CHECK(bytes < caches + caches / 50);
}
