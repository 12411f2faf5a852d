#include "engine/formats/gguf_writer.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "engine/formats/gguf_names.h"
#include "engine/formats/weight_files.h"

namespace quire {
namespace {

constexpr std::size_t kAlignment = 32;

/// Metadata, one entry after another: a name, the number of a type, a value.
class Entries {
 public:
  void add(std::string_view name, std::string_view value) {
    begin(name, kString);
    put(value);
  }
  void add(std::string_view name, int value) {
    begin(name, kU32);
    put(static_cast<std::uint32_t>(value));
  }
  void add(std::string_view name, std::optional<int> value) {
    if (value) add(name, *value);
  }
  void add(std::string_view name, float value) {
    begin(name, kF32);
    put(value);
  }
  void add(std::string_view name, const std::vector<std::string>& values) {
    begin_array(name, kString, values.size());
    for (const std::string& value : values) put(value);
  }
  void add(std::string_view name, const std::vector<int>& values) {
    begin_array(name, kI32, values.size());
    for (const std::int32_t value : values) put(value);
  }
  template <class T>
  void put(T number) {
    std::array<char, sizeof number> bytes{};
    std::memcpy(bytes.data(), &number, sizeof number);
    text_.append(bytes.data(), bytes.size());
  }
  void put(std::string_view text) {
    put(std::uint64_t{text.size()});
    text_ += text;
  }
  void put(const std::string& text) { put(std::string_view(text)); }
  std::uint64_t count() const { return count_; }
  const std::string& text() const { return text_; }

 private:
  static constexpr std::uint32_t kU32 = 4, kI32 = 5, kF32 = 6, kString = 8, kArray = 9;

  void begin(std::string_view name, std::uint32_t type) {
    ++count_;
    put(name);
    put(type);
  }
  void begin_array(std::string_view name, std::uint32_t of, std::size_t count) {
    begin(name, kArray);
    put(of);
    put(std::uint64_t{count});
  }

