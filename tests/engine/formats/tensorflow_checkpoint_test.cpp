#ifdef QUIRE_WITH_TENSORFLOW
#include "engine/formats/tensorflow_checkpoint.h"

#include <leveldb/env.h>
#include <leveldb/options.h>
#include <leveldb/table_builder.h>

#include <fstream>
#include <map>

#include "engine/formats/weight_files.h"
#include "tests/engine/formats/checkpoints.h"
#include "tests/engine/formats/tiny_char.h"
#include "tests/support/scratch.h"

namespace quire::test {
namespace {

namespace fs = std::filesystem;

// ---- protocol buffers: a field of a number, and one of bytes
std::string varint(std::uint64_t number) {
  std::string bytes;
  for (; number > 127; number >>= 7) bytes += static_cast<char>(number | 128);
  return bytes + static_cast<char>(number);
}
std::string field(int number, std::uint64_t value) {
  return varint(static_cast<std::uint64_t>(number) << 3) + varint(value);
}
std::string field(int number, const std::string& bytes) {
  return varint(static_cast<std::uint64_t>(number) << 3 | 2) + varint(bytes.size()) + bytes;
}

using Entries = std::map<std::string, std::string>;
struct Entry {
  std::uint64_t type = 1;  // float32
  std::vector<std::uint64_t> shape;
  std::uint64_t offset = 0, size = 0, shard = 0;
  std::string more = {};
};
std::string bytes_of(const Entry& entry) {
  std::string shape;
  for (const std::uint64_t extent : entry.shape) shape += field(2, field(1, extent));
  return field(1, entry.type) + field(2, shape) + field(3, entry.shard) + field(4, entry.offset) +
         field(5, entry.size) + entry.more;
}

class Written : public leveldb::WritableFile {
 public:
  leveldb::Status Append(const leveldb::Slice& data) override {
    text.append(data.data(), data.size());
    return {};
  }
  leveldb::Status Close() override { return {}; }
  leveldb::Status Flush() override { return {}; }
  leveldb::Status Sync() override { return {}; }

