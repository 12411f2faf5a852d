// Dropout: an element is kept when its number of the stream is high enough, and scaled up.
#include "kernels/reference/formulas.h"
#include "kernels/reference/reference_device.h"

namespace quire::reference {

double dropout_factor(RandomKey key, double p, std::uint64_t index) {
  const bool keep = random_bits(key, index) >= dropout_threshold(static_cast<float>(p));
  return keep ? 1.0 / (1.0 - p) : 0.0;
}

void ReferenceDevice::do_dropout(const Dropout& p) {
  Doubles values = read(p.x);
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] *= dropout_factor(p.key, p.p, i);
  }
  write(p.out, values);
}

}  // namespace quire::reference
