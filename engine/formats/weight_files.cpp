#include "engine/formats/weight_files.h"

#include <fmt/ranges.h>
#include <fnmatch.h>

#include <algorithm>
#include <fstream>
#include <tuple>
#include <vector>

#include "base/error.h"
#include "base/text.h"
#include "engine/formats/architecture.h"
#include "engine/formats/gguf.h"
#include "engine/formats/hub_folder.h"
#include "engine/formats/llmc_checkpoint.h"
#include "engine/formats/safetensors.h"
#include "engine/formats/tensorflow_checkpoint.h"
#include "engine/formats/torch_checkpoint.h"

namespace quire {
namespace {

namespace fs = std::filesystem;

struct Format {
  const char* in_folder;  ///< what the file is called that a model folder has; "*.gguf": any such
  std::vector<std::string_view> extensions;    ///< of files that are models by themselves
  bool (*begins)(std::string_view beginning);  ///< of those, where several formats share one
  TensorSource (*open)(const fs::path& file);
};
template <class Source>
TensorSource open(const fs::path& file) {
  return Source(file);
}
template <class Shard>
TensorSource open_shards(const fs::path& index) {
  return Shards(index, open<Shard>);
}
TensorSource open_tensorflow(const fs::path& file) {
#ifdef QUIRE_WITH_TENSORFLOW
  return TensorflowCheckpoint(file);
#else
  throw Error(Fault::bad_data, file.string() + " is of TensorFlow, which this build does not read",
              {"it wants libleveldb-dev, libprotobuf-dev and protobuf-compiler, found when it is "
               "configured"});
#endif
}
/// Those that are read, the first that is there before all others.
const Format kFormats[] = {
    {"model.safetensors", {".safetensors"}, nullptr, open<Safetensors>},
    {"model.safetensors.index.json", {}, nullptr, open_shards<Safetensors>},
    {"pytorch_model.bin.index.json", {}, nullptr, open_shards<TorchCheckpoint>},
    {"*.gguf", {".gguf"}, nullptr, open<Gguf>},
    {"model*.bin", {".bin"}, begins_as_llmc, open<LlmcCheckpoint>},
    {"pytorch_model.bin", {".bin", ".pt", ".pth"}, nullptr, open<TorchCheckpoint>},
    {"ckpt.pt", {}, nullptr, open<TorchCheckpoint>},
    {"checkpoint", {""}, begins_as_tensorflow_checkpoint, open_tensorflow},
    {"*.index", {".index"}, begins_as_tensorflow_index, open_tensorflow},
};
constexpr const char* kConfig = "config.json";
constexpr const char* kShapes = "shapes";  // of the weights: the last that says something

std::string python(const std::string& load) {
  return "python3 -c " + in_quotes("from transformers import AutoModelForCausalLM as M; " + load +
                                       ".save_pretrained('CONVERTED')",
                                   '"');
}

// Formats that only other programs read, told by the files in a folder.
[[noreturn]] void throw_no_weights(const fs::path& folder) {
  const std::string name = folder.string();
  const auto refuse = [&](const std::string& format, const fs::path& file,
                          const std::string& next) {
    throw Error(Fault::bad_data, name + " holds no model that is read",
                {file.filename().string() + " is " + format}, next);
  };
  std::error_code ignored;
  if (fs::exists(folder / "adapter_model.safetensors", ignored)) {
    throw Error(
        Fault::bad_data, name + " holds no model",
        {"adapter_model.safetensors is a LoRA adapter, which needs the model that it adapts"},
        "name the folder of that model");
  }
  for (const auto& [file, format, option] :
       {std::tuple("tf_model.h5", "a Keras checkpoint", "from_tf"),
        std::tuple("flax_model.msgpack", "a Flax checkpoint", "from_flax")}) {
    if (!fs::exists(folder / file, ignored)) continue;
    refuse(format, file,
           python("M.from_pretrained(" + in_python(name) + ", " + option + "=True)") +
               " with transformers 4");
  }
  for (const char* file : {"model.onnx", "decoder_model.onnx"}) {
    if (!fs::exists(folder / file, ignored)) continue;
    refuse("an ONNX graph", file, "the model that it was exported from, in safetensors");
  }
  std::vector<std::string_view> names;
  for (const Format& format : kFormats) names.push_back(format.in_folder);
  throw Error(Fault::bad_data, name + " holds no model",
              {fmt::format("looked for {}", fmt::join(names, ", "))});
}

bool begins_so(const Format& format, const fs::path& file) {
  if (format.begins == nullptr) return true;
  std::string beginning(16, '\0');
  std::ifstream in(file, std::ios::binary);
  in.read(beginning.data(), static_cast<std::streamsize>(beginning.size()));
  return format.begins(
      std::string_view(beginning).substr(0, static_cast<std::size_t>(in.gcount())));
}

struct Found {
  const Format* format = nullptr;
  std::vector<fs::path> files = {};  // one, or several of which none comes first
};

Found weights_in(const fs::path& folder) {
  std::error_code ignored;
  std::vector<fs::path> entries;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, ignored)) {
    entries.push_back(entry.path());
  }
  std::sort(entries.begin(), entries.end());
  for (const Format& format : kFormats) {
    Found found{&format};
    for (const fs::path& file : entries) {
      if (::fnmatch(format.in_folder, file.filename().c_str(), 0) == 0 && begins_so(format, file)) {
        found.files.push_back(file);
      }
    }
    if (!found.files.empty()) return found;
  }
  return {};
}

