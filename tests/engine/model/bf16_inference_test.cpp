// Scoring and decoding with matrices in bfloat16: which products round their operands, and that a
// token's logits do not depend on what it is computed with.
#include "engine/model/gpt2.h"
#include "engine/model/kv_cache.h"
#include "kernels/open_device.h"
#include "kernels/reference/reference_device.h"
#include "tests/engine/model/model_case.h"
#include "tests/support/bf16.h"

using namespace quire;
using namespace quire::test;

namespace {

using Ids = std::vector<std::int32_t>;

/// Wide enough for every way in which the CPU multiplies: K beyond a part of a sum and not a multiple
/// of one, N no multiple of a vector.
Gpt2Config model_config() {
  Gpt2Config config;
  config.vocab_size = 77;
  config.n_positions = 32;
  config.n_embd = 70;
  config.n_layer = 2;
  config.n_head = 7;
  config.n_inner = 450;
  config.initializer_range = 0.2f;
  return config;
}

Ids ids_of(int count, std::uint64_t stream) {
  Ids ids;
  for (int i = 0; i < count; ++i) {
    const std::uint32_t bits = random_bits({.seed = 3, .stream = stream}, static_cast<unsigned>(i));
    ids.push_back(static_cast<std::int32_t>(bits % 77));
  }
  return ids;
}

Parameters narrow(Device& device, const Gpt2Config& config, const Parameters& masters) {
  Parameters to = Parameters::with_matrices(device, config, masters, DType::bf16);
  for (std::size_t i = 0; i < to.tensors().size(); ++i) {
    const View target = to.tensors()[i];
    if (!target) continue;
    std::vector<BFloat16> values;
    for (const float value : to_host(device, masters.tensors()[i])) {
      values.push_back(to_bfloat16(value));
    }
    device.copy_to_device(target.bytes(), values.data(), target.size_bytes());
    device.synchronize();
  }
  return to;
}

/// Counts products by what they multiply. Cannot round where it has a reason.
class CountingDevice : public ReferenceDevice {
 public:
  explicit CountingDevice(std::string reason) : reason_(std::move(reason)) {}
  int rounded = 0, as_stored = 0;

  std::string why_not_in_bf16() const override { return reason_; }
  void do_matmul_forward(const MatmulForward& p) override {
    ++(p.multiply == Multiply::in_bf16 ? rounded : as_stored);
    ReferenceDevice::do_matmul_forward(p);
  }

 private:
  std::string reason_;
};

void run_both(Device& device, const Gpt2Config& config, const Parameters& parameters) {
  const Ids ids = ids_of(6, 1);
  Gpt2(device, config, parameters).logits({.batch = 1, .length = 6, .ids = ids});
  Gpt2Decoder decoder(device, config, parameters, 1, 7, 6);
  decoder.forward(1, ids);
  decoder.forward(1, Ids{4});
}

}  // namespace

TEST_CASE("all products with bfloat16 matrices are in it, where the device can, and no others") {
  const Gpt2Config config = model_config();
  const int products = 3 * (4 * config.n_layer + 1);
  for (const char* reason : {"", "it is wide"}) {
    INFO("a reason not to: '" << reason << "'");
    CountingDevice device(reason);
    const Parameters masters = initialize_parameters(device, config, 5);
    const Parameters matrices = narrow(device, config, masters);
    run_both(device, config, matrices);
    CHECK(device.rounded == (*reason == '\0' ? products : 0));
    CHECK(device.rounded + device.as_stored == products);

    device.rounded = device.as_stored = 0;
    run_both(device, config, masters);
    CHECK(device.rounded == 0);
    CHECK(device.as_stored == products);

    std::vector<ConstView> mixed = matrices.weights();  // one matrix is float
    mixed[weight_index(1, Role::c_fc)] = masters.weights()[weight_index(1, Role::c_fc)];
    device.rounded = device.as_stored = 0;
    run_both(device, config, Parameters(config, mixed, nullptr));
    CHECK(device.rounded == 0);
    CHECK(device.as_stored == products);
  }
}

TEST_CASE("with bfloat16 matrices, too, a token's logits do not depend on its batch or prompt") {
  const Gpt2Config config = model_config();
  for (const int threads : {1, 3}) {
    const auto device = open_device("cpu", {.threads = threads});
    const Parameters masters = initialize_parameters(*device, config, 5);
    const Parameters parameters = narrow(*device, config, masters);
    constexpr int kRows = 20, kLength = 9;
    const Ids ids = ids_of(kRows * kLength, 2);
    const std::vector<float> want =
        Gpt2(*device, config, parameters).logits({.batch = kRows, .length = kLength, .ids = ids});
    const auto check = [&](int row, int token, const std::vector<float>& got) {
      const auto first = want.begin() + (row * kLength + token) * config.vocab_size;
      compare_bits(join("row", row, "token", token, "threads", threads), got,
                   std::vector<float>(first, first + config.vocab_size));
    };
    // So many rows at once, the last tokens of each one after the other.
    for (const int rows : {1, 2, 8, 9, 20}) {
      Gpt2Decoder decoder(*device, config, parameters, rows, kLength, kLength);
      for (int token = kLength - 3; token < kLength; ++token) {
        Ids next;
        for (int r = 0; r < rows; ++r) {
          const auto row = ids.begin() + r * kLength;
          next.insert(next.end(), row + (token == kLength - 3 ? 0 : token), row + token + 1);
        }
        const View logits = decoder.forward(rows, next);
        for (int r = 0; r < rows; ++r) check(r, token, to_host(*device, logits.rows(r, 1)));
      }
    }
  }
}

TEST_CASE(
    "the CPU's logits with bfloat16 matrices are near the reference's, which rounds as well") {
  const Gpt2Config config = model_config();
  const auto cpu = open_device("cpu");
  QUIRE_NEEDS_BF16(*cpu);
  ReferenceDevice reference;
  const Ids ids = ids_of(2 * 16, 4);
  const TokenBatch batch{.batch = 2, .length = 16, .ids = ids};
  const auto logits_on = [&](Device& device) {
    const Parameters masters = initialize_parameters(device, config, 5);
    return Gpt2(device, config, narrow(device, config, masters)).logits(batch);
  };
  const std::vector<float> want = logits_on(reference);
  const std::vector<float> got = logits_on(*cpu);
  // Sums of different orders may round an operand to the one neighbour or the other, 2^-8 of it
  // apart; each of the products on the way to a logit may do so.
  const double bound = (4 * config.n_layer + 1) * 0x1p-8 * largest_magnitude(want);
  compare("logits", got, std::vector<double>(want.begin(), want.end()),
          [&](std::size_t) { return bound; });
}
