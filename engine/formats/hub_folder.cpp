#include "engine/formats/hub_folder.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <optional>

#include "base/error.h"
#include "base/numbers.h"
#include "base/parallel.h"
#include "engine/formats/architecture.h"
#include "engine/formats/safetensors.h"
#include "engine/formats/weight_files.h"
#include "engine/formats/weights_in_place.h"
#include "engine/model/elements.h"
#include "engine/model/forward.h"
#include "kernels/quantised.h"

namespace quire {
namespace {

// Equal as numbers, whatever types they are stored in.
bool same_values(const FileTensor& a, const FileTensor& b) {
  if (a.shape != b.shape) return false;
  if (a.type == b.type && a.transposed == b.transposed) {
    return a.bytes.data() == b.bytes.data() ||  // PyTorch's files share a tied head's storage
           std::memcmp(a.bytes.data(), b.bytes.data(), a.bytes.size()) == 0;
  }
  if (!a.has_dtype() || !b.has_dtype() || a.transposed || b.transposed) return false;
  for (std::int64_t i = 0; i < a.count(); ++i) {
    if (element(a.bytes.data(), a.dtype(), i) != element(b.bytes.data(), b.dtype(), i))
      return false;
  }
  return true;
}

// transformers' tie_weights() (modeling_utils.py) decides by what is stored: see load_model().
void settle_head(WeightFiles& files, Gpt2Config& config, std::vector<std::string>& notes) {
  const FileTensor* head = files.find("lm_head.weight");
  const FileTensor* wte = files.find("wte.weight");
  if (head == nullptr) {
    if (!config.tie_word_embeddings) {
      notes.push_back("the weights have no lm_head.weight: the head is tied to wte.weight");
    }
    config.tie_word_embeddings = true;
  } else if (config.tie_word_embeddings && wte == nullptr) {
    files.rename("lm_head.weight", "wte.weight");
  } else if (config.tie_word_embeddings && !same_values(*head, *wte)) {
    notes.push_back(
        "config.json ties lm_head.weight to wte.weight, but they differ: both are kept; "
        "\"tie_word_embeddings\": false would say so");
    config.tie_word_embeddings = false;
  }
}

void check_blocks(const WeightFiles& files, const Gpt2Config& config) {
  int blocks = 0;
  for (const auto& [name, tensor] : files.tensors()) blocks = std::max(blocks, block_of(name) + 1);
  if (blocks == config.n_layer) return;
  const std::string origin = files.config_origin();
  throw Error(Fault::bad_data, files.path().string() + " does not fit its " + origin,
              {fmt::format("n_layer is {} in {}, but the weights have {} blocks", config.n_layer,
                           origin, blocks)});
}

// `origin`: which says what is wanted.
void check_shape(const NamedParameter& parameter, const FileTensor& tensor,
                 const std::string& origin) {
  const std::vector<std::int64_t> wanted = extents_of(parameter.shape);
  if (tensor.shape == wanted) return;
  std::vector<std::string> details;
  if (tensor.shape.size() != wanted.size()) {
    details.push_back(
        fmt::format("it has {} extents instead of {}", tensor.shape.size(), wanted.size()));
  } else if (wanted.size() == 2 && parameter.name.find(".h.") != std::string::npos &&
             tensor.shape == std::vector{wanted[1], wanted[0]}) {
    details.push_back("it looks transposed: GPT-2's files store [in, out]");
  } else {
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      if (tensor.shape[i] == wanted[i]) continue;
      details.push_back(fmt::format("{} is {} in {} and {} here", parameter.extents[i], wanted[i],
                                    origin, tensor.shape[i]));
    }
  }
  throw Error(Fault::bad_data,
              fmt::format("{} has the shape {}, {} wants {}", tensor.where(),
                          to_string(tensor.shape), origin, to_string(wanted)),
              details);
}

// The first six, and how many `more` there are, of "and {} more".
std::vector<std::string> first_six(std::vector<std::string> lines, const char* more) {
  constexpr std::size_t kShown = 6;
  if (lines.size() > kShown) {
    lines[kShown] = fmt::format(fmt::runtime(more), lines.size() - kShown);
    lines.resize(kShown + 1);
  }
  return lines;
}

// The file's tensor for each parameter, in the parameters' order.
std::vector<const FileTensor*> match(const WeightFiles& files,
                                     const std::vector<NamedParameter>& parameters,
                                     std::vector<std::string>& notes) {
  const std::string origin = files.config_origin();
  std::vector<const FileTensor*> matched;
  std::vector<std::string> missing;
  std::map<std::string, const FileTensor*> left = files.tensors();
  for (const NamedParameter& parameter : parameters) {
    const std::string bare = bare_name(parameter.name);
    const FileTensor* tensor = files.find(bare);
    if (tensor == nullptr) {
      missing.push_back(parameter.name);
      continue;
    }
    left.erase(bare);
    check_shape(parameter, *tensor, origin);
    tensor->weight_type();
    matched.push_back(tensor);
  }
  if (!missing.empty()) {
    throw Error(Fault::bad_data,
                fmt::format("{} lacks {} of {} tensors", files.path().string(), missing.size(),
                            parameters.size()),
                first_six(missing, "and {} more"));
  }
  left.erase("lm_head.weight");  // equal to wte.weight
  std::vector<std::string> lines;
  lines.reserve(left.size());
  for (const auto& [name, tensor] : left) {
    lines.push_back("left out: tensor '" + tensor->name + "' is not part of a GPT-2");
  }
  std::ranges::copy(first_six(std::move(lines), "left out: {} more such tensors"),
                    std::back_inserter(notes));
  return matched;
}

// Where a parameter's values go: nowhere (they stay mapped and are only checked) or to memory of
// the device, in the type they have there.
struct Destination {
  const FileTensor* tensor;
  void* data;
  DType dtype;
  bool as_it_lies = false;  // or in the order of its shape
};

// Checks all values and copies those that have a destination, on all threads that are available
// where the device's memory can be written directly.
void fill(Device& device, const std::vector<Destination>& destinations) {
  constexpr std::int64_t kChunk = 1 << 20;  // elements
  struct Chunk {
    const Destination* to;
    std::int64_t first, count;
  };
  std::vector<Chunk> chunks;
  for (const Destination& to : destinations) {
    const std::int64_t count = to.tensor->count(), size = to.tensor->whole_rows(kChunk);
    for (std::int64_t first = 0; first < count; first += size) {
      chunks.push_back({&to, first, std::min(size, count - first)});
    }
  }
  const bool direct = device.shares_host_memory();
  parallel_for(direct ? 0 : 1, chunks.size(), [&](std::size_t i) {
    const auto& [to, first, count] = chunks[i];
    const FileTensor& tensor = *to->tensor;
    tensor.check_finite(first, count);
    if (to->data == nullptr) return;
    const auto read = [&tensor, to = to, first = first](std::span<float> values) {
      to->as_it_lies ? tensor.read_as_it_lies(first, values) : tensor.read(first, values);
    };
    const auto size = static_cast<std::int64_t>(size_of(to->dtype));
    const auto bytes = static_cast<std::size_t>(count * size);
    std::byte* target = static_cast<std::byte*>(to->data) + first * size;
    const std::byte* from = tensor.bytes.data() + first * size;
    std::vector<std::byte> converted;
    if (tensor.type->dtype != to->dtype || (tensor.transposed && !to->as_it_lies)) {
      const auto elements = static_cast<std::size_t>(count);
      if (direct && to->dtype == DType::f32) {
        return read({reinterpret_cast<float*>(target), elements});
      }
      std::vector<float> values(elements);
      read(values);
      converted.resize(bytes);
      write_elements(values, to->dtype, converted.data());
      from = converted.data();
    }
    if (direct) {
      std::memcpy(target, from, bytes);
    } else {
      device.copy_to_device(target, from, bytes);
    }
  });
}

// Weights of `bytes` are about to be loaded into the device's memory.
void require_room(const Device& device, const WeightFiles& files, std::size_t bytes) {
  const std::optional<DeviceMemory> memory = device.memory();
  if (!memory || bytes <= memory->free) return;
  throw Error(Fault::no_space,
              fmt::format("the weights need {} of memory, {} are free", human_bytes(bytes),
                          human_bytes(memory->free)),
              {"they are those of " + files.path().string(),
               fmt::format("{}: {} of memory", device.description(), human_bytes(memory->total))},
              "`device` cpu, or a smaller model: quire doctor shows which fit"_named);
}

// Refuses what cannot be, and notes what a person may not expect.
void check_storage(const Device& device, OpenedModel& model, WeightStorage storage) {
  if (const auto quantisation = quantisation_of(storage)) {
    check_quantised(device, model.config, *quantisation);
    const std::string note = note_of_unfit(model.config, *quantisation);
    if (!note.empty()) model.notes.push_back(note);
  }
  if (storage != WeightStorage::as_stored) return;
  std::size_t others = 0;
  const FileTensor* first = nullptr;
  for (const FileTensor* tensor : model.tensors) {
    const auto format = format_of_blocks(*tensor);
    if (!tensor->is_quantised() || (format && device.why_no_format(*format).empty())) continue;
    if (others++ == 0) first = tensor;
  }
  if (others == 0) return;
  model.notes.push_back(
      fmt::format("{} tensors become float32, as the device has no products with "
                  "their type: '{}' is {}",
                  others, first->name, first->dtype_name()));
}

// Where a parameter's values are to be.
struct MemoryPlace {
  std::optional<WeightFormat> blocks;
  DType dtype;         // of elements, where there are no blocks
  bool out_in;         // a Conv1D that lies so
  std::size_t offset;  // in our memory; SIZE_MAX: they stay in the file
};

// Matrices stay in the file where the device can read them there; the rest goes to one buffer, the
// next at `offset`. Products read a Conv1D in the order in which the file has it.
MemoryPlace place_of(const Device& device, const NamedParameter& parameter,
                     const FileTensor& tensor, WeightStorage storage, std::size_t offset) {
  if (multiplies(parameter)) {
    std::optional<WeightFormat> blocks;
    if (const auto quantisation = quantisation_of(storage)) {
      blocks = format_in(*quantisation, parameter);
    } else if (storage == WeightStorage::as_stored) {
      blocks = format_of_blocks(tensor);
    }
    if (blocks && device.why_no_format(*blocks).empty()) {
      return {blocks, DType::f32, true, offset};
    }
  }
  const DType dtype = parameter.is_matrix ? tensor.weight_type() : DType::f32;
  const bool out_in = storage != WeightStorage::plain && is_conv1d(parameter) && tensor.transposed;
  const bool stays = parameter.is_matrix && device.shares_host_memory() &&
                     tensor.type->dtype == dtype && tensor.transposed == out_in && tensor.aligned();
  return {{}, dtype, out_in, stays ? SIZE_MAX : offset};
}

std::size_t bytes_in(const MemoryPlace& place, const NamedParameter& parameter,
                     int vocab_multiple) {
  if (!place.blocks) {
    return static_cast<std::size_t>(padded_shape(parameter, vocab_multiple).count()) *
           size_of(place.dtype);
  }
  const Shape shape = out_in_shape(parameter);
  return packed_bytes(*place.blocks, shape[0], shape[1]);
}

// What a model's views point into.
struct Holder {
  WeightFiles files;
  Buffer buffer;
  std::shared_ptr<LaidOutWeights> laid_out;
  WeightsInPlace in_place;

