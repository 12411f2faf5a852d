#include "engine/model/vocabulary.h"

#include <cmath>

#include "kernels/reference/reference_device.h"
#include "tests/support/catch.h"

using namespace quire;

TEST_CASE("new rows lie around the mean of the old ones, with 1e-9 of their covariance") {
  ReferenceDevice device;
  Gpt2Config config = {.vocab_size = 40, .n_positions = 4, .n_embd = 4, .n_layer = 1, .n_head = 1};
  config.tie_word_embeddings = false;
  config.initializer_range = 1.0f;
  config.eos_token_id = config.bos_token_id = 0;
  const Parameters old = initialize_parameters(device, config, 1);
  constexpr int kNew = 4000;
  Gpt2Config more = config;
  more.vocab_size += kNew;
  const Parameters grown = grow_vocabulary(device, more, old, 2);
  const Parameters again = grow_vocabulary(device, more, old, 2);
  const Parameters other = grow_vocabulary(device, more, old, 3);
  CHECK(grown.wte().data<float>()[40 * 4] == again.wte().data<float>()[40 * 4]);
  CHECK(grown.wte().data<float>()[40 * 4] != other.wte().data<float>()[40 * 4]);
  for (std::size_t i = 0; i < old.tensors().size(); ++i) {
    const View from = old.tensors()[i], to = grown.tensors()[i];
    CHECK(std::equal(from.data<float>(), from.data<float>() + from.count(), to.data<float>()));
  }
  for (const auto& [from, to] :
       {std::pair(old.wte(), grown.wte()), {old.head().view(), grown.head().view()}}) {
    for (int a = 0; a < 4; ++a) {
      for (int b = a; b < 4; ++b) {
        double mean_a = 0, mean_b = 0, covariance = 0, drawn = 0, scale_a = 0, scale_b = 0;
        for (int i = 0; i < 40; ++i) {
          mean_a += double{from.data<float>()[i * 4 + a]} / 40;
          mean_b += double{from.data<float>()[i * 4 + b]} / 40;
        }
        for (int i = 0; i < 40; ++i) {
          const double x = from.data<float>()[i * 4 + a] - mean_a,
                       y = from.data<float>()[i * 4 + b] - mean_b;
          covariance += x * y / 40;
          scale_a += x * x / 40;
          scale_b += y * y / 40;
        }
        for (int i = 40; i < 40 + kNew; ++i) {
          drawn += (to.data<float>()[i * 4 + a] - mean_a) * (to.data<float>()[i * 4 + b] - mean_b);
        }
        // A mean of kNew products of standard deviation at most sqrt(2)·scale: 5 of them. And the
        // rounding of a row to floats near its mean, a ten-thousandth of the spread of 3e-5.
        const double scale = 1e-9 * std::sqrt(scale_a * scale_b);
        CHECK(std::abs(drawn / kNew - 1e-9 * covariance) <=
              5 * std::sqrt(2.0 / kNew) * scale + 1e-2 * scale);
      }
    }
  }
}
