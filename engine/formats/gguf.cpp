#include "engine/formats/gguf.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <utility>

#include "base/error.h"
#include "base/foreign_file.h"
#include "engine/formats/gguf_names.h"

namespace quire {
namespace {

constexpr const char* kFetchAgain = "download or copy the file again";
constexpr std::uint64_t kMostTensors = 1 << 16;  // a GPT-2 has 12 for each of its layers
constexpr std::uint32_t kMostExtents = 4;

class Reader {
 public:
  explicit Reader(const MappedFile& file) : file_(file), bytes_(file.text()) {}

  [[noreturn]] void fail(const std::string& why, const std::string& next = {}) const {
    throw Error(Fault::bad_data, file_.path().string() + " is not a usable GGUF file", {why}, next);
  }
  std::string_view take(std::uint64_t size) {
    if (size > bytes_.size() - at_) {
      fail(fmt::format("it ends at byte {}, where {} more are needed", bytes_.size(),
                       size - (bytes_.size() - at_)),
           kFetchAgain);
    }
    const std::string_view taken = bytes_.substr(at_, size);
    at_ += size;
    return taken;
  }
  template <class T>
  T number() {
    T value;
    std::memcpy(&value, take(sizeof value).data(), sizeof value);
    return value;
  }
  std::string_view string() { return take(number<std::uint64_t>()); }
  std::size_t at() const { return at_; }
  std::size_t left() const { return bytes_.size() - at_; }

 private:
  const MappedFile& file_;
  std::string_view bytes_;
  std::size_t at_ = 0;
};

/// A value of a type that is neither string nor array, as text.
std::string scalar(Reader& in, std::uint32_t type) {
  switch (type) {
    case 0:
      return std::to_string(in.number<std::uint8_t>());
    case 1:
      return std::to_string(in.number<std::int8_t>());
    case 2:
      return std::to_string(in.number<std::uint16_t>());
    case 3:
      return std::to_string(in.number<std::int16_t>());
    case 4:
      return std::to_string(in.number<std::uint32_t>());
    case 5:
      return std::to_string(in.number<std::int32_t>());
    case 6:
      return fmt::format("{}", in.number<float>());
    case 7:
      return in.number<std::uint8_t>() != 0 ? "true" : "false";
    case 10:
      return std::to_string(in.number<std::uint64_t>());
    case 11:
      return std::to_string(in.number<std::int64_t>());
    case 12:
      return fmt::format("{}", in.number<double>());
    default:
      in.fail(fmt::format("its metadata has a value of the unknown type {}", type));
  }
}
/// Passes over as many of them, of which a vocabulary has one for each token.
void skip_scalars(Reader& in, std::uint32_t type, std::uint64_t count) {
  constexpr std::uint64_t kSizes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
  if (type >= std::size(kSizes) || kSizes[type] == 0) {
    in.fail(fmt::format("its metadata has an array of the unknown type {}", type));
  }
  std::uint64_t size = 0;
  if (__builtin_mul_overflow(count, kSizes[type], &size)) size = UINT64_MAX;
  in.take(size);
}
constexpr std::uint32_t kInt32 = 5, kString = 8, kArray = 9;

/// What the metadata says in a number.
class Numbers {
 public:
  Numbers(const std::map<std::string, std::string>& metadata, const Reader& in)
      : metadata_(metadata), in_(in) {}

  template <class T>
  std::optional<T> find(const std::string& name) const {
    const auto entry = metadata_.find(name);
    if (entry == metadata_.end()) return {};
    const std::string& text = entry->second;
    T value{};
    const auto [end, trouble] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (trouble != std::errc() || end != text.data() + text.size()) {
      in_.fail(fmt::format("{} is {}", name, text));
    }
    return value;
  }
  template <class T>
  T at(const std::string& name) const {
    const std::optional<T> value = find<T>(name);
    if (!value) in_.fail("its metadata has no " + name);
    return *value;
  }

