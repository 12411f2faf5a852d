// Memory of a device, beside its ops.
#include <cmath>

#include "tests/support/catch.h"
#include "tests/support/data.h"
#include "tests/support/devices.h"
#include "tests/support/guarded.h"

using namespace quire;
using namespace quire::test;

TEST_CASE("pieces are copied to pieces as far apart, and nothing between them is written") {
  constexpr std::int64_t kStride = 7, kPieces = 3;
  for (const TestDevice& tested : devices_under_test()) {
    Device& device = tested.device;
    const std::vector<float> values = normal(kStride * kPieces, 1);
    for (const std::int64_t count : {kPieces, std::int64_t{1}, std::int64_t{0}}) {
      Stage stage(device, "copied pieces on " + tested.name);
      Guarded& from = stage.input(values, {kStride * kPieces});
      Guarded& to = stage.output({kStride * kPieces});
      device.copy_pieces(to.view().data<float>() + 2, from.view().data<float>() + 1,
                         4 * sizeof(float), static_cast<std::size_t>(count),
                         kStride * sizeof(float));
      const std::vector<float> got = to.floats();
      for (std::int64_t i = 0; i < std::ssize(got); ++i) {
        const bool copied = i / kStride < count && i % kStride >= 2 && i % kStride < 6;
        CHECK((copied ? got[i] == values[i - 1] : std::isnan(got[i])));
      }
    }
  }
}
