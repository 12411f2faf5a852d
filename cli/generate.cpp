// quire generate: text from a model.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <optional>

#include "base/file.h"
#include "base/text.h"
#include "cli/command.h"
#include "cli/device_flags.h"
#include "cli/flags.h"
#include "cli/generate_output.h"
#include "cli/help_text.h"
#include "cli/hub_model.h"
#include "cli/option_names.h"
#include "cli/prompt_flags.h"
#include "cli/signals.h"
#include "cli/terminal.h"
#include "engine/formats/hub_folder.h"
#include "pipeline/get_model.h"
#include "pipeline/model_path.h"
#include "pipeline/model_tokenizer.h"
#include "pipeline/requests.h"
#include "pipeline/run_requests.h"

namespace quire {
namespace {

struct GenerateOptions {
  std::string model = kBundledModel;
  DownloadFlag download;
  std::string tokenizer;
  WeightStorage storage = WeightStorage::as_stored;
  DeviceFlags device;

  PromptFlags prompts;
  RequestOptions request;
  std::string eos_token_id;
  bool ignore_eos = false;
  std::vector<std::string> bad_words;
  std::string suppress_tokens;

  int batch_size = 8;
  bool stream = false;
  OutputOptions output;
};

void add_flags(Flags& flags, GenerateOptions& o) {
  GenerationConfig& g = o.request.generation;
  flags.positional("PROMPT", o.prompts.positional_prompts);
  flags.group("Model");
  flags.add(kModelNames, o.model, "DIR",
            "a folder, a file, an adapter, a bundled model or a Hub name");
  o.download.add_to(flags);
  flags.add(kTokenizerNames, o.tokenizer, "DIR", "where the tokenizer lies, if not with the model");
  add_storage(flags, o.storage);
  o.device.add_to(flags);

  o.prompts.add_to(flags);

  flags.group("Length");
  flags.add("max-new-tokens,n", g.max_new_tokens, "N", "new tokens; -1 fills the context",
            at_least(-1));
  flags.add("max-length", g.max_length, "N", "the same, prompt included", at_least(0));
  flags.add("min-new-tokens", g.min_new_tokens, "N",
            "no end of text before; -1: --min-length says, whose place it takes", at_least(-1));
  flags.add("min-length", g.min_length, "N", "the same, prompt included", at_least(0));
  flags.add("stop", o.request.stop, "TEXT",
            "ends a text where this comes, which is kept; may be given again");
  flags.add("eos-token-id", o.eos_token_id, "IDS",
            "the ids that end a text, instead of the model's");
  flags.add("pad-token-id", g.pad_token_id, "ID",
            "taken as transformers takes it; texts end where they end and hold no padding",
            at_least(-1));
  flags.add("ignore-eos", o.ignore_eos, "go on behind an end of text");

  flags.group("Sampling");
  flags.add("do-sample", g.do_sample, "draw instead of always taking the likeliest token");
  flags.add("temperature,temp", g.temperature, "T",
            "below 1 sharpens, above 1 flattens; 0 is greedy", at_least(0));
  flags.add("top-k", g.top_k, "K", "keep the K likeliest tokens; 0 keeps all", at_least(0));
  flags.add("top-p", g.top_p, "P", "keep the likeliest tokens that make up this probability",
            within(0, 1));
  flags.add("min-p", g.min_p, "P", "drop tokens below P times the best one's probability",
            between(0, 1));
  flags.add("num-return-sequences", o.request.num_return_sequences, "N", "texts for each prompt",
            at_least(1));
  flags.add("seed", g.seed, "N", "the same seed gives the same text");

  flags.group("Beam search");
  flags.add("num-beams", g.num_beams, "N", "search for the likeliest text with N at a time",
            at_least(1));
  flags.add("length-penalty", g.length_penalty, "X",
            "above 0 favours longer texts, below 0 shorter ones");
  using EarlyStopping = GenerationConfig::EarlyStopping;
  flags.add_choice(
      "early-stopping", g.early_stopping,
      {{"true", EarlyStopping::yes}, {"false", EarlyStopping::no}, {"never", EarlyStopping::never}},
      "true: end when N texts are finished; false: when none that grows can beat them; "
      "never: the same, supposing full length");

  flags.group("Scores");
  flags.add("repetition-penalty,repeat-penalty", g.repetition_penalty, "X",
            "above 1 discourages what is already there", above(0));
  flags.add("no-repeat-ngram-size", g.no_repeat_ngram_size, "N",
            "no N tokens in a row twice; 0: off", at_least(0));
  flags.add("bad-words", o.bad_words, "TEXT", "a text that must not come; may be given again");
  flags.add("suppress-tokens", o.suppress_tokens, "IDS", "token ids that must not come");

  flags.group("Output");
  flags.add("batch-size", o.batch_size, "N", "texts computed together", at_least(1));
  flags.add("stream", o.stream,
            "write tokens as they come, one text after the other (on for one text on a terminal)");
  o.output.add_to(flags);
  flags.add("logprobs", g.top_logprobs, "K", "with --json: the K best tokens of each step too",
            at_least(0));
  flags.add_quiet();
  flags.example("quire generate --model gpt2 -p \"Once upon a time\" -n 40");
  flags.example(
      "quire generate -m gpt2 -p \"A joke:\" --do-sample --top-p 0.9 --num-return-sequences 3");
  flags.example("quire generate -m gpt2 --requests in.jsonl --json > out.jsonl");
  flags.example("Several texts are separated by a line of ---.");
  flags.example(where_models_come_from());
}

constexpr const char* kSynopsis = "[PROMPT...] [OPTION...]";
constexpr const char* kAbout = "Writes text from a model.";

/// What the flags say beyond the fields they are bound to.
void settle(const Flags& flags, const std::optional<Tokenizer>& tokenizer, const Gpt2Config& config,
            GenerateOptions& o) {
  GenerationConfig& g = o.request.generation;
  if (flags.given("max-length") && !flags.given("max-new-tokens")) g.max_new_tokens = 0;
  if (flags.given("temperature") && g.temperature == 0) {
    g.do_sample = false;
    g.temperature = 1;
  } else if (o.prompts.requests.empty()) {
    const auto is_given = [&](const char* option) { return flags.given(option); };
    for (const auto& [option, wanted] : options_without_effect(is_given, g)) {
      warn(fmt::format("{} has no effect without {}", flag_of(option), flag_of(wanted)));
    }
  }
  if (!o.eos_token_id.empty()) g.eos_token_ids = parse_ids("--eos-token-id", o.eos_token_id);
  if (o.ignore_eos) g.eos_token_ids.clear();
  for (const std::int32_t id : parse_ids("--suppress-tokens", o.suppress_tokens)) {
    g.suppress_tokens.push_back(id);
  }
  if (!o.bad_words.empty() && !tokenizer) {
    throw Error(Fault::usage, "--bad-words needs a tokenizer", {}, "--tokenizer DIR");
  }
  for (const std::string& word : o.bad_words) {
    // A word inside a text begins with its space.
    for (const std::string& form : {word, " " + word}) {
      g.bad_words_ids.push_back(tokenizer->encode(form, SpecialTokens::plain));
    }
  }
  // Ids beyond the tokenizer's, which padded vocabularies have, stand for no text.
  if (tokenizer) {
    for (int id = tokenizer->vocab_size(); id < config.vocab_size; ++id) {
      g.suppress_tokens.push_back(id);
    }
  }
  const bool has_lines = o.output.json || !o.output.output_dir.empty();
  if (flags.given("logprobs") && !has_lines) {
    throw Error(Fault::usage, "--logprobs needs --json", {"plain text has no place for them"});
  }
  if (o.stream && g.num_beams > 1) {
    throw Error(Fault::usage, "--stream and --num-beams do not go together",
                {"which text is the likeliest is known at its end"});
  }
  if (o.stream && has_lines) {
    throw Error(Fault::usage,
                fmt::format("--stream and {} do not go together",
                            o.output.json ? "--json" : "--output-dir"),
                {"a text is written there when it is complete"});
  }
}

/// "64 new tokens (120/s)"; the rate leaves out what took no time.
std::string speed(std::int64_t tokens, const char* what, std::int64_t timed_tokens,
                  double seconds) {
  const std::string count = counted(tokens, fmt::format("{} token", what));
  if (timed_tokens == 0 || seconds <= 0) return count;
  const double rate = static_cast<double>(timed_tokens) / seconds;
  return count + fmt::format(" ({}/s)", fixed_number(rate, rate < 9.95 ? 1 : 0));
}

/// Whether a text would have gone on, had the model a longer context.
bool ended_at_context(const GenerateRequest& request, const GeneratedSequence& text) {
  const GenerationConfig& g = request.options.generation;
  const std::int64_t made = std::ssize(text.output_ids);
  if (text.finish_reason != FinishReason::length || g.max_new_tokens < 0) return false;
  return g.max_new_tokens > 0 ? made < g.max_new_tokens
                              : std::ssize(request.prompt_ids) + made < g.max_length;
}

void tell_end(const RunTimes& times, double first_token_after, std::int64_t at_context,
              int context) {
  if (at_context > 0) {
    note(fmt::format("{} stopped at the model's context of {} tokens, before the length asked for",
                     counted(at_context, "text"), with_commas(context)));
  }
  note(fmt::format(
      "{}, {}{}", speed(times.prompt_tokens, "prompt", times.prompt_tokens, times.prompt_seconds),
      speed(times.new_tokens, "new", times.decode_tokens, times.decode_seconds),
      first_token_after > 0 ? ", first token after " + human_duration(first_token_after) : ""));
}

/// Tells of requests that failed. The exit code of the first of them; 0: there is none.
int report_failed(const std::vector<GenerateRequest>& requests) {
  int exit_code = 0;
  for (const GenerateRequest& request : requests) {
    if (!request.error) continue;
    report_error(request.error->message());
    if (exit_code == 0) exit_code = static_cast<int>(request.error->fault());
  }
  return exit_code;
}

/// Whether there is one text alone, written token by token.
bool is_one_text(const std::vector<GenerateRequest>& requests) {
  std::int64_t texts = 0;
  for (const GenerateRequest& request : requests) {
    if (!request.error) texts += request.options.num_return_sequences;
  }
  return texts == 1 && requests[0].options.generation.num_beams <= 1;
}

void note_several_prompts(const std::vector<std::string>& typed) {
  if (typed.size() <= 1) return;
  note(fmt::format(
      "{} prompts, a text from each: one of several words stands in quotes\n"
      "  try: quire generate {}",
      with_commas(typed.size()), in_quotes(fmt::format("{}", fmt::join(typed, " ")), '"')));
}

int run_generate(const std::vector<std::string>& arguments) {
  const Stopwatch watch;
  // 1. The model's own defaults lie under the options, so the model's name is read first.
  std::filesystem::path folder;
  {
    GenerateOptions typed;
    Flags flags("generate", kSynopsis, kAbout);
    add_flags(flags, typed);
    if (!flags.parse(arguments)) return 0;
    if (!typed.download.get(typed.model)) return interrupt_exit_code();
    folder = resolve_model(typed.model);
  }
  GenerateOptions options;
  const std::filesystem::path model_folder = config_folder(folder);
  Gpt2Config config = resolved_config(folder);
  const GenerationDefaults defaults = read_generation_defaults(model_folder, config);
  config.bos_token_id = defaults.bos_token_id;
  options.request.generation = defaults.config;
  options.request.num_return_sequences = defaults.num_return_sequences;
  Flags flags("generate", kSynopsis, kAbout);
  add_flags(flags, options);
  if (!flags.parse(arguments)) return 0;
  if (!defaults.not_honoured.empty()) {
    warn(fmt::format("{} is not honoured: {}", (model_folder / "generation_config.json").string(),
                     fmt::join(defaults.not_honoured, ", ")));
  }

  // 2. Prompts are read and checked before the weights: mistakes show at once.
  std::optional<Tokenizer> tokenizer;
  if (!options.tokenizer.empty() || has_tokenizer(folder)) {
    tokenizer = tokenizer_of(folder, options.tokenizer);
  }
  settle(flags, tokenizer, config, options);
  options.prompts.finish(model_folder);
  const RequestReader reader(config, tokenizer, how_to_get(model_folder), warn);
  const std::vector<GenerateRequest> requests =
      collect_requests(options.prompts, reader, options.request, model_folder,
                       {.on_read = tell, .read_prompt = read_prompt});
  note_several_prompts(options.prompts.positional_prompts);
  const int exit_code = report_failed(requests);
  const bool streams =
      options.stream || (is_one_text(requests) && !flags.given("stream") && !options.output.json &&
                         options.output.output_dir.empty() && stdout_is_terminal());
  TextWriter writer(requests, tokenizer, options.output);

  // 3. The model, and the texts.
  const std::unique_ptr<Device> device = options.device.open();
  const LoadedModel model = load_resolved(*device, folder, options.storage);
  for (const std::string& line : model.notes) note(line);
  const InterruptGuard interrupts;
  ProgressLine progress;
  double first_token_after = 0;
  std::int64_t at_context = 0;
  RunCallbacks callbacks;
  callbacks.stop_requested = [] { return interrupted(); };
  callbacks.on_token = [&](std::size_t request, std::int32_t id) {
    if (first_token_after == 0) first_token_after = watch.seconds();
    if (streams) writer.token(request, id);
  };
  callbacks.on_text = [&](std::size_t request, const GeneratedSequence& text) {
    progress.clear();
    writer.text(request, text);
    at_context += ended_at_context(requests[request], text) ? 1 : 0;
  };
  callbacks.on_progress = [&](std::size_t done, std::size_t total) {
    if (total > 1 && !streams && progress.due())
      progress.show(fmt::format("{}/{} texts", done, total));
  };
  const RunTimes times = run_requests(*device, model.config, model.parameters, tokenizer, requests,
                                      streams ? 1 : options.batch_size, callbacks);
  progress.clear();
  writer.finish();
  if (interrupted()) note("interrupted: texts end where they were");
  tell_end(times, first_token_after, at_context, config.n_positions);
  return interrupted() ? interrupt_exit_code() : exit_code;
}

}  // namespace

const Command kGenerateCommand = {"generate", "text from a model: streamed, batched, from files",
                                  run_generate};

}  // namespace quire
