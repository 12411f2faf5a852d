#include "pipeline/convert.h"

#include <fmt/format.h>
#include <fnmatch.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <map>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "base/file.h"
#include "base/nearest.h"
#include "base/text.h"
#include "engine/formats/adapter_folder.h"
#include "engine/formats/gguf_writer.h"
#include "engine/formats/hub_folder.h"
#include "engine/formats/llmc_writer.h"
#include "engine/formats/safetensors.h"
#include "engine/formats/shards.h"
#include "engine/formats/torch_writer.h"
#include "engine/model/vocabulary.h"
#include "pipeline/model_path.h"
#include "pipeline/model_tokenizer.h"
#include "tokenizer/tokenizer.h"

namespace quire {
namespace {

namespace fs = std::filesystem;

constexpr const char* kAuto = "auto";
constexpr const char* kSafetensors = "safetensors";
constexpr const char* kGguf = "gguf";
constexpr const char* kLlmc = "llmc";
constexpr const char* kPytorch = "pytorch";

/// What the output is.
struct Target {
  std::string format;
  bool is_folder = false;
};

/// A name that no format has is a folder's, but "model.ggu" is none.
void check_extension(const fs::path& output) {
  const std::vector<std::string> known = {".gguf", ".safetensors", ".bin", ".pt", ".pth"};
  const std::string extension = output.extension().string();
  if (extension.empty() || std::find(known.begin(), known.end(), extension) != known.end()) return;
  const std::string near = nearest(extension, known);
  if (near.empty()) return;
  throw Error(Fault::usage, "no format's files are called *" + extension,
              {"did you mean " + fs::path(output).replace_extension(near).string() + "?"},
              "`format` safetensors for a folder of that name"_named);
}

Target target_of(const ConvertOptions& options) {
  const fs::path& output = options.output;
  const std::string extension = output.extension().string();
  std::error_code ignored;
  const bool is_folder = !output.has_filename() || fs::is_directory(output, ignored);
  const auto ends = [&](std::initializer_list<std::string_view> extensions) {
    return !is_folder &&
           std::find(extensions.begin(), extensions.end(), extension) != extensions.end();
  };
  const bool torch_name = ends({".pt", ".pth"}) || output.filename() == "pytorch_model.bin";
  std::string format = options.format;
  if (format == kAuto) {
    if (!is_folder) check_extension(output);
    format = ends({".gguf"})  ? kGguf
             : torch_name     ? kPytorch
             : ends({".bin"}) ? kLlmc
                              : kSafetensors;
  }
  if (format == kSafetensors) return {format, !ends({".safetensors"})};
  if (format == kPytorch) return {format, !torch_name && !ends({".bin"})};
  if (is_folder) {
    throw Error(
        Fault::usage, output.string() + " is a folder, not a file to write", {},
        "name a file: " + (output / (format == kGguf ? "model.gguf" : "model.bin")).string());
  }
  return {format, false};
}

/// Names of types, and what they are in the file of tensors. int8 and int4 are GGUF's: what other
/// formats have for whole tensors are types of activations or of other programs.
const ElementType* wanted_type(const ConvertOptions& options, const std::string& format) {
  if (options.dtype == kAuto) return nullptr;
  static constexpr std::pair<std::string_view, std::string_view> kNames[] = {
      {"float32", "F32"}, {"float16", "F16"}, {"bfloat16", "BF16"},
      {"int8", "Q8_0"},   {"int4", "Q4_0"},   {"q4_k", "Q4_K"}};
  const auto* const name = std::find_if(std::begin(kNames), std::end(kNames),
                                        [&](const auto& n) { return n.first == options.dtype; });
  if (name == std::end(kNames)) {
    throw Error(Fault::usage, fmt::format(fmt::runtime("`dtype` {}: there is no such type"_named),
                                          options.dtype));
  }
  const ElementType* const type = element_type(name->second);
  const bool fits = format == kGguf || (format == kLlmc ? type->dtype && *type->dtype != DType::f16
                                                        : !type->is_quantised);
  if (fits) return type;
  throw Error(Fault::usage,
              fmt::format(fmt::runtime("`dtype` {}: {} has no such type"_named), options.dtype,
                          format == kLlmc ? "llm.c" : "a file that transformers loads"),
              {type->is_quantised
                   ? fmt::format("GGUF has: it is {} there, {} weights with a scale in each block",
                                 type->name, type->block_elements)
                   : "its files are float32 (version 3) or bfloat16 (version 5)"},
              type->is_quantised ? "`format` gguf, and a name like model.gguf"_named
                                 : "`dtype` float32 or bfloat16"_named);
}

/// The files of a model in a folder, of which only one is found: what overwriting replaces.
bool is_of_a_model(const fs::path& file) {
  const std::string name = file.filename().string();
  for (const char* pattern :
       {"model.safetensors", "model-*-of-*.safetensors", "model.safetensors.index.json",
        "pytorch_model.bin", "pytorch_model-*-of-*.bin", "pytorch_model.bin.index.json",
        "adapter_config.json", "adapter_model.safetensors"}) {
    if (::fnmatch(pattern, name.c_str(), 0) == 0) return true;
  }
  return false;
}

/// A folder beside the one that is to be, whose content goes there when it is whole.
class StagedFolder {
 public:
  explicit StagedFolder(fs::path target) : target_(std::move(target)) {
    if (!target_.has_filename()) target_ = target_.parent_path();  // "out/"
    path_ = target_.string() + ".tmp-" + std::to_string(::getpid());
    make_folder(path_);
  }
  StagedFolder(const StagedFolder&) = delete;
  StagedFolder& operator=(const StagedFolder&) = delete;
  ~StagedFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }

  const fs::path& path() const { return path_; }
  /// Into what is there, `last` last.
  std::vector<fs::path> commit(const fs::path& last) {
    std::vector<fs::path> names;
    for (const fs::directory_entry& entry : fs::directory_iterator(path_)) {
      names.push_back(entry.path().filename());
    }
    std::sort(names.begin(), names.end(), [&](const fs::path& a, const fs::path& b) {
      return std::pair(a == last, a) < std::pair(b == last, b);
    });
    std::error_code trouble;
    if (!fs::exists(target_, trouble) || fs::is_empty(target_, trouble)) {
      fs::rename(path_, target_, trouble);
    } else {
      for (const fs::path& name : names) {
        if (!trouble) fs::rename(path_ / name, target_ / name, trouble);
      }
      for (const fs::directory_entry& entry : fs::directory_iterator(target_)) {
        const bool fresh =
            std::find(names.begin(), names.end(), entry.path().filename()) != names.end();
        if (!trouble && !fresh && is_of_a_model(entry.path())) fs::remove(entry.path(), trouble);
      }
    }
    if (trouble) {
      throw Error(Fault::bad_data, "cannot write the folder " + target_.string(),
                  {trouble.message()}, "another folder");
    }
    sync_folder(target_);
    sync_folder(target_.parent_path());
    for (fs::path& name : names) name = target_ / name;
    return names;
  }