const Format* format_of(const fs::path& file) {
  const std::string extension = file.extension().string();
  for (const Format& format : kFormats) {
    if (std::find(format.extensions.begin(), format.extensions.end(), extension) !=
            format.extensions.end() &&
        begins_so(format, file)) {
      return &format;
    }
  }
  return nullptr;
}

}  // namespace

TensorSource open_source(const fs::path& folder_or_file) {
  std::error_code ignored;
  if (!fs::exists(folder_or_file, ignored)) {
    throw Error(Fault::bad_data, "there is no model at " + folder_or_file.string(),
                {"neither a folder nor a file has that name"});
  }
  Found found{nullptr, {folder_or_file}};
  if (fs::is_directory(folder_or_file, ignored)) {
    found = weights_in(folder_or_file);
    if (found.format == nullptr) throw_no_weights(folder_or_file);
  } else {
    found.format = format_of(folder_or_file);
    if (found.format == nullptr) {
      throw Error(Fault::bad_data, folder_or_file.string() + " cannot be read as a model",
                  {"it is neither a folder nor a file of weights: .safetensors, .gguf, .bin, .pt, "
                   ".index"});
    }
  }
  if (found.files.size() > 1) {
    throw Error(Fault::bad_data, folder_or_file.string() + " holds several models",
                {fmt::format("{} and {}", found.files[0].filename().string(),
                             found.files[1].filename().string())},
                "name one of the files");
  }
  return found.format->open(found.files[0]);
}

bool has_weights(const fs::path& folder) {
  return weights_in(folder).format != nullptr;
}

bool is_weight_file(const fs::path& file) {
  return format_of(file) != nullptr;
}

std::string bare_name(const std::string& name) {
  constexpr std::string_view kPrefix = "transformer.";
  return name.starts_with(kPrefix) ? name.substr(kPrefix.size()) : name;
}

bool is_old_buffer(const std::string& bare_name) {
  return bare_name.starts_with("h.") &&
         (bare_name.ends_with(".attn.bias") || bare_name.ends_with(".attn.masked_bias"));
}

WeightFiles::WeightFiles(const fs::path& folder_or_file) : source_(open_source(folder_or_file)) {
  for (const FileTensor& tensor : source_.tensors()) {
    const std::string bare = bare_name(tensor.name);
    if (is_old_buffer(bare)) continue;
    const auto [entry, added] = tensors_.emplace(bare, &tensor);
    if (added) continue;
    throw Error(
        Fault::bad_data, tensor.where() + " is there twice",
        {"also as '" + entry->second->name + "' in " + entry->second->file->path().string()});
  }
  refuse_other_architecture(path(), tensors_);
  if (config_origin() == kShapes) config_from_shapes(path(), tensors_);
}

Gpt2Config WeightFiles::config() const {
  const std::string origin = config_origin();
  if (origin == kConfig) return read_config(folder() / kConfig);
  return origin == kShapes ? config_from_shapes(path(), tensors_) : *source_.config();
}

std::string WeightFiles::config_origin() const {
  std::error_code ignored;
  if (fs::exists(folder() / kConfig, ignored)) return kConfig;
  return source_.config() ? source_.config_origin() : kShapes;
}

const FileTensor* WeightFiles::find(const std::string& bare_name) const {
  const auto entry = tensors_.find(bare_name);
  return entry == tensors_.end() ? nullptr : entry->second;
}

void WeightFiles::rename(const std::string& from, const std::string& to) {
  auto node = tensors_.extract(from);
  node.key() = to;
  tensors_.insert(std::move(node));
}

}  // namespace quire
