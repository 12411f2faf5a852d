#include "engine/formats/llmc_checkpoint.h"

#include <fmt/format.h>

#include <array>
#include <cstring>

#include "base/error.h"

namespace quire {
namespace {

constexpr std::size_t kHeader = 256;  // numbers

/// The tensors of all layers lie together, in this order, between the embeddings and ln_f.
struct OfLayers {
  const char* name;
  int out, in;  // in n_embd; in 0: a vector
};
constexpr OfLayers kOfLayers[] = {
    {"ln_1.weight", 1, 0},      {"ln_1.bias", 1, 0},          {"attn.c_attn.weight", 3, 1},
    {"attn.c_attn.bias", 3, 0}, {"attn.c_proj.weight", 1, 1}, {"attn.c_proj.bias", 1, 0},
    {"ln_2.weight", 1, 0},      {"ln_2.bias", 1, 0},          {"mlp.c_fc.weight", 4, 1},
    {"mlp.c_fc.bias", 4, 0},    {"mlp.c_proj.weight", 1, 4},  {"mlp.c_proj.bias", 1, 0},
};

}  // namespace

bool begins_as_llmc(std::string_view beginning) {
  std::int32_t magic = 0;
  if (beginning.size() < sizeof magic) return false;
  std::memcpy(&magic, beginning.data(), sizeof magic);
  return magic == kLlmcMagic;
}

LlmcCheckpoint::LlmcCheckpoint(const std::filesystem::path& path) : TensorSource(path) {
  const auto file = std::make_shared<const MappedFile>(path);
  const auto fail = [&](const std::string& why) {
    throw Error(Fault::bad_data, path.string() + " is not a usable checkpoint of llm.c", {why},
                "download or copy the file again");
  };
  std::array<std::int32_t, kHeader> header;
  if (!begins_as_llmc(file->text())) fail(fmt::format("it does not begin with {}", kLlmcMagic));
  if (file->bytes().size() < sizeof header) fail("it ends inside its header");
  std::memcpy(header.data(), file->bytes().data(), sizeof header);
  if (header[1] != 3 && header[1] != 5) {
    fail(fmt::format("its version is {}; read are 3 (float32) and 5 (bfloat16)", header[1]));
  }
  const ElementType& type = *element_type(header[1] == 3 ? DType::f32 : DType::bf16);
  Gpt2Config config;
  config.n_positions = header[2];
  config.vocab_size = header[3];
  config.n_layer = header[4];
  config.n_head = header[5];
  config.n_embd = header[6];
  const std::int64_t padded = header[7];
  if (config.vocab_size > 0) {  // <|endoftext|> is the last
    config.bos_token_id = config.eos_token_id = config.vocab_size - 1;
  }
  set_config(config, "header");
  if (padded < config.vocab_size) {
    fail(fmt::format("its vocabulary of {} is filled up to {}", config.vocab_size, padded));
  }

  std::span<const std::byte> rest = file->bytes().subspan(sizeof header);
  /// The next tensor in the file, of which `lies` says how, is `shape`.
  const auto next = [&](const std::string& name, std::vector<std::int64_t> lies,
                        std::vector<std::int64_t> shape, bool transposed) {
    const std::optional<std::size_t> whole = type.bytes_of(lies), own = type.bytes_of(shape);
    if (!whole || *whole > rest.size()) {
      fail(fmt::format("tensor '{}' of {} {} lies behind its end at byte {}", name, type.name,
                       to_string(lies), file->bytes().size()));
    }
    FileTensor tensor;
    tensor.name = name;
    tensor.type = &type;
    tensor.shape = std::move(shape);
    tensor.transposed = transposed;
    tensor.bytes = rest.first(*own);
    tensor.file = file;
    add(std::move(tensor));
    rest = rest.subspan(*whole);
  };
  const std::int64_t C = config.n_embd;
  next("wte.weight", {padded, C}, {config.vocab_size, C}, false);
  next("wpe.weight", {config.n_positions, C}, {config.n_positions, C}, false);
  for (const OfLayers& tensor : kOfLayers) {
    for (int layer = 0; layer < config.n_layer; ++layer) {
      const std::string name = fmt::format("h.{}.{}", layer, tensor.name);
      if (tensor.in == 0) {
        next(name, {tensor.out * C}, {tensor.out * C}, false);
      } else {
        next(name, {tensor.out * C, tensor.in * C}, {tensor.in * C, tensor.out * C}, true);
      }
    }
  }
  next("ln_f.weight", {C}, {C}, false);
  next("ln_f.bias", {C}, {C}, false);
  if (!rest.empty()) fail(fmt::format("{} bytes follow the last tensor", rest.size()));
}

}  // namespace quire