 private:
  fs::path target_, path_;
};

/// What is converted: tensors under Hugging Face's names, in the order of the parameters.
struct Model {
  Gpt2Config config;
  std::vector<OutTensor> tensors;
  /// Of an adapter, where it was merged.
  std::shared_ptr<Device> device;
  std::shared_ptr<const LoadedModel> loaded;
  std::vector<std::string> notes;
};

Model open(const ConvertCallbacks& callbacks, const fs::path& path) {
  Model model;
  if (is_adapter(path)) {
    model.device = callbacks.open_device();
    model.loaded =
        std::make_shared<LoadedModel>(load_resolved(*model.device, path, WeightStorage::plain));
    model.device->synchronize();
    model.config = model.loaded->config;
    model.notes = model.loaded->notes;
    const Parameters& parameters = model.loaded->parameters;
    for (std::size_t i = 0; i < parameters.names().size(); ++i) {
      const std::string& name = parameters.names()[i].name;
      model.tensors.push_back(OutTensor::of(FileTensor::of(name, parameters.weights()[i]), name));
    }
    return model;
  }
  OpenedModel opened = open_model(path);
  model.config = opened.config;
  model.notes = std::move(opened.notes);
  for (std::size_t i = 0; i < opened.tensors.size(); ++i) {
    model.tensors.push_back(OutTensor::of(*opened.tensors[i], opened.parameters[i].name));
  }
  return model;
}

void settle_types(Model& model, const ElementType* wanted, const std::string& format) {
  for (OutTensor& tensor : model.tensors) {
    tensor.transposed = false;  // a format that has it otherwise says so
    if (wanted != nullptr) {
      tensor.type = wanted;
    } else if (tensor.type->is_quantised && format != kGguf) {
      tensor.type = element_type(DType::f32);
    }
  }
}

/// Special tokens keep their rows.
void check_ids(const Gpt2Config& config, int rows) {
  for (const auto& [name, id] : {std::pair("bos_token_id", config.bos_token_id),
                                 std::pair("eos_token_id", config.eos_token_id),
                                 std::pair("pad_token_id", config.pad_token_id)}) {
    if (id && *id >= rows) {
      throw Error(
          Fault::usage,
          fmt::format(fmt::runtime("`resize_vocab` {} leaves no row for the model's {}"_named),
                      rows, name),
          {fmt::format("it is {}", *id)},
          fmt::format(fmt::runtime("`resize_vocab` {} or more"_named), *id + 1));
    }
  }
}

void resize_vocabulary(Model& model, int rows, std::uint64_t seed) {
  check_ids(model.config, rows);
  const std::int64_t old = model.config.vocab_size;
  model.config.vocab_size = rows;
  for (std::size_t i = 0; i < model.tensors.size(); ++i) {
    OutTensor& tensor = model.tensors[i];
    if (!tensor.name.ends_with("wte.weight") && tensor.name != "lm_head.weight") continue;
    tensor.shape[0] = rows;
    if (rows <= old) continue;
    if (tensor.from.file != nullptr) tensor.from.check_weight();
    tensor.more = drawn_rows(tensor.from.read_weight(), tensor.shape[1], rows - old, seed, i);
  }
  model.notes.push_back(fmt::format("the vocabulary {} from {} to {} rows",
                                    rows > old ? "grows" : "shrinks", with_commas(old),
                                    with_commas(rows)));
}

/// The folder of files that transformers reads; empty for a place where the tokenizer lies otherwise.
fs::path files_of_tokenizer(const fs::path& place) {
  std::error_code ignored;
  const bool is_folder = fs::is_directory(place, ignored);
  for (const char* name : {"tokenizer.json", "vocab.json"}) {
    if (is_folder ? fs::exists(place / name, ignored) : place.filename() == name) {
      return is_folder ? place : place.parent_path();
    }
  }
  return {};
}

/// What transformers' folders hold of a tokenizer.
void copy_tokenizer(const fs::path& from, const fs::path& to) {
  for (const char* name : {"tokenizer.json", "vocab.json", "merges.txt", "tokenizer_config.json",
                           "special_tokens_map.json", "added_tokens.json", "chat_template.jinja"}) {
    std::error_code ignored;
    if (fs::exists(from / name, ignored)) write_file(to / name, read_file(from / name));
  }
}

class Conversion {
 public:
  Conversion(const ConvertOptions& options, const ConvertCallbacks& callbacks)
      : options_(options), callbacks_(callbacks), target_(target_of(options)) {
    const ElementType* const wanted = wanted_type(options, target_.format);
    std::error_code ignored;
    const fs::path path =
        fs::exists(options.model, ignored) ? fs::path(options.model) : resolve_model(options.model);
    model_ = open(callbacks, path);
    if (!options.tokenizer.empty() || has_tokenizer(path)) {
      tokenizer_ = tokenizer_of(path, options.tokenizer);
      tokenizer_files_ = files_of_tokenizer(tokenizer_place(path, options.tokenizer));
    }
    name_ = path.has_filename() ? path.stem().string() : path.parent_path().filename().string();
    generation_config_ = config_folder(path) / "generation_config.json";
    settle_types(model_, wanted, target_.format);
    if (options.resize_vocab > 0) {
      resize_vocabulary(model_, options.resize_vocab, options.seed);
      check_tokenizer();
    }
    result_.format = target_.format;
    result_.tensors = model_.tensors.size();
    result_.parameters = model_.config.parameter_count();
  }

