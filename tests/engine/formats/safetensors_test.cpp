#include "engine/formats/safetensors.h"

#include <sys/resource.h>

#include <csignal>
#include <cstring>
#include <limits>

#include "tests/support/catch.h"
#include "tests/support/fixtures.h"
#include "tests/support/scratch.h"
#include "tests/support/work.h"

using quire::BFloat16;
using quire::ConstView;
using quire::DType;
using quire::Fault;
using quire::FileTensor;
using quire::Half;
using quire::Safetensors;
using quire::Shape;
using quire::test::ScratchFolder;

namespace {

// A file with this header, right or wrong, and so many bytes of data.
std::string file_of(const std::string& header, std::size_t data_bytes) {
  const std::uint64_t size = header.size();
  std::string text(reinterpret_cast<const char*>(&size), sizeof size);
  return text + header + std::string(data_bytes, '\0');
}

// What opening a file with this header and data says.
std::string complaint(const std::string& header, std::size_t data_bytes) {
  const ScratchFolder folder;
  const auto path = folder.write("x.safetensors", file_of(header, data_bytes));
  const std::string message = folder.message_of(Fault::bad_data, [&] { Safetensors file(path); });
  const std::string start = "error: DIR/x.safetensors is not a usable safetensors file\n  ";
  REQUIRE(message.substr(0, start.size()) == start);
  return message.substr(start.size());
}

}  // namespace

TEST_CASE("tensors come in file order with types, shapes and metadata") {
  const ScratchFolder folder;
  const auto path = folder.write(
      "x.safetensors",
      file_of(
          R"({"b":{"dtype":"F16","shape":[2,3],"data_offsets":[4,16]},)"
          R"("__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]},)"
          R"("none":{"dtype":"I64","shape":[0,7],"data_offsets":[16,16]}}    )",
          16));
  const Safetensors file(path);
  REQUIRE(file.tensors().size() == 3);
  CHECK(file.tensors()[0].name == "a");
  CHECK(file.tensors()[0].view().shape() == Shape{});
  CHECK(file.tensors()[1].view().dtype() == DType::f16);
  CHECK(file.tensors()[1].view().shape() == Shape{2, 3});
  CHECK(file.find("none")->bytes.empty());
  CHECK(file.find("none")->shape == std::vector<std::int64_t>{0, 7});
  CHECK(file.find("c") == nullptr);
  CHECK(file.metadata().at("format") == "pt");
}

TEST_CASE("types without a DType are listed, and refused when viewed") {
  const ScratchFolder folder;
  const auto path =
      folder.write("x.safetensors",
                   file_of(R"({"mask":{"dtype":"BOOL","shape":[5],"data_offsets":[0,5]},)"
                           R"("small":{"dtype":"F4","shape":[4],"data_offsets":[5,7]},)"
                           R"("odd":{"dtype":"F16","shape":[1],"data_offsets":[7,9]},)"
                           R"("deep":{"dtype":"U8","shape":[1,1,1,1,1],"data_offsets":[9,10]}})",
                           10));
  const Safetensors file(path);
  CHECK(folder.message_of(Fault::bad_data, [&] { file.find("mask")->view(); }) ==
        "error: tensor 'mask' is of type BOOL\n  read are F32, F16, BF16 and I32");
  CHECK(file.find("small")->bytes.size() == 2);
  // Header and bool before it leave this one half at an odd address.
  const FileTensor& odd = *file.find("odd");
  CHECK(odd.aligned() == (reinterpret_cast<std::uintptr_t>(odd.bytes.data()) % 2 == 0));
  if (!odd.aligned()) CHECK_THROWS_AS(odd.view(), quire::Error);
  CHECK(file.find("deep")->shape.size() == 5);
}

