#include "engine/formats/weight_files.h"

#include <nlohmann/json.hpp>
#include <set>

#include "base/error.h"
#include "base/foreign_file.h"
#include "base/json.h"
#include "base/text.h"

namespace quire {
namespace {

namespace fs = std::filesystem;

constexpr const char* kFile = "model.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";

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
              {std::string("looked for ") + kFile + " and " + kIndex});
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

}  // namespace

std::string bare_name(const std::string& name) {
  constexpr std::string_view kPrefix = "transformer.";
  return name.starts_with(kPrefix) ? name.substr(kPrefix.size()) : name;
}

WeightFiles::WeightFiles(const fs::path& folder_or_file) {
  std::error_code ignored;
  if (!fs::exists(folder_or_file, ignored)) {
    throw Error(Fault::bad_data, "there is no model at " + folder_or_file.string(),
                {"neither a folder nor a file has that name"});
  }
  if (!fs::is_directory(folder_or_file, ignored)) {
    if (folder_or_file.extension() != ".safetensors") throw_other_file(folder_or_file);
    path_ = folder_or_file;
  } else if (fs::exists(folder_or_file / kFile, ignored)) {
    path_ = folder_or_file / kFile;
  } else if (fs::exists(folder_or_file / kIndex, ignored)) {
    path_ = folder_or_file / kIndex;
  } else {
    throw_no_weights(folder_or_file);
  }
  if (!fs::exists(folder() / "config.json", ignored)) {
    throw Error(Fault::bad_data, path_.string() + " has no config.json beside it",
                {"the weights alone do not say the number of heads or the activation"});
  }
  if (path_.extension() == ".json") {
    open_shards();
  } else {
    const Safetensors& file = files_.emplace_back(path_);
    for (const FileTensor& tensor : file.tensors()) add(file, tensor);
  }
}

void WeightFiles::open_shards() {
  const std::string text = read_file(path_);
  const auto complain = [&](const std::string& why) {
    throw unusable_file(path_.string() + " is not a usable index of weights", text, why);
  };
  nlohmann::json index;
  try {
    index = parse_json<nlohmann::json>(text);
  } catch (const nlohmann::json::exception& error) {
    complain("it is not valid JSON: " + json_trouble(error));
  }
  if (!index.is_object() || !index.contains("weight_map") || !index["weight_map"].is_object()) {
    complain("it has no \"weight_map\"");
  }
  std::map<std::string, std::set<std::string>> shards;  // file -> names of its tensors
  for (const auto& [name, file] : index["weight_map"].items()) {
    const bool plain =
        file.is_string() && file == fs::path(file.get<std::string>()).filename().string();
    if (!plain || file == "" || file == "..") {
      complain("tensor '" + name + "' lies in " + json_text(file) +
               ", which is not the name of a file beside it");
    }
    shards[file.get<std::string>()].insert(name);
  }
  for (const auto& [name, tensors] : shards) {
    const fs::path shard = folder() / name;
    std::error_code ignored;
    if (!fs::exists(shard, ignored)) {
      throw Error(Fault::bad_data, shard.string() + " is missing",
                  {path_.filename().string() + " puts " + std::to_string(tensors.size()) +
                   " tensors into it, '" + *tensors.begin() + "' among them"},
                  "download or copy the whole folder again");
    }
    const Safetensors& file = files_.emplace_back(shard);
    for (const std::string& tensor : tensors) {
      const FileTensor* found = file.find(tensor);
      if (found == nullptr) {
        throw Error(Fault::bad_data, shard.string() + " does not hold tensor '" + tensor + "'",
                    {path_.filename().string() + " says that it does"});
      }
      add(file, *found);
    }
  }
}

void WeightFiles::add(const Safetensors& file, const FileTensor& tensor) {
  const std::string bare = bare_name(tensor.name);
  if (is_old_buffer(bare)) return;
  const auto [entry, added] = tensors_.emplace(bare, &tensor);
  if (!added) {
    throw Error(Fault::bad_data,
                file.path().string() + ": tensor '" + tensor.name + "' is there twice",
                {"also as '" + entry->second->name + "' in " + source(*entry->second)});
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

std::string WeightFiles::source(const FileTensor& tensor) const {
  for (const Safetensors& file : files_) {
    const FileTensor* first = file.tensors().data();
    if (!std::less<>()(&tensor, first) && std::less<>()(&tensor, first + file.tensors().size())) {
      return file.path().string();
    }
  }
  return path_.string();
}

}  // namespace quire
