// One vocabulary of options, and what is said to those of transformers.
#include <algorithm>
#include <cctype>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "base/file.h"
#include "base/json.h"
#include "cli/foreign_options.h"
#include "pipeline/get_model.h"
#include "tests/cli/program.h"
#include "tests/support/catch.h"

using namespace quire;
using namespace quire::test;
namespace fs = std::filesystem;

namespace {

// ModelArguments and DataTrainingArguments of run_clm.py, transformers 4.57.
constexpr const char* kRunClm =
    "model_name_or_path model_type config_overrides config_name tokenizer_name cache_dir "
    "use_fast_tokenizer model_revision token trust_remote_code dtype dataset_name "
    "dataset_config_name train_file validation_file max_train_samples max_eval_samples streaming "
    "block_size overwrite_cache validation_split_percentage preprocessing_num_workers "
    "keep_linebreaks torch_dtype low_cpu_mem_usage use_auth_token ";

// The fields of TrainingArguments, and those that are gone by now.
constexpr const char* kTrainingArguments =
    "output_dir overwrite_output_dir do_train do_eval do_predict eval_strategy evaluation_strategy "
    "prediction_loss_only per_device_train_batch_size per_device_eval_batch_size "
    "per_gpu_train_batch_size per_gpu_eval_batch_size gradient_accumulation_steps "
    "eval_accumulation_steps eval_delay torch_empty_cache_steps learning_rate weight_decay "
    "adam_beta1 adam_beta2 adam_epsilon max_grad_norm num_train_epochs max_steps "
    "lr_scheduler_type lr_scheduler_kwargs warmup_ratio warmup_steps log_level log_level_replica "
    "log_on_each_node logging_dir logging_strategy logging_first_step logging_steps "
    "logging_nan_inf_filter save_strategy save_steps save_total_limit save_safetensors "
    "save_on_each_node save_only_model restore_callback_states_from_checkpoint no_cuda use_cpu "
    "use_mps_device seed data_seed jit_mode_eval use_ipex bf16 fp16 fp16_opt_level "
    "half_precision_backend fp16_backend bf16_full_eval fp16_full_eval tf32 local_rank "
    "ddp_backend tpu_num_cores tpu_metrics_debug debug dataloader_drop_last eval_steps "
    "dataloader_num_workers dataloader_prefetch_factor past_index run_name disable_tqdm "
    "remove_unused_columns label_names load_best_model_at_end metric_for_best_model "
    "greater_is_better ignore_data_skip fsdp fsdp_min_num_params fsdp_config "
    "fsdp_transformer_layer_cls_to_wrap accelerator_config parallelism_config deepspeed "
    "label_smoothing_factor optim optim_args adafactor group_by_length length_column_name "
    "report_to project trackio_space_id ddp_find_unused_parameters ddp_bucket_cap_mb "
    "ddp_broadcast_buffers dataloader_pin_memory dataloader_persistent_workers "
    "skip_memory_metrics use_legacy_prediction_loop push_to_hub resume_from_checkpoint "
    "hub_model_id hub_strategy hub_token hub_private_repo hub_always_push hub_revision "
    "gradient_checkpointing gradient_checkpointing_kwargs include_inputs_for_metrics "
    "include_for_metrics eval_do_concat_batches push_to_hub_model_id push_to_hub_organization "
    "push_to_hub_token mp_parameters auto_find_batch_size full_determinism torchdynamo ray_scope "
    "ddp_timeout torch_compile torch_compile_backend torch_compile_mode include_tokens_per_second "
    "include_num_input_tokens_seen neftune_noise_alpha optim_target_modules batch_eval_metrics "
    "eval_on_start use_liger_kernel liger_kernel_config eval_use_gather_object "
    "average_tokens_across_devices";

constexpr const char* kRunGeneration =
    "model_type model_name_or_path prompt length stop_token temperature repetition_penalty k p "
    "prefix padding_text xlm_language seed use_cpu num_return_sequences fp16 jit max_length "
    "max_new_tokens min_length min_new_tokens early_stopping max_time stop_strings do_sample "
    "num_beams use_cache top_k top_p min_p length_penalty no_repeat_ngram_size bad_words_ids "
    "suppress_tokens pad_token_id eos_token_id output_scores return_dict_in_generate";

std::vector<std::string> words(const std::string& text) {
  std::istringstream stream(text);
  std::vector<std::string> found;
  for (std::string word; stream >> word;) found.push_back(word);
  return found;
}

std::vector<std::string> command(const std::string& name, std::vector<std::string> more) {
  const std::vector<std::string> parts = words(name);
  more.insert(more.begin(), parts.begin(), parts.end());
  return more;
}

std::string help_of(const std::string& name) {
  return run_quire(command(name, {"--help"})).out;
}

/// Whether the help has the option, under its name or as an alias.
bool has_option(const std::string& help, const std::string& option) {
  for (std::size_t at = help.find(option); at != std::string::npos;
       at = help.find(option, at + 1)) {
    const char after = at + option.size() < help.size() ? help[at + option.size()] : ' ';
    const char before = at > 0 ? help[at - 1] : ' ';
    if (std::isalnum(static_cast<unsigned char>(after)) == 0 && after != '-' &&
        (before == ' ' || before == '\n')) {
      return true;
    }
  }
  return false;
}

/// All that is said to options of which the first is not the command's.
std::string answers(const std::string& name, const std::string& options) {
  std::vector<std::string> arguments;
  for (const std::string& option : words(options)) arguments.push_back("--" + option + "=1");
  const ProgramResult run = run_quire(command(name, arguments));
  CHECK(run.exit_code == 2);
  return run.err;
}

}  // namespace

