// Blocks of integers: against ggml's reference written down once more, the real package where it is
// there, and the fixture that it made.
#include "engine/formats/quantised.h"

#include <zlib.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>

#include "base/file.h"
#include "engine/formats/gguf.h"
#include "tests/engine/formats/tiny_char.h"
#include "tests/support/python.h"
#include "tests/support/scratch.h"

namespace quire::test {
namespace {

/// Rows of 32: zeros, one huge, ties of the largest, halves between integers, subnormal ones, the
/// largest negative, and random ones of many sizes.
std::vector<float> rows() {
  std::vector<float> values(32, 0.0f);
  const auto add = [&](auto make) {
    for (int i = 0; i < 32; ++i) values.push_back(make(i));
  };
  add([](int i) { return i == 7 ? 6.0e4f : 1e-3f * static_cast<float>(i); });
  add([](int i) { return i % 2 == 0 ? 1.0f : -1.0f; });
  add([](int i) { return i % 2 == 0 ? -1.0f : 1.0f; });
  add([](int i) { return i == 0 ? 127.0f : static_cast<float>(i) - 15.5f; });
  add([](int i) { return i == 0 ? -8.0f : 0.5f * static_cast<float>(i - 16); });
  add([](int i) { return 1e-41f * static_cast<float>(i); });
  add([](int i) { return -0.25f * static_cast<float>(i); });
  std::mt19937 random(7);
  for (int row = 0; row < 2000; ++row) {
    std::normal_distribution<float> normal(0.0f, std::exp2(static_cast<float>(row % 40) - 30.0f));
    add([&](int) { return normal(random); });
  }
  return values;
}

std::string quantised(std::string_view type, std::span<const float> values, std::size_t bytes) {
  std::string text(values.size() / 32 * bytes, '\0');
  CHECK_FALSE(quantise(type, values, reinterpret_cast<std::byte*>(text.data())));
  return text;
}

void put_half(std::string& to, float value) {
  const Half half = to_half(value);
  to.append(reinterpret_cast<const char*>(&half), sizeof half);
}

std::string plain_q8_0(std::span<const float> values) {
  std::string text;
  for (std::size_t at = 0; at < values.size(); at += 32) {
    float largest = 0.0f;
    for (const float value : values.subspan(at, 32)) largest = std::fmax(largest, std::fabs(value));
    const float d = largest / 127.0f, inverse = d > 1e-38f ? 1.0f / d : 0.0f;
    put_half(text, d);
    for (const float value : values.subspan(at, 32)) {
      text += static_cast<char>(static_cast<std::int8_t>(std::round(value * inverse)));
    }
  }
  return text;
}

std::string plain_q4_0(std::span<const float> values) {
  std::string text;
  for (std::size_t at = 0; at < values.size(); at += 32) {
    float largest = 0.0f;
    for (const float value : values.subspan(at, 32)) {
      if (std::fabs(value) > std::fabs(largest)) largest = value;
    }
    const float d = largest / -8.0f, inverse = std::fabs(d) > 1e-38f ? 1.0f / d : 0.0f;
    put_half(text, d);
    const auto nibble = [&](std::size_t i) {
      const float sum = std::fma(values[at + i], inverse, 8.5f);
      return std::min(15, static_cast<int>(sum));
    };
    for (std::size_t i = 0; i < 16; ++i) {
      text += static_cast<char>(nibble(i) | nibble(i + 16) << 4);
    }
  }
  return text;
}

}  // namespace

TEST_CASE("Q8_0 and Q4_0 are ggml's reference, bit for bit") {
  const std::vector<float> values = rows();
  CHECK((quantised("Q8_0", values, 34) == plain_q8_0(values)));
  CHECK((quantised("Q4_0", values, 18) == plain_q4_0(values)));
}

TEST_CASE("Q8_0 and Q4_0 are what the gguf package makes") {
  const std::string python = python_with({"gguf", "numpy"});
  if (python.empty()) {
    QUIRE_SKIP("no Python with gguf (set QUIRE_PYTHON)");
  }
  // Subnormal factors aside: there the package divides by zero.
  std::vector<float> values = rows();
  values.erase(values.begin() + 6 * 32, values.begin() + 7 * 32);
  const ScratchFolder folder;
  const auto from = folder.write(
      "from", {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)});
  const auto [text, well] =
      output_of("'" + python +
                "' -c '\nimport sys, numpy, gguf\nfrom gguf.quants import quantize\n"
                "x = numpy.fromfile(sys.argv[1], numpy.float32).reshape(-1, 32)\n"
                "for t in (gguf.GGMLQuantizationType.Q8_0, gguf.GGMLQuantizationType.Q4_0):\n"
                "  quantize(x, t).tofile(sys.argv[1] + t.name)\n' '" +
                from.string() + "'");
  REQUIRE(well);
  CHECK((quantised("Q8_0", values, 34) == read_file(folder / "fromQ8_0")));
  CHECK((quantised("Q4_0", values, 18) == read_file(folder / "fromQ4_0")));
}

