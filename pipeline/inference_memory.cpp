#include "pipeline/inference_memory.h"

#include <fmt/format.h>

#include "base/error.h"
#include "base/text.h"
#include "engine/model/gpt2.h"
#include "engine/model/kv_cache.h"
#include "pipeline/memory_plan.h"

namespace quire {
namespace {

std::vector<MemoryItem> generation_plan(const Gpt2Config& model, DType activations,
                                        const SessionSize& size) {
  const int slots = size.longest_text - 1;  // the last token is never fed back
  const std::size_t cached = 2 * static_cast<std::size_t>(model.n_layer) *
                             static_cast<std::size_t>(size.rows) * static_cast<std::size_t>(slots) *
                             static_cast<std::size_t>(model.n_embd) * size_of(activations);
  const std::size_t all =
      Gpt2Decoder::bytes(model, size.rows, slots, size.longest_prompt, activations);
  return {{"cached keys and values", cached},
          {"activations of the prompts", all - cached},
          {"logits to draw from", static_cast<std::size_t>(size.rows) *
                                      static_cast<std::size_t>(model.vocab_size) * sizeof(float)}};
}

std::string nothing_fits() {
  return "`device` cpu, or a smaller model: quire doctor shows which fit"_named;
}

/// The largest value below `value` with which `fits` holds; 0: none.
template <class Fits>
int largest_below(int value, const Fits& fits) {
  int low = 0;
  for (int high = value; high - low > 1;) {
    const int middle = low + (high - low) / 2;
    (fits(middle) ? low : high) = middle;
  }
  return low;
}

}  // namespace

void check_generation_memory(const Device& device, const Gpt2Config& model, DType weights,
                             SessionSize size, int beams) {
  if (!device.memory()) return;  // the machine's memory gives way, a card's does not
  const MemoryRoom room = memory_room(device);
  const DType activations = device.activation_type(weights);
  const auto fits = [&](int batch, int new_tokens) {
    const SessionSize tried = {batch, size.longest_prompt, size.longest_prompt + new_tokens};
    return bytes_of(generation_plan(model, activations, tried)) <= room.available;
  };
  const int wanted = size.longest_text - size.longest_prompt;
  if (fits(size.rows, wanted)) return;
  const bool too_wide = beams > 1 && !fits(beams, wanted);
  if (too_wide) size.rows = beams;
  const int batch = largest_below(size.rows, [&](int tried) { return fits(tried, wanted); });
  const int most_new = largest_below(wanted, [&](int tried) { return fits(1, tried); });
  const std::string option = field_name(too_wide ? "num_beams" : "batch_size");
  const char* const effect = too_wide ? "a narrower search" : "the same texts";
  const std::string next =
      batch > 0      ? fmt::format("{} {} ({})", option, batch, effect)
      : most_new > 0 ? fmt::format(fmt::runtime("{} 1 `max_new_tokens` {} (shorter texts)"_named),
                                   option, most_new)
                     : nothing_fits();
  throw_no_room(
      fmt::format("generating {} of up to {} tokens together",
                  counted(static_cast<std::size_t>(size.rows), too_wide ? "beam" : "text"),
                  size.longest_text),
      generation_plan(model, activations, size), room, next);
}

void check_scoring_memory(const Device& device, const Gpt2Config& model, DType weights, int batch,
                          int window) {
  if (!device.memory()) return;
  const MemoryRoom room = memory_room(device);
  const DType activations = device.activation_type(weights);
  const HeadLayout head = head_layout(device, model, DType::f32);
  const auto fits = [&](int rows, int length) {
    return bytes_of(Gpt2::memory_plan(model, rows, length, activations, head)) <= room.available;
  };
  if (fits(batch, window)) return;
  const int rows = largest_below(batch, [&](int tried) { return fits(tried, window); });
  const int length = largest_below(window, [&](int tried) { return fits(1, tried); });
  const std::string next =
      rows > 0 ? fmt::format(fmt::runtime("`batch_size` {} (the same result)"_named), rows)
      : length > 1
          ? fmt::format(
                fmt::runtime("`batch_size` 1 `window` {} (less context: another result)"_named),
                length)
          : nothing_fits();
  throw_no_room(
      fmt::format("scoring {} of {} together", counted(static_cast<std::size_t>(batch), "window"),
                  counted(window, "token")),
      Gpt2::memory_plan(model, batch, window, activations, head), room, next);
}

}  // namespace quire
