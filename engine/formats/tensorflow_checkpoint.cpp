#include "engine/formats/tensorflow_checkpoint.h"

#include <fmt/format.h>
#include <google/protobuf/io/coded_stream.h>
#include <leveldb/env.h>
#include <leveldb/iterator.h>
#include <leveldb/options.h>
#include <leveldb/table.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/error.h"
#include "base/foreign_file.h"
#include "base/json.h"
#include "tensor_bundle.pb.h"

namespace quire {
namespace {

namespace fs = std::filesystem;
using google::protobuf::io::CodedInputStream;

constexpr const char* kIndex = ".index";
constexpr const char* kFetchAgain = "download or copy the whole folder again";

/// TensorFlow's types by their numbers there (types.proto), and what safetensors calls them.
struct NumberedType {
  int number;
  std::string_view name;
};
constexpr NumberedType kTypes[] = {
    {1, "F32"},   {2, "F64"},   {3, "I32"},  {4, "U8"},   {5, "I16"},  {6, "I8"},  {9, "I64"},
    {10, "BOOL"}, {14, "BF16"}, {17, "U16"}, {19, "F16"}, {22, "U32"}, {23, "U64"}};

/// LevelDB's view of a file that is mapped.
class Mapped : public leveldb::RandomAccessFile {
 public:
  explicit Mapped(std::string_view text) : text_(text) {}
  leveldb::Status Read(std::uint64_t offset, std::size_t size, leveldb::Slice* result,
                       char* /*scratch*/) const override {
    const std::string_view part = text_.substr(std::min<std::uint64_t>(offset, text_.size()), size);
    *result = leveldb::Slice(part.data(), part.size());
    return {};
  }

 private:
  std::string_view text_;
};

/// Where blocks of a table lie. LevelDB allocates what a block's place says before it asks whether
/// the file has so much, and unpacks compressed ones, which TensorFlow never writes, to any size: so
/// all places are looked at before it sees the file. Its formats are in its table_format.md: at the
/// end two places, those of the meta index and of the index, and 8 bytes of magic; a block has
/// entries (shared, own and value's sizes, own part of the key, value), u32 places of some of them
/// and how many these are; a type (0: as it is) and a checksum follow it.
class Blocks {
 public:
  static constexpr std::size_t kFooter = 48, kTrailer = 5;

  explicit Blocks(std::string_view table) : table_(table) {}

  bool are_sound() const {
    constexpr std::string_view kMagic = "\x57\xfb\x80\x8b\x24\x75\x47\xdb";
    if (table_.size() < kFooter || !table_.ends_with(kMagic)) return false;
    CodedInputStream footer = stream(table_.substr(table_.size() - kFooter));
    std::string_view meta, index;
    std::uint64_t end = 0;  // of the block before
    return read_block(footer, end, meta) && read_block(footer, end, index) &&
           refers_to_blocks(index);
  }

 private:
  static CodedInputStream stream(std::string_view bytes) {
    return CodedInputStream(reinterpret_cast<const std::uint8_t*>(bytes.data()),
                            static_cast<int>(bytes.size()));
  }
  /// Reads a place, and the block there, from `after` on: were two in one place, a small file could
  /// have any number of entries.
  bool read_block(CodedInputStream& in, std::uint64_t& after, std::string_view& block) const {
    const std::size_t end = table_.size() - kFooter;
    std::uint64_t offset = 0, size = 0;
    if (!in.ReadVarint64(&offset) || !in.ReadVarint64(&size)) return false;
    if (offset > end || size > end - offset || end - offset - size < kTrailer) return false;
    if (offset < after) return false;
    after = offset + size + kTrailer;
    block = table_.substr(offset, size);
    return table_[offset + size] == 0;
  }
  /// Whether every value of an index is the place of a block.
  bool refers_to_blocks(std::string_view index) const {
    std::uint32_t places = 0, first = 0;
    if (index.size() < 2 * sizeof places) return false;
    std::memcpy(&places, index.data() + index.size() - sizeof places, sizeof places);
    if (places == 0 || places > index.size() / sizeof places - 1) return false;
    const std::size_t end = index.size() - (std::size_t{places} + 1) * sizeof places;
    std::memcpy(&first, index.data() + end, sizeof first);
    if (first != 0) return false;  // LevelDB begins there
    std::uint64_t after = 0;
    CodedInputStream in = stream(index.substr(0, end));
    while (in.CurrentPosition() < static_cast<int>(end)) {
      std::uint32_t shared = 0, own = 0, value = 0;
      if (!in.ReadVarint32(&shared) || !in.ReadVarint32(&own) || !in.ReadVarint32(&value)) {
        return false;
      }
      const auto left =
          static_cast<std::uint32_t>(end) - static_cast<std::uint32_t>(in.CurrentPosition());
      if (own > left || value > left - own || !in.Skip(static_cast<int>(own))) return false;
      CodedInputStream at =
          stream(index.substr(static_cast<std::size_t>(in.CurrentPosition()), std::size_t{value}));
      std::string_view block;
      if (!read_block(at, after, block) || !in.Skip(static_cast<int>(value))) return false;
    }
    return true;
  }

