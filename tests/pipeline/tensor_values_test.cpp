// Values of tensors in files: statistics, what is not finite, and differences.
#include "pipeline/tensor_values.h"

#include <cmath>
#include <limits>
#include <random>

#include "engine/model/elements.h"
#include "pipeline/compare_models.h"
#include "tests/engine/formats/tiny_char.h"
#include "tests/pipeline/weights_of_all_forms.h"
#include "tests/support/catch.h"

using namespace quire;
using namespace quire::test;
namespace fs = std::filesystem;

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

/// A tensor of these bytes.
FileTensor tensor_in(const ScratchFolder& folder, const char* name, std::string_view bytes,
                     DType dtype, std::vector<std::int64_t> shape) {
  FileTensor tensor;
  tensor.name = name;
  tensor.type = element_type(dtype);
  tensor.shape = std::move(shape);
  tensor.file = std::make_shared<const MappedFile>(folder.write(name, bytes));
  tensor.bytes = tensor.file->bytes();
  return tensor;
}
FileTensor tensor_in(const ScratchFolder& folder, const char* name,
                     const std::vector<float>& values, std::vector<std::int64_t> shape) {
  const auto bytes = std::as_bytes(std::span(values));
  return tensor_in(folder, name, {reinterpret_cast<const char*>(bytes.data()), bytes.size()},
                   DType::f32, std::move(shape));
}

TensorStatistics statistics(const FileTensor& tensor, int threads = 0) {
  return *statistics_of({&tensor, 1}, {.threads = threads})[0];
}
TensorDifference difference(const FileTensor& a, const FileTensor& b, int threads = 0) {
  const std::pair<const FileTensor*, const FileTensor*> both(&a, &b);
  return differences_of({&both, 1}, {.threads = threads})[0];
}

/// 768 × 3072 numbers: three pieces of a transposed matrix, whose last one is short.
constexpr std::int64_t kIn = 768, kOut = 3072;
std::vector<float> many_numbers() {
  std::mt19937 random(7);
  std::vector<float> values(static_cast<std::size_t>(kIn * kOut));
  for (float& value : values) value = static_cast<float>(random() % 2000) / 1000.0f - 1.0f;
  return values;
}
std::vector<float> transpose(const std::vector<float>& values) {
  std::vector<float> turned(values.size());
  for (std::int64_t i = 0; i < kIn; ++i) {
    for (std::int64_t o = 0; o < kOut; ++o) {
      turned[static_cast<std::size_t>(o * kIn + i)] =
          values[static_cast<std::size_t>(i * kOut + o)];
    }
  }
  return turned;
}

}  // namespace

TEST_CASE("every float16 is read as what it is") {
  std::vector<std::uint16_t> patterns(1 << 16);
  for (std::size_t i = 0; i < patterns.size(); ++i) patterns[i] = static_cast<std::uint16_t>(i);
  const ScratchFolder folder;
  const FileTensor tensor = tensor_in(
      folder, "halves", {reinterpret_cast<const char*>(patterns.data()), patterns.size() * 2},
      DType::f16, {1 << 16});
  std::vector<float> values(patterns.size());
  read_values(tensor, 0, values);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const float wanted = element(tensor.bytes.data(), DType::f16, static_cast<std::int64_t>(i));
    INFO(i);
    REQUIRE((std::isnan(wanted) ? std::isnan(values[i]) : values[i] == wanted));
  }
  // 2 signs of 1,023 mantissas that are not 0.
  CHECK(statistics(tensor).nans == 2046);
  CHECK(statistics(tensor).infinities == 2);
  CHECK(statistics(tensor).most == 65504.0f);
  CHECK(statistics(tensor).least == -65504.0f);
  CHECK(statistics(tensor).first_bad->index == 0x7c00);
}

TEST_CASE("statistics are those of finite values, the first bad one with its place") {
  const ScratchFolder folder;
  const FileTensor tensor =
      tensor_in(folder, "few", {1, 2, kNan, 3, -kInfinity, 6, kInfinity, kNan}, {2, 4});
  const TensorStatistics of = statistics(tensor);
  CHECK(of.nans == 2);
  CHECK(of.infinities == 2);
  CHECK(of.finite == 4);
  CHECK(of.first_bad->index == 2);
  CHECK(std::isnan(of.first_bad->value));
  CHECK(of.least == 1);
  CHECK(of.most == 6);
  CHECK(of.mean == 3);
  CHECK(of.deviation == std::sqrt(14.0 / 4));  // (4 + 1 + 0 + 9)/4
  CHECK(tensor.place_of(6) == std::vector<std::int64_t>{1, 2});
  CHECK(statistics(tensor_in(folder, "none", {kNan, kNan}, {2})).finite == 0);
  CHECK(statistics(tensor_in(folder, "empty", std::vector<float>(), {0, 3})).finite == 0);

  FileTensor numbers = tensor_in(folder, "i32", {1, 2}, {2});
  numbers.type = element_type(DType::i32);
  CHECK_FALSE(statistics_of({&numbers, 1})[0]);
  numbers.type = element_type("F64");
  CHECK_FALSE(has_values(numbers));
}

