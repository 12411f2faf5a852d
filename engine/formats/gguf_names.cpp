#include "engine/formats/gguf_names.h"

#include <fmt/format.h>

#include <utility>

#include "base/error.h"

namespace quire {
namespace {

constexpr GgufType kTypes[] = {{"F32", 0, 0},  {"F16", 1, 1},    {"Q4_0", 2, 2},
                               {"Q8_0", 8, 7}, {"Q4_K", 12, 14}, {"BF16", 30, 32}};

/// GGUF's module, and transformers'.
using Modules = std::span<const std::pair<std::string_view, std::string_view>>;
constexpr std::pair<std::string_view, std::string_view> kWhole[] = {{"token_embd", "wte"},
                                                                    {"position_embd", "wpe"},
                                                                    {"output_norm", "ln_f"},
                                                                    {"output", "lm_head"}};
constexpr std::pair<std::string_view, std::string_view> kInBlock[] = {
    {"attn_norm", "ln_1"}, {"attn_qkv", "attn.c_attn"}, {"attn_output", "attn.c_proj"},
    {"ffn_norm", "ln_2"},  {"ffn_up", "mlp.c_fc"},      {"ffn_down", "mlp.c_proj"}};

/// "blk.3.attn_qkv.weight" of `block` "blk.": "3", "attn_qkv", ".weight"; number is empty outside of
/// blocks, kind where there is no dot.
struct Parts {
  std::string_view number, module, kind;
};
Parts parts_of(std::string_view name, std::string_view block) {
  Parts parts;
  const std::size_t dot = name.rfind('.');
  if (dot == std::string_view::npos) return parts;
  parts.kind = name.substr(dot);
  parts.module = name.substr(0, dot);
  if (!parts.module.starts_with(block)) return parts;
  const std::size_t end = parts.module.find('.', block.size());
  if (end == std::string_view::npos) return parts;
  parts.number = parts.module.substr(block.size(), end - block.size());
  parts.module.remove_prefix(end + 1);
  return parts;
}

}  // namespace

std::span<const GgufType> gguf_types() {
  return kTypes;
}

std::string hub_name_of_gguf(std::string_view gguf_name) {
  const Parts parts = parts_of(gguf_name, "blk.");
  for (const auto& [theirs, ours] : parts.number.empty() ? Modules(kWhole) : Modules(kInBlock)) {
    if (theirs != parts.module) continue;
    const std::string block = parts.number.empty() ? "" : fmt::format("h.{}.", parts.number);
    return fmt::format("{}{}{}", block, ours, parts.kind);
  }
  return std::string(gguf_name);
}

std::string gguf_name(std::string_view bare_name) {
  const Parts parts = parts_of(bare_name, "h.");
  for (const auto& [theirs, ours] : parts.number.empty() ? Modules(kWhole) : Modules(kInBlock)) {
    if (ours != parts.module) continue;
    const std::string block = parts.number.empty() ? "" : fmt::format("blk.{}.", parts.number);
    return fmt::format("{}{}{}", block, theirs, parts.kind);
  }
  throw Error(Fault::internal, fmt::format("GGUF has no name for {}", bare_name));
}

}  // namespace quire