  std::string text;
};
std::string table(const Entries& entries, std::size_t block_size = 4096) {
  Written file;
  leveldb::Options options;
  options.compression = leveldb::kNoCompression;
  options.block_size = block_size;
  leveldb::TableBuilder builder(options, &file);
  for (const auto& [key, value] : entries) builder.Add(key, value);
  REQUIRE(builder.Finish().ok());
  return file.text;
}
std::string header(std::uint64_t shards, std::uint64_t endianness = 0) {
  return field(1, shards) + field(2, endianness);
}

/// A folder with model.ckpt of these entries and shards.
struct Checkpoint {
  ScratchFolder folder;
  explicit Checkpoint(const Entries& entries,
                      const std::vector<std::string>& shards = {std::string(64, '\0')},
                      std::size_t block_size = 4096) {
    folder.write("model.ckpt.index", table(entries, block_size));
    for (std::size_t i = 0; i < shards.size(); ++i) {
      folder.write(
          "model.ckpt.data-0000" + std::to_string(i) + "-of-0000" + std::to_string(shards.size()),
          shards[i]);
    }
  }
  TensorflowCheckpoint open() const { return TensorflowCheckpoint(folder / "model.ckpt.index"); }
  std::string refusal() const {
    std::string text = folder.message_of(Fault::bad_data, [&] { open(); });
    const std::string start = "error: DIR/model.ckpt.index is not a usable index of TensorFlow\n  ";
    return text.starts_with(start) ? text.substr(start.size()) : text;
  }
};
/// How one tensor, 'model/wte', is refused.
std::string refusal(const Entry& entry, std::uint64_t shards = 1) {
  return Checkpoint({{"", header(shards)}, {"model/wte", bytes_of(entry)}}).refusal();
}
bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("OpenAI's checkpoints hold the weights that were saved") {
  QUIRE_FIXTURE(folder, "models/tiny-char-tf");
  for (const fs::path& path : {folder, folder / "model.ckpt.index", folder / "checkpoint"}) {
    const TensorSource source = open_source(path);
    CHECK(source.path() == folder / "model.ckpt.index");
    CHECK(read_all(source) == tiny_char());
    REQUIRE(source.config());
    CHECK(source.config_origin() == "hparams.json");
    CHECK(source.config()->n_layer == 3);
    CHECK(source.config()->n_head == 4);
    CHECK(source.config()->n_embd == 128);
    CHECK(source.config()->n_positions == 256);
    CHECK(source.config()->eos_token_id == 999);
  }
}

TEST_CASE("names of GPT-2's graph become transformers', others stay") {
  const Entry one{.shape = {2}, .size = 8};
  const Entry product{.shape = {1, 2, 4}, .offset = 8, .size = 32};
  Checkpoint checkpoint({{"", header(1)},
                         {"global_step", bytes_of({.type = 9, .size = 8})},
                         {"model/h10/attn/c_attn/w", bytes_of(product)},
                         {"model/h10/ln_1/g", bytes_of(one)},
                         {"model/h10/ln_1/g/Adam", bytes_of(one)},
                         {"model/head/w", bytes_of(product)},
                         {"model/ln_f/b", bytes_of(one)},
                         {"model/wpe", bytes_of({.shape = {1, 2}, .size = 8})},
                         {"odd", bytes_of(product)}},
                        {floats({1, 2, 3, 4, 5, 6, 7, 8, 9, 10})}, 1);  // a block for each
  const TensorflowCheckpoint file = checkpoint.open();
  std::map<std::string, std::vector<std::int64_t>> shapes;
  for (const FileTensor& tensor : file.tensors()) shapes[tensor.name] = tensor.shape;
  CHECK(shapes ==
        std::map<std::string, std::vector<std::int64_t>>{{"global_step", {}},
                                                         {"h.10.attn.c_attn.weight", {2, 4}},
                                                         {"h.10.ln_1.weight", {2}},
                                                         {"model/h10/ln_1/g/Adam", {2}},
                                                         {"head.weight", {2, 4}},
                                                         {"ln_f.bias", {2}},
                                                         {"wpe.weight", {1, 2}},
                                                         {"odd", {1, 2, 4}}});
  CHECK(file.find("h.10.attn.c_attn.weight")->read_weight()[0] == 3.0f);
  CHECK_FALSE(file.config());
  checkpoint.folder.write("hparams.json",
                          R"({"n_vocab": 9, "n_ctx": 4, "n_head": 1, "n_embd": 2})");
  CHECK(checkpoint.open().config()->vocab_size == 9);
  checkpoint.folder.write("hparams.json", R"({"n_vocab": "many"})");
  CHECK(has(checkpoint.refusal(), "DIR/hparams.json: n_vocab is \"many\", not a whole number"));
  checkpoint.folder.write("hparams.json", R"({"n_embd": 5, "n_head": 2})");
  CHECK(has(checkpoint.refusal(), "model.ckpt.index: what its hparams.json says of the model"));
  checkpoint.folder.write("hparams.json", "[]");
  CHECK(has(checkpoint.refusal(), "it holds a JSON array, not an object"));
}

TEST_CASE("tensors lie in the shard that the index says") {
  Checkpoint checkpoint({{"", header(2)},
                         {"a", bytes_of({.shape = {1}, .size = 4})},
                         {"b", bytes_of({.shape = {2}, .offset = 4, .size = 8, .shard = 1})}},
                        {floats({1}), floats({2, 3, 4})});
  CHECK(checkpoint.open().find("b")->read_weight() == std::vector<float>{3, 4});
  fs::remove(checkpoint.folder / "model.ckpt.data-00001-of-00002");
  CHECK(
      checkpoint.refusal() ==
      "error: DIR/model.ckpt.data-00001-of-00002 is missing\n  model.ckpt.index puts tensors into "
      "it\n  try: download or copy the whole folder again");
  checkpoint.folder.write("checkpoint", "model_checkpoint_path: \"/home/a/model.ckpt-7\"\n");
  CHECK(checkpoint.folder.message_of(Fault::bad_data,
                                     [&] { open_source(checkpoint.folder.path()); }) ==
        "error: DIR/model.ckpt-7.index is missing\n  checkpoint names it as the checkpoint\n"
        "  try: download or copy the whole folder again");
}

TEST_CASE("entries of TensorFlow's index that no tensor has are refused by name") {
  const std::uint64_t huge = std::uint64_t{1} << 60;
  CHECK(has(refusal({.shape = {4}, .size = 12}), "tensor 'model/wte' of F32 [4] has 12 bytes"));
  CHECK(has(refusal({.shape = {huge, huge}, .size = 12}), "has 12 bytes"));
  CHECK(has(refusal({.shape = {UINT64_MAX}, .size = 4}), "has an extent that is not known"));
  CHECK(
      refusal({.shape = {4}, .offset = 52, .size = 16}) ==
      "error: DIR/model.ckpt.data-00000-of-00001: tensor 'wte.weight' lies outside the file: byte "
      "52, 16 bytes long, of 64\n  try: download or copy the whole folder again");
  CHECK(has(refusal({.shape = {4}, .offset = UINT64_MAX, .size = 16}),
            "lies outside the file: byte -1"));
  CHECK(has(refusal({.shape = {huge}, .size = huge * 4}), "lies outside the file"));
  CHECK(has(refusal({.shape = {4}, .size = 16, .shard = 1}), "lies in shard 1 of 1"));
  CHECK(has(refusal({.shape = {4}, .size = 16, .shard = UINT64_MAX}), "lies in shard -1 of 1"));
  CHECK(has(refusal({.shape = {4}, .size = 16}, 0), "lies in shard 0 of 0"));
  CHECK(has(refusal({.type = 7, .shape = {4}, .size = 16}), "is of TensorFlow's type 7"));
  CHECK(has(refusal({.shape = {4}, .size = 16, .more = field(7, std::string())}),
            "is divided into slices"));
  CHECK(has(refusal({.shape = {4}, .size = 16, .more = "\x12\x7f"}), "has a damaged entry"));
  CHECK(has(Checkpoint(Entries{{"", header(1, 1)}}).refusal(), "its byte order is big-endian"));
  CHECK(has(Checkpoint(Entries{{"", "\x0a\x7f"}}).refusal(), "its header is damaged"));
  CHECK(has(Checkpoint(Entries{{"model/wte", ""}}).refusal(), "it has no header"));
  CHECK(has(Checkpoint(Entries{}).refusal(), "it has no header"));
}

TEST_CASE("a table of LevelDB whose blocks are not what it says is refused before it is read") {
  const Entries entries = {{"", header(1)}, {"model/wte", bytes_of({.shape = {4}, .size = 16})}};
  const std::string good = table(entries);
  const Checkpoint checkpoint(entries);
  const auto says = [&](const std::string& bytes, const std::string& part) {
    checkpoint.folder.write("model.ckpt.index", bytes);
    INFO(checkpoint.refusal());
    CHECK(has(checkpoint.refusal(), part));
  };
  const std::string no_table = "it is no table, or ends too early, or its blocks lie outside";
  says("", no_table);
  says("PK\3\4", "it is a PyTorch checkpoint or a zip archive");
  const std::string magic = good.substr(good.size() - 8);
  for (const std::string& places :
       {varint(0) + varint(0) + varint(std::uint64_t{1} << 60) + varint(8),
        varint(0) + varint(0) + varint(0) + varint(std::uint64_t{1} << 60),
        varint(0) + varint(0) + varint(0) + varint(UINT64_MAX),
        varint(UINT64_MAX) + varint(UINT64_MAX), std::string(9, '\xff')}) {
    std::string footer = places;
    footer.resize(40);
    says(good.substr(0, good.size() - 48) + footer + magic, no_table);
  }
  // An index of blocks that lie elsewhere: LevelDB would allocate what they claim, and one byte
  // less than none for 2^64 - 5.
  for (const std::string& place :
       {varint(0) + varint(std::uint64_t{1} << 60), varint(0) + varint(UINT64_MAX - 4),
        varint(std::uint64_t{1} << 60) + varint(8), varint(0), std::string()}) {
    const std::string one = varint(0) + varint(1) + varint(place.size()) + "z" + place;
    const std::string index = one + little(0) + little(1);
    const std::string empty = little(0) + little(1);
    std::string footer =
        varint(0) + varint(empty.size()) + varint(empty.size() + 5) + varint(index.size());
    footer.resize(40);
    says(empty + std::string(5, '\0') + index + std::string(5, '\0') + footer + magic, no_table);
  }
  // Two places of one block, which would be read for each of them.
  {
    const std::size_t size = good.find(std::string(4, '\0') + little(1)) + 8;
    std::string index;
    for (const char* key : {"y", "z"}) {
      const std::string place = varint(0) + varint(size);
      index += varint(0) + varint(1) + varint(place.size()) + key + place;
    }
    index += little(0) + little(1);
    const std::string data = good.substr(0, size + 5);
    std::string footer = varint(0) + varint(size) + varint(size + 5) + varint(index.size());
    footer.resize(40);
    says(data + index + std::string(5, '\0') + footer + magic, no_table);
  }
  says(table({{"", header(1)}, {std::string(513, 'a'), ""}}), "a tensor's name has 513 bytes");
  says(std::string((std::size_t{1} << 22) + 1, '\0'), no_table);
  // What is compressed, and what has another checksum.
  std::string packed = good;
  packed[good.find("model/wte") + bytes_of({.shape = {4}, .size = 16}).size() + 9 + 8] = 1;
  says(packed, no_table);
  std::string flipped = good;
  flipped[good.find("model/wte")] ^= 1;
  says(flipped, "LevelDB: Corruption: block checksum mismatch");
}

}  // namespace quire::test
#endif