TEST_CASE("a matrix of several pieces has one set of statistics, however it lies") {
  const ScratchFolder folder;
  std::vector<float> values = many_numbers();
  constexpr std::int64_t kBad = 600 * kOut + 17;  // in the third piece
  values[kBad] = kInfinity;
  const FileTensor plain = tensor_in(folder, "plain", values, {kIn, kOut});
  FileTensor turned = tensor_in(folder, "turned", transpose(values), {kIn, kOut});
  turned.transposed = true;
  double sum = 0, squares = 0;
  for (std::int64_t i = 0; i < kIn * kOut; ++i)
    sum += i == kBad ? 0 : values[static_cast<std::size_t>(i)];
  const auto n = static_cast<double>(kIn * kOut - 1);
  for (std::int64_t i = 0; i < kIn * kOut; ++i) {
    if (i != kBad) squares += std::pow(values[static_cast<std::size_t>(i)] - sum / n, 2);
  }
  for (const FileTensor* tensor : std::initializer_list<const FileTensor*>{&plain, &turned}) {
    const TensorStatistics of = statistics(*tensor, 5);
    CHECK(of.finite == kIn * kOut - 1);
    CHECK(of.infinities == 1);
    CHECK(of.first_bad->index == kBad);
    CHECK(of.least == -1.0f);
    CHECK(of.most == 1999 / 1000.0f - 1.0f);
    // Sums of n doubles that are at most 1, and at most 4, in any order.
    CHECK(std::abs(of.mean - sum / n) <= n * 0x1p-52);
    CHECK(std::abs(of.deviation * of.deviation - squares / n) <= 4 * n * 0x1p-52);
    const TensorStatistics alone = statistics(*tensor, 1);
    CHECK(alone.mean == of.mean);
    CHECK(alone.deviation == of.deviation);
  }
  TensorDifference d = difference(plain, turned, 5);
  CHECK(d.differing == 0);
  CHECK(d.largest == 0);
  CHECK(d.scale == 1.0);
  values[kBad] = 0;
  values[kBad + 1] += 0.5f;
  const FileTensor other = tensor_in(folder, "other", values, {kIn, kOut});
  for (const int threads : {1, 5}) {
    d = difference(turned, other, threads);
    CHECK(d.differing == 2);
    CHECK(d.largest == kInfinity);
    CHECK(d.index == kBad);
    CHECK(d.a == kInfinity);
    CHECK(d.b == 0.0f);
  }
}

TEST_CASE("differences are those of numbers, with the first of the largest") {
  const ScratchFolder folder;
  const FileTensor a = tensor_in(folder, "a", {1, kNan, kInfinity, -4, 2, 0.0f}, {2, 3});
  const FileTensor b = tensor_in(folder, "b", {1.5, kNan, kInfinity, -4, 1.5, -0.0f}, {2, 3});
  const TensorDifference d = difference(a, b);
  CHECK(d.differing == 2);
  CHECK(d.largest == 0.5);
  CHECK(d.index == 0);
  CHECK(d.scale == 4);
  CHECK(d.relative() == 0.125);
  const TensorDifference bad =
      difference(b, tensor_in(folder, "c", {1.5, 2, 3, -4, 1.5, 0}, {2, 3}));
  CHECK(bad.largest == kInfinity);
  CHECK(bad.index == 1);
}