  Holder(WeightFiles opened, std::size_t parameters)
      : files(std::move(opened)),
        laid_out(std::make_shared<LaidOutWeights>(parameters)),
        in_place(laid_out) {}
};

}  // namespace

OpenedModel open_model(const std::filesystem::path& folder_or_file) {
  OpenedModel model{.files = WeightFiles(folder_or_file)};
  model.config = model.files.config();
  if (model.files.config_origin() == "shapes") {
    model.notes.push_back(fmt::format(
        "there is no config.json: by the shapes of its weights this is a GPT-2 of {} blocks of {} "
        "channels, with {} heads",
        model.config.n_layer, model.config.n_embd, model.config.n_head));
  }
  settle_head(model.files, model.config, model.notes);
  check_blocks(model.files, model.config);
  model.parameters = parameter_list(model.config);
  model.tensors = match(model.files, model.parameters, model.notes);
  return model;
}

std::optional<Quantisation> quantisation_of(WeightStorage storage) {
  if (storage == WeightStorage::int8) return Quantisation::int8;
  if (storage == WeightStorage::int4) return Quantisation::int4;
  return {};
}

LoadedModel load_model(Device& device, const std::filesystem::path& folder, WeightStorage storage) {
  OpenedModel opened = open_model(folder);
  check_storage(device, opened, storage);
  const Gpt2Config config = opened.config;
  std::vector<std::string> notes = std::move(opened.notes);
  const std::vector<NamedParameter> list = std::move(opened.parameters);
  const std::vector<const FileTensor*> tensors = std::move(opened.tensors);
  auto holder = std::make_shared<Holder>(std::move(opened.files), list.size());
  const WeightFiles& files = holder->files;

  std::vector<Destination> destinations;
  if (storage == WeightStorage::f32) {
    require_room(device, files, NamedTensors::bytes(list, {}, 1, device.vocab_multiple()));
    Parameters parameters(device, config);
    for (std::size_t i = 0; i < list.size(); ++i) {
      destinations.push_back({tensors[i], parameters.tensors()[i].bytes(), DType::f32});
    }
    fill(device, destinations);
    return {config, std::move(parameters), std::move(notes)};
  }

  const int multiple = device.shares_host_memory() ? 1 : device.vocab_multiple();
  std::vector<MemoryPlace> places;
  std::size_t size = 0;
  bool out_in = false;
  for (std::size_t i = 0; i < list.size(); ++i) {
    const MemoryPlace& place =
        places.emplace_back(place_of(device, list[i], *tensors[i], storage, size));
    out_in = out_in || place.out_in;
    if (place.offset != SIZE_MAX) size += whole_lines(bytes_in(place, list[i], multiple));
  }
  require_room(device, files, size);
  holder->buffer = Buffer(device, size);
  std::vector<ConstView> weights;
  std::vector<Weight> matrices(out_in ? list.size() : 0);  // [out, in]
  std::vector<ToPack> to_pack;
  for (std::size_t i = 0; i < list.size(); ++i) {
    const MemoryPlace& place = places[i];
    void* const memory = place.offset == SIZE_MAX
                             ? nullptr
                             : static_cast<std::byte*>(holder->buffer.data()) + place.offset;
    if (place.blocks) {
      matrices[i] = {memory, *place.blocks, WeightLayout::out_in, out_in_shape(list[i])};
      to_pack.push_back({&list[i], tensors[i], *place.blocks, memory});
      weights.emplace_back();
      continue;
    }
    if (memory != nullptr) clear_padding(device, list[i], memory, place.dtype, multiple);
    destinations.push_back({tensors[i], memory, place.dtype, place.out_in});
    const void* const data = memory == nullptr ? tensors[i]->bytes.data() : memory;
    if (place.out_in) {
      matrices[i] = {ConstView(data, place.dtype, out_in_shape(list[i])), WeightLayout::out_in};
      weights.emplace_back();
    } else {
      weights.emplace_back(data, place.dtype, list[i].shape);
    }
  }
  fill(device, destinations);
  pack_weights(to_pack);
  Parameters parameters = out_in
                              ? Parameters(config, std::move(weights), matrices, holder, multiple)
                              : Parameters(config, std::move(weights), holder, multiple);
  if (storage != WeightStorage::plain) {
    const Multiply how = inference_precision(device, config, parameters);
    const auto add = [&](const Weight& weight, std::size_t i) {
      const auto layout = device.layout_to_decode(weight.dtype(), how);
      const bool in_place = !places[i].blocks && places[i].offset == SIZE_MAX;
      if (layout && in_place) holder->in_place.add(*tensors[i], weight, *layout, i);
    };
    for (int l = 0; l < config.n_layer; ++l) {
      for (const Role product : kProducts) {
        add(parameters.matrix(l, product), weight_index(l, product));
      }
    }
    add(parameters.head(), config.tie_word_embeddings ? 0 : list.size() - 1);
    parameters.before_decoding([holder, &device] { holder->in_place.step(device); },
                               holder->laid_out);
  }
  return {config, std::move(parameters), std::move(notes)};
}

void save_model(Device& device, const std::filesystem::path& folder, const Gpt2Config& config,
                const Parameters& parameters, DType dtype) {
  std::vector<TensorToWrite> tensors;
  for (std::size_t i = 0; i < parameters.names().size(); ++i) {
    tensors.push_back({parameters.names()[i].name, parameters.weights()[i], dtype});
  }
  save_weights(device, folder / "model.safetensors", std::move(tensors),
               {{"config.json", config_to_json(config, dtype)},
                {"generation_config.json", generation_config_to_json(config)}},
               [](const std::string& what, const std::string& where) {
                 return Error(Fault::diverged, "the model was not saved: " + what, {where},
                              "go on from the last good checkpoint, with a lower learning rate");
               });
}

}  // namespace quire