  Converted run() {
    try {
      if (target_.is_folder) {
        write_folder();
      } else if (target_.format == kSafetensors || target_.format == kPytorch) {
        write_single();
      } else {
        write_with_tokenizer();
      }
    } catch (const WriteStopped&) {
      result_.stopped = true;
      result_.files.clear();
    }
    result_.notes.insert(result_.notes.begin(), model_.notes.begin(), model_.notes.end());
    return std::move(result_);
  }

 private:
  void check_tokenizer() const {
    if (!tokenizer_ || tokenizer_->vocab_size() <= options_.resize_vocab) return;
    const int ids = tokenizer_->vocab_size();
    throw Error(Fault::usage,
                fmt::format(fmt::runtime("`resize_vocab` {}: the tokenizer has {} ids"_named),
                            options_.resize_vocab, ids),
                {}, fmt::format(fmt::runtime("`resize_vocab` {} or more"_named), ids));
  }

  /// A file of weights; commit() is still to come.
  std::unique_ptr<AtomicFile> write_weights(const fs::path& path, const FileLayout& layout) {
    if (path.has_parent_path()) make_folder(path.parent_path());
    auto file = std::make_unique<AtomicFile>(path);
    WriteOptions how{.threads = options_.threads, .must_be_finite = true};
    how.go_on = [&](std::size_t bytes) {
      done_ += bytes;
      if (callbacks_.progress) callbacks_.progress(done_, total_);
      return !callbacks_.stop_requested || !callbacks_.stop_requested();
    };
    write(*file, layout, how);
    result_.bytes += layout.size();
    return file;
  }

  /// A tied head is in PyTorch's files under both names, as transformers has it there.
  std::vector<std::pair<std::string, std::string>> shared() const {
    if (target_.format != kPytorch || !model_.config.tie_word_embeddings) return {};
    return {{"lm_head.weight", model_.tensors.front().name}};
  }

  FileLayout layout_of(std::vector<OutTensor> tensors, const std::string& file) const {
    if (target_.format == kSafetensors) return safetensors_layout(std::move(tensors));
    std::vector<std::pair<std::string, std::string>> here;
    for (const auto& [name, of] : shared()) {
      if (std::any_of(tensors.begin(), tensors.end(),
                      [&of = of](const OutTensor& tensor) { return tensor.name == of; })) {
        here.emplace_back(name, of);
      }
    }
    return torch_layout(std::move(tensors), here, fs::path(file).stem().string());
  }

  /// config.json names the type of the matrices.
  void write_config(const fs::path& folder) const {
    const auto matrix =
        std::find_if(model_.tensors.rbegin(), model_.tensors.rend(),
                     [](const OutTensor& tensor) { return tensor.shape.size() == 2; });
    write_file(folder / "config.json", config_to_json(model_.config, *matrix->type->dtype));
  }

  void write_folder() {
    StagedFolder folder(options_.output);
    write_config(folder.path());
    std::error_code ignored;
    write_file(folder.path() / "generation_config.json",
               fs::exists(generation_config_, ignored) ? read_file(generation_config_)
                                                       : generation_config_to_json(model_.config));
    if (!tokenizer_files_.empty()) {
      copy_tokenizer(tokenizer_files_, folder.path());
    } else if (tokenizer_) {
      tokenizer_->save(folder.path(), model_.config.n_positions);
    }

    const std::string name =
        target_.format == kSafetensors ? "model.safetensors" : "pytorch_model.bin";
    const std::vector<OutTensor>& all = model_.tensors;
    const std::vector<std::vector<std::size_t>> files =
        share_out(all, options_.max_shard_size > 0 ? options_.max_shard_size : SIZE_MAX);
    for (const OutTensor& tensor : all) total_ += tensor.bytes();
    fs::path last = name;
    if (files.size() > 1) {
      last = name + ".index.json";
      write_file(folder.path() / last, shard_index(name, all, files, shared()));
    }
    for (std::size_t f = 0; f < files.size(); ++f) {
      std::vector<OutTensor> tensors;
      for (const std::size_t i : files[f]) tensors.push_back(all[i]);
      const std::string shard = shard_name(name, f, files.size());
      write_weights(folder.path() / shard, layout_of(std::move(tensors), shard))->commit();
    }
    result_.files = folder.commit(last);
    tell_of_tokenizer();
  }