  std::string_view table_;
};

/// "model/h0/attn/c_attn/w" -> "h.0.attn.c_attn.weight"; other names as they are.
std::string hub_name(std::string_view name) {
  std::string_view rest = name;
  constexpr std::string_view kModel = "model/";
  if (!rest.starts_with(kModel)) return std::string(name);
  rest.remove_prefix(kModel.size());
  if (rest == "wte" || rest == "wpe") return std::string(rest) + ".weight";
  std::string renamed;
  if (rest.size() > 1 && rest[0] == 'h' && rest[1] >= '0' && rest[1] <= '9') {
    renamed = "h.";
    rest.remove_prefix(1);
  }
  const std::size_t last = rest.rfind('/');
  if (last == std::string_view::npos) return std::string(name);
  const std::string_view kind = rest.substr(last + 1);
  if (kind != "w" && kind != "g" && kind != "b") return std::string(name);
  renamed += rest.substr(0, last);
  std::replace(renamed.begin(), renamed.end(), '/', '.');
  return renamed + (kind == "b" ? ".bias" : ".weight");
}

/// The index that `checkpoint` names: model_checkpoint_path: "model.ckpt". Where it was written the
/// name may have had a path, which it has no longer here.
fs::path index_of(const fs::path& file) {
  if (file.extension() == kIndex) return file;
  const MappedFile mapped(file);
  std::string_view name = mapped.text().substr(0, mapped.text().find('\n'));
  name.remove_prefix(std::min(name.size(), name.find('"') + 1));
  const fs::path prefix = fs::path(name.substr(0, name.find('"'))).filename();
  fs::path index = file.parent_path() / (prefix.string() + kIndex);
  std::error_code ignored;
  if (prefix.empty() || !fs::exists(index, ignored)) {
    throw Error(Fault::bad_data, index.string() + " is missing",
                {file.filename().string() + " names it as the checkpoint"}, kFetchAgain);
  }
  return index;
}

class Reader {
 public:
  explicit Reader(const fs::path& index) : index_(index) {}

  [[noreturn]] void fail(const std::string& why, const std::string& next = kFetchAgain) const {
    throw Error(Fault::bad_data, index_.string() + " is not a usable index of TensorFlow", {why},
                next);
  }
  /// The tensors, in the order of their names.
  std::vector<FileTensor> read();

 private:
  void read_header(const leveldb::Slice& value);
  FileTensor tensor(std::string_view name, const leveldb::Slice& value);
  const std::shared_ptr<const MappedFile>& shard(int number);

