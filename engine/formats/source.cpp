#include "engine/formats/source.h"

#include <fmt/ranges.h>

#include <utility>

#include "base/error.h"
#include "engine/model/elements.h"

namespace quire {

std::string to_string(const std::vector<std::int64_t>& shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

std::vector<std::int64_t> extents_of(const Shape& shape) {
  std::vector<std::int64_t> extents(static_cast<std::size_t>(shape.rank()));
  for (int i = 0; i < shape.rank(); ++i) extents[static_cast<std::size_t>(i)] = shape[i];
  return extents;
}

DType FileTensor::dtype() const {
  if (!stored) {
    throw Error(Fault::bad_data, "tensor '" + name + "' is of type " + dtype_name,
                {"read are F32, F16, BF16 and I32"});
  }
  return *stored;
}

std::int64_t FileTensor::count() const {
  return static_cast<std::int64_t>(bytes.size() / size_of(dtype()));
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
  return file->path().string() + ": tensor '" + name + "'";
}

DType FileTensor::weight_type() const {
  if (!stored || *stored == DType::i32) {
    throw Error(Fault::bad_data, where() + " is of type " + dtype_name,
                {"weights are F32, F16 or BF16"});
  }
  return *stored;
}

void FileTensor::read(std::int64_t first, std::span<float> to) const {
  const DType type = weight_type();
  read_elements(bytes.data() + first * static_cast<std::int64_t>(size_of(type)), type, to);
}

void FileTensor::check_weight() const {
  if (const auto bad = find_not_finite(bytes.data(), weight_type(), count())) {
    throw Error(Fault::bad_data,
                fmt::format("{} holds {} at element {}", where(),
                            element(bytes.data(), dtype(), *bad), *bad),
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
  places_.emplace(tensor.name, tensors_.size());
  tensors_.push_back(std::move(tensor));
}

}  // namespace quire
