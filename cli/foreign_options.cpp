#include "cli/foreign_options.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>

namespace quire {
namespace {

// The names are those of run_clm.py, run_generation.py, TrainingArguments and GenerationConfig of
// transformers 4.57 (and of some versions before it), of PEFT and TRL.
constexpr ForeignOption kTable[] = {
    // What is done, and when.
    {"do_train", "train", "leave it out: training is what the command does"},
    {"do_eval", "train",
     "leave it out: --validation-file, or a --validation-split, is validated on"},
    {"do_predict", "train", "quire generate writes with the model, quire eval scores it"},
    {"eval_strategy evaluation_strategy eval_delay", "train",
     "--eval-steps N, where 0 is after every epoch; --validation-split 0 never validates"},
    {"evaluate_during_training eval_on_start", "train",
     "leave it out: it validates before the first step and then every --eval-steps"},
    {"save_strategy checkpointing_steps", "train",
     "--save-steps N, where 0 saves a checkpoint only when the run is cut short"},
    {"logging_strategy", "train", "--logging-steps N"},
    {"logging_first_step", "train", "--logging-steps 1 logs every step"},
    {"per_device_eval_batch_size per_gpu_eval_batch_size eval_accumulation_steps", "train",
     "leave it out: --per-device-train-batch-size holds for validation, too"},
    {"per_device_eval_batch_size per_gpu_eval_batch_size", "eval", "--batch-size N"},
    {"num_warmup_steps", "train", "--warmup-steps N"},
    {"num_epochs n_epochs", "train", "--num-train-epochs N"},
    {"lr_scheduler_kwargs", "train",
     "an option each: --min-lr, --min-lr-ratio, --num-cycles, --power, --lr-end, --timescale, "
     "--num-decay-steps, --num-stable-steps, --warmup-type, --decay-type"},
    {"optim optimizer optim_args adafactor optim_target_modules", "train",
     "leave it out: AdamW is what trains; --adam-beta1, --adam-beta2, --adam-epsilon and "
     "--weight-decay shape it"},
    {"label_smoothing_factor neftune_noise_alpha", "train",
     "there is none; --dropout and --weight-decay are what regularises"},
    {"metric_for_best_model greater_is_better", "train",
     "leave it out: --load-best-model-at-end takes the lowest validation loss"},
    {"include_inputs_for_metrics include_for_metrics eval_do_concat_batches batch_eval_metrics "
     "eval_use_gather_object prediction_loss_only",
     "train", "leave it out: validation gives loss and perplexity, quire eval other metrics"},
    {"ignore_data_skip restore_callback_states_from_checkpoint", "train",
     "leave it out: --resume-from-checkpoint goes on in data and state where the run stopped"},
    {"auto_find_batch_size", "train",
     "leave it out: what does not fit is refused with the --per-device-train-batch-size and "
     "--gradient-accumulation-steps that do"},

    // Types and machines.
    {"fp16 fp16_opt_level fp16_backend half_precision_backend", "train",
     "--bf16: bfloat16 needs no scaling of the loss; --save-dtype float16 is how the model is "
     "saved"},
    {"bf16_full_eval fp16_full_eval tf32", "train", "--bf16, which holds for validation, too"},
    {"fp16 bf16 bf16_full_eval fp16_full_eval tf32", "generate eval",
     "leave it out: --dtype auto computes as the weights are stored"},
    {"torch_dtype", "train", "--save-dtype is how the model is saved, --dtype how it is trained"},
    {"torch_dtype", "generate eval", "--dtype auto, float32, int8 or int4"},
    {"load_in_8bit", "generate eval", "--dtype int8"},
    {"load_in_4bit", "generate eval", "--dtype int4"},
    {"load_in_8bit load_in_4bit", "", "leave it out: weights are float32, float16 or bfloat16"},
    {"no_cuda use_cpu", "train generate eval", "--device cpu"},
    {"use_mps_device tpu_num_cores tpu_metrics_debug", "train",
     "--device auto, cpu or cuda: no others compute"},
    {"local_rank ddp_backend ddp_find_unused_parameters ddp_bucket_cap_mb ddp_broadcast_buffers "
     "ddp_timeout average_tokens_across_devices log_on_each_node save_on_each_node "
     "mp_parameters ray_scope",
     "train", "leave it out: mpirun -np N quire train ... trains with several processes"},
    {"fsdp fsdp_min_num_params fsdp_config fsdp_transformer_layer_cls_to_wrap deepspeed "
     "accelerator_config parallelism_config",
     "train", "--zero 1, under mpirun -np N quire train ..., shards the moments of AdamW"},
    {"dataloader_num_workers dataloader_prefetch_factor dataloader_pin_memory "
     "dataloader_persistent_workers preprocessing_num_workers",
     "train eval", "--threads N"},
    {"dataloader_drop_last", "train", "leave it out: every row is used"},
    {"torch_compile torch_compile_backend torch_compile_mode torchdynamo jit_mode_eval jit "
     "use_ipex "
     "use_liger_kernel liger_kernel_config torch_empty_cache_steps past_index "
     "use_legacy_prediction_loop",
     "train generate eval", "leave it out: there is nothing to compile or to switch to"},
    {"gradient_checkpointing_kwargs", "train", "--gradient-checkpointing alone"},
    {"full_determinism deterministic", "",
     "leave it out: the same command gives the same bytes in every run"},

    // Models.
    {"model_type", "train", "--config gpt2 is a fresh one; no other type of model is trained"},
    {"model_type", "generate", "leave it out: --model DIR, a GPT-2, says what it is"},
    {"config_overrides", "train", "--config FILE.json, a config.json with these fields"},
    {"cache_dir", "train generate eval", "the environment's HF_HUB_CACHE=DIR"},
    {"model_revision hub_revision revision", "train generate eval",
     "--model DIR, the folder of that revision"},
    {"use_fast_tokenizer trust_remote_code low_cpu_mem_usage use_auth_token token", "",
     "leave it out: files are read where they lie, and nothing of them is run"},
    {"use_peft use_lora", "train", "--lora-r 8 trains a LoRA adapter"},
    {"lora_rank r", "train", "--lora-r R"},
    {"target_modules", "train", "--lora-target-modules NAME..."},

    // Data.
    {"dataset_name dataset_config_name", "train eval",
     "--data FILE: python3 -c \"from datasets import load_dataset as get; "
     "get('NAME')['train'].to_json('train.jsonl')\" writes one"},
    {"dataset_text_field text_column_name", "train eval", "--text-column NAME"},
    {"max_train_samples max_eval_samples", "train eval",
     "--data FILE with the first N records: head -n N"},
    {"validation_split_percentage", "train", "--validation-split SHARE: 5 percent are 0.05"},
    {"test_file", "train", "quire eval --data FILE, when the model is trained"},
    {"streaming overwrite_cache", "train eval",
     "leave it out: nothing is cached; quire data prepare is for data larger than memory"},
    {"keep_linebreaks", "train eval", "leave it out: line breaks are kept"},
    {"mlm mlm_probability", "train", "leave it out: a GPT-2 learns the next token"},
    {"remove_unused_columns label_names", "train",
     "leave it out: --text-column or --template says which columns are read"},
    {"group_by_length length_column_name", "train",
     "--packing records puts short records side by side"},

    // Logs and files.
    {"log_level log_level_replica disable_tqdm verbose", "", "--quiet, or nothing"},
    {"logging_dir", "train", "--report-to tensorboard, which writes OUTPUT_DIR/tensorboard"},
    {"with_tracking", "train", "--report-to tensorboard, or jsonl, csv, html"},
    {"run_name project trackio_space_id", "train", "--output-dir DIR names the run"},
    {"logging_nan_inf_filter debug skip_memory_metrics include_tokens_per_second "
     "include_num_input_tokens_seen",
     "train", "leave it out: the log has all of it, and the plan of memory comes first"},
    {"save_safetensors save_only_model", "train",
     "leave it out: --output-dir gets model.safetensors at its top, whatever --save-steps is"},
    {"push_to_hub hub_model_id hub_strategy hub_token hub_private_repo hub_always_push "
     "push_to_hub_model_id push_to_hub_organization push_to_hub_token",
     "train",
     "leave it out: nothing is sent; quire upload OUTPUT_DIR OWNER/NAME does that afterwards"},

    // Generation.
    {"length max_tokens n_predict", "generate", "--max-new-tokens N"},
    {"k", "generate", "--top-k K"},
    {"p", "generate", "--top-p P; -p is a prompt"},
    {"stop_token stop_strings stop_sequences", "generate", "--stop TEXT"},
    {"prefix padding_text", "generate", "--prompt TEXT, with all that comes before"},
    {"bad_words_ids", "generate", "--bad-words TEXT, or --suppress-tokens IDS"},
    {"xlm_language", "generate", "leave it out: a GPT-2 has no languages to choose from"},
    {"num_samples nsamples", "generate", "--num-return-sequences N, with --do-sample"},
    {"use_cache cache_implementation", "generate", "leave it out: keys and values are kept"},
    {"return_dict_in_generate output_scores output_logits", "generate",
     "--json, with --logprobs K for the likeliest tokens"},
    {"max_time", "generate", "--max-new-tokens N; there is no limit on time"},
    {"num_beam_groups diversity_penalty penalty_alpha", "generate",
     "--num-beams N, or --do-sample for texts that differ more"},
    {"input_file prompts_file", "generate", "--prompt-file FILE, with --line-by-line a line each"},
    {"block_size max_seq_length", "eval", "--window N"},
};

}  // namespace

std::span<const ForeignOption> foreign_options() {
  return kTable;
}

std::string_view foreign_answer(std::string_view command, std::string_view name) {
  std::string wanted(name);
  std::replace(wanted.begin(), wanted.end(), '-', '_');
  const auto has = [](std::string_view words, std::string_view word) {
    return fmt::format(" {} ", words).find(fmt::format(" {} ", word)) != std::string::npos;
  };
  for (const ForeignOption& option : kTable) {
    if (!option.commands.empty() && !has(option.commands, command)) continue;
    if (has(option.names, wanted)) return option.answer;
  }
  return {};
}

}  // namespace quire