  std::string text_;
  std::uint64_t count_ = 0;
};

const GgufType& numbered(const ElementType& type) {
  for (const GgufType& known : gguf_types()) {
    if (known.name == type.name) return known;
  }
  throw Error(Fault::internal, fmt::format("GGUF has no number for {}", type.name));
}

[[noreturn]] void refuse(const std::string& field, const std::string& value,
                         const std::string& wanted) {
  throw Error(Fault::bad_data,
              fmt::format("GGUF has no place for the model's {}, which is {}", field, value),
              {fmt::format("llama.cpp runs every GPT-2 with {}", wanted)},
              "`format` safetensors or pytorch keeps it"_named);
}

void check_for_gguf(const Gpt2Config& config) {
  if (config.activation_function != Activation::gelu_new) {
    refuse("activation_function", name_of(config.activation_function), "gelu_new");
  }
  if (!config.scale_attn_weights) refuse("scale_attn_weights", "false", "scaled scores");
  if (config.scale_attn_by_inverse_layer_idx) {
    refuse("scale_attn_by_inverse_layer_idx", "true", "one scale for all layers");
  }
}

/// What llama.cpp stores in which type. Its kernels add vectors as float32, and look up the
/// positions in float32.
void settle_types(std::vector<OutTensor>& tensors, std::vector<std::string>& notes) {
  std::size_t unfit = 0;
  const OutTensor* first_unfit = nullptr;
  std::string_view wanted;
  for (OutTensor& tensor : tensors) {
    tensor.transposed = tensor.shape.size() == 2 && bare_name(tensor.name).starts_with("h.");
    if (tensor.shape.size() != 2 || bare_name(tensor.name) == "wpe.weight") {
      tensor.type = element_type(DType::f32);
    } else if (tensor.row() % tensor.type->block_elements != 0) {
      wanted = tensor.type->name;
      tensor.type = element_type(DType::f16);
      const ElementType* const smaller = element_type("Q8_0");
      if (wanted == "Q4_K" && tensor.row() % smaller->block_elements == 0) tensor.type = smaller;
      if (unfit++ == 0) first_unfit = &tensor;
    }
  }
  if (unfit == 0) return;
  notes.push_back(
      fmt::format("{} tensors are not {}, blocks of {}, but have more bits: '{}', whose "
                  "rows have {}, is {}",
                  unfit, wanted, element_type(wanted)->block_elements, first_unfit->name,
                  first_unfit->row(), first_unfit->type->name));
}

void add_vocabulary(Entries& entries, const Gpt2Config& config,
                    const std::optional<GgufVocabulary>& given) {
  const GgufVocabulary vocabulary = given.value_or(GgufVocabulary{});
  if (given) {
    std::vector<std::string> tokens = vocabulary.tokens;
    std::vector<int> types = vocabulary.types;
    const auto rows = static_cast<std::size_t>(config.vocab_size);
    if (tokens.size() > rows) {
      throw Error(Fault::bad_data,
                  fmt::format("the tokenizer has {} ids, the model {}", tokens.size(), rows),
                  {"in GGUF each id has a row"},
                  fmt::format(fmt::runtime("`resize_vocab` {}, or another `tokenizer`"_named),
                              tokens.size()));
    }
    while (tokens.size() < rows) {  // their names as convert_hf_to_gguf.py makes them
      tokens.push_back(fmt::format("[PAD{}]", tokens.size()));
      types.push_back(GgufVocabulary::kUnused);
    }
    entries.add("tokenizer.ggml.model", "gpt2");
    entries.add("tokenizer.ggml.pre", vocabulary.pre);
    entries.add("tokenizer.ggml.tokens", tokens);
    entries.add("tokenizer.ggml.token_type", types);
    entries.add("tokenizer.ggml.merges", vocabulary.merges);
  } else {
    entries.add("gpt2.vocab_size", config.vocab_size);
    entries.add("tokenizer.ggml.model", "none");
  }
  const auto either = [](std::optional<int> first, std::optional<int> second) {
    return first ? first : second;
  };
  entries.add("tokenizer.ggml.bos_token_id", either(vocabulary.bos, config.bos_token_id));
  entries.add("tokenizer.ggml.eos_token_id", either(vocabulary.eos, config.eos_token_id));
  entries.add("tokenizer.ggml.unknown_token_id", vocabulary.unknown);
  entries.add("tokenizer.ggml.padding_token_id", either(vocabulary.padding, config.pad_token_id));
}

}  // namespace

FileLayout gguf_layout(const Gpt2Config& config, std::vector<OutTensor> tensors,
                       const std::optional<GgufVocabulary>& vocabulary, const std::string& name,
                       std::vector<std::string>& notes) {
  check_for_gguf(config);
  settle_types(tensors, notes);
  const auto matrix = std::find_if(tensors.begin(), tensors.end(),
                                   [](const OutTensor& tensor) { return tensor.transposed; });
  const int file_type =
      numbered(matrix == tensors.end() ? *tensors.front().type : *matrix->type).file_type;

  Entries entries;
  entries.add("general.architecture", "gpt2");
  entries.add("general.type", "model");
  entries.add("general.name", name);
  entries.add("gpt2.block_count", config.n_layer);
  entries.add("gpt2.context_length", config.n_positions);
  entries.add("gpt2.embedding_length", config.n_embd);
  entries.add("gpt2.feed_forward_length", config.inner());
  entries.add("gpt2.attention.head_count", config.n_head);
  entries.add("gpt2.attention.layer_norm_epsilon", config.layer_norm_epsilon);
  entries.add("general.file_type", file_type);
  entries.add("general.quantization_version", 2);
  add_vocabulary(entries, config, vocabulary);

  Entries table;  // of the tensors; their data each from a multiple of the alignment on
  std::uint64_t offset = 0;
  for (OutTensor& tensor : tensors) {
    tensor.name = gguf_name(bare_name(tensor.name));
    table.put(tensor.name);
    table.put(static_cast<std::uint32_t>(tensor.shape.size()));
    std::vector<std::int64_t> extents = tensor.shape;  // the fastest first
    if (!tensor.transposed) std::reverse(extents.begin(), extents.end());
    for (const std::int64_t extent : extents) table.put(static_cast<std::uint64_t>(extent));
    table.put(numbered(*tensor.type).number);
    table.put(offset);
    offset += (tensor.bytes() + kAlignment - 1) / kAlignment * kAlignment;
  }
  Entries head;
  head.put(std::uint32_t{3});
  head.put(std::uint64_t{tensors.size()});
  head.put(entries.count());

  FileLayout layout;
  layout.add("GGUF" + head.text() + entries.text() + table.text());
  for (OutTensor& tensor : tensors) {
    layout.align(kAlignment);
    layout.add(std::move(tensor));
  }
  layout.align(kAlignment);
  return layout;
}

}  // namespace quire
