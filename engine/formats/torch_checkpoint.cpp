#include "engine/formats/torch_checkpoint.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "base/file.h"
#include "base/foreign_file.h"
#include "engine/formats/pickle.h"
#include "engine/formats/zip.h"

namespace quire {
namespace {

using Kind = Pickled::Kind;

/// The storages of PyTorch, by the names that safetensors has for their types.
struct StorageType {
  std::string_view global, dtype_name;
};
constexpr StorageType kStorages[] = {
    {"torch FloatStorage", "F32"},  {"torch HalfStorage", "F16"}, {"torch BFloat16Storage", "BF16"},
    {"torch DoubleStorage", "F64"}, {"torch LongStorage", "I64"}, {"torch IntStorage", "I32"},
    {"torch ShortStorage", "I16"},  {"torch CharStorage", "I8"},  {"torch ByteStorage", "U8"},
    {"torch BoolStorage", "BOOL"},
};
constexpr std::string_view kRebuildTensor = "torch._utils _rebuild_tensor_v2";
constexpr std::string_view kRebuildParameter = "torch._utils _rebuild_parameter";

std::vector<std::string_view> allowed_globals() {
  std::vector<std::string_view> names = {kRebuildTensor, kRebuildParameter,
                                         "collections OrderedDict", "torch Size"};
  for (const StorageType& type : kStorages) names.push_back(type.global);
  return names;
}

// A file without zip begins with this number, of 80 bits.
constexpr std::string_view kMagic = "\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";
constexpr std::int64_t kProtocol = 1001;

class Reader {
 public:
  explicit Reader(const std::filesystem::path& path)
      : file_(std::make_shared<const MappedFile>(path)),
        what_(path.string() + " is not a usable PyTorch checkpoint") {
    if (begins_as_zip(file_->text())) {
      open_zip();
    } else {
      open_pickles();
    }
  }

  [[noreturn]] void fail(const std::string& why, std::string next = {}) const {
    throw Error(Fault::bad_data, what_, {why}, std::move(next));
  }
  const Pickled& root() const { return pickles_.back().value(); }
  /// nullopt: not a tensor.
  std::optional<FileTensor> tensor(const std::string& name, const Pickled& value) const;

 private:
  struct Storage {
    std::string_view key;
    const ElementType* type;
    std::int64_t count;
  };

  void read_pickle(std::string_view bytes) { pickles_.emplace_back(bytes, globals_, what_); }
  void open_zip();
  void open_pickles();
  Storage storage_of(const Pickled& persistent) const;
  std::int64_t integer_of(const Pickled& value) const;
  std::vector<std::int64_t> integers_of(const Pickled& tuple) const;

