// Every format that is read to every format that is written, and back.
#include "pipeline/convert.h"

#include <sys/resource.h>

#include <algorithm>
#include <csignal>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>

#include "base/json.h"
#include "engine/formats/gguf.h"
#include "engine/formats/hub_folder.h"
#include "pipeline/model_path.h"
#include "tests/engine/formats/tiny_char.h"
#include "tests/engine/model/model_case.h"
#include "tests/support/letter_model.h"
#include "tests/support/python.h"
#include "tests/support/scratch.h"

using namespace quire;
using namespace quire::test;
namespace fs = std::filesystem;

namespace {

// What is compared by the megabyte stands in parentheses: a failure prints that they differ.

Converted converted(const ConvertOptions& options) {
  return convert(options, {.open_device = [] { return open_device("cpu"); }});
}

struct Output {
  const char* name;
  const char* format;
};
constexpr Output kOutputs[] = {{"folder", "auto"},      {"file/x.safetensors", "auto"},
                               {"pt", "pytorch"},       {"pt-file/x.pt", "auto"},
                               {"gguf/x.gguf", "auto"}, {"llmc/x.bin", "auto"}};

/// What lies in a folder, however deep, without the folders.
std::set<std::string> files_in(const fs::path& folder) {
  std::set<std::string> names;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(folder)) {
    if (!entry.is_directory()) names.insert(fs::relative(entry.path(), folder).string());
  }
  return names;
}

std::string text_of(const FileTensor& tensor) {
  return {reinterpret_cast<const char*>(tensor.bytes.data()), tensor.bytes.size()};
}

}  // namespace

