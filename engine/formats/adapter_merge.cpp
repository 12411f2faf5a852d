// PEFT's LoraLayer.merge() (peft/tuners/lora/layer.py, dora.py), module by module:
//   Conv1D     W [K, N] += s·(B·A)ᵀ        A [r, K], B [N, r]
//   Linear     W [V, C] += s·B·A           the head
//   Embedding  W [V, C] += s·(B·A)ᵀ        A [r, V], B [C, r]
//   DoRA       W = m·(W + s·(B·A)ᵀ)/‖W + s·(B·A)ᵀ‖, a norm for each output
// In float, and back into the type that each weight has.
#include "engine/formats/adapter_merge.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "base/error.h"
#include "base/parallel.h"
#include "engine/formats/adapter_config.h"
#include "engine/formats/adapter_folder.h"
#include "engine/formats/low_rank_part.h"
#include "engine/formats/safetensors.h"
#include "engine/model/elements.h"

namespace quire {
namespace {

namespace fs = std::filesystem;

constexpr const char* kWte = "transformer.wte.weight";
constexpr const char* kHead = "lm_head.weight";
constexpr std::string_view kPrefix = "base_model.model.";

constexpr const char* kEmbeddings[] = {"transformer.wte", "transformer.wpe"};

/// "transformer.h.0.attn.c_attn", …
std::vector<std::string> modules_of(const Gpt2Config& config) {
  std::vector<std::string> modules(std::begin(kEmbeddings), std::end(kEmbeddings));
  for (int layer = 0; layer < config.n_layer; ++layer) {
    for (const Role product : kProducts) modules.push_back(module_name(layer, product));
  }
  modules.emplace_back("lm_head");
  return modules;
}

/// Each column of weight [K, N] to the length in magnitude [N].
void set_lengths(HostTensor& weight, const std::vector<float>& magnitude) {
  const std::size_t rows = weight.shape[0], columns = magnitude.size();
  parallel_for(0, columns, [&](std::size_t c) {
    double square = 0;
    for (std::size_t r = 0; r < rows; ++r) {
      const double value = weight.values[r * columns + c];
      square += value * value;
    }
    const auto factor = static_cast<float>(magnitude[c] / std::sqrt(square));
    for (std::size_t r = 0; r < rows; ++r) weight.values[r * columns + c] *= factor;
  });
}

class Merger {
 public:
  Merger(Device& device, const fs::path& folder, LoadedModel base)
      : device_(device),
        folder_(folder),
        config_(read_adapter_config(folder)),
        file_(Safetensors(folder / "adapter_model.safetensors")),
        base_(std::move(base)) {}

  LoadedModel take_tables() {
    take_base_tensors();
    return build();
  }

  LoadedModel merge() {
    take_base_tensors();
    untie_where_apart();
    for (const std::string& module : modules_of(base_.config)) {
      if (config_.is_target(module) && !is_saved_whole(module)) adapt(module);
    }
    take_whole_modules();
    refuse_left_over();
    return build();
  }

 private:
  /// Of the extents that are given; those below 0 may be any.
  HostTensor read(const std::string& name, const std::vector<std::int64_t>& extents) {
    const char* const config = "adapter_config.json";
    const FileTensor& tensor = adapter_tensor(file_, name, extents, config, config);
    read_.insert(name);
    const std::vector<std::int64_t>& shape = tensor.shape;
    return {tensor.read_weight(), shape.size() == 1 ? Shape{shape[0]} : Shape{shape[0], shape[1]}};
  }
  bool is_saved_whole(const std::string& module) const {
    const std::vector<std::string>& names = config_.modules_to_save;
    return std::ranges::any_of(names,
                               [&](const std::string& name) { return module.ends_with(name); });
  }
  bool is_changed_apart(const std::string& module) const {
    return config_.is_target(module) || is_saved_whole(module);
  }
  static std::string module_of(const std::string& parameter) {
    return parameter.substr(0, parameter.rfind('.'));
  }
  bool is_saved_parameter(const std::string& parameter) const {
    // "h.0" is a module, too, and saves all that is inside.
    for (std::string name = module_of(parameter); !name.empty();
         name = name.find('.') == std::string::npos ? "" : module_of(name)) {
      if (is_saved_whole(name)) return true;
    }
    return false;
  }