  std::shared_ptr<const MappedFile> file_;
  std::string what_;
  const std::vector<std::string_view> globals_ = allowed_globals();
  std::vector<Pickle> pickles_;  // the last one has the weights
  std::map<std::string, std::span<const std::byte>, std::less<>> storages_;  // by key
};

void Reader::open_zip() {
  const auto files = files_of_zip(file_->bytes(), [&](const std::string& why) { fail(why); });
  constexpr std::string_view kPickle = "/data.pkl";
  const auto pickle = std::find_if(files.begin(), files.end(),
                                   [&](const auto& file) { return file.first.ends_with(kPickle); });
  if (pickle == files.end()) fail("the archive has no data.pkl: torch.save() did not write it");
  const std::string folder(pickle->first.substr(0, pickle->first.size() - kPickle.size()));
  const auto text = [](std::span<const std::byte> bytes) {
    return std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  };
  if (const auto order = files.find(folder + "/byteorder");
      order != files.end() && text(order->second) != "little") {
    fail(fmt::format("its byte order is '{}'; little-endian files are read", text(order->second)));
  }
  read_pickle(text(pickle->second));
  const std::string prefix = folder + "/data/";
  for (const auto& [name, bytes] : files) {
    if (name.starts_with(prefix)) storages_.emplace(name.substr(prefix.size()), bytes);
  }
}

/// Five pickles (a number, a protocol, the sizes of types, the object, the storages' keys), then for
/// each key the number of elements in 8 bytes, and these.
void Reader::open_pickles() {
  std::string_view rest = file_->text();
  const auto next = [&]() -> const Pickled& {
    read_pickle(rest);
    rest.remove_prefix(pickles_.back().size());
    return root();
  };
  // Checked before a pickle is read: most files are none. From protocol 4 on it comes behind a frame.
  if (rest.substr(0, 32).find(kMagic) == std::string_view::npos) {
    if (rest.starts_with('\x80')) fail("it is a pickle, but not one of torch.save()");
    const auto foreign = recognise_foreign(rest.substr(0, 1024));
    fail(foreign ? foreign->what : "it begins as no file of torch.save() does",
         foreign ? foreign->next : "download or copy the file again");
  }
  next();
  if (!next().is(Kind::integer) || root().integer != kProtocol) fail("its protocol is not 1001");
  if (const Pickled* little = next().find("little_endian"); little && little->integer != 1) {
    fail("its byte order is big-endian; little-endian files are read");
  }
  next();
  std::map<std::string_view, Storage> known;
  for (const Pickled& value : pickles_.back().values()) {
    if (!value.is(Kind::persistent)) continue;
    const Storage storage = storage_of(value);
    known.emplace(storage.key, storage);
  }
  Pickle keys(rest, globals_, what_);
  rest.remove_prefix(keys.size());
  for (const Pickled* key : keys.value().parts) {
    const auto storage = known.find(key->text);
    if (storage == known.end()) fail(fmt::format("nothing uses its storage '{}'", key->text));
    std::int64_t count = 0;
    if (rest.size() < sizeof count) fail("it ends before its last storage");
    std::memcpy(&count, rest.data(), sizeof count);
    rest.remove_prefix(sizeof count);
    const std::optional<std::size_t> bytes = storage->second.type->bytes_of({&count, 1});
    if (count < 0 || count != storage->second.count || !bytes || *bytes > rest.size()) {
      fail(fmt::format(
               "its storage '{}' should have {} elements, has {}, and the file {} bytes more",
               key->text, storage->second.count, count, rest.size()),
           "download or copy the file again");
    }
    storages_.emplace(key->text, std::as_bytes(std::span(rest.substr(0, *bytes))));
    rest.remove_prefix(*bytes);
  }
}

std::int64_t Reader::integer_of(const Pickled& value) const {
  if (!value.is(Kind::integer) || !value.text.empty() || value.integer < 0) {
    fail("a size or a place is no number");
  }
  return value.integer;
}

std::vector<std::int64_t> Reader::integers_of(const Pickled& tuple) const {
  // One that many tensors share could take much memory; a mask has 4.
  constexpr std::size_t kMostExtents = 8;
  if (!tuple.is(Kind::tuple)) fail("a shape is none");
  if (tuple.parts.size() > kMostExtents) {
    fail(fmt::format("a tensor has {} extents", tuple.parts.size()));
  }
  std::vector<std::int64_t> integers;
  for (const Pickled* value : tuple.parts) integers.push_back(integer_of(*value));
  return integers;
}

/// Whether elements with these strides, in elements, lie one after the other.
bool lies_in_order(const std::vector<std::int64_t>& shape,
                   const std::vector<std::int64_t>& strides) {
  std::int64_t count = 1;  // of a tensor in a file: no overflow
  if (strides.size() != shape.size()) return false;
  for (std::size_t i = shape.size(); i-- > 0; count *= shape[i]) {
    if (shape[i] != 1 && strides[i] != count) return false;
  }
  return true;
}

/// ("storage", its type, its key, a device, its elements, …).
Reader::Storage Reader::storage_of(const Pickled& persistent) const {
  const std::vector<const Pickled*>& id = persistent.parts[0]->parts;
  if (!persistent.parts[0]->is(Kind::tuple) || id.size() < 5 || id[0]->text != "storage") {
    fail("it refers to something that is no storage");
  }
  const auto* const type =
      std::find_if(std::begin(kStorages), std::end(kStorages), [&](const StorageType& known) {
        return id[1]->is(Kind::global) && id[1]->text == known.global;
      });
  if (type == std::end(kStorages)) fail("a storage is of an unknown type");
  // Before PyTorch 0.4 a sixth part said that the storage is a piece of another.
  if (id.size() > 5 && !id[5]->is(Kind::none)) {
    fail("a storage is part of another", "load it with PyTorch and save it again");
  }
  return {id[2]->text, element_type(type->dtype_name), integer_of(*id[4])};
}

std::optional<FileTensor> Reader::tensor(const std::string& name, const Pickled& value) const {
  const Pickled* call = &value;
  const auto calls = [&](std::string_view function, std::size_t arguments) {
    return call->is(Kind::call) && call->parts[0]->text == function &&
           call->parts[1]->parts.size() >= arguments;
  };
  if (calls(kRebuildParameter, 1)) call = call->parts[1]->parts[0];
  if (!calls(kRebuildTensor, 4)) return {};
  const std::vector<const Pickled*>& arguments = call->parts[1]->parts;
  if (!arguments[0]->is(Kind::persistent)) fail(fmt::format("tensor '{}' has no storage", name));
  const Storage storage = storage_of(*arguments[0]);
  const auto data = storages_.find(storage.key);
  if (data == storages_.end()) {
    fail(fmt::format("tensor '{}' lies in storage '{}', which is not there", name, storage.key));
  }

  FileTensor tensor;
  tensor.name = name;
  tensor.type = storage.type;
  tensor.file = file_;
  tensor.shape = integers_of(*arguments[2]);
  const std::vector<std::int64_t> strides = integers_of(*arguments[3]);
  const std::optional<std::size_t> size = storage.type->bytes_of(tensor.shape);
  const auto offset = static_cast<std::uint64_t>(integer_of(*arguments[1]));
  const auto element = static_cast<std::size_t>(storage.type->block_bytes);
  if (!size || offset > data->second.size() / element ||
      *size > data->second.size() - offset * element) {
    fail(fmt::format("tensor '{}' of shape {} lies outside its storage of {} bytes", name,
                     to_string(tensor.shape), data->second.size()),
         "download or copy the file again");
  }
  // What .t() made of a matrix is saved as the matrix that it was.
  tensor.transposed =
      tensor.shape.size() == 2 && !lies_in_order(tensor.shape, strides) &&
      lies_in_order({tensor.shape[1], tensor.shape[0]}, {strides.rbegin(), strides.rend()});
  if (*size != 0 && !tensor.transposed && !lies_in_order(tensor.shape, strides)) {
    fail(fmt::format("tensor '{}' of shape {} is stored with the strides {}", name,
                     to_string(tensor.shape), to_string(strides)),
         "save it with .contiguous()");
  }
  tensor.bytes = data->second.subspan(offset * element, *size);
  return tensor;
}

/// Without what torch.compile() and DistributedDataParallel put in front.
std::string plain_name(std::string_view name) {
  for (bool again = true; again;) {
    again = false;
    for (const std::string_view wrapper : {"_orig_mod.", "module."}) {
      if (!name.starts_with(wrapper)) continue;
      name.remove_prefix(wrapper.size());
      again = true;
    }
  }
  return std::string(name);
}

/// nanoGPT's own: its modules are Linear, whose weights are [out, in], and where model_args has
/// bias=False, neither they nor its layernorms have one.
class NanoGpt {
 public:
  NanoGpt(const Reader& reader, const Pickled& model_args) : reader_(reader), args_(model_args) {}