 private:
  const std::map<std::string, std::string>& metadata_;
  const Reader& in_;
};

void check_beginning(Reader& in, std::string_view text) {
  if (!text.starts_with("GGUF")) {
    const auto foreign = recognise_foreign(text.substr(0, 1024));
    in.fail(foreign ? foreign->what : "it does not begin with \"GGUF\"",
            foreign ? foreign->next : kFetchAgain);
  }
  in.take(4);
  const auto version = in.number<std::uint32_t>();
  if (version != 2 && version != 3) {
    in.fail(fmt::format("its version is {}; versions 2 and 3 are read, little-endian", version));
  }
}

/// Strings and i32 are kept; what the metadata says of an array is how many there are.
std::string read_array(Reader& in, const std::string& name,
                       std::unordered_map<std::string, std::vector<std::string_view>>& strings,
                       std::unordered_map<std::string, std::vector<std::int32_t>>& integers) {
  const auto of = in.number<std::uint32_t>();
  const auto count = in.number<std::uint64_t>();
  if (of == kArray) in.fail(name + " is an array of arrays");
  if (of == kString) {
    std::vector<std::string_view>& texts = strings[name] = {};
    for (std::uint64_t i = 0; i < count; ++i) texts.push_back(in.string());
  } else if (of == kInt32) {
    std::vector<std::int32_t>& numbers = integers[name] = {};
    for (std::uint64_t i = 0; i < count; ++i) numbers.push_back(in.number<std::int32_t>());
  } else {
    skip_scalars(in, of, count);
  }
  return fmt::format("[{} values]", count);
}

/// A tensor, and where its data lie behind the table of tensors.
struct Place {
  FileTensor tensor;
  std::uint64_t offset, size;
};

Place read_place(Reader& in) {
  Place place;
  const std::string_view name = in.string();
  place.tensor.name = hub_name_of_gguf(name);
  const auto refuse = [&](const std::string& why) {
    in.fail(fmt::format("tensor '{}' {}", name, why));
  };
  const auto rank = in.number<std::uint32_t>();
  if (rank > kMostExtents) refuse(fmt::format("has {} extents", rank));
  for (std::uint32_t d = 0; d < rank; ++d) {
    place.tensor.shape.push_back(in.number<std::int64_t>());
    if (place.tensor.shape.back() < 0) refuse("has an impossible extent");
  }
  const auto number = in.number<std::uint32_t>();
  place.offset = in.number<std::uint64_t>();
  const std::span<const GgufType> types = gguf_types();
  const auto type = std::find_if(types.begin(), types.end(),
                                 [&](const GgufType& t) { return t.number == number; });
  if (type == types.end()) {
    refuse(
        fmt::format("is of ggml's type {}; read are F32, F16, BF16, Q8_0, Q4_0 and Q4_K", number));
  }
  const ElementType* const element = element_type(type->name);
  // The fastest extent is a row: its blocks end with it.
  const std::optional<std::size_t> size = element->bytes_of(place.tensor.shape);
  if (!size || (rank > 0 && place.tensor.shape[0] % element->block_elements != 0)) {
    refuse(fmt::format("of {} has the extents {}", element->name, to_string(place.tensor.shape)));
  }
  place.size = *size;
  place.tensor.type = element;
  // Of a block's matrices, transformers has the transpose; of tables what is here.
  place.tensor.transposed = rank == 2 && place.tensor.name.starts_with("h.");
  if (!place.tensor.transposed) {
    std::reverse(place.tensor.shape.begin(), place.tensor.shape.end());
  }
  return place;
}

Gpt2Config config_of(const TensorSource& source, const Numbers& numbers, const Reader& in) {
  const FileTensor* const table = source.find("wte.weight");
  if (table == nullptr || table->shape.size() != 2) in.fail("it has no token_embd.weight");
  Gpt2Config config;
  config.vocab_size = static_cast<int>(std::min<std::int64_t>(table->shape[0], INT32_MAX));
  config.n_layer = numbers.at<int>("gpt2.block_count");
  config.n_positions = numbers.at<int>("gpt2.context_length");
  config.n_embd = numbers.at<int>("gpt2.embedding_length");
  config.n_inner = numbers.at<int>("gpt2.feed_forward_length");
  config.n_head = numbers.at<int>("gpt2.attention.head_count");
  config.layer_norm_epsilon = numbers.at<float>("gpt2.attention.layer_norm_epsilon");
  config.bos_token_id = numbers.find<int>("tokenizer.ggml.bos_token_id");
  config.eos_token_id = numbers.find<int>("tokenizer.ggml.eos_token_id");
  config.pad_token_id = numbers.find<int>("tokenizer.ggml.padding_token_id");
  config.tie_word_embeddings = source.find("lm_head.weight") == nullptr;
  if (config.n_inner == std::int64_t{4} * config.n_embd) config.n_inner = 0;
  return config;
}

}  // namespace

Gguf::Gguf(const std::filesystem::path& path) : TensorSource(path) {
  const auto file = std::make_shared<const MappedFile>(path);
  Reader in(*file);
  check_beginning(in, file->text());
  const auto tensor_count = in.number<std::uint64_t>();
  const auto entry_count = in.number<std::uint64_t>();
  if (tensor_count > kMostTensors) in.fail(fmt::format("it claims {} tensors", tensor_count));
  for (std::uint64_t i = 0; i < entry_count; ++i) {  // each takes bytes of the file
    const std::string name(in.string());
    const auto type = in.number<std::uint32_t>();
    if (type == kArray) {
      metadata_[name] = read_array(in, name, strings_, integers_);
    } else {
      metadata_[name] = type == kString ? std::string(in.string()) : scalar(in, type);
    }
  }
  const auto architecture = metadata_.find("general.architecture");
  if (architecture == metadata_.end() || architecture->second != "gpt2") {
    in.fail(architecture == metadata_.end()
                ? "its metadata has no general.architecture"
                : "it is a model of the architecture '" + architecture->second + "', not a GPT-2");
  }
  std::vector<Place> places;
  for (std::uint64_t i = 0; i < tensor_count; ++i) places.push_back(read_place(in));

  const Numbers numbers(metadata_, in);
  const auto alignment = numbers.find<std::uint64_t>("general.alignment").value_or(32);
  if (alignment == 0 || alignment > 1 << 20) in.fail(fmt::format("its alignment is {}", alignment));
  const std::uint64_t begin = (in.at() + alignment - 1) / alignment * alignment;
  const std::span<const std::byte> data =
      file->bytes().subspan(std::min<std::uint64_t>(begin, file->bytes().size()));
  for (Place& place : places) {
    if (place.offset > data.size() || place.size > data.size() - place.offset) {
      in.fail(fmt::format("tensor '{}' lies outside: bytes {} to {} of {}", place.tensor.name,
                          place.offset, place.offset + place.size, data.size()),
              kFetchAgain);
    }
    place.tensor.bytes = data.subspan(place.offset, place.size);
    place.tensor.file = file;
    add(std::move(place.tensor));
  }

  set_config(config_of(*this, numbers, in), "metadata");
}

const std::vector<std::string_view>& Gguf::strings(const std::string& name) const {
  static const std::vector<std::string_view> none;
  const auto entry = strings_.find(name);
  return entry == strings_.end() ? none : entry->second;
}

const std::vector<std::int32_t>& Gguf::integers(const std::string& name) const {
  static const std::vector<std::int32_t> none;
  const auto entry = integers_.find(name);
  return entry == integers_.end() ? none : entry->second;
}

}  // namespace quire
