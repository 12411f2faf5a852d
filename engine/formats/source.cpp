#include "engine/formats/source.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <utility>

#include "base/error.h"
#include "base/text.h"
#include "engine/formats/quantised.h"
#include "engine/model/elements.h"

namespace quire {
namespace {

constexpr ElementType kTypes[] = {
    {"F32", 1, 4, DType::f32},
    {"F16", 1, 2, DType::f16},
    {"BF16", 1, 2, DType::bf16},
    {"I32", 1, 4, DType::i32},
    {"BOOL", 1, 1},
    {"U8", 1, 1},
    {"I8", 1, 1},
    {"U16", 1, 2},
    {"I16", 1, 2},
    {"U32", 1, 4},
    {"I64", 1, 8},
    {"U64", 1, 8},
    {"F64", 1, 8},
    {"C64", 1, 8},
    {"F8_E4M3", 1, 1},
    {"F8_E5M2", 1, 1},
    {"F8_E8M0", 1, 1},
    {"F8_E4M3FNUZ", 1, 1},
    {"F8_E5M2FNUZ", 1, 1},
    {"F6_E2M3", 4, 3},
    {"F6_E3M2", 4, 3},
    {"F4", 2, 1},
    {"Q8_0", 32, 34, {}, true},
    {"Q4_0", 32, 18, {}, true},
    {"Q4_K", 256, 144, {}, true},
};

template <class Matches>
const ElementType* type_that(const Matches& matches) {
  const auto* const type = std::find_if(std::begin(kTypes), std::end(kTypes), matches);
  return type == std::end(kTypes) ? nullptr : type;
}

void read_from(const ElementType& type, DType as, const std::byte* from, std::span<float> to) {
  if (type.is_quantised) {
    dequantise(type.name, from, to);
  } else {
    read_elements(from, as, to);
  }
}

}  // namespace

const ElementType* element_type(std::string_view name) {
  return type_that([&](const ElementType& type) { return name == type.name; });
}

const ElementType* element_type(DType dtype) {
  return type_that([&](const ElementType& type) { return type.dtype == dtype; });
}

std::optional<std::size_t> ElementType::bytes_of(std::span<const std::int64_t> shape) const {
  bool empty = false;
  std::int64_t count = 1;  // of an empty tensor, what the other extents come to: they are held, too
  for (const std::int64_t extent : shape) {
    empty = empty || extent == 0;
    if (extent != 0 && __builtin_mul_overflow(count, extent, &count)) return {};
  }
  if (empty) return 0;
  std::int64_t bytes = 0;
  if (count % block_elements != 0 ||
      __builtin_mul_overflow(count / block_elements, block_bytes, &bytes)) {
    return {};
  }
  return static_cast<std::size_t>(bytes);
}

std::string to_string(const std::vector<std::int64_t>& shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

std::vector<std::int64_t> extents_of(const Shape& shape) {
  std::vector<std::int64_t> extents(static_cast<std::size_t>(shape.rank()));
  for (int i = 0; i < shape.rank(); ++i) extents[static_cast<std::size_t>(i)] = shape[i];
  return extents;
}

FileTensor FileTensor::of(std::string name, const ConstView& view) {
  FileTensor tensor;
  tensor.name = std::move(name);
  tensor.type = element_type(view.dtype());
  tensor.shape = extents_of(view.shape());
  tensor.bytes = {static_cast<const std::byte*>(view.bytes()), view.size_bytes()};
  return tensor;
}

DType FileTensor::dtype() const {
  if (!has_dtype()) {
    throw Error(Fault::bad_data, "tensor '" + name + "' is of type " + dtype_name(),
                {"read are F32, F16, BF16 and I32"});
  }
  return *type->dtype;
}

std::int64_t FileTensor::count() const {
  return std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>());
}

bool FileTensor::aligned() const {
  return reinterpret_cast<std::uintptr_t>(bytes.data()) % size_of(dtype()) == 0;
}

ConstView FileTensor::view() const {
  if (!aligned()) {
    throw Error(Fault::bad_data, "the data of tensor '" + name + "' is not aligned to its type");
  }
  const std::vector<std::int64_t>& s = shape;
  const auto of = [&](const Shape& fixed) { return ConstView(bytes.data(), dtype(), fixed); };
  if (s.empty()) return of({});
  if (s.size() == 1) return of({s[0]});
  if (s.size() == 2) return of({s[0], s[1]});
  if (s.size() == 3) return of({s[0], s[1], s[2]});
  if (s.size() == 4) return of({s[0], s[1], s[2], s[3]});
  throw Error(Fault::bad_data, "tensor '" + name + "' has the shape " + to_string(shape),
              {"at most 4 extents are supported"});
}

std::string FileTensor::where() const {
  return (file == nullptr ? "" : file->path().string() + ": ") + "tensor '" + name + "'";
}

DType FileTensor::weight_type() const {
  if (is_quantised()) return DType::f32;
  if (!has_dtype() || type->dtype == DType::i32) {
    throw Error(Fault::bad_data, where() + " is of type " + dtype_name(),
                {"weights are F32, F16 or BF16"});
  }
  return *type->dtype;
}

const std::byte* FileTensor::at(std::int64_t element) const {
  return bytes.data() + element / type->block_elements * type->block_bytes;
}

std::vector<std::int64_t> FileTensor::place_of(std::int64_t index) const {
  std::vector<std::int64_t> place(shape.size());
  for (std::size_t i = shape.size(); i-- > 0;) {
    place[i] = index % shape[i];
    index /= shape[i];
  }
  return place;
}

std::int64_t FileTensor::whole_rows(std::int64_t elements) const {
  if (shape.size() != 2 || (!transposed && !is_quantised())) return elements;
  const std::int64_t rows = kRowsTogether * std::max<std::int64_t>(shape[1], 1);
  return std::max(rows, elements / rows * rows);
}

void FileTensor::read_as_it_lies(std::int64_t first, std::span<float> to) const {
  read_from(*type, weight_type(), at(first), to);
}

void FileTensor::read(std::int64_t first, std::span<float> to) const {
  if (!transposed) return read_as_it_lies(first, to);
  const DType as = weight_type();
  const std::int64_t in = shape[0], out = shape[1];
  std::vector<float> column(static_cast<std::size_t>(std::min(in, kRowsTogether)));
  for (std::int64_t done = 0; done < std::ssize(to); done += kRowsTogether * out) {
    const std::int64_t row = (first + done) / out;
    const std::int64_t rows = std::min(kRowsTogether, (std::ssize(to) - done) / out);
    for (std::int64_t o = 0; o < out; ++o) {
      const std::span<float> part = std::span(column).first(static_cast<std::size_t>(rows));
      read_from(*type, as, at(o * in + row), part);
      float* target = to.data() + done + o;
      for (const float value : part) {
        *target = value;
        target += out;
      }
    }
  }
}

std::optional<FileTensor::Bad> FileTensor::find_not_finite(std::int64_t first,
                                                           std::int64_t elements) const {
  const DType as = weight_type();
  std::optional<Bad> bad;
  if (!is_quantised()) {
    const std::byte* from = at(first);
    const std::optional<std::int64_t> found = quire::find_not_finite(from, as, elements);
    if (found) bad = {first + *found, element(from, as, *found)};
  } else {
    std::vector<float> values(static_cast<std::size_t>(elements));
    read_as_it_lies(first, values);
    const auto found = std::find_if_not(values.begin(), values.end(),
                                        [](float value) { return std::isfinite(value); });
    if (found != values.end()) bad = {first + (found - values.begin()), *found};
  }
  if (bad && transposed) bad->index = bad->index % shape[0] * shape[1] + bad->index / shape[0];
  return bad;
}

void FileTensor::check_finite(std::int64_t first, std::int64_t elements) const {
  if (const std::optional<Bad> bad = find_not_finite(first, elements)) {
    throw Error(
        Fault::bad_data,
        fmt::format("{} holds {} at {}", where(), bad->value, to_string(place_of(bad->index))),
        {"the file is damaged, or its training diverged"});
  }
}

std::vector<float> FileTensor::read_weight() const {
  std::vector<float> values(static_cast<std::size_t>(count()));
  read(0, values);
  return values;
}

const FileTensor* TensorSource::find(const std::string& name) const {
  const auto place = places_.find(name);
  return place == places_.end() ? nullptr : &tensors_[place->second];
}

void TensorSource::add(FileTensor tensor) {
  if (!is_utf8(tensor.name)) {
    throw Error(Fault::bad_data, tensor.where() + " has a name that is not UTF-8");
  }
  if (!places_.emplace(tensor.name, tensors_.size()).second) {
    throw Error(Fault::bad_data, tensor.where() + " is there twice");
  }
  tensors_.push_back(std::move(tensor));
}

void TensorSource::set_config(const Gpt2Config& config, std::string origin) {
  try {
    config.check();
  } catch (Error& error) {
    error.add_place(path_.string() + ": what its " + origin + " says of the model");
    throw;
  }
  config_ = config;
  config_origin_ = std::move(origin);
}

}  // namespace quire
