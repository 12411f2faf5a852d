// Tensors on their way from one file to another: types, places, rows that are not there.
#include "engine/formats/sink.h"

#include <map>
#include <numeric>

#include "engine/formats/quantised.h"
#include "engine/model/elements.h"
#include "tests/support/catch.h"
#include "tests/support/scratch.h"

namespace quire::test {
namespace {

/// A tensor in memory: elements 0.5, 1, 1.5, … in the order of its shape, modulo 251, so that every
/// type of a block holds them well enough to be told apart from its neighbours.
struct Stored {
  std::vector<std::byte> bytes;
  FileTensor tensor;
  std::vector<float> values;  // in the order of the shape, as stored
};

std::vector<float> turned(const std::vector<float>& values, std::int64_t rows, std::int64_t row) {
  std::vector<float> result(values.size());
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < row; ++c) {
      result[static_cast<std::size_t>(c * rows + r)] =
          values[static_cast<std::size_t>(r * row + c)];
    }
  }
  return result;
}

std::vector<std::byte> stored_as(const std::vector<float>& values, const ElementType& type) {
  std::vector<std::byte> bytes(values.size() / static_cast<std::size_t>(type.block_elements) *
                               static_cast<std::size_t>(type.block_bytes));
  if (type.is_quantised) {
    REQUIRE_FALSE(quantise(type.name, values, bytes.data()));
  } else {
    write_elements(values, *type.dtype, bytes.data());
  }
  return bytes;
}

std::vector<float> read(const std::vector<std::byte>& bytes, const ElementType& type,
                        std::size_t count) {
  std::vector<float> values(count);
  if (type.is_quantised) {
    dequantise(type.name, bytes.data(), values);
  } else {
    read_elements(bytes.data(), *type.dtype, values);
  }
  return values;
}

Stored stored(std::int64_t rows, std::int64_t row, const char* type_name, bool transposed) {
  const ElementType& type = *element_type(type_name);
  Stored result;
  std::vector<float> values(static_cast<std::size_t>(rows * row));
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = static_cast<float>(i % 251) * 0.5f - 40.0f;
  }
  if (transposed) values = turned(values, rows, row);
  result.bytes = stored_as(values, type);
  values = read(result.bytes, type, values.size());
  result.values = transposed ? turned(values, row, rows) : values;
  result.tensor.name = "w";
  result.tensor.type = &type;
  result.tensor.shape = {rows, row};
  result.tensor.transposed = transposed;
  result.tensor.bytes = result.bytes;
  return result;
}

std::vector<std::byte> written(const OutTensor& tensor, int threads) {
  const ScratchFolder folder;
  FileLayout layout;
  layout.add("12345");
  layout.align(8);
  layout.add(tensor);
  AtomicFile file(folder / "x");
  write(file, layout, {.threads = threads});
  file.commit();
  const std::string text = read_file(folder / "x");
  REQUIRE(text.size() == 8 + tensor.bytes());
  CHECK(text.substr(0, 8) == std::string("12345\0\0\0", 8));
  const auto* const begin = reinterpret_cast<const std::byte*>(text.data());
  return {begin + 8, begin + text.size()};
}

}  // namespace

TEST_CASE("tensors go from every type and order to every other") {
  struct Extents {
    std::int64_t rows, row;
  };
  // Ends of lines, of panels of columns and of blocks; a row of more than one piece.
  for (const auto& [rows, row] : {Extents{32, 64}, Extents{17, 33}, Extents{1, 1},
                                  Extents{512, 288}, Extents{3, 1}, Extents{96, 2720}}) {
    for (const char* from : {"F32", "F16", "BF16", "Q8_0", "Q4_0"}) {
      for (const char* to : {"F32", "F16", "BF16", "Q8_0", "Q4_0"}) {
        for (const int turns : {0, 1, 2, 3}) {
          const bool lies_turned = (turns & 1) != 0, shall_be_turned = (turns & 2) != 0;
          const auto fits = [&](const char* type, bool is_turned) {
            return !element_type(type)->is_quantised || (is_turned ? rows : row) % 32 == 0;
          };
          if (!fits(from, lies_turned) || !fits(to, shall_be_turned)) continue;
          INFO(rows << " x " << row << ", " << from << " to " << to << ", " << turns);
          const Stored w = stored(rows, row, from, lies_turned);
          OutTensor out = OutTensor::of(w.tensor, "w");
          out.type = element_type(to);
          out.transposed = shall_be_turned;
          const std::vector<float> wanted =
              shall_be_turned ? turned(w.values, rows, row) : w.values;
          const bool as_is = from == std::string_view(to) && lies_turned == shall_be_turned;
          CHECK((written(out, turns) == (as_is ? w.bytes : stored_as(wanted, *out.type))));
        }
      }
    }
  }
}

TEST_CASE("rows that are not in the old file are given ones, then zeros") {
  const Stored w = stored(3, 32, "F32", false);
  for (const char* to : {"F32", "F16", "Q8_0"}) {
    INFO(to);
    OutTensor out = OutTensor::of(w.tensor, "w");
    out.type = element_type(to);
    out.shape = {6, 32};
    out.more.resize(2 * 32);
    std::iota(out.more.begin(), out.more.end(), 1.0f);
    std::vector<float> wanted = w.values;
    wanted.insert(wanted.end(), out.more.begin(), out.more.end());
    wanted.resize(6 * 32, 0.0f);
    CHECK((written(out, 1) == stored_as(wanted, *out.type)));
    out.shape = {2, 32};  // and fewer
    wanted.resize(2 * 32);
    CHECK((written(out, 1) == stored_as(wanted, *out.type)));
  }
}

TEST_CASE("what a type cannot hold is told by its place in the shape") {
  std::vector<float> values(64 * 96, 1.0f);
  values[5 * 96 + 7] = 1e6f;
  FileTensor tensor;
  tensor.name = "w";
  tensor.type = element_type("F32");
  tensor.shape = {64, 96};
  tensor.bytes = std::as_bytes(std::span(values));
  OutTensor out = OutTensor::of(tensor, "blk.0.w");
  out.type = element_type("F16");
  for (const bool transposed : {false, true}) {
    out.transposed = transposed;
    const ScratchFolder folder;
    CHECK(folder.message_of(Fault::bad_data, [&] { written(out, 2); }) ==
          "error: tensor 'blk.0.w' cannot be stored as float16\n"
          "  element 487 is 1000000.000000; the largest number of that type is 65504\n"
          "  try: store it as bfloat16 or float32");
  }
}

TEST_CASE("a write that is stopped leaves nothing") {
  const Stored w = stored(512, 1024, "F32", false);
  const ScratchFolder folder;
  FileLayout layout;
  layout.add(OutTensor::of(w.tensor, "w"));
  int pieces = 0;
  {
    AtomicFile file(folder / "x");
    CHECK_THROWS_AS(
        write(file, layout, {.threads = 1, .go_on = [&](std::size_t) { return ++pieces < 2; }}),
        WriteStopped);
  }
  CHECK(pieces == 2);
  CHECK(std::filesystem::is_empty(folder.path()));
}

}  // namespace quire::test
