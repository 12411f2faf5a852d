// What holds for every file of weights that was opened.
#pragma once

#include <cmath>

#include "base/error.h"
#include "engine/formats/source.h"
#include "tests/fuzz/targets.h"

namespace quire::test {

/// Every tensor lies inside its file, has the bytes that its shape takes and is found by its name;
/// all of it is read, as numbers where it may be a weight. A config passes its own check.
inline void require_sound(const TensorSource& source) {
  for (const FileTensor& tensor : source.tensors()) {
    const std::span<const std::byte> file = tensor.file->bytes();
    QUIRE_FUZZ_REQUIRE(tensor.bytes.empty() ||
                       (tensor.bytes.data() >= file.data() &&
                        tensor.bytes.data() + tensor.bytes.size() <= file.data() + file.size()));
    QUIRE_FUZZ_REQUIRE(tensor.type->bytes_of(tensor.shape) == tensor.bytes.size());
    QUIRE_FUZZ_REQUIRE(!tensor.transposed || tensor.shape.size() == 2);
    QUIRE_FUZZ_REQUIRE(source.find(tensor.name) == &tensor);
    unsigned sum = 0;
    for (const std::byte byte : tensor.bytes) sum += std::to_integer<unsigned>(byte);
    QUIRE_FUZZ_REQUIRE(sum <= 255 * tensor.bytes.size());
    try {
      tensor.weight_type();
    } catch (const Error& error) {
      QUIRE_FUZZ_REQUIRE(error.fault() == Fault::bad_data);
      continue;
    }
    const auto bad = tensor.find_not_finite(0, tensor.count());
    QUIRE_FUZZ_REQUIRE(!bad || (bad->index < tensor.count() && !std::isfinite(bad->value)));
    const std::vector<float> values = tensor.read_weight();
    QUIRE_FUZZ_REQUIRE(std::ssize(values) == tensor.count());
  }
  if (source.config()) source.config()->check();
}

/// Opening a file of these bytes throws Error(bad_data), or it is sound.
template <class Open>
int require_sound_or_refused(const Open& open) {
  try {
    require_sound(open());
  } catch (const Error& error) {
    QUIRE_FUZZ_REQUIRE(error.fault() == Fault::bad_data);
  }
  return 0;
}

}  // namespace quire::test