  /// A parameter as it is now, copied from the base the first time.
  HostTensor& values_of(const std::string& parameter) {
    const auto found = changed_.find(parameter);
    if (found != changed_.end()) return found->second;
    if (parameter == kHead && base_.config.tie_word_embeddings) {
      return changed_[parameter] = values_of(kWte);
    }
    return changed_[parameter] = on_host(device_, base_.parameters.find(parameter));
  }
  std::vector<std::int64_t> extents_of(const std::string& parameter) const {
    const bool table = parameter == kWte || parameter == kHead;
    if (table) return {-1, base_.config.n_embd};  // an adapter may bring new rows
    return quire::extents_of(base_.parameters.find(parameter).shape());
  }

  /// The name in the file, of a parameter that it has under one of PEFT's names, or "".
  std::string stored_name(const std::string& parameter) const {
    const std::size_t dot = parameter.rfind('.');
    const std::string module = std::string(kPrefix) + parameter.substr(0, dot);
    for (const char* between :
         {"", ".base_layer", ".modules_to_save", ".modules_to_save.default"}) {
      const std::string name = module + between + parameter.substr(dot);
      if (file_.find(name) != nullptr) return name;
    }
    return "";
  }

  /// Biases, and the embeddings that PEFT saves when their rows became more: they take the place of
  /// the base's own, and a tied head goes along.
  void take_base_tensors() {
    for (const NamedParameter& parameter : parameter_list(base_.config)) {
      const std::string stored = stored_name(parameter.name);
      const bool bias = parameter.name.ends_with(".bias") && config_.bias != "none";
      const bool table = parameter.name == kWte || parameter.name == kHead;
      if (stored.empty() || is_saved_parameter(parameter.name) || !(bias || table)) continue;
      changed_[parameter.name] = read(stored, extents_of(parameter.name));
    }
    if (!base_.config.tie_word_embeddings || is_saved_whole("lm_head")) return;
    if (const std::string head = stored_name(kHead); !head.empty()) {
      changed_[kWte] = read(head, extents_of(kHead));
    }
  }

  void untie_where_apart() {
    if (!base_.config.tie_word_embeddings) return;
    if (!is_changed_apart("transformer.wte") && !is_changed_apart("lm_head")) return;
    values_of(kHead);
    base_.notes.emplace_back("the adapter changes one of wte and lm_head: they are tied no more");
  }

  void adapt(const std::string& module) {
    const std::string prefix = std::string(kPrefix) + module;
    const int r = config_.rank_of(module);
    const float scale = config_.scale_of(module);
    HostTensor& weight = values_of(module + ".weight");
    const std::int64_t rows = weight.shape[0], columns = weight.shape[1];
    if (std::ranges::count(kEmbeddings, module) > 0) {
      if (config_.use_dora) {
        throw Error(Fault::bad_data, folder_.string() + ": \"use_dora\" with an embedding",
                    {"magnitudes of " + module + " are not read"},
                    "merge it with PEFT's merge_and_unload()");
      }
      const HostTensor a = read(prefix + ".lora_embedding_A", {r, rows});
      const HostTensor b = read(prefix + ".lora_embedding_B", {columns, r});
      add_product(weight, transposed(a), transposed(b), scale);
      return;
    }
    const bool conv = module != "lm_head";
    const std::int64_t in = conv ? rows : columns, out = conv ? columns : rows;
    const HostTensor a = read(prefix + ".lora_A.weight", {r, in});
    const HostTensor b = read(prefix + ".lora_B.weight", {out, r});
    if (!config_.init.empty()) take_initial_part(module, weight, r, scale);
    if (conv) {
      add_product(weight, transposed(a), transposed(b), scale);
    } else {
      add_product(weight, b, a, scale);
    }
    if (config_.use_dora) {
      const std::string newer = prefix + ".lora_magnitude_vector", older = newer + ".weight";
      const HostTensor magnitude = read(file_.find(older) != nullptr ? older : newer, {out});
      if (conv) {
        set_lengths(weight, magnitude.values);
      } else {
        HostTensor columns_first = transposed(weight);
        set_lengths(columns_first, magnitude.values);
        weight = transposed(columns_first);
      }
    }
    if (config_.lora_bias) {
      if (!conv) {
        throw Error(Fault::bad_data, folder_.string() + ": \"lora_bias\" with the head",
                    {"GPT-2's head has no bias"});
      }
      const HostTensor own = read(prefix + ".lora_B.bias", {out});
      HostTensor& bias = values_of(module + ".bias");
      for (std::size_t i = 0; i < own.values.size(); ++i) {
        bias.values[i] += scale * own.values[i];
      }
    }
  }