TEST_CASE("every format goes to every other with the same weights, bit for bit") {
  QUIRE_FIXTURE(models, "models");
  for (const char* name : {"tiny-char", "tiny-char-formats/bin-zip", "tiny-char-formats/bin-legacy",
                           "tiny-char-formats/sharded", "tiny-char-formats/bf16",
                           "tiny-char-formats/fp16-lm-head-buffers", "tiny-char-formats/hub-layout",
                           "tiny-char-gguf/tiny-char-f32.gguf", "tiny-char-gguf/tiny-char-f16.gguf",
                           "tiny-char-gguf/tiny-char-q8_0.gguf", "tiny-char-llmc/model_fp32.bin",
                           "tiny-char-llmc/model_bf16.bin"}) {
    const auto wanted = read_all(open_source(models / name));
    const ScratchFolder folder;
    for (const Output& output : kOutputs) {
      INFO(name << " to " << output.name);
      const fs::path path = folder / output.name;
      const Converted done = converted({.model = (models / name).string(),
                                        .output = path,
                                        .format = output.format,
                                        .tokenizer = (models / "tiny-char").string()});
      CHECK(done.tensors == 40);
      CHECK(done.parameters == 755'840);
      CHECK((read_all(open_source(path)) == wanted));
      // And from there: what was written is what is read.
      const fs::path again =
          folder / (std::string("again-") + output.format + path.stem().string());
      converted({.model = path.string(), .output = again});
      CHECK((read_all(open_source(again)) == wanted));
      fs::remove_all(again);
    }
  }
}

TEST_CASE("the logits of what is converted are transformers'") {
  QUIRE_FIXTURE(models, "models");
  for (const std::string& name : kFixtureModels) {
    const fs::path results = fixtures_root() / "fixtures" / name;
    const auto tolerance = parse_json<nlohmann::json>(read_file(results / "tolerance.json"));
    const Safetensors file(results / "forward.safetensors");
    const ForwardBatch batch(file);
    const ScratchFolder folder;
    // Beyond safetensors and PyTorch a model has to be as its first owner's.
    const bool plain = name == "tiny-char" || name == "odd-tied";
    for (const Output& output : kOutputs) {
      if (!plain && (output.name[0] == 'g' || output.name[0] == 'l')) continue;
      INFO(name << " in " << output.name);
      converted({.model = (models / name).string(),
                 .output = folder / output.name,
                 .format = output.format});
      const auto device = open_device("cpu");
      const LoadedModel model = load_model(*device, folder / output.name, WeightStorage::as_stored);
      Gpt2 gpt2(*device, model.config, model.parameters);
      check_close("logits", gpt2.logits(batch.view()), read_tensor<float>(file, "logits"),
                  bound_of(tolerance["logits"], tolerance["max_abs_logit"]));
    }
  }
}

TEST_CASE("a folder is what transformers writes: config, tokenizer and weights") {
  QUIRE_FIXTURE(model, "models/tiny-char");
  const ScratchFolder folder;
  const Converted done = converted({.model = model.string(), .output = folder / "out"});
  CHECK(files_in(folder / "out") ==
        std::set<std::string>{"config.json", "generation_config.json", "merges.txt",
                              "model.safetensors", "special_tokens_map.json", "tokenizer.json",
                              "tokenizer_config.json", "vocab.json"});
  CHECK(done.files.size() == 8);
  const auto config = parse_json<nlohmann::json>(read_file(folder / "out/config.json"));
  const auto original = parse_json<nlohmann::json>(read_file(model / "config.json"));
  for (const char* field : {"vocab_size", "n_embd", "n_layer", "n_head", "eos_token_id",
                            "activation_function", "tie_word_embeddings"}) {
    INFO(field);
    CHECK(config[field] == original[field]);
  }
  CHECK(config["dtype"] == "float32");
  const Safetensors weights(folder / "out/model.safetensors");
  CHECK(weights.find("lm_head.weight") == nullptr);
  CHECK(weights.metadata() == std::map<std::string, std::string>{{"format", "pt"}});
}

TEST_CASE("llm.c's files are those that it made itself, byte for byte") {
  QUIRE_FIXTURE(model, "models/tiny-char");
  QUIRE_FIXTURE(llmc, "models/tiny-char-llmc");
  const ScratchFolder folder;
  converted({.model = model.string(), .output = folder / "x.bin"});
  converted({.model = model.string(), .output = folder / "y.bin", .dtype = "bfloat16"});
  CHECK((read_file(folder / "x.bin") == read_file(llmc / "model_fp32.bin")));
  CHECK((read_file(folder / "y.bin") == read_file(llmc / "model_bf16.bin")));
  CHECK((read_file(folder / "tokenizer.bin") == read_file(llmc / "tokenizer.bin")));
}

TEST_CASE("GGUF files have the tensors and the words of the fixture's maker") {
  QUIRE_FIXTURE(model, "models/tiny-char");
  QUIRE_FIXTURE(fixtures, "models/tiny-char-gguf");
  const ScratchFolder folder;
  for (const auto& [dtype, name] :
       {std::pair("float32", "tiny-char-f32.gguf"), std::pair("float16", "tiny-char-f16.gguf"),
        std::pair("int8", "tiny-char-q8_0.gguf")}) {
    INFO(name);
    converted({.model = model.string(), .output = folder / name, .dtype = dtype});
    const Gguf made(folder / name), wanted(fixtures / name);
    REQUIRE(made.tensors().size() == wanted.tensors().size());
    for (std::size_t i = 0; i < wanted.tensors().size(); ++i) {
      const FileTensor &a = made.tensors()[i], &b = wanted.tensors()[i];
      INFO(b.name);
      CHECK(a.name == b.name);
      CHECK(a.dtype_name() == b.dtype_name());
      CHECK((text_of(a) == text_of(b)));
    }
    std::map<std::string, std::string> words = made.metadata();
    words.erase("general.type");  // which convert_hf_to_gguf.py writes as well
    CHECK(words == wanted.metadata());
    for (const char* list : {"tokenizer.ggml.tokens", "tokenizer.ggml.merges"}) {
      CHECK((made.strings(list) == wanted.strings(list)));
    }
  }
}

TEST_CASE("four bits a weight: matrices are Q4_0, all else is float32") {
  QUIRE_FIXTURE(model, "models/tiny-char");
  const ScratchFolder folder;
  converted({.model = model.string(), .output = folder / "x.gguf", .dtype = "int4"});
  const Gguf file(folder / "x.gguf");
  for (const FileTensor& tensor : file.tensors()) {
    INFO(tensor.name);
    const bool is_matrix = tensor.shape.size() == 2 && tensor.name != "wpe.weight";
    CHECK(tensor.dtype_name() == (is_matrix ? "Q4_0" : "F32"));
  }
  // As stored: the blocks go on as they are, and elsewhere as float32.
  converted({.model = (folder / "x.gguf").string(), .output = folder / "y.gguf"});
  CHECK((read_all(Gguf(folder / "y.gguf")) == read_all(Gguf(folder / "x.gguf"))));
  CHECK(Gguf(folder / "y.gguf").find("wte.weight")->dtype_name() == "Q4_0");
  converted({.model = (folder / "x.gguf").string(), .output = folder / "out"});
  CHECK((read_all(open_source(folder / "out")) == read_all(Gguf(folder / "x.gguf"))));
}

TEST_CASE("Q4_K where rows have blocks of 256, Q8_0 where they have others") {
  QUIRE_FIXTURE(model, "models/tiny-char");  // rows of 128 and 512
  const ScratchFolder folder;
  const Converted done =
      converted({.model = model.string(), .output = folder / "x.gguf", .dtype = "q4_k"});
  REQUIRE(done.notes.size() == 1);
  CHECK(done.notes[0].find("'transformer.wte.weight', whose rows have 128, is Q8_0") !=
        std::string::npos);
  const Gguf file(folder / "x.gguf");
  for (const FileTensor& tensor : file.tensors()) {
    INFO(tensor.name);
    const bool is_matrix = tensor.shape.size() == 2 && tensor.name != "wpe.weight";
    const bool is_long = is_matrix && tensor.name.ends_with("mlp.c_proj.weight");
    CHECK(tensor.dtype_name() == (is_long ? "Q4_K" : is_matrix ? "Q8_0" : "F32"));
  }
}

TEST_CASE("rows that no block divides are float16, with a note") {
  const ScratchFolder folder;  // rows of 10 and 40, as the small model has them
  const std::string model = make_letter_model(folder);
  const Converted done = converted(
      {.model = model, .output = folder / "x.gguf", .dtype = "int8", .resize_vocab = 258});
  REQUIRE(done.notes.size() == 2);
  CHECK(done.notes[1].find("whose rows have 12, is F16") != std::string::npos);
  CHECK(Gguf(folder / "x.gguf").find("wte.weight")->dtype_name() == "F16");
}

TEST_CASE("PyTorch's files have a tied head under both names, in one storage") {
  QUIRE_FIXTURE(models, "models");
  const ScratchFolder folder;
  for (const bool tied : {true, false}) {
    const fs::path file = folder / (tied ? "x.pt" : "y.pt");
    converted({.model = (models / (tied ? "odd-tied" : "odd-untied")).string(), .output = file});
    const TensorSource source = open_source(file);
    const FileTensor* head = source.find("lm_head.weight");
    REQUIRE(head != nullptr);
    CHECK((head->bytes.data() == source.find("transformer.wte.weight")->bytes.data()) == tied);
    for (const FileTensor& tensor : source.tensors()) {
      INFO(tensor.name);  // as torch.save() places it
      CHECK((tensor.bytes.data() - tensor.file->bytes().data()) % 64 == 0);
    }
  }
  // Every sum of the archive is right: Python's own reader checks them.
  const std::string python = python_with({"zipfile"});
  if (python.empty()) {
    QUIRE_SKIP("no Python");
  }
  CHECK(output_of("'" + python + "' -m zipfile -t '" + (folder / "x.pt").string() + "'").first ==
        "Done testing\n");
}

TEST_CASE("shards are shared out and listed as transformers does it") {
  QUIRE_FIXTURE(model, "models/tiny-char");
  const auto wanted = read_all(open_source(model));
  for (const char* format : {"safetensors", "pytorch"}) {
    INFO(format);
    const ScratchFolder folder;
    converted({.model = model.string(),
               .output = folder / "out",
               .format = format,
               .max_shard_size = 1'000'000});
    const std::string name = format[0] == 's' ? "model.safetensors" : "pytorch_model.bin";
    const auto index =
        parse_json<nlohmann::json>(read_file(folder / "out" / (name + ".index.json")));
    CHECK(index["metadata"]["total_size"] == 755'840 * 4);
    CHECK(index["metadata"]["total_parameters"] == 755'840);
    std::map<std::string, std::uintmax_t> sizes;
    for (const auto& [tensor, file] : index["weight_map"].items()) {
      sizes[file] = fs::file_size(folder / "out" / file.get<std::string>());
    }
    REQUIRE(sizes.size() == 4);
    std::size_t number = 0;
    const std::size_t dot = name.rfind('.');
    for (const auto& [file, size] : sizes) {
      CHECK(file == name.substr(0, dot) + "-0000" + std::to_string(++number) + "-of-00004" +
                        name.substr(dot));
      CHECK(size < 1'020'000);  // with its header
    }
    CHECK_FALSE(fs::exists(folder / "out" / name));
    CHECK((read_all(open_source(folder / "out")) == wanted));
  }
}

TEST_CASE("the vocabulary grows and shrinks, tied or not") {
  const ScratchFolder folder;
  for (const char* name : {"tied", "untied"}) {
    INFO(name);
    const fs::path model = test_data(name);
    const Safetensors before(model / "model.safetensors");
    const std::int64_t old = before.find("transformer.wte.weight")->shape[0];
    const std::int64_t C = before.find("transformer.wte.weight")->shape[1];
    for (const std::int64_t rows : {old + 30, old - 3}) {
      const fs::path out = folder / (name + std::to_string(rows));
      const ConvertOptions options{
          .model = model.string(), .output = out, .resize_vocab = static_cast<int>(rows)};
      if (rows < old) {
        // Its special tokens are the last ones.
        CHECK(folder.message_of(Fault::usage, [&] { converted(options); })
                  .find("leaves no row for the model's bos_token_id") != std::string::npos);
        continue;
      }
      converted(options);
      const Safetensors after(out / "model.safetensors");
      CHECK(parse_json<nlohmann::json>(read_file(out / "config.json"))["vocab_size"] == rows);
      for (const char* table : {"transformer.wte.weight", "lm_head.weight"}) {
        INFO(table);
        const FileTensor* was = before.find(table);
        const FileTensor* is = after.find(table);
        REQUIRE((was == nullptr) == (is == nullptr));
        if (was == nullptr) continue;
        CHECK(is->shape == std::vector<std::int64_t>{rows, C});
        CHECK((text_of(*is).substr(0, was->bytes.size()) == text_of(*was)));
        const std::vector<float> values = is->read_weight(), known = was->read_weight();
        for (std::int64_t c = 0; c < C; ++c) {
          double mean = 0.0, square = 0.0;
          for (std::int64_t r = 0; r < old; ++r) {
            const double value = known[static_cast<std::size_t>(r * C + c)];
            mean += value / static_cast<double>(old);
            square += value * value / static_cast<double>(old);
          }
          // A draw of 1e-9 of the variance: 6 deviations.
          const double bound = 6 * std::sqrt(1e-9 * square) + 1e-6 * std::abs(mean);
          for (std::int64_t r = old; r < rows; ++r) {
            CHECK(std::abs(values[static_cast<std::size_t>(r * C + c)] - mean) <= bound);
          }
        }
      }
    }
  }
}

TEST_CASE("an adapter is converted as the model that it makes of its base") {
  QUIRE_CASE(adapter, "pissa_adapter");
  const ScratchFolder folder;
  const std::unique_ptr<Device> device = open_device("cpu");
  const LoadedModel merged = load_resolved(*device, adapter, WeightStorage::plain);
  const LoadedModel base = load_resolved(*device, base_model(adapter), WeightStorage::plain);
  for (const char* name : {"out", "x.gguf"}) {
    converted({.model = adapter.string(), .output = folder / name});
    const LoadedModel back = load_model(*device, folder / name, WeightStorage::plain);
    std::size_t changed = 0;
    for (std::size_t i = 0; i < merged.parameters.names().size(); ++i) {
      INFO(name << " " << merged.parameters.names()[i].name);
      const ConstView &wanted = merged.parameters.weights()[i],
                      &found = back.parameters.weights()[i];
      REQUIRE(found.size_bytes() == wanted.size_bytes());
      CHECK((std::memcmp(found.bytes(), wanted.bytes(), wanted.size_bytes()) == 0));
      changed += std::memcmp(found.bytes(), base.parameters.weights()[i].bytes(),
                             wanted.size_bytes()) != 0;
    }
    CHECK(changed > 0);
  }
}

TEST_CASE("a name that is nearly a format's is asked about, and no folder made") {
  const ScratchFolder folder;
  const std::string model = make_letter_model(folder);
  CHECK(folder.message_of(Fault::usage,
                          [&] { converted({.model = model, .output = folder / "x.ggu"}); }) ==
        "error: no format's files are called *.ggu\n"
        "  did you mean DIR/x.gguf?\n"
        "  try: `format` safetensors for a folder of that name");
  CHECK_FALSE(fs::exists(folder / "x.ggu"));
  for (const char* name : {"gpt2-v1.5", "model.old"}) {
    converted({.model = model, .output = folder / name});
    CHECK(fs::exists(fs::path(folder / name) / "model.safetensors"));
  }
  converted({.model = model, .output = folder / "y.ggu", .format = "safetensors"});
  CHECK(fs::is_directory(folder / "y.ggu"));
}

TEST_CASE("what a format has no place for is refused") {
  QUIRE_FIXTURE(models, "models");
  const ScratchFolder folder;
  const auto refused = [&](const char* model, const char* output, Fault fault,
                           const char* dtype = "auto") {
    const std::string message = folder.message_of(fault, [&] {
      converted({.model = (models / model).string(), .output = folder / output, .dtype = dtype});
    });
    CHECK(fs::is_empty(folder.path()));
    return message;
  };
  CHECK(refused("odd-relu", "x.gguf", Fault::bad_data) ==
        "error: GGUF has no place for the model's activation_function, which is relu\n"
        "  llama.cpp runs every GPT-2 with gelu_new\n"
        "  try: `format` safetensors or pytorch keeps it");
  CHECK(refused("odd-inverse-layer", "x.gguf", Fault::bad_data).find("inverse_layer_idx") !=
        std::string::npos);
  CHECK(refused("odd-untied", "x.bin", Fault::bad_data).find("lm_head.weight, which differs") !=
        std::string::npos);
  CHECK(refused("odd-inner", "x.bin", Fault::bad_data).find("n_inner, which is 100") !=
        std::string::npos);
  CHECK(refused("tiny-char", "x.bin", Fault::usage, "float16").find("llm.c has no such type") !=
        std::string::npos);
  CHECK(refused("tiny-char", "out", Fault::usage, "int8") ==
        "error: `dtype` int8: a file that transformers loads has no such type\n"
        "  GGUF has: it is Q8_0 there, 32 weights with a scale in each block\n"
        "  try: `format` gguf, and a name like model.gguf");
}

TEST_CASE("weights that are not finite or too large are told, and nothing is left") {
  const ScratchFolder folder;
  const std::string model = make_letter_model(folder);
  std::string weights = read_file(fs::path(model) / "model.safetensors");
  const Safetensors file(fs::path(model) / "model.safetensors");
  const FileTensor& tensor = *file.find("transformer.h.0.mlp.c_fc.weight");
  const auto set = [&](float value) {
    std::string changed = weights;
    const auto at = static_cast<std::size_t>(
        tensor.bytes.data() - file.find("transformer.wte.weight")->file->bytes().data());
    changed.replace(at + 12, sizeof value, reinterpret_cast<const char*>(&value), sizeof value);
    return folder.write("broken/model.safetensors", changed).parent_path().string();
  };
  fs::create_directories(folder / "broken");
  fs::copy_file(fs::path(model) / "config.json", folder / "broken/config.json");
  const auto before = files_in(folder.path());
  for (const char* output : {"out", "x.gguf"}) {
    INFO(output);
    const std::string nan = folder.message_of(Fault::bad_data, [&] {
      converted({.model = set(std::nanf("")), .output = folder / output, .threads = 1});
    });
    CHECK(nan.find("c_fc.weight' holds nan at [0, 3]") != std::string::npos);
    const std::string large = folder.message_of(Fault::bad_data, [&] {
      converted(
          {.model = set(70000.0f), .output = folder / output, .dtype = "float16", .threads = 1});
    });
    CHECK(large.find("cannot be stored as float16\n  element 3 is 70000.000000") !=
          std::string::npos);
    auto after = files_in(folder.path());
    after.erase("broken/model.safetensors");
    CHECK(after == before);
  }
}

TEST_CASE("a disk that is full, and a stop in the middle, leave what was there") {
  QUIRE_FIXTURE(model, "models/tiny-char");
  const ScratchFolder folder;
  for (const Output& output : kOutputs) {
    INFO(output.name);
    const ConvertOptions options{
        .model = model.string(), .output = folder / output.name, .format = output.format};
    const fs::path parent = options.output.parent_path();
    fs::create_directories(parent);
    const auto handler = std::signal(SIGXFSZ, SIG_IGN);
    rlimit before{};
    REQUIRE(::getrlimit(RLIMIT_FSIZE, &before) == 0);
    rlimit small = before;
    small.rlim_cur = 1 << 20;
    REQUIRE(::setrlimit(RLIMIT_FSIZE, &small) == 0);
    std::string message;
    try {
      converted(options);
    } catch (const Error& error) {
      CHECK(error.fault() == Fault::no_space);
      message = error.message();
    }
    ::setrlimit(RLIMIT_FSIZE, &before);
    std::signal(SIGXFSZ, handler);
    CHECK(message.find("File too large\n  try: free some space") != std::string::npos);
    CHECK(files_in(folder.path()).empty());

    std::size_t calls = 0;
    const Converted done =
        convert(options, {.open_device = {}, .stop_requested = [&] { return ++calls == 3; }});
    CHECK(done.stopped);
    CHECK(done.files.empty());
    CHECK(files_in(folder.path()).empty());
  }
}

TEST_CASE("an output that is there stays unless it is to be replaced") {
  QUIRE_FIXTURE(models, "models");
  const ScratchFolder folder;
  ConvertOptions options{.model = (models / "tiny-char").string(), .output = folder / "x.gguf"};
  folder.write("x.gguf", "old");
  CHECK(folder.message_of(Fault::usage, [&] { converted(options); }) ==
        "error: DIR/x.gguf is there already\n  try: another name, or `overwrite_output_dir`");
  CHECK(read_file(folder / "x.gguf") == "old");
  options.overwrite_output_dir = true;
  converted(options);
  CHECK(read_file(folder / "x.gguf").substr(0, 4) == "GGUF");

  // Of a folder: the model is replaced whatever it was stored as, the rest stays.
  folder.write("out/model.safetensors", "old");
  folder.write("out/model-00001-of-00002.safetensors", "old");
  folder.write("out/README.md", "mine");
  options = {.model = (models / "tiny-char").string(), .output = folder / "out"};
  CHECK(folder.message_of(Fault::usage, [&] { converted(options); }) ==
        "error: the output folder DIR/out is not empty\n"
        "  try: another name, or `overwrite_output_dir`");
  options.format = "pytorch";
  options.overwrite_output_dir = true;
  converted(options);
  CHECK(read_file(folder / "out/README.md") == "mine");
  CHECK((read_all(open_source(folder / "out")) == tiny_char()));
  CHECK_FALSE(fs::exists(folder / "out/model.safetensors"));
  CHECK_FALSE(fs::exists(folder / "out/model-00001-of-00002.safetensors"));
  // A folder that is converted into itself.
  options.model = options.output.string();
  options.format = "safetensors";
  converted(options);
  CHECK((read_all(open_source(folder / "out")) == tiny_char()));
  CHECK_FALSE(fs::exists(folder / "out/pytorch_model.bin"));
}