TEST_CASE("every argument of transformers' scripts is understood or answered") {
  const std::pair<const char*, std::string> cases[] = {
      {"train", std::string("do_train ") + kRunClm + kTrainingArguments},
      {"eval",
       "per_device_eval_batch_size model_name_or_path validation_file fp16 block_size "
       "max_eval_samples dataset_name cache_dir use_cpu trust_remote_code torch_dtype"},
      {"generate", std::string("length ") + kRunGeneration},
  };
  for (const auto& [name, options] : cases) {
    const std::string told = answers(name, options);
    INFO(told);
    CHECK(told.starts_with(std::string("error: quire ") + name + " has no options --"));
    CHECK_FALSE(contains(told, ": unknown"));
    CHECK_FALSE(contains(told, "did you mean"));
  }
  // The ones that the scripts' examples have.
  const std::string told =
      answers("train", "do_train fp16 eval_strategy model_name_or_path train_file validation_file");
  CHECK(contains(told, "no options --do_train, --fp16 or --eval_strategy\n"));
  CHECK(contains(told, "--fp16: use --bf16: "));
  CHECK(contains(told, "--eval_strategy: use --eval-steps N"));
}

TEST_CASE("an answer names options that the command has, for names that it has not") {
  std::map<std::string, std::string> helps;
  for (const char* name : {"train", "generate", "eval"}) helps[name] = help_of(name);
  std::set<std::string> answered_apart;  // before an answer for all commands
  for (const ForeignOption& option : foreign_options()) {
    const std::string of(option.commands.empty() ? "train generate eval" : option.commands);
    for (const std::string& name : words(of)) {
      INFO(name << ": " << option.names << ": " << option.answer);
      for (std::string word : words(std::string(option.answer))) {
        while (!word.empty() && (std::ispunct(static_cast<unsigned char>(word.back())) != 0)) {
          word.pop_back();
        }
        if (word.starts_with("--")) CHECK(has_option(helps[name], word));
      }
      for (std::string foreign : words(std::string(option.names))) {
        std::replace(foreign.begin(), foreign.end(), '_', '-');
        CHECK_FALSE(has_option(helps[name], "--" + foreign));
        if (answered_apart.insert(name + " " + foreign).second || !option.commands.empty()) {
          CHECK(foreign_answer(name, foreign) == option.answer);
        }
      }
    }
  }
  CHECK(foreign_answer("train", "eval-strategy") == foreign_answer("train", "eval_strategy"));
  CHECK(foreign_answer("generate", "eval_strategy").empty());
  CHECK(foreign_answer("train", "").empty());
}

TEST_CASE("options of one meaning have one name in all commands") {
  const auto have = [](const std::vector<std::string>& names,
                       const std::vector<std::string>& options) {
    for (const std::string& name : names) {
      const std::string help = help_of(name);
      for (const std::string& option : options) {
        INFO(name << " " << option);
        CHECK(has_option(help, option));
      }
    }
  };
  const std::vector<std::string> reading = {"train", "generate", "eval"};
  const std::vector<std::string> vocabulary = {"tokenizer encode", "tokenizer decode",
                                               "data prepare", "data inspect", "bench tokenizer"};
  have(reading, {"-m,", "--model", "--model-dir", "--model-name-or-path", "--tokenizer",
                 "--tokenizer-name"});
  have({"demo"}, {"-m,", "--model", "--model-dir", "--model-name-or-path"});
  have(vocabulary, {"-m,", "--model", "--model-dir", "--model-name-or-path", "--tokenizer",
                    "--tokenizer-name"});
  have({"bench train", "bench generate", "bench kernels"}, {"-m,", "--model", "--config"});
  have({"demo", "train", "sweep", "generate", "eval", "tokenizer train", "data prepare"},
       {"-o,", "--output-dir", "--model-output-dir", "--overwrite-output-dir", "--overwrite"});
  have({"keywords", "tokenizer encode", "tokenizer decode", "bench train", "bench generate",
        "bench kernels", "bench tokenizer"},
       {"-o,", "--output", "--overwrite", "--overwrite-output-dir"});
  have({"demo", "train", "sweep", "generate", "eval", "tokenizer train", "tokenizer encode",
        "tokenizer decode", "data prepare", "data inspect", "keywords", "bench train",
        "bench generate", "bench kernels", "bench tokenizer", "doctor"},
       {"-q,", "--quiet", "--json"});
  have({"train", "eval", "data prepare", "data inspect", "tokenizer train", "keywords"},
       {"--data", "--data-dir"});
  have({"train", "data prepare", "data inspect", "tokenizer train"}, {"--train-file"});
  have({"train", "eval", "data prepare", "data inspect"}, {"--validation-file"});
}