TEST_CASE("a header that is not one is refused") {
  const ScratchFolder folder;
  const auto opened = [&](const std::string& content) {
    const auto path = folder.write("x.safetensors", content);
    return folder.message_of(Fault::bad_data, [&] { Safetensors file(path); });
  };
  const std::string start = "error: DIR/x.safetensors is not a usable safetensors file\n  ";
  const std::string again = "\n  try: download or copy the file again";
  CHECK(opened("") == start + "it has 0 bytes and ends inside the header's length" + again);
  CHECK(opened("1234567") == start + "it has 7 bytes and ends inside the header's length" + again);
  CHECK(opened(std::string(8, '\xff')) ==
        start + "it claims a header of 18446744073709551615 bytes; at most 100000000 are allowed");
  CHECK(opened(std::string("\x05\0\0\0\0\0\0\0{}", 10)) ==
        start + "it claims a header of 5 bytes, but has only 10 bytes in all" + again);
  CHECK(opened(file_of("[]", 0)) == start + "the header is array, not an object");
  CHECK(opened(file_of("{\"a\":", 0)).find("the header is not valid JSON") != std::string::npos);
  CHECK(opened(file_of(std::string("{\"a\0b\":1}", 9), 0)).find("not valid JSON") !=
        std::string::npos);
  CHECK(opened(file_of("", 0)).find("not valid JSON") != std::string::npos);
  CHECK(opened(file_of(std::string(100'000, '['), 0)).find("not valid JSON") != std::string::npos);
  CHECK_THROWS_AS(Safetensors(folder / "missing.safetensors"), quire::Error);
  CHECK_THROWS_AS(Safetensors(folder.path()), quire::Error);
  CHECK_NOTHROW(Safetensors(folder.write("empty.safetensors", file_of("{}", 0))));
}

TEST_CASE("entries that lie are refused, with tensor and numbers") {
  CHECK(complaint(R"({"w":[1]})", 0) == "tensor 'w' is described by [1], not an object");
  CHECK(complaint(R"({"w":{"shape":[],"data_offsets":[0,0]}})", 0) ==
        "tensor 'w' has no \"dtype\"");
  CHECK(complaint(R"({"w":{"dtype":"F32","data_offsets":[0,0]}})", 0) ==
        "tensor 'w' has no \"shape\"");
  CHECK(complaint(R"({"w":{"dtype":"F32","shape":[]}})", 0) ==
        "tensor 'w' has no \"data_offsets\"");
  const auto entry = [](const std::string& dtype, const std::string& shape,
                        const std::string& offsets) {
    return R"({"w":{"dtype":)" + dtype + R"(,"shape":)" + shape + R"(,"data_offsets":)" + offsets +
           "}}";
  };
  CHECK(complaint(entry("\"F33\"", "[1]", "[0,4]"), 4) ==
        "tensor 'w' has the unknown dtype \"F33\"");
  CHECK(complaint(entry("7", "[1]", "[0,4]"), 4) == "tensor 'w' has the unknown dtype 7");
  CHECK(complaint(entry("\"F32\"", "3", "[0,4]"), 4) == "tensor 'w' has the shape 3, not a list");
  CHECK(complaint(entry("\"F32\"", "[-1]", "[0,4]"), 4) ==
        "tensor 'w' has the impossible extent -1");
  CHECK(complaint(entry("\"F32\"", "[1.5]", "[0,4]"), 4) ==
        "tensor 'w' has the impossible extent 1.5");
  CHECK(complaint(entry("\"F32\"", "[18446744073709551615]", "[0,4]"), 4) ==
        "tensor 'w' has the impossible extent 18446744073709551615");
  // 2^62 · 4 elements of 4 bytes are 0 modulo 2^64: only exact arithmetic sees it.
  CHECK(complaint(entry("\"F32\"", "[4611686018427387904,4]", "[0,0]"), 0) ==
        "tensor 'w' has the shape [4611686018427387904,4], more than any file can hold");
  CHECK(complaint(entry("\"F4\"", "[3]", "[0,1]"), 1) ==
        "tensor 'w' of F4 has the shape [3], which does not fill whole bytes");
  CHECK(complaint(entry("\"F32\"", "[1]", "[0]"), 4) ==
        "tensor 'w' has the data_offsets [0], not [begin, end]");
  CHECK(complaint(entry("\"F32\"", "[1]", "[-4,0]"), 4) ==
        "tensor 'w' has the data_offsets [-4,0], not [begin, end]");
  CHECK(complaint(entry("\"F32\"", "[1]", "[4,0]"), 4) ==
        "tensor 'w' ends before it begins: data_offsets [4,0]");
  CHECK(complaint(entry("\"F32\"", "[2]", "[0,8]"), 4) ==
        "tensor 'w' lies outside the file: data_offsets [0,8], but there are 4 bytes of data\n"
        "  try: download or copy the file again");
  CHECK(complaint(entry("\"F32\"", "[2,3]", "[0,20]"), 20) ==
        "tensor 'w' has 20 bytes, but F32 [2,3] takes 24");
  CHECK(complaint(R"({"__metadata__":7})", 0) == "__metadata__ is 7, not an object");
  CHECK(complaint(R"({"__metadata__":{"a":1}})", 0) == "__metadata__ of 'a' is 1, not a string");
}

TEST_CASE("overlaps, holes and names given twice are refused") {
  const auto two = [](const std::string& a, const std::string& b) {
    return R"({"a":{"dtype":"F32","shape":[2],"data_offsets":)" + a +
           R"(},"b":{"dtype":"F32","shape":[2],"data_offsets":)" + b + "}}";
  };
  CHECK(complaint(two("[0,8]", "[4,12]"), 12) ==
        "tensor 'b' begins at byte 4 and overlaps 'a', which ends at 8");
  CHECK(complaint(two("[0,8]", "[0,8]"), 8).find("overlaps 'a'") != std::string::npos);
  CHECK(complaint(two("[0,8]", "[12,20]"), 20) ==
        "tensor 'b' begins at byte 12, but bytes from 8 belong to no tensor");
  CHECK(complaint(two("[4,12]", "[12,20]"), 20) ==
        "tensor 'a' begins at byte 4, but bytes from 0 belong to no tensor");
  CHECK(complaint(two("[0,8]", "[8,16]"), 17) ==
        "the tensors end at byte 16 of the data, but there are 17");
  CHECK(complaint(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
                  R"("a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
                  4) == "the header names 'a' twice");
  CHECK(complaint(R"({"a":{"dtype":"F32","dtype":"F16","shape":[1],"data_offsets":[0,4]}})", 4) ==
        "the header names 'dtype' twice");
}

TEST_CASE("what is written reads back, bit for bit and aligned") {
  const ScratchFolder folder;
  const std::vector<float> f32 = {1.5f, -0.0f, std::numeric_limits<float>::quiet_NaN()};
  const std::vector<Half> f16 = {{0x3c00}, {0x0001}, {0x7bff}};
  const std::vector<BFloat16> bf16 = {{0x3f80}};
  const std::vector<std::int32_t> i32 = {-100, 7};
  const std::vector<quire::TensorToWrite> tensors = {
      {"floats \"quoted\" ü", ConstView(f32.data(), {3})},
      {"scalar", ConstView(i32.data(), DType::i32, Shape{})},
      {"halves", ConstView(f16.data(), {3, 1})},
      {"brains", ConstView(bf16.data(), {1})},
      {"nothing", ConstView(f32.data(), {0, 5})}};
  quire::write_safetensors(folder / "x.safetensors", tensors, {{"format", "pt"}, {"step", "12"}});
  const Safetensors file(folder / "x.safetensors");
  CHECK(file.metadata().at("step") == "12");
  for (const quire::TensorToWrite& tensor : tensors) {
    const FileTensor* found = file.find(tensor.name);
    REQUIRE(found != nullptr);
    CHECK(found->view().shape() == tensor.view.shape());
    CHECK(found->view().dtype() == tensor.view.dtype());
    CHECK(found->bytes.size() == tensor.view.size_bytes());
    CHECK(std::memcmp(found->bytes.data(), tensor.view.bytes(), found->bytes.size()) == 0);
  }
  CHECK(reinterpret_cast<std::uintptr_t>(file.tensors()[0].bytes.data()) % 64 == 0);
  CHECK_THROWS_AS(quire::write_safetensors(folder / "y", std::vector{tensors[0], tensors[0]}),
                  quire::Error);
  CHECK_FALSE(std::filesystem::exists(folder / "y"));
}

TEST_CASE("types are converted on the way to the file, and what does not fit is named") {
  const ScratchFolder folder;
  std::vector<float> values(100'000, 0.1f);
  values[70'000] = 1e-8f;  // below the smallest f16
  const ConstView view(values.data(), {100'000});
  const auto convert = [&](const ConstView& from, DType dtype) {
    quire::write_safetensors(folder / "x", std::vector<quire::TensorToWrite>{{"w", from, dtype}});
    return Safetensors(folder / "x");
  };
  const Safetensors f16 = convert(view, DType::f16);
  CHECK(f16.find("w")->view().data<Half>()[99'999].bits == quire::to_half(0.1f).bits);
  CHECK(f16.find("w")->view().data<Half>()[70'000].bits == 0);
  const Safetensors bf16 = convert(view, DType::bf16);
  CHECK(bf16.find("w")->view().data<BFloat16>()[0].bits == quire::to_bfloat16(0.1f).bits);
  const Safetensors back = convert(f16.find("w")->view(), DType::f32);
  CHECK(back.find("w")->view().data<float>()[5] == quire::to_float(quire::to_half(0.1f)));

  values[66'000] = 70'000.0f;
  CHECK(folder.message_of(Fault::bad_data, [&] { convert(view, DType::f16); }) ==
        "error: tensor 'w' cannot be stored as float16\n"
        "  element 66000 is 70000.000000; the largest number of that type is 65504\n"
        "  try: store it as bfloat16 or float32");
  CHECK(Safetensors(folder / "x").find("w")->dtype_name() == "F32");  // the file from before
}

TEST_CASE("a disk that fills up while weights are written leaves the old file") {
  const ScratchFolder folder;
  const std::vector<float> old = {1.0f};
  const std::vector<float> large(1'000'000, 2.0f);
  const auto path = folder / "model.safetensors";
  quire::write_safetensors(path,
                           std::vector<quire::TensorToWrite>{{"w", ConstView(old.data(), {1})}});

  // A limit on the size of files stands for the full disk: write() fails
  // in the middle the same way.
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_FSIZE, &before) == 0);
  rlimit small = before;
  small.rlim_cur = 1 << 20;
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &small) == 0);
  std::string message;
  try {
    quire::write_safetensors(
        path, std::vector<quire::TensorToWrite>{{"w", ConstView(large.data(), {1'000'000})}});
  } catch (const quire::Error& error) {
    CHECK(error.fault() == Fault::no_space);
    message = folder.message(error);
  }
  ::setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);

  CHECK(message ==
        "error: cannot write DIR/model.safetensors\n  File too large\n"
        "  try: free some space or write to another disk; what was there before is untouched");
  CHECK(Safetensors(path).find("w")->view().data<float>()[0] == 1.0f);
  CHECK(std::distance(std::filesystem::directory_iterator(folder.path()), {}) == 1);
}

TEST_CASE("files of the safetensors library read") {
  QUIRE_FIXTURE(path, "fixtures/tiny-char/forward.safetensors");
  const Safetensors file(path);
  CHECK(file.find("ids")->view().shape() == Shape{2, 33});
  CHECK(file.find("ids")->view().data<std::int32_t>()[0] >= 0);
  CHECK(file.find("logits")->view().shape() == Shape{2, 33, 1000});
}

TEST_CASE("a header of 100,000 tensors is read and written in time in proportion to it") {
  const ScratchFolder folder;
  const auto copy = [&](std::size_t tensors) {
    std::string header = "{";
    for (std::size_t i = 0; i < tensors; ++i) {
      header += (i > 0 ? ",\"t" : "\"t") + std::to_string(i) +
                R"(":{"dtype":"F32","shape":[0],"data_offsets":[0,0]})";
    }
    header += "}";
    header.append(8 - header.size() % 8, ' ');  // the data begin where floats can be read
    const auto path = folder.write("x.safetensors", file_of(header, 0));
    return quire::test::processor_seconds([&] {
      const Safetensors file(path);
      REQUIRE(file.tensors().size() == tensors);
      std::vector<quire::TensorToWrite> again;
      for (const FileTensor& tensor : file.tensors()) {
        CHECK_FALSE(file.find(tensor.name) != &tensor);
        again.push_back({tensor.name, tensor.view()});
      }
      quire::write_safetensors(folder / "y.safetensors", again);
      const std::string last = "t" + std::to_string(tensors - 1);
      CHECK(Safetensors(folder / "y.safetensors").find(last) != nullptr);
    });
  };
  // Comparing all pairs of names would be 10,000 times the work, not 100 times.
  CHECK(copy(100'000) < 1000 * copy(1000));
}

TEST_CASE("a header nested without end, or with a NUL byte in it, is refused") {
  CHECK(complaint(std::string(100'000, '[') + std::string(100'000, ']'), 0).find("nested deeper") !=
        std::string::npos);
  const std::string header = R"({"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}})";
  CHECK(complaint(header + std::string(8, '\0'), 0).find("a NUL byte") != std::string::npos);
}

TEST_CASE("what is not a safetensors file at all is called by its name") {
  const ScratchFolder folder;
  const auto says = [&](std::string_view text) {
    const auto path = folder.write("x.safetensors", text);
    return folder.message_of(Fault::bad_data, [&] { Safetensors file(path); });
  };
  CHECK(says("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 5\n") ==
        "error: DIR/x.safetensors is not a usable safetensors file\n"
        "  it is a Git LFS pointer, not the file of 5 bytes itself\n"
        "  try: git lfs pull in the folder that was cloned");
  CHECK(says("<!doctype html>\n<title>").find("a web page") != std::string::npos);
  CHECK(says("GGUF").find("a GGUF file") != std::string::npos);
  CHECK(says("Entry not found\r\n") ==
        "error: DIR/x.safetensors is not a usable safetensors file\n"
        "  it is a text, which begins: Entry not found\n"
        "  try: download or copy the file again");
  // As a length these are 559,903 bytes, which a large file has.
  CHECK(says(std::string("\x1F\x8B\x08\0\0\0\0\0", 8) + std::string(600'000, 'x'))
            .find("packed with gzip") != std::string::npos);
}
