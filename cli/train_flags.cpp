#include "cli/train_flags.h"

#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json.h"
#include "base/text.h"
#include "cli/option_names.h"
#include "cli/terminal.h"
#include "pipeline/model_path.h"

namespace quire {

namespace fs = std::filesystem;
namespace {
using Json = nlohmann::ordered_json;
}  // namespace

void add_packing(Flags& flags, Packing& packing, const std::string& help) {
  flags.add_choice(
      "packing", packing,
      {{"stream", Packing::stream}, {"records", Packing::records}, {"none", Packing::none}}, help);
}

void add_overflow(Flags& flags, Overflow& overflow, const std::string& help) {
  flags.add_choice(
      "overflow", overflow,
      {{"truncate", Overflow::truncate}, {"split", Overflow::split}, {"error", Overflow::error}},
      help);
}

void TrainFlags::add_to(Flags& flags) {
  add_model(flags);
  add_data(flags);
  add_run(flags);
  add_optimizer(flags);
  flags.group("Several processes (mpirun -np N quire train ...)");
  flags.add_choice("zero", training.zero, {{"0", false}, {"1", true}},
                   "1: each process keeps the AdamW moments of its part of the model alone");
  add_watching(flags);
  flags.group("Machine");
  device.add_to(flags);
}

void TrainFlags::add_model(Flags& flags) {
  flags.group("Model");
  flags.add(kModelNames, model, "DIR",
            "go on from this model: a folder, a file, an adapter or a Hub name");
  download.add_to(flags);
  flags.add("config,config-name", config, "NAME|FILE",
            "a fresh model: tiny, gpt2, gpt2-medium, gpt2-large, gpt2-xl or a config.json");
  flags.add(kTokenizerNames, tokenizer, "DIR", "its vocabulary; without it the model's own");
  flags.add("resize-vocab", resize_vocab,
            "the model gets a row for each id that the tokenizer has beyond the model's");
  flags.add("freeze-layers", training.freeze_layers, "N",
            "the embeddings and the first N blocks do not train; 0: all trains", at_least(0));
  flags.add("dropout", dropout, "P", "all three dropout probabilities; -1 keeps the model's",
            between(-1, 0.999));

  flags.group("Adapter");
  flags.add("lora-r", training.lora.r, "R",
            "trains a LoRA adapter of this rank on --model, saved as PEFT does; 0: all parameters",
            at_least(0));
  flags.add("lora-alpha", training.lora.lora_alpha, "X", "the adapter counts X/R times", above(0));
  flags.add("lora-dropout", training.lora.lora_dropout, "P", "of what the adapter reads",
            between(0, 0.999));
  flags.add("lora-target-modules", training.lora.target_modules, "NAME...",
            "what is adapted: c_attn, c_proj (both of a block), attn.c_proj, mlp.c_proj, c_fc",
            ListStyle::several);
  flags.add("lora-merge", training.lora_merge, "the final folder holds the merged model");
}

void TrainFlags::add_data(Flags& flags) {
  flags.group("Data");
  flags.add(
      kDataNames, corpus.paths, "PATH...",
      "files (.txt .csv .tsv .jsonl, .gz and .zst of them), folders, globs; or what quire data "
      "prepare wrote",
      ListStyle::several);
  corpus_.add_to(flags, corpus);
  add_packing(flags, training.packing,
              "stream: one stream cut into blocks; records: whole records side by side, none of "
              "which sees another; none: one record a row");
  flags.add(kBlockNames, training.block_size, "T", "tokens a row; 0 is the model's context",
            at_least(0));
  add_overflow(flags, training.overflow);
  flags.add("validation-split", validation_split, "SHARE",
            "of the records, or of the tokens of a few books, held out; 0 is none",
            between(0, 0.9));
  add_validation_file(
      flags, validation_paths,
      "to validate on instead of that share: read as --data is, and not learnt from");
}

void TrainFlags::add_run(Flags& flags) {
  flags.group("Run");
  flags.add(kOutputFolderNames, training.output_dir, "DIR",
            "gets the model, and checkpoint-STEP folders");
  flags.add(kOverwriteFolderNames, training.overwrite_output_dir,
            "write into a folder that is not empty; its checkpoints go");
  flags.add("resume-from-checkpoint", training.resume_from_checkpoint, "latest|DIR",
            "go on where a run stopped, bit for bit");
  flags.add("num-train-epochs,epochs", training.num_train_epochs, "N", "passes over the data",
            above(0));
  flags.add("max-steps", training.max_steps, "N", "updates in all, instead of epochs; -1 is off",
            at_least(-1));
  flags.add(kBatchNames, training.per_device_train_batch_size, "B", "rows at a time", at_least(1));
  flags.add("gradient-accumulation-steps", training.gradient_accumulation_steps, "N",
            "batches that make one update", at_least(1));
  flags.add("seed", training.seed, "N", "of fresh weights, dropout and the order of the data");
  flags.add("data-seed", data_seed_, "N", "of split and order of the data, where not --seed");
}

void TrainFlags::add_optimizer(Flags& flags) {
  flags.group("Optimizer");
  flags.add("learning-rate,lr", training.learning_rate, "X", "peak of the schedule", at_least(0));
  flags.add_choice("lr-scheduler-type", training.lr_scheduler_type,
                   {"linear", "cosine", "cosine_with_min_lr", "cosine_with_restarts", "polynomial",
                    "inverse_sqrt", "warmup_stable_decay", "constant", "constant_with_warmup"},
                   "how it falls after the warm-up");
  flags.add("warmup-steps", training.warmup_steps, "N", "below 1: a share of all steps",
            at_least(0));
  flags.add("warmup-ratio", warmup_ratio_, "SHARE", "the same as a share of all steps",
            between(0, 1));
  flags.add("min-lr", training.schedule.min_lr, "X",
            "linear, cosines and warmup_stable_decay end at this rate", at_least(0));
  flags.add("min-lr-ratio,min-lr-rate", training.schedule.min_lr_ratio, "X",
            "the same as a share of the peak", between(0, 1));
  flags.add("num-cycles", training.schedule.num_cycles, "X",
            "waves of a cosine (0.5 falls once), or falls of cosine_with_restarts; 0: 0.5 and 1",
            at_least(0));
  flags.add("power", training.schedule.power, "X", "of polynomial", at_least(0));
  flags.add("lr-end", training.schedule.lr_end, "X", "where polynomial ends", at_least(0));
  flags.add("timescale", training.schedule.timescale, "STEPS",
            "of inverse_sqrt; 0: the warm-up's steps, or 10,000", at_least(0));
  flags.add("num-decay-steps", training.schedule.num_decay_steps, "N",
            "of warmup_stable_decay; below 1: a share of all steps", at_least(0));
  flags.add("num-stable-steps", training.schedule.num_stable_steps, "N",
            "of warmup_stable_decay; -1: what warm-up and decay leave", at_least(-1));
  flags.add_choice("warmup-type", training.schedule.warmup_type, {"linear", "cosine", "1-sqrt"},
                   "how warmup_stable_decay climbs");
  flags.add_choice("decay-type", training.schedule.decay_type, {"linear", "cosine", "1-sqrt"},
                   "how warmup_stable_decay falls");
  flags.add("weight-decay", training.weight_decay, "X", "of matrices and embeddings", at_least(0));
  flags.add("adam-beta1", training.adam_beta1, "X", "memory of the mean", between(0, 0.999999));
  flags.add("adam-beta2", training.adam_beta2, "X", "memory of the square", between(0, 0.999999));
  flags.add("adam-epsilon", training.adam_epsilon, "X", "added to the root", above(0));
  flags.add("max-grad-norm", training.max_grad_norm, "X", "clips the gradient; 0 does not",
            at_least(0));
  products.add_to(flags);
  flags.add(
      "gradient-checkpointing", training.gradient_checkpointing,
      "keeps each block's input alone: less memory, up to a third more time, the same result");
}

void TrainFlags::add_watching(Flags& flags) {
  flags.group("Watching and saving");
  flags.add("logging-steps", training.logging_steps, "N", "a line of the log every N steps",
            at_least(1));
  flags.add(
      "eval-steps", training.eval_steps, "N",
      "validate every N steps; 0: every epoch, as often and on as many rows as take a tenth of "
      "the run at most",
      at_least(0));
  flags.add("save-steps", training.save_steps, "N",
            "a checkpoint every N steps and at the end; 0: only when interrupted or out of time",
            at_least(0));
  flags.add("save-total-limit", training.save_total_limit, "N",
            "checkpoints kept, the best always; 0 keeps all", at_least(0));
  flags.add(
      "stop-at-step", training.stop_at_step, "N",
      "save a checkpoint after step N and end there: --resume-from-checkpoint goes on with the "
      "schedule of the whole run; 0 does not",
      at_least(0));
  flags.add("load-best-model-at-end", training.load_best_model_at_end,
            "the model of the lowest validation loss is what is saved; the one before the first "
            "step is not among them");
  flags.add("early-stopping-patience", training.early_stopping_patience, "N",
            "end after N validations without a lower loss, that before the first step not "
            "counted; 0 does not",
            at_least(0));
  flags.add("max-time", max_time_, "TIME",
            "save and end after 90s, 30m, 1h30m; a bare number is hours; resuming goes on");
  flags.add(
      "fit-to-time", training.fit_to_time,
      "as many steps as fit into --max-time, so that the learning rate comes to its end there");
  flags.add("spike-z", training.spike_z, "Z",
            "warn of a loss or gradient norm Z deviations above those before; 0 does not",
            at_least(0));
  flags.add("sample-every", training.sample_every, "N",
            "make a text with the model every N steps; 0 does not", at_least(0));
  flags.add("sample-prompt", sample_prompts, "TEXT", "how it begins; may be repeated");
  flags.add("report-to", report_to_, "NAME,...",
            "log.jsonl, log.csv, tensorboard/, report.html: any of jsonl, csv, tensorboard, html "
            "(which needs jsonl and writes it), or none");
  flags.add_choice("save-dtype", training.save_dtype,
                   {{"auto", DType::f32},
                    {"float32", DType::f32},
                    {"bfloat16", DType::bf16},
                    {"float16", DType::f16}},
                   "how the final model is stored; auto is float32");
  flags.add("json", json, "one JSON object a line on stdout for each event");
  flags.add_quiet();
}

void TrainFlags::finish(const Flags& flags) {
  corpus_.finish(corpus);
  threads = device.threads;
  products.finish(flags);
  training.bf16 = products.dtype == DType::bf16;
  choose_reports();
  if (!max_time_.empty()) training.max_seconds = parse_duration("--max-time", max_time_);
  if (!sample_prompts.empty() && training.sample_every == 0) {
    throw Error(Fault::usage, "--sample-prompt without --sample-every makes no sample", {},
                "--sample-every 100");
  }
  if (flags.given("data-seed")) training.data_seed = data_seed_;
  if (!validation_paths.empty() && flags.given("validation-split") && validation_split > 0) {
    note("--validation-split is not used: --validation-file says what to validate on");
  }
  if (flags.given("warmup-ratio")) {
    if (flags.given("warmup-steps")) {
      throw Error(Fault::usage, "--warmup-ratio and --warmup-steps are two words for one thing", {},
                  "one of the two");
    }
    if (warmup_ratio_ == 1) warmup_ratio_ = 0.9999999999;  // 1 as a count would be one step
    training.warmup_steps = warmup_ratio_;
  }
  if (corpus.paths.empty()) flags.refuse("--data is missing: what is there to learn from?");
  if (training.output_dir.empty()) {
    flags.refuse("--output-dir is missing: where shall the model go?");
  }
  if (!model.empty() && !config.empty()) {
    flags.refuse("--model and --config exclude each other",
                 {"--model goes on from trained weights, --config starts from fresh ones"});
  }
  // Without a tokenizer either, the command chooses the model.
  if (model.empty() && config.empty() && training.resume_from_checkpoint.empty() &&
      !tokenizer.empty()) {
    throw Error(Fault::usage, "neither --model nor --config is given: what shall be trained?",
                {"--tokenizer " + tokenizer + " alone does not say"},
                "--config tiny --tokenizer " + tokenizer + ", or --model DIR");
  }
  if (training.lora.r > 0 && !config.empty()) {
    throw Error(Fault::usage, "--lora-r adapts a trained model, --config starts from a fresh one",
                {}, "--model DIR, or without --lora-r");
  }
  const LoraConfig& lora = training.lora;
  const LoraConfig plain;  // a saved configuration names every option
  if (lora.r == 0 &&
      (training.lora_merge || lora.lora_alpha != plain.lora_alpha ||
       lora.lora_dropout != plain.lora_dropout || lora.target_modules != plain.target_modules)) {
    throw Error(Fault::usage, "the --lora options shape an adapter, and there is none", {},
                "--lora-r 8");
  }
  training.check();
}

void TrainFlags::choose_reports() {
  training.write_jsonl = false;
  bool none = false;
  const std::map<std::string, bool*> named = {{"jsonl", &training.write_jsonl},
                                              {"csv", &training.write_csv},
                                              {"tensorboard", &reports.tensorboard},
                                              {"html", &reports.html},
                                              {"none", &none}};
  std::size_t names = 0;
  const std::string list = report_to_ + ",";  // behind each name, the last and an empty one too
  for (std::string_view rest = list; !rest.empty(); ++names) {
    const std::string name(take_until(',', rest));
    const auto found = named.find(name);
    if (found == named.end()) {
      throw Error(Fault::usage, "there is no --report-to '" + name + "'",
                  {"names: jsonl, csv, tensorboard, html, or none"}, "--report-to jsonl,html");
    }
    *found->second = true;
  }
  if (reports.html) training.write_jsonl = true;  // the page is drawn from log.jsonl
  if (none && names > 1) {
    throw Error(Fault::usage, "--report-to " + report_to_ + ": none does not go with others", {},
                "--report-to none");
  }
}

ParsedTrain::ParsedTrain(const std::vector<std::string>& arguments) : ParsedTrain() {
  if (!flags.parse(arguments)) {
    throw Error(Fault::internal, "options that nobody typed ask for help");
  }
  options.finish(flags);
}

void SplitFlags::add_to(Flags& flags, const std::string& help) {
  flags.add_choice("split", split, {"none", "validation", "train"}, help);
  flags.add("run", run, "DIR", "the training run that --split is of, if not that of --model");
}

TrainedRun SplitFlags::read(const std::string& model, const std::vector<std::string>& data) const {
  const std::string& named = run.empty() ? model : run;
  const fs::path folder = resolve_model(named);
  const fs::path config =
      (fs::is_directory(folder) ? folder : folder.parent_path()) / "quire_config.json";
  if (!fs::exists(config)) {
    throw Error(Fault::usage, "--split is of a training run, and " + named + " is none",
                {"there is no " + config.string() + ", which quire train writes"},
                "--run DIR, the output folder of a run");
  }
  TrainFlags options =
      ParsedTrain({"--config-file=" + config.string(), "--output-dir=" + folder.string()}).options;
  if (!data.empty()) options.corpus.paths = data;
  // What cleaning did was told when it was trained.
  return {named, split == "validation", std::move(options),
          data_callbacks(/*tell_cleaning=*/false)};
}

TrainVocabulary train_vocabulary() {
  const auto untouched = std::make_shared<ParsedTrain>();
  const auto read = [](const Json& options) {
    std::vector<std::string> arguments = {"--output-dir", "DIR"};
    for (const auto& [name, value] : options.items()) {
      const Json values = value.is_array() ? value : Json::array({value});
      for (const Json& one : values) {
        arguments.push_back("--" + name + "=" +
                            (one.is_string() ? one.get<std::string>() : json_text(one)));
      }
    }
    return static_cast<TrainOptions>(ParsedTrain(arguments).options);
  };
  return {
      .name_of = [untouched](const std::string& name) { return untouched->flags.name_of(name); },
      .defaults = parse_json<Json>(untouched->flags.resolved_json()),
      .read = read};
}

}  // namespace quire