TEST_CASE("eval does not write over a report unasked") {
  const ScratchFolder scratch;
  const std::string texts = scratch.write("texts.txt", "one two three\n---\none two four\n");
  const std::string out = scratch / "out";
  const auto evaluate = [&](std::vector<std::string> more) {
    more.insert(more.begin(), {"eval", "--texts", texts, "-q", "-o", out});
    return run_quire(more);
  };
  CHECK(evaluate({}).exit_code == 0);
  const std::string first = read_file(fs::path(out) / "evaluation_metrics.csv");
  scratch.write("texts.txt", "one\n");
  const ProgramResult refused = evaluate({});
  CHECK(refused.exit_code == 2);
  CHECK(refused.err == "error: " + out +
                           "/evaluation_metrics.txt is there already\n  try: another "
                           "--output-dir, or --overwrite-output-dir\n");
  CHECK(refused.out.empty());
  fs::remove(fs::path(out) / "evaluation_metrics.txt");
  CHECK(contains(evaluate({}).err, "evaluation_metrics.csv is there already"));
  CHECK(read_file(fs::path(out) / "evaluation_metrics.csv") == first);
  CHECK(evaluate({"--overwrite-output-dir"}).exit_code == 0);
  CHECK(read_file(fs::path(out) / "evaluation_metrics.csv") != first);
}

TEST_CASE("tokens and texts go into a file that is not written over unasked") {
  const ScratchFolder scratch;
  const std::string ids = scratch / "ids.txt", text = scratch / "text.txt";
  const auto run = [&](std::vector<std::string> more, const std::string& input) {
    more.insert(more.begin(), "tokenizer");
    return run_quire(more, {.input = input});
  };
  const ProgramResult encoded = run({"encode", "-m", kBundledModel, "-o", ids}, "A fox\n");
  INFO(encoded.err);
  CHECK(encoded.exit_code == 0);
  CHECK(encoded.out.empty());
  CHECK(read_file(ids) == run({"encode", "-m", kBundledModel}, "A fox\n").out);
  CHECK(run({"decode", "-m", kBundledModel, "-o", text, ids}, "").exit_code == 0);
  CHECK(read_file(text) == "A fox\n");
  const ProgramResult refused = run({"encode", "-m", kBundledModel, "-o", ids}, "other");
  CHECK(refused.exit_code == 2);
  CHECK(contains(refused.err, "ids.txt is there already"));
  CHECK(run({"encode", "-m", kBundledModel, "-o", ids, "--overwrite"}, "").exit_code == 0);
  CHECK(read_file(ids) == "\n");
  // What fails leaves what was there.
  CHECK(run({"decode", "-m", kBundledModel, "-o", text, "--overwrite"}, "x").exit_code == 3);
  CHECK(read_file(text) == "A fox\n");
}

TEST_CASE("a vocabulary is learnt from --data, told as JSON, and says what it passes over") {
  const ScratchFolder scratch;
  scratch.write("set/a.txt", "The fox jumps over the dog.\n");
  scratch.write("set/b.csv", "text\nno\n");
  const std::string out = scratch / "tokenizer";
  const ProgramResult run = run_quire({"tokenizer", "train", "--data", scratch / "set",
                                       "--vocab-size", "258", "-o", out, "--json"});
  INFO(run.err);
  REQUIRE(run.exit_code == 0);
  CHECK(contains(run.err, "set: only its .txt are read; passed over: 1 × .csv\n"));
  const auto line = parse_json<nlohmann::json>(run.out);
  CHECK(line["tokens"] == 258);
  CHECK(line["files"] == 1);
  CHECK(line["bytes"] == 28);
  CHECK(line["output_dir"] == out);
}

TEST_CASE("bench takes the sizes of a model by its name") {
  const ProgramResult run = run_quire(
      {"bench", "generate", "-m", kBundledModel, "--seconds", "0.001", "--max-new-tokens", "2",
       "--prefill", "8", "--prompt-tokens", "2", "--batch-size", "1", "--json", "--quiet"});
  INFO(run.err);
  CHECK(run.exit_code == 0);
  const ProgramResult none = run_quire({"bench", "train", "--config", "none.json"});
  CHECK(none.exit_code == 3);
  CHECK(contains(none.err, "none.json"));
}
