// What a training run is told: the options of `quire train` that shape it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "engine/model/lora.h"
#include "engine/training/schedule.h"
#include "tokens/batches.h"

namespace quire {

/// Names and defaults are transformers' TrainingArguments, where it has them.
struct TrainingConfig {
  std::filesystem::path output_dir;
  int block_size = 0;  ///< tokens a row; 0 = n_positions
  Packing packing = Packing::stream;
  Overflow overflow =
      Overflow::truncate;  ///< of records longer than block_size, where not a stream
  double num_train_epochs = 3.0;
  std::int64_t max_steps = -1;  ///< overrides epochs when positive
  int per_device_train_batch_size = 8;
  int ranks = 1;      ///< processes that train together: each takes that many rows of a micro-batch
  bool zero = false;  ///< ZeRO-1: each of them keeps its part of the moments alone
  int gradient_accumulation_steps = 1;
  float learning_rate = 5e-5f;
  std::string lr_scheduler_type = "linear";  ///< a name that Schedule::shape_from_name knows
  double warmup_steps = 0;                   ///< below 1: a share of all steps, rounded up
  ScheduleArguments schedule;                ///< what that type takes beside
  float weight_decay = 0.0f;
  float adam_beta1 = 0.9f, adam_beta2 = 0.999f, adam_epsilon = 1e-8f;
  float max_grad_norm = 1.0f;  ///< 0 = no clipping
  std::int64_t logging_steps = 10;
  std::int64_t eval_steps = 0;    ///< 0 = at the end of every epoch
  std::int64_t save_steps = 500;  ///< 0 = only the best, and where a run is cut
  int save_total_limit = 2;       ///< 0 = keep all; the best always stays
  int freeze_layers = 0;          ///< above 0: embeddings and that many first blocks do not train
  /// With a rank above 0 an adapter trains instead of the parameters; what --freeze-layers leaves
  /// out has none.
  LoraConfig lora;
  std::string base_model;    ///< what the adapter's config calls the model it adapts
  bool save_tables = false;  ///< the adapter is saved with the embeddings, which got more rows
  bool lora_merge = false;   ///< the final folder holds the merged model, not the adapter
  bool gradient_checkpointing = false;  ///< less memory for one more forward pass
  /// More memory for less arithmetic, see TrainingOptions: where keeps_outputs() says that it fits.
  bool keep_outputs = false;
  /// Products in bfloat16 beside float parameters; activations too, where the device keeps them so.
  bool bf16 = false;
  DType save_dtype = DType::f32;  ///< of the final model; checkpoints are f32
  double max_seconds = 0;         ///< of this run, whatever an earlier part took; 0 = no limit
  bool fit_to_time = false;       ///< within max_seconds the schedule comes to its end (run_plan.h)
  /// The share of the run that validation may take (run_plan.h), where eval_steps is 0; 0 = any.
  double eval_share = 0;
  /// Times some rows before the first step, for TrainingCallbacks::on_estimate.
  bool estimate = false;
  std::int64_t sample_every = 0;  ///< steps between texts from TrainingCallbacks::sample; 0 = none
  bool write_jsonl = true;        ///< OUTPUT_DIR/log.jsonl
  bool write_csv = false;         ///< OUTPUT_DIR/log.csv
  /// Flops a second that the device is known to reach: what mfu is held against. 0 = unknown. When
  /// a step does better, it is raised: it was measured while the machine did something else.
  double peak_flops = 0;
  /// A warning where loss or gradient norm are so many deviations above those before; 0 = never.
  double spike_z = 6;
  std::uint64_t seed = 42;                 ///< of dropout, and of the shuffle without data_seed
  std::optional<std::uint64_t> data_seed;  ///< of the shuffle
  std::string resume_from_checkpoint;      ///< "", "latest" or a folder
  bool overwrite_output_dir = false;
  bool load_best_model_at_end = false;
  /// Save a checkpoint after this step and end there, the schedule being that of the whole run;
  /// 0 = never. Resumed, the run goes on as if it had not stopped.
  std::int64_t stop_at_step = 0;
  int early_stopping_patience = 0;  ///< evaluations without a better loss before the end; 0 = never

  /// What is asked of Gpt2Training.
  DType activations() const { return bf16 ? DType::bf16 : DType::f32; }
  /// Rows of a micro-batch, of all ranks together.
  int micro_batch_rows() const { return per_device_train_batch_size * ranks; }
  void check() const;  ///< throws Error(usage) naming option and value
};

/// The config with its block_size settled. Throws Error(usage) for one beyond the model's context.
TrainingConfig with_block_size(TrainingConfig config, const Gpt2Config& model);

/// The rows of records, for a config whose block_size is settled.
Rows rows_of(const TokenView& records, const TrainingConfig& config);

/// The adapter's config with the blocks that --freeze-layers leaves to it; its rank is 0 where the
/// parameters train themselves. Throws Error(usage) where no block is left.
LoraConfig adapter_of(const TrainingConfig& config, const Gpt2Config& model);

/// Steps of a whole run over `rows` rows: max_steps, or ceil(epochs · updates an epoch), where an
/// epoch has ceil(batches/accumulation) updates.
std::int64_t total_steps(const TrainingConfig& config, std::int64_t rows);

/// The schedule of a run of that many steps. Throws Error(usage) when its parts are longer.
Schedule schedule_of(const TrainingConfig& config, std::int64_t total_steps);

}  // namespace quire