TEST_CASE("what is quantised and read again is what the fixture's maker made") {
  QUIRE_FIXTURE(q8_0, "models/tiny-char-gguf/tiny-char-q8_0.gguf");
  const auto exact = tiny_char();
  const Gguf file(q8_0);
  const FileTensor& table = *file.find("wte.weight");
  CHECK((quantised("Q8_0", exact.at("wte.weight"), 34) ==
         std::string(reinterpret_cast<const char*>(table.bytes.data()), table.bytes.size())));
}

TEST_CASE("Q4_K is what ggml's quantize_row_q4_K_ref() makes") {
  std::vector<float> values(std::size_t{256} * 256);
  for (std::uint32_t i = 0; i < values.size(); ++i) {
    const std::uint32_t bits = (i * 2654435761u) >> 8;  // all steps are exact
    values[i] = (static_cast<float>(bits) * 0x1p-24f - 0.375f) *
                std::exp2(static_cast<float>(i / 32 % 12) - 8.0f);
  }
  std::vector<std::byte> blocks(std::size_t{256} * 144);
  REQUIRE_FALSE(quantise("Q4_K", values, blocks.data()));
  CHECK(::crc32_z(0, reinterpret_cast<const Bytef*>(blocks.data()), blocks.size()) ==
        0xde63577cu);  // of what libggml-base.so 0.25.3 made of them
}

TEST_CASE("Q4_K is within the steps of its parts") {
  std::vector<float> values = rows();
  values.resize(values.size() / 256 * 256);
  std::vector<std::byte> blocks(values.size() / 256 * 144);
  CHECK_FALSE(quantise("Q4_K", values, blocks.data()));
  std::vector<float> back(values.size());
  dequantise("Q4_K", blocks.data(), back);
  for (std::size_t at = 0; at < values.size(); at += 256) {
    // 15 steps of a part reach over its values and zero; a step is within 1/126 of the largest
    // step of the block and a float16's rounding, what is subtracted as well; and least squares
    // may move an end of the row by a step to bring the others nearer.
    float widest = 0.0f, deepest = 0.0f;
    for (std::size_t part = at; part < at + 256; part += 32) {
      const auto [low, high] =
          std::minmax_element(values.begin() + static_cast<std::ptrdiff_t>(part),
                              values.begin() + static_cast<std::ptrdiff_t>(part + 32));
      const float bottom = std::min(*low, 0.0f);
      widest = std::max(widest, *high - bottom);
      deepest = std::max(deepest, -bottom);
    }
    const float rounding = 0x1p-11f + 1.0f / 126.0f;
    const float bound =
        widest / 15.0f * 1.5f + rounding * (widest * 16.0f / 14.0f + deepest) + 0x1p-24f * 15 * 63;
    for (std::size_t i = at; i < at + 256; ++i) REQUIRE(std::abs(back[i] - values[i]) <= bound);
  }
}

TEST_CASE("Q4_0 of two ranges lies closer than ggml's, in every block") {
  const std::vector<float> values = rows();
  std::vector<std::byte> plain(values.size() / 32 * 18), close(plain.size());
  REQUIRE_FALSE(quantise("Q4_0", values, plain.data()));
  REQUIRE_FALSE(quantise_q4_0_closely(values, close.data()));
  std::vector<float> of_plain(values.size()), of_close(values.size());
  dequantise("Q4_0", plain.data(), of_plain);
  dequantise("Q4_0", close.data(), of_close);
  double all_plain = 0, all_close = 0;
  for (std::size_t at = 0; at < values.size(); at += 32) {
    double error_of_plain = 0, error_of_close = 0, squares = 0;
    for (std::size_t i = at; i < at + 32; ++i) {
      error_of_plain += std::pow(static_cast<double>(of_plain[i]) - values[i], 2);
      error_of_close += std::pow(static_cast<double>(of_close[i]) - values[i], 2);
      squares += std::pow(static_cast<double>(values[i]), 2);
    }
    // ggml's integers are among those tried, and least squares are least but for the scale's own
    // rounding: 2^-11 of it, or half of float16's smallest number, on integers of up to 8.
    const double rounding = std::pow(0x1p-11, 2) * squares + 32 * std::pow(0x1p-25 * 8, 2);
    INFO("block " << at / 32 << ": " << error_of_close << ", ggml's " << error_of_plain);
    CHECK(error_of_close <= error_of_plain + rounding);
    if (squares < 1e-6) continue;  // there the scale's rounding is most of the error
    all_plain += error_of_plain / squares;
    all_close += error_of_close / squares;
  }
  CHECK(all_close < 0.95 * all_plain);
}

TEST_CASE("what float16 cannot multiply with is told by its element") {
  std::vector<float> values(96, 1.0f);
  values[40] = -9.0e6f;  // / 127 is beyond 65504
  std::vector<std::byte> to(3 * 34);
  CHECK(quantise("Q8_0", values, to.data()) == 40u);
  values[40] = 8.0e6f;
  CHECK_FALSE(quantise("Q8_0", values, to.data()));
  CHECK(quantise("Q4_0", values, to.data()) == 40u);  // / 8 is
  CHECK(quantise_q4_0_closely(values, to.data()) == 40u);
}

}  // namespace quire::test