  /// What A and B began with, which PEFT takes out of the base's weight each time it loads one.
  void take_initial_part(const std::string& module, HostTensor& weight, int r, float scale) {
    const std::int64_t rows = weight.shape[0], columns = weight.shape[1];
    if (r > std::min(rows, columns)) {
      throw Error(Fault::bad_data, fmt::format("{}: {} has rank {} and fewer rows or columns",
                                               folder_.string(), module, r));
    }
    const bool pissa = config_.init == "pissa";
    if (!(pissa ? remove_principal_part(weight.values, rows, columns, r)
                : remove_first_columns(weight.values, rows, columns, r, scale))) {
      throw Error(
          Fault::bad_data,
          fmt::format("{}: what \"init_lora_weights\": \"{}\" took out of {} cannot be told",
                      folder_.string(), config_.init, module),
          {"its singular values are too close to one another"},
          "merge the adapter with PEFT's merge_and_unload()");
    }
  }

  void take_whole_modules() {
    std::vector<NamedParameter> list = parameter_list(base_.config);
    if (base_.config.tie_word_embeddings) list.push_back({kHead, {}, true, true});
    for (const NamedParameter& parameter : list) {
      if (!is_saved_parameter(parameter.name)) continue;
      std::string stored = stored_name(parameter.name);
      if (stored.empty()) stored = std::string(kPrefix) + parameter.name;  // for the message
      changed_[parameter.name] = read(stored, extents_of(parameter.name));
    }
  }

  void refuse_left_over() const {
    for (const FileTensor& tensor : file_.tensors()) {
      if (read_.count(tensor.name) > 0) continue;
      throw Error(Fault::bad_data,
                  tensor.where() + " belongs to nothing that adapter_config.json names",
                  {"using the adapter without it would be another model"},
                  "merge it with PEFT's merge_and_unload() and use the merged model");
    }
  }

  LoadedModel build() {
    struct Holder {
      Parameters base;
      std::vector<Buffer> memory;
    };
    Gpt2Config config = base_.config;
    if (changed_.count(kHead) > 0) config.tie_word_embeddings = false;
    if (changed_.count(kWte) > 0) config.vocab_size = static_cast<int>(changed_[kWte].shape[0]);
    const std::int64_t head_rows = changed_.count(kHead) > 0    ? changed_[kHead].shape[0]
                                   : config.tie_word_embeddings ? config.vocab_size
                                                                : base_.parameters.head().out();
    if (head_rows != config.vocab_size) {
      throw Error(Fault::bad_data,
                  fmt::format("{} has {} rows for wte.weight and {} for lm_head.weight",
                              file_.path().string(), config.vocab_size, head_rows));
    }
    auto holder = std::make_shared<Holder>(Holder{std::move(base_.parameters), {}});
    const DType table_type = holder->base.wte().dtype();
    std::vector<ConstView> weights;
    std::vector<View> writable;
    for (const NamedParameter& parameter : parameter_list(config)) {
      const auto found = changed_.find(parameter.name);
      if (found == changed_.end()) {
        const std::size_t i = holder->base.index_of(parameter.name);
        weights.push_back(holder->base.weights()[i]);
        writable.push_back(holder->base.tensors()[i]);
        continue;
      }
      const bool own_head = parameter.name == kHead && base_.config.tie_word_embeddings;
      const DType dtype = own_head ? table_type : holder->base.find(parameter.name).dtype();
      const HostTensor& tensor = found->second;
      const Buffer& memory =
          holder->memory.emplace_back(device_, tensor.values.size() * size_of(dtype));
      const View& own = writable.emplace_back(memory.data(), dtype, tensor.shape);
      upload(device_, tensor.values, own);
      weights.emplace_back(own);
    }
    return {config,
            Parameters(config, std::move(weights), std::move(holder), 1, std::move(writable)),
            std::move(base_.notes)};
  }

  Device& device_;
  fs::path folder_;
  AdapterConfig config_;
  TensorSource file_;
  std::set<std::string> read_;  // the names in the file that were asked for
  LoadedModel base_;
  std::map<std::string, HostTensor> changed_;
};

}  // namespace

LoadedModel merge_adapter_folder(Device& device, const fs::path& folder, LoadedModel base) {
  const AdapterConfig config = read_adapter_config(folder);
  if (config.beyond.empty() && adapted_vocab_size(folder) == 0) {
    const LoraAdapter adapter = load_adapter(device, folder, base.config);
    const auto parameters = std::make_shared<const Parameters>(std::move(base.parameters));
    base.parameters = merge_adapter(device, base.config, parameters, adapter);
    return base;
  }
  return Merger(device, folder, std::move(base)).merge();
}

LoadedModel with_adapter_tables(Device& device, const fs::path& folder, LoadedModel base) {
  return Merger(device, folder, std::move(base)).take_tables();
}

}  // namespace quire
