#include "engine/formats/source.h"

#include <cstdint>
#include <filesystem>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "engine/formats/safetensors.h"
#include "kernels/tensor.h"
#include "tests/support/catch.h"
#include "tests/support/scratch.h"

using quire::ConstView;
using quire::DType;
using quire::Fault;
using quire::FileTensor;
using quire::Safetensors;
using quire::TensorSource;
using quire::test::ScratchFolder;

TEST_CASE("rows of a weight come as floats, whatever type they are stored in") {
  const ScratchFolder folder;
  const std::vector<float> values = {0.0f, 1.5f, -2.0f, 3.0f, 1.0f / 3, 65504.0f};
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
    const auto path = folder / "x.safetensors";
    quire::write_safetensors(
        path, std::vector<quire::TensorToWrite>{{"w", ConstView(values.data(), {3, 2}), dtype}});
    const TensorSource source = Safetensors(path);
    const FileTensor& w = *source.find("w");
    CHECK(w.count() == 6);
    CHECK(w.where() == path.string() + ": tensor 'w'");
    const std::vector<float> all = w.read_weight();
    REQUIRE(all.size() == 6);
    CHECK(std::vector(all.begin(), all.begin() + 4) ==
          std::vector(values.begin(), values.begin() + 4));
    CHECK((all[4] == values[4]) == (dtype == DType::f32));
    std::vector<float> row(2);
    w.read(2, row);
    CHECK(row == std::vector<float>{-2.0f, 3.0f});
  }
}

TEST_CASE("what is no weight, or holds no numbers, is named with its file") {
  const ScratchFolder folder;
  const std::vector<std::int32_t> ids = {7};
  const std::vector<float> values = {1, 2, std::numeric_limits<float>::quiet_NaN()};
  const auto path = folder / "x.safetensors";
  quire::write_safetensors(
      path, std::vector<quire::TensorToWrite>{{"ids", ConstView(ids.data(), {1})},
                                              {"w", ConstView(values.data(), {3}), DType::bf16}});
  const TensorSource source = Safetensors(path);
  CHECK(folder.message_of(Fault::bad_data, [&] { source.find("ids")->read_weight(); }) ==
        "error: DIR/x.safetensors: tensor 'ids' is of type I32\n  weights are F32, F16 or BF16");
  CHECK(folder.message_of(Fault::bad_data, [&] { source.find("w")->check_weight(); }) ==
        "error: DIR/x.safetensors: tensor 'w' holds nan at [2]\n"
        "  the file is damaged, or its training diverged");
}

TEST_CASE("a tensor can be read when its source and its file are gone") {
  const ScratchFolder folder;
  const std::vector<float> values(10'000, 2.5f);
  const auto path = folder / "x.safetensors";
  quire::write_safetensors(
      path, std::vector<quire::TensorToWrite>{{"w", ConstView(values.data(), {10'000})}});
  std::optional<TensorSource> source = Safetensors(path);
  const FileTensor w = *source->find("w");
  source.reset();
  std::filesystem::remove(path);
  CHECK(w.read_weight() == values);
}
