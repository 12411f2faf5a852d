// The fixtures' model tiny-char, which lies there in every format.
#pragma once

#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "engine/formats/safetensors.h"
#include "engine/formats/weight_files.h"
#include "engine/model/elements.h"
#include "tests/support/catch.h"
#include "tests/support/fixtures.h"

namespace quire::test {

/// Its weights by bare name, as they are in float32 or rounded to a type.
inline std::map<std::string, std::vector<float>> tiny_char(DType dtype = DType::f32) {
  std::map<std::string, std::vector<float>> weights;
  const Safetensors file(fixtures_root() / "models/tiny-char/model.safetensors");
  for (const FileTensor& tensor : file.tensors()) {
    std::vector<float> values = tensor.read_weight();
    std::vector<std::byte> stored(values.size() * size_of(dtype));
    write_elements(values, dtype, stored.data());
    read_elements(stored.data(), dtype, values);
    weights[bare_name(tensor.name)] = std::move(values);
  }
  return weights;
}

/// The weights that a source has for tiny-char's, by bare name, checked and in its shapes.
inline std::map<std::string, std::vector<float>> read_all(const TensorSource& source) {
  const Safetensors original(fixtures_root() / "models/tiny-char/model.safetensors");
  std::map<std::string, const FileTensor*> named;
  for (const FileTensor& tensor : source.tensors()) named[bare_name(tensor.name)] = &tensor;
  std::map<std::string, std::vector<float>> weights;
  for (const FileTensor& wanted : original.tensors()) {
    const std::string name = bare_name(wanted.name);
    INFO(name);
    REQUIRE(named.count(name) == 1);
    CHECK(named[name]->shape == wanted.shape);
    named[name]->check_weight();
    weights[name] = named[name]->read_weight();
  }
  return weights;
}

}  // namespace quire::test
