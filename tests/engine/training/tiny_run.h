// A model of a few thousand parameters and runs that take milliseconds, for the tests of training.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>

#include "base/file.h"
#include "base/random.h"
#include "engine/training/trainer.h"
#include "kernels/reference/reference_device.h"
#include "tests/support/catch.h"
#include "tests/support/scratch.h"

namespace quire::test {

/// What `action` throws; a failed test when it throws nothing.
inline Error thrown_by(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error;
  }
  FAIL("no exception");
  throw std::logic_error("not reached");
}

inline Gpt2Config tiny_model(float dropout) {
  Gpt2Config model;
  model.vocab_size = 17;
  model.n_positions = 12;
  model.n_embd = 12;
  model.n_layer = 2;
  model.n_head = 3;
  model.resid_pdrop = model.embd_pdrop = model.attn_pdrop = dropout;
  model.bos_token_id = model.eos_token_id = 16;
  return model;
}

inline TrainingConfig resumed(TrainingConfig config) {
  config.resume_from_checkpoint = "latest";
  return config;
}

/// Records of 4 to 9 tokens with something to learn: each id follows from the one before, mostly.
inline TokenRecords tiny_records(int count, std::uint64_t seed) {
  TokenRecords records;
  std::uint64_t n = 0;
  const RandomKey key{seed, 1};
  for (int r = 0; r < count; ++r) {
    std::uint32_t id = random_bits(key, n++) % 16;
    const std::uint32_t length = 3 + random_bits(key, n++) % 6;
    for (std::uint32_t i = 0; i < length; ++i) {
      records.ids.push_back(static_cast<std::int32_t>(id));
      id = random_bits(key, n++) % 8 == 0 ? random_bits(key, n++) % 16 : (3 * id + 1) % 16;
    }
    records.ids.push_back(16);  // end of text
    records.offsets.push_back(static_cast<std::int64_t>(records.ids.size()));
  }
  return records;
}

/// Everything on, so that a run that forgets any state differs: dropout, accumulation, decay,
/// clipping, a schedule, records of different lengths, evaluation.
inline TrainingConfig tiny_config(const std::filesystem::path& output_dir) {
  return {.output_dir = output_dir,
          .packing = Packing::none,
          .max_steps = 6,
          .per_device_train_batch_size = 3,
          .gradient_accumulation_steps = 2,
          .learning_rate = 1e-2f,
          .lr_scheduler_type = "cosine",
          .warmup_steps = 2,
          .weight_decay = 0.1f,
          .max_grad_norm = 0.5f,
          .logging_steps = 4,
          .eval_steps = 2,
          .save_steps = 3,
          .save_total_limit = 0};
}

/// The tiny model, trained from its fresh parameters.
inline TrainingResult train_tiny(Device& device, const TrainingConfig& config,
                                 const TrainingCallbacks& callbacks = {}, float dropout = 0.1f) {
  const Gpt2Config model = tiny_model(dropout);
  const Parameters parameters = initialize_parameters(device, model, 11);
  return train(device, model, parameters, tiny_records(20, 1), tiny_records(5, 2), config,
               callbacks);
}

/// Stops a run after that many steps, as Ctrl-C would.
inline TrainingCallbacks stop_after(std::int64_t steps) {
  auto seen = std::make_shared<std::int64_t>(0);
  TrainingCallbacks callbacks;
  callbacks.on_step = [seen](const TrainingProgress& progress) { *seen = progress.step; };
  callbacks.stop_requested = [seen, steps] { return *seen >= steps; };
  return callbacks;
}

/// Every file below a folder by its relative name; lines of the log without their clock time.
inline std::map<std::string, std::string> files_of(const std::filesystem::path& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    if (!entry.is_regular_file()) continue;
    std::string text = read_file(entry.path());
    for (std::size_t at = 0; (at = text.find(",\"tokens_per_second\"", at)) != std::string::npos;) {
      text.erase(at, text.find('}', at) - at);
    }
    files[std::filesystem::relative(entry.path(), folder).string()] = text;
  }
  return files;
}

inline bool same_files(const std::map<std::string, std::string>& a,
                       const std::map<std::string, std::string>& b, std::string& difference) {
  for (const auto& [name, text] : a) {
    if (!b.contains(name)) difference += name + " is missing\n";
    if (b.contains(name) && b.at(name) != text) difference += name + " differs\n";
  }
  for (const auto& [name, text] : b) {
    if (!a.contains(name)) difference += name + " is new\n";
  }
  return difference.empty();
}

}  // namespace quire::test