  fs::path index_;
  int shard_count_ = 0;
  std::map<int, std::shared_ptr<const MappedFile>> shards_;  // those that are used
};

std::vector<FileTensor> Reader::read() {
  const MappedFile file(index_);
  // A GPT-2's has 70 bytes for each tensor: 120 KB for the largest and its optimizer.
  constexpr std::size_t kMost = std::size_t{1} << 22;
  if (file.text().size() > kMost || !Blocks(file.text()).are_sound()) {
    const auto foreign = recognise_foreign(file.text().substr(0, 1024));
    fail(foreign ? foreign->what : "it is no table, or ends too early, or its blocks lie outside",
         foreign ? foreign->next : kFetchAgain);
  }
  const Mapped source(file.text());
  leveldb::Options options;
  options.paranoid_checks = true;
  leveldb::Table* opened = nullptr;
  leveldb::ReadOptions reading;
  reading.verify_checksums = true;
  const auto require = [&](const leveldb::Status& status) {
    if (!status.ok()) fail("LevelDB: " + status.ToString());
  };
  require(leveldb::Table::Open(options, const_cast<Mapped*>(&source), file.text().size(), &opened));
  const std::unique_ptr<leveldb::Table> table(opened);
  const std::unique_ptr<leveldb::Iterator> entry(table->NewIterator(reading));
  entry->SeekToFirst();
  require(entry->status());
  if (!entry->Valid() || !entry->key().empty()) fail("it has no header");
  read_header(entry->value());
  std::vector<FileTensor> tensors;
  for (entry->Next(); entry->Valid(); entry->Next()) {
    tensors.push_back(tensor({entry->key().data(), entry->key().size()}, entry->value()));
  }
  require(entry->status());
  return tensors;
}

void Reader::read_header(const leveldb::Slice& value) {
  tensor_bundle::Header header;
  if (!header.ParseFromArray(value.data(), static_cast<int>(value.size()))) {
    fail("its header is damaged");
  }
  if (header.endianness() != tensor_bundle::Header::LITTLE) {
    fail("its byte order is big-endian; little-endian files are read", "");
  }
  shard_count_ = header.num_shards();
}

const std::shared_ptr<const MappedFile>& Reader::shard(int number) {
  std::shared_ptr<const MappedFile>& file = shards_[number];
  if (!file) {
    const std::string prefix = index_.stem().string();
    const fs::path path =
        index_.parent_path() / fmt::format("{}.data-{:05}-of-{:05}", prefix, number, shard_count_);
    std::error_code ignored;
    if (!fs::exists(path, ignored)) {
      throw Error(Fault::bad_data, path.string() + " is missing",
                  {index_.filename().string() + " puts tensors into it"}, kFetchAgain);
    }
    file = std::make_shared<const MappedFile>(path);
  }
  return file;
}

FileTensor Reader::tensor(std::string_view name, const leveldb::Slice& value) {
  const auto refuse = [&](const std::string& why, const std::string& next = kFetchAgain) {
    fail(fmt::format("tensor '{}' {}", name, why), next);
  };
  // A key may repeat the one before it and add a byte: a small table could have long ones.
  constexpr std::size_t kLongest = 512;
  if (name.size() > kLongest) fail(fmt::format("a tensor's name has {} bytes", name.size()));
  tensor_bundle::Entry entry;
  if (!entry.ParseFromArray(value.data(), static_cast<int>(value.size()))) {
    refuse("has a damaged entry");
  }
  if (entry.slices_size() > 0) {
    refuse("is divided into slices", "save the model without partitioned variables");
  }
  const auto* const type = std::find_if(std::begin(kTypes), std::end(kTypes),
                                        [&](const auto& t) { return t.number == entry.dtype(); });
  if (type == std::end(kTypes)) {
    refuse(fmt::format("is of TensorFlow's type {}, which no weights are", entry.dtype()), "");
  }
  FileTensor tensor;
  tensor.name = hub_name(name);
  tensor.type = element_type(type->name);
  for (const tensor_bundle::Shape::Dim& dim : entry.shape().dim()) {
    if (dim.size() < 0) refuse("has an extent that is not known");
    tensor.shape.push_back(dim.size());
  }
  const std::optional<std::size_t> bytes = element_type(type->name)->bytes_of(tensor.shape);
  if (!bytes || entry.shape().unknown_rank() || std::uint64_t(entry.size()) != *bytes) {
    refuse(fmt::format("of {} {} has {} bytes", type->name, to_string(tensor.shape), entry.size()));
  }
  if (entry.shard_id() < 0 || entry.shard_id() >= shard_count_) {
    refuse(fmt::format("lies in shard {} of {}", entry.shard_id(), shard_count_));
  }
  tensor.file = shard(entry.shard_id());
  const std::span<const std::byte> data = tensor.file->bytes();
  const auto offset = static_cast<std::uint64_t>(entry.offset());
  if (offset > data.size() || *bytes > data.size() - offset) {
    throw Error(Fault::bad_data,
                fmt::format("{} lies outside the file: byte {}, {} bytes long, of {}",
                            tensor.where(), entry.offset(), *bytes, data.size()),
                {}, kFetchAgain);
  }
  tensor.bytes = data.subspan(offset, *bytes);
  // A convolution over one position is a product.
  if (tensor.name != name && tensor.shape.size() == 3 && tensor.shape[0] == 1) {
    tensor.shape.erase(tensor.shape.begin());
  }
  return tensor;
}

std::optional<Gpt2Config> read_hparams(const fs::path& file) {
  using Json = nlohmann::ordered_json;
  if (std::error_code ignored; !fs::exists(file, ignored)) return {};
  const Json json = parse_json_file<Json>(file);
  if (!json.is_object()) {
    throw Error(Fault::bad_data, file.string() + " is not a model's configuration",
                {fmt::format("it holds a JSON {}, not an object", json.type_name())});
  }
  JsonFields<Json> fields(
      json, file.string(), [&](const auto& name, const auto& value, const auto& wanted, auto next) {
        return Error(
            Fault::bad_data,
            fmt::format("{}: {} is {}, not {}", file.string(), name, json_text(value), wanted), {},
            next);
      });
  Gpt2Config config;
  fields.read("n_vocab", config.vocab_size);
  fields.read("n_ctx", config.n_positions);
  fields.read("n_embd", config.n_embd);
  fields.read("n_head", config.n_head);
  fields.read("n_layer", config.n_layer);
  if (config.vocab_size > 0) {  // <|endoftext|> is the last
    config.bos_token_id = config.eos_token_id = config.vocab_size - 1;
  }
  return config;
}

}  // namespace

bool begins_as_tensorflow_index(std::string_view beginning) {
  // The first key is empty: nothing shared, nothing of its own, a value of a few bytes, whose first
  // field is the number of shards.
  return beginning.size() > 4 && beginning[0] == 0 && beginning[1] == 0 && beginning[3] == 8;
}

bool begins_as_tensorflow_checkpoint(std::string_view beginning) {
  return beginning.starts_with("model_checkpoint");
}

TensorflowCheckpoint::TensorflowCheckpoint(const fs::path& index_or_checkpoint)
    : TensorSource(index_of(index_or_checkpoint)) {
  for (FileTensor& tensor : Reader(path()).read()) add(std::move(tensor));
  const std::optional<Gpt2Config> config = read_hparams(path().parent_path() / "hparams.json");
  if (config) set_config(*config, "hparams.json");
}

}  // namespace quire
