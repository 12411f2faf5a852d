// The training loop: batches in, checkpoints and a log out.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "engine/model/gpt2.h"

namespace quire {

/// Records of token ids, one after the other: record r is ids[offsets[r] … offsets[r+1]).
struct TokenRecords {
  std::vector<std::int32_t> ids;
  std::vector<std::int32_t> labels;    ///< aligned with ids as in transformers; empty: labels = ids
  std::vector<std::int64_t> offsets{0};  ///< number of records + 1
  std::int64_t size() const { return static_cast<std::int64_t>(offsets.size()) - 1; }
};

enum class Packing {
  stream,  ///< one stream cut into blocks; documents already end with the end-of-text token
  none,    ///< one record a row, truncated to block_size, padded on the right by position
};

/// Names and defaults are transformers' TrainingArguments, where it has them.
struct TrainingConfig {
  std::filesystem::path output_dir;
  int block_size = 0;  ///< tokens a row; 0 = n_positions
  Packing packing = Packing::stream;
  double num_train_epochs = 3.0;
  std::int64_t max_steps = -1;  ///< overrides epochs when positive
  int per_device_train_batch_size = 8;
  int gradient_accumulation_steps = 1;
  float learning_rate = 5e-5f;
  std::string lr_scheduler_type = "linear";  ///< "linear", "cosine", "constant"
  double warmup_steps = 0;  ///< below 1: a share of all steps, rounded up
  float min_lr_ratio = 0.0f;
  float weight_decay = 0.0f;
  float adam_beta1 = 0.9f, adam_beta2 = 0.999f, adam_epsilon = 1e-8f;
  float max_grad_norm = 1.0f;  ///< 0 = no clipping
  std::int64_t logging_steps = 10;
  std::int64_t eval_steps = 0;  ///< 0 = at the end of every epoch
  std::int64_t save_steps = 500;
  int save_total_limit = 2;
  DType save_dtype = DType::f32;  ///< of the final model; checkpoints are f32
  std::uint64_t seed = 42;
  std::string resume_from_checkpoint;  ///< "", "latest" or a folder
  bool overwrite_output_dir = false;
  bool load_best_model_at_end = false;
  int early_stopping_patience = 0;
  void check() const;  ///< throws Error(usage) naming option and value
};

/// What a progress line shows. Fields that do not apply are NaN.
struct TrainingProgress {
  std::int64_t step = 0, total_steps = 0;
  double epoch = 0, loss = 0, grad_norm = 0, learning_rate = 0;
  std::int64_t tokens = 0;  ///< since the start, resumed steps included
  double tokens_per_second = 0, flops_per_second = 0, seconds_left = 0;
  double eval_loss = 0;  ///< the latest
};

/// The trainer never prints: it reports.
struct TrainingCallbacks {
  std::function<void(const TrainingProgress&)> on_step;        ///< after every step
  std::function<void(const TrainingProgress&)> on_log;         ///< every logging_steps
  std::function<void(std::int64_t step, double eval_loss)> on_eval;
  std::function<void(const std::filesystem::path&)> on_save;
  std::function<void(const std::string&)> on_note;             ///< a line for people
  std::function<bool()> stop_requested;                        ///< Ctrl-C: finish the step, save, end
};

struct TrainingResult {
  std::int64_t steps = 0;
  double final_loss = 0;      ///< of the last step
  double first_eval_loss = 0, final_eval_loss = 0;  ///< NaN without validation data
  bool interrupted = false;
  std::filesystem::path last_checkpoint;
};

}  // namespace quire
