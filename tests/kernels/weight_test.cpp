// A weight's extents, its layouts, and the bytes that its format says it takes.
#include "kernels/weight.h"

#include "tests/support/catch.h"
#include "tests/support/compare.h"

using namespace quire;
using quire::test::error_of;

TEST_CASE("a weight knows what goes in and out, however it lies") {
  float elements[15] = {};
  const Weight in_out(View(elements, {3, 5}), WeightLayout::in_out);
  CHECK(in_out.in() == 3);
  CHECK(in_out.out() == 5);
  const Weight out_in(View(elements, {3, 5}), WeightLayout::out_in);
  CHECK(out_in.in() == 5);
  CHECK(out_in.out() == 3);
  const Weight transposed = out_in.transposed();
  CHECK(transposed.layout == WeightLayout::in_out);
  CHECK(transposed.in() == 3);
  CHECK(transposed.out() == 5);
  CHECK(transposed.view().bytes() == elements);
  CHECK(transposed.shape == out_in.shape);
  CHECK_FALSE(Weight());
  CHECK_FALSE(WritableWeight());
}

TEST_CASE("a weight in panels takes whole ones, and has neither rows nor a transpose") {
  const Weight panels(nullptr, WeightFormat::float32, WeightLayout::panels, {3, 50});
  CHECK(panels.in() == 3);
  CHECK(panels.out() == 50);
  CHECK(panels.panel_elements() == 3 * 48);
  CHECK(panels.size_bytes() == 2 * 3 * 48 * 4);
  const Weight pairs(nullptr, WeightFormat::bfloat16, WeightLayout::pair_panels, {3, 48});
  CHECK(pairs.panel_elements() == 4 * 48);
  CHECK(pairs.size_bytes() == 4 * 48 * 2);
  CHECK(error_of([&] { panels.view(); }) == "a weight in panels has no rows to view");
  CHECK(error_of([&] { pairs.transposed(); }) == "a weight in panels is read as a transpose");
}

TEST_CASE("a format has the type and the bytes of its elements") {
  std::byte memory[60];
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
    const ConstView matrix(memory, dtype, {3, 5});
    const Weight weight(matrix, WeightLayout::out_in);
    CHECK(weight.dtype() == dtype);
    CHECK(weight.size_bytes() == matrix.size_bytes());
    CHECK(weight.view().shape() == matrix.shape());
  }
  CHECK(error_of([&] { format_of(DType::i32); }) ==
        "a weight is int32, wants float32, float16 or bfloat16");
}
