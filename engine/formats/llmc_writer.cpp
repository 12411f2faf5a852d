#include "engine/formats/llmc_writer.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <string>
#include <utility>

#include "base/error.h"
#include "engine/formats/llmc_checkpoint.h"
#include "engine/model/parameters.h"

namespace quire {
namespace {

[[noreturn]] void refuse(const std::string& what, const std::string& has) {
  throw Error(Fault::bad_data, "llm.c's files have no place for " + what, {"llm.c has " + has},
              "`format` safetensors or pytorch keeps it"_named);
}

void check_for_llmc(const Gpt2Config& config) {
  const Gpt2Config llmc;
  if (!config.tie_word_embeddings) {
    refuse("the model's lm_head.weight, which differs from wte.weight", "one table for both");
  }
  if (config.inner() != 4 * config.n_embd) {
    refuse(fmt::format("the model's n_inner, which is {}", config.inner()),
           fmt::format("4 n_embd = {}", 4 * config.n_embd));
  }
  if (config.activation_function != llmc.activation_function) {
    refuse(fmt::format("the model's activation_function, which is {}",
                       name_of(config.activation_function)),
           "gelu_new");
  }
  if (config.layer_norm_epsilon != llmc.layer_norm_epsilon) {
    refuse(fmt::format("the model's layer_norm_epsilon, which is {}", config.layer_norm_epsilon),
           fmt::format("{}", llmc.layer_norm_epsilon));
  }
  if (!config.scale_attn_weights || config.scale_attn_by_inverse_layer_idx) {
    refuse(config.scale_attn_weights ? "scale_attn_by_inverse_layer_idx" : "unscaled scores",
           "scores scaled by 1/sqrt(n_embd / n_head)");
  }
}

}  // namespace

FileLayout llmc_layout(const Gpt2Config& config, std::vector<OutTensor> tensors) {
  check_for_llmc(config);
  const bool narrow = std::all_of(tensors.begin(), tensors.end(), [](const OutTensor& tensor) {
    return tensor.type->dtype == DType::bf16;
  });
  constexpr std::int64_t kMultiple = 128;
  std::array<std::int32_t, 256> header{};
  const auto rows = static_cast<std::int32_t>(round_up(config.vocab_size, kMultiple));
  const std::int32_t known[] = {
      kLlmcMagic,     narrow ? 5 : 3, config.n_positions, config.vocab_size,
      config.n_layer, config.n_head,  config.n_embd,      rows};
  std::copy(std::begin(known), std::end(known), header.begin());
  tensors.front().shape[0] = rows;

  FileLayout layout;
  std::string text(sizeof header, '\0');
  std::memcpy(text.data(), header.data(), sizeof header);
  layout.add(std::move(text));
  const auto add = [&](OutTensor& tensor) {
    tensor.type = element_type(narrow ? DType::bf16 : DType::f32);
    layout.add(std::move(tensor));
  };
  // Between the two tables and ln_f: of each tensor of a block those of all layers.
  add(tensors[0]);
  add(tensors[1]);
  constexpr std::size_t kOfBlock = 2 * kRoles.size();
  const auto layers = static_cast<std::size_t>(config.n_layer);
  for (std::size_t i = 0; i < kOfBlock; ++i) {
    for (std::size_t layer = 0; layer < layers; ++layer) {
      OutTensor& tensor = tensors[2 + layer * kOfBlock + i];
      tensor.transposed = tensor.shape.size() == 2;  // llm.c's Linear
      add(tensor);
    }
  }
  for (std::size_t i = 2 + layers * kOfBlock; i < tensors.size(); ++i) add(tensors[i]);
  return layout;
}

}  // namespace quire