TEST_CASE("a NaN is found where it lies in every form") {
  QUIRE_FIXTURE(models, "models/tiny-char");
  constexpr const char* kTensor = "h.1.mlp.c_fc.weight";  // [128, 512]
  constexpr std::int64_t kStored = 12'320;                // the first of a block of 32
  for (const Form& form : kForms) {
    INFO(form.path);
    const ScratchFolder folder;
    const fs::path path = with_bytes(folder, form, kTensor, kStored, nan_of(form.type));
    const TensorSource source = open_source(path);
    std::int64_t bad = 0;
    const auto all = statistics_of(source.tensors());
    for (std::size_t i = 0; i < all.size(); ++i) {
      if (!all[i] || !all[i]->first_bad) continue;
      ++bad;
      CHECK(bare_name(source.tensors()[i].name) == kTensor);
      CHECK(all[i]->nans == (std::string(form.type) == "Q8_0" ? 32 : 1));
      CHECK(all[i]->infinities == 0);
      const bool turned = source.tensors()[i].transposed;
      CHECK(all[i]->first_bad->index == (turned ? kStored % 128 * 512 + kStored / 128 : kStored));
    }
    CHECK(bad == 1);
  }
}

TEST_CASE("every form differs from the original by its rounding and by nothing else") {
  QUIRE_FIXTURE(models, "models/tiny-char");
  const TensorSource original = open_source(models);
  const auto exact = tiny_char();
  for (const Form& form : kForms) {
    INFO(form.path);
    const TensorSource other = open_source(path_of(form));
    const Comparison compared = compare_models(original, other);
    CHECK(compared.only_in_a.empty());
    CHECK(compared.only_in_b.empty());
    CHECK(compared.unlike.empty());
    const std::string name = form.path;
    const bool head = name.find("lm-head") != name.npos || name.find("bin-zip") != name.npos;
    CHECK(compared.pairs.size() == (head ? 41 : 40));
    for (const Comparison::Pair& pair : compared.pairs) {
      INFO(pair.name);
      const std::vector<float>& wanted =
          exact.at(pair.name == "lm_head.weight" ? "wte.weight" : pair.name);
      if (pair.b->dtype_name() == "F32") {
        CHECK(pair.difference.differing == 0);
        continue;
      }
      std::vector<float> rounded = wanted;
      if (pair.b->is_quantised()) {
        rounded = pair.b->read_weight();
      } else {
        std::vector<std::byte> stored(wanted.size() * 2);
        write_elements(wanted, *pair.b->type->dtype, stored.data());
        read_elements(stored.data(), *pair.b->type->dtype, rounded);
      }
      double largest = 0, scale = 0;
      std::int64_t differing = 0;
      for (std::size_t i = 0; i < wanted.size(); ++i) {
        largest = std::max(largest, std::abs(double{wanted[i]} - double{rounded[i]}));
        scale = std::max(scale, std::abs(double{wanted[i]}));
        differing += wanted[i] != rounded[i] ? 1 : 0;
      }
      CHECK(differing > 0);
      CHECK(pair.difference.differing == differing);
      CHECK(pair.difference.largest == largest);
      CHECK(pair.difference.scale == scale);
      const auto at = static_cast<std::size_t>(pair.difference.index);
      CHECK(pair.difference.a == wanted[at]);
      CHECK(pair.difference.b == rounded[at]);
      CHECK(std::abs(double{wanted[at]} - double{rounded[at]}) == largest);
    }
    const bool equal = compared.worst() == nullptr;
    CHECK(equal == (std::string(form.type) == "F32"));
    CHECK(compared.is_within(0) == equal);
    if (!equal) {
      const double most = compared.worst()->difference.largest;
      CHECK(compared.is_within(most));
      CHECK_FALSE(compared.is_within(std::nextafter(most, 0)));
    }
  }
}

TEST_CASE("tensors of one model alone, and of other shapes, are told") {
  QUIRE_FIXTURE(small, "models/tiny-char");
  QUIRE_FIXTURE(untied, "models/odd-untied");
  QUIRE_FIXTURE(tied, "models/odd-tied");
  const TensorSource a = open_source(small), b = open_source(untied), c = open_source(tied);
  const Comparison apart = compare_models(a, b);
  CHECK(apart.pairs.empty());
  CHECK(apart.only_in_a.size() == 12);  // a third block
  CHECK(apart.only_in_b.empty());       // its head is held against a's table
  CHECK(apart.unlike.size() == 29);
  CHECK_FALSE(apart.is_within(1e9));
  const Comparison turned = compare_models(b, a);
  CHECK(turned.only_in_b == apart.only_in_a);
  CHECK(turned.unlike.size() == 29);
  const Comparison heads = compare_models(c, b);
  CHECK(heads.pairs.size() == 29);
  CHECK(heads.pairs.back().name == "lm_head.weight");
  CHECK(bare_name(heads.pairs.back().a->name) == "wte.weight");
}