  /// One file, and the config beside it where there is none: a file alone does not say it all.
  void write_single() {
    const FileLayout layout = layout_of(model_.tensors, options_.output.string());
    total_ = layout.size();
    const std::unique_ptr<AtomicFile> file = write_weights(options_.output, layout);
    const fs::path folder = options_.output.parent_path();
    std::error_code ignored;
    if (fs::exists(folder / "config.json", ignored)) {
      result_.notes.push_back((folder / "config.json").string() + " was there and stays as it is");
    } else {
      write_config(folder);
      result_.files.push_back(folder / "config.json");
    }
    file->commit();
    result_.files.push_back(options_.output);
  }

  void write_with_tokenizer() {
    const bool gguf = target_.format == kGguf;
    std::optional<GgufVocabulary> vocabulary;
    if (gguf && tokenizer_) vocabulary = gguf_vocabulary(*tokenizer_);
    const FileLayout layout =
        gguf ? gguf_layout(model_.config, model_.tensors, vocabulary, name_, result_.notes)
             : llmc_layout(model_.config, model_.tensors);
    total_ = layout.size();
    const std::unique_ptr<AtomicFile> file = write_weights(options_.output, layout);
    if (!gguf && tokenizer_) {
      const fs::path path = options_.output.parent_path() / "tokenizer.bin";
      if (!tokenizer_->save_llmc(path)) {
        result_.notes.push_back(path.string() +
                                " decodes only: its merges cannot be told from its tokens");
      }
      result_.files.push_back(path);
    }
    file->commit();
    result_.files.push_back(options_.output);
    tell_of_tokenizer();
  }

  void tell_of_tokenizer() {
    if (tokenizer_) return;
    result_.notes.emplace_back(
        "the model has no tokenizer: none was written\n  try: the same with `tokenizer` DIR"_named);
  }

  const ConvertOptions& options_;
  const ConvertCallbacks& callbacks_;
  Target target_;
  Model model_;
  std::optional<Tokenizer> tokenizer_;
  fs::path tokenizer_files_, generation_config_;
  std::string name_;
  std::size_t done_ = 0, total_ = 0;
  Converted result_;
};

}  // namespace

void check(const ConvertOptions& options) {
  const Target target = target_of(options);
  wanted_type(options, target.format);
  const fs::path& output = options.output;
  std::error_code ignored;
  if (options.max_shard_size > 0 && !target.is_folder) {
    throw Error(Fault::usage, "`max_shard_size`: a file is not shared out, a folder is"_named, {},
                "name a folder");
  }
  const bool is_folder = fs::is_directory(output, ignored);
  if (target.is_folder && fs::exists(output, ignored) && !is_folder) {
    throw Error(Fault::usage, output.string() + " is a file, not a folder to write into", {},
                "name another folder");
  }
  if (!options.overwrite_output_dir && fs::exists(output, ignored) &&
      (!is_folder || !fs::is_empty(output, ignored))) {
    throw Error(Fault::usage,
                is_folder ? "the output folder " + output.string() + " is not empty"
                          : output.string() + " is there already",
                {}, "another name, or `overwrite_output_dir`"_named);
  }
  check_writable(target.is_folder           ? output
                 : output.has_parent_path() ? output.parent_path()
                                            : fs::path("."));
}

Converted convert(const ConvertOptions& options, const ConvertCallbacks& callbacks) {
  check(options);
  return Conversion(options, callbacks).run();
}

}  // namespace quire