  /// Turns the weights of Linears.
  static void turn(FileTensor& tensor) {
    if (tensor.shape.size() != 2 || kind_of(tensor.name) != Of::linear) return;
    std::swap(tensor.shape[0], tensor.shape[1]);
    tensor.transposed = !tensor.transposed;
  }
  /// The biases that it was trained without, as zeros.
  std::vector<FileTensor> biases(const std::vector<FileTensor>& weights) const;
  Gpt2Config config(const FileTensor* table) const;

 private:
  enum class Of { linear, layernorm, other };
  static Of kind_of(std::string_view name);
  std::optional<int> number(std::string_view name) const {
    const Pickled* value = args_.find(name);
    if (value == nullptr || !value->is(Kind::integer)) return {};
    if (!value->text.empty() || value->integer != static_cast<int>(value->integer)) return {};
    return static_cast<int>(value->integer);
  }

  const Reader& reader_;
  const Pickled& args_;
};

NanoGpt::Of NanoGpt::kind_of(std::string_view name) {
  constexpr std::string_view kWeight = ".weight";
  if (!name.ends_with(kWeight)) return Of::other;
  name.remove_suffix(kWeight.size());
  for (const char* module : {".attn.c_attn", ".attn.c_proj", ".mlp.c_fc", ".mlp.c_proj"}) {
    if (name.ends_with(module)) return Of::linear;
  }
  for (const char* module : {".ln_1", ".ln_2", "ln_f"}) {
    if (name.ends_with(module)) return Of::layernorm;
  }
  return Of::other;
}

std::vector<FileTensor> NanoGpt::biases(const std::vector<FileTensor>& weights) const {
  const Pickled* bias = args_.find("bias");
  if (bias == nullptr || !bias->is(Kind::boolean) || bias->integer != 0) return {};
  std::vector<FileTensor> biases;
  const ElementType& type = *element_type(DType::f32);
  std::size_t longest = 0;
  for (const FileTensor& weight : weights) {
    const Of of = kind_of(weight.name);
    if (of == Of::other || weight.shape.empty() || weight.bytes.empty()) continue;
    FileTensor& zeros = biases.emplace_back();
    zeros.name = weight.name.substr(0, weight.name.size() - std::strlen("weight")) + "bias";
    zeros.type = &type;
    zeros.shape = {weight.shape.back()};  // out
    longest = std::max(longest, *type.bytes_of(zeros.shape));
  }
  ScratchFile scratch;
  scratch.write(std::string(longest, '\0'));
  const auto file = std::make_shared<const MappedFile>(scratch);
  for (FileTensor& zeros : biases) {
    zeros.bytes = file->bytes().first(*type.bytes_of(zeros.shape));
    zeros.file = file;
  }
  return biases;
}

Gpt2Config NanoGpt::config(const FileTensor* table) const {
  Gpt2Config config;
  const auto require = [&](const char* name) {
    const std::optional<int> value = number(name);
    if (!value) reader_.fail(fmt::format("its model_args have no number '{}'", name));
    return *value;
  };
  config.n_layer = require("n_layer");
  config.n_head = require("n_head");
  config.n_embd = require("n_embd");
  config.n_positions = require("block_size");
  config.vocab_size = number("vocab_size").value_or(0);
  if (config.vocab_size == 0 && table != nullptr && !table->shape.empty()) {
    config.vocab_size = static_cast<int>(std::min<std::int64_t>(table->shape[0], INT32_MAX));
  }
  config.activation_function = Activation::gelu;  // nn.GELU(), by erf
  // Its data are GPT-2's ids, or those of characters, which have no end of text.
  if (config.vocab_size <= config.eos_token_id) config.bos_token_id = config.eos_token_id = {};
  return config;
}

}  // namespace

TorchCheckpoint::TorchCheckpoint(const std::filesystem::path& path) : TensorSource(path) {
  const Reader reader(path);
  const Pickled* const model_args = reader.root().find("model_args");
  const Pickled* weights = &reader.root();
  for (const char* entry : {"model", "state_dict", "model_state_dict"}) {
    const Pickled* inner = reader.root().find(entry);
    if (inner != nullptr && (inner->is(Kind::dict) || inner->is(Kind::call))) weights = inner;
  }
  // Of a call, collections.OrderedDict, the function and its arguments come first.
  for (std::size_t i = weights->is(Kind::call) ? 2 : 0; i + 1 < weights->parts.size(); i += 2) {
    const Pickled& key = *weights->parts[i];
    if (!key.is(Kind::text)) continue;
    std::optional<FileTensor> tensor = reader.tensor(plain_name(key.text), *weights->parts[i + 1]);
    if (!tensor) continue;
    if (model_args != nullptr) NanoGpt::turn(*tensor);
    add(std::move(*tensor));
  }
  if (tensors().empty()) {
    reader.fail("it holds no tensors by name",
                "save the model's state dict: torch.save(model.state_dict(), FILE)");
  }
  if (model_args == nullptr) return;
  const NanoGpt model(reader, *model_args);
  for (FileTensor& bias : model.biases(tensors())) {
    if (find(bias.name) == nullptr) add(std::move(bias));
  }
  const FileTensor* table = find("transformer.wte.weight");
  set_config(model.config(table), "model_args");
}

}  // namespace quire
