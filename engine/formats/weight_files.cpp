#include "engine/formats/weight_files.h"

#include <algorithm>

#include "base/error.h"
#include "base/text.h"
#include "engine/formats/safetensors.h"

namespace quire {
namespace {

namespace fs = std::filesystem;

struct Format {
  const char* in_folder;  ///< the name of the file that a model folder has
  const char* extension;  ///< of files that are models by themselves, config.json beside them
  TensorSource (*open)(const fs::path& file);
};
/// Those that are read, the first that is there before all others.
constexpr Format kFormats[] = {
    {"model.safetensors", ".safetensors",
     [](const fs::path& file) -> TensorSource { return Safetensors(file); }},
    {"model.safetensors.index.json", nullptr,
     [](const fs::path& file) -> TensorSource { return ShardedSafetensors(file); }},
};
constexpr const char* kFile = kFormats[0].in_folder;

// The causal masks that old versions of transformers stored: bool, u8 or float.
bool is_old_buffer(const std::string& bare) {
  return bare.starts_with("h.") &&
         (bare.ends_with(".attn.bias") || bare.ends_with(".attn.masked_bias"));
}

std::string python(const std::string& load) {
  return "python3 -c " + in_quotes("from transformers import AutoModelForCausalLM as M; " + load +
                                       ".save_pretrained('CONVERTED')",
                                   '"');
}

// Formats that other programs write, told by the files in a folder.
[[noreturn]] void throw_no_weights(const fs::path& folder) {
  const std::string name = folder.string();
  const auto refuse = [&](const std::string& format, const fs::path& file,
                          const std::string& next) {
    throw Error(Fault::bad_data, name + " has no " + kFile,
                {file.filename().string() + " is " + format + ", which is not read yet"}, next);
  };
  std::error_code ignored;
  for (const char* file : {"pytorch_model.bin", "pytorch_model.bin.index.json"}) {
    if (fs::exists(folder / file, ignored)) {
      refuse("a PyTorch checkpoint", file, python("M.from_pretrained(" + in_python(name) + ")"));
    }
  }
  if (fs::exists(folder / "adapter_model.safetensors", ignored)) {
    throw Error(
        Fault::bad_data, name + " has no " + kFile,
        {"adapter_model.safetensors is a LoRA adapter, which needs the model that it adapts"},
        "name the folder of that model");
  }
  if (fs::exists(folder / "tf_model.h5", ignored)) {
    refuse("a Keras checkpoint", "tf_model.h5",
           python("M.from_pretrained(" + in_python(name) + ", from_tf=True)") +
               " with transformers 4");
  }
  fs::path gguf, tensorflow, llmc;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, ignored)) {
    const std::string file = entry.path().filename().string();
    if (entry.path().extension() == ".gguf") gguf = std::max(gguf, entry.path());
    if (file == "model.ckpt.index") tensorflow = entry.path();
    if (entry.path().extension() == ".bin" && file.starts_with("model")) llmc = entry.path();
  }
  if (!gguf.empty()) {
    refuse("a GGUF file", gguf,
           python("M.from_pretrained(" + in_python(name) +
                  ", gguf_file=" + in_python(gguf.filename().string()) + ")"));
  }
  if (!tensorflow.empty()) {
    refuse("a TensorFlow checkpoint", tensorflow,
           "transformers-cli convert --model_type gpt2 --tf_checkpoint " +
               in_shell((folder / "model.ckpt").string()) +
               " --pytorch_dump_output CONVERTED (transformers 4), then " +
               python("M.from_pretrained('CONVERTED')"));
  }
  if (!llmc.empty()) refuse("a checkpoint of llm.c", llmc, "use the model it was made from");
  throw Error(Fault::bad_data, name + " holds no model",
              {std::string("looked for ") + kFile + " and " + kFormats[1].in_folder});
}

[[noreturn]] void throw_other_file(const fs::path& file) {
  const std::string kind = file.extension() == ".gguf" ? "GGUF files are not read yet"
                           : file.extension() == ".bin" || file.extension() == ".pt"
                               ? "PyTorch checkpoints are not read yet"
                               : "it is neither a folder nor a .safetensors file";
  const std::string load = file.extension() == ".gguf"
                               ? python("M.from_pretrained('" + file.parent_path().string() +
                                        "', gguf_file='" + file.filename().string() + "')")
                               : std::string();
  throw Error(Fault::bad_data, file.string() + " cannot be read as a model", {kind}, load);
}

const Format* format_in(const fs::path& folder) {
  std::error_code ignored;
  for (const Format& format : kFormats) {
    if (fs::exists(folder / format.in_folder, ignored)) return &format;
  }
  return nullptr;
}

TensorSource open_weights(const fs::path& folder_or_file) {
  std::error_code ignored;
  if (!fs::exists(folder_or_file, ignored)) {
    throw Error(Fault::bad_data, "there is no model at " + folder_or_file.string(),
                {"neither a folder nor a file has that name"});
  }
  fs::path file = folder_or_file;
  const Format* format = nullptr;
  if (fs::is_directory(folder_or_file, ignored)) {
    format = format_in(folder_or_file);
    if (format == nullptr) throw_no_weights(folder_or_file);
    file /= format->in_folder;
  } else {
    for (const Format& known : kFormats) {
      if (known.extension != nullptr && file.extension() == known.extension) format = &known;
    }
    if (format == nullptr) throw_other_file(file);
  }
  if (!fs::exists(file.parent_path() / "config.json", ignored)) {
    throw Error(Fault::bad_data, file.string() + " has no config.json beside it",
                {"the weights alone do not say the number of heads or the activation"});
  }
  return format->open(file);
}

}  // namespace

bool has_weights(const fs::path& folder) {
  return format_in(folder) != nullptr;
}

std::string bare_name(const std::string& name) {
  constexpr std::string_view kPrefix = "transformer.";
  return name.starts_with(kPrefix) ? name.substr(kPrefix.size()) : name;
}

WeightFiles::WeightFiles(const fs::path& folder_or_file) : source_(open_weights(folder_or_file)) {
  for (const FileTensor& tensor : source_.tensors()) {
    const std::string bare = bare_name(tensor.name);
    if (is_old_buffer(bare)) continue;
    const auto [entry, added] = tensors_.emplace(bare, &tensor);
    if (added) continue;
    throw Error(
        Fault::bad_data, tensor.where() + " is there twice",
        {"also as '" + entry->second->name + "' in " + entry->second->file->path().string()});
  }
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
