// quire eval: perplexity of texts under a model.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/text.h"
#include "cli/command.h"
#include "cli/device_flags.h"
#include "cli/eval_completions.h"
#include "cli/flags.h"
#include "cli/inference_memory.h"
#include "cli/model_path.h"
#include "cli/signals.h"
#include "cli/terminal.h"
#include "corpus/records.h"
#include "engine/evaluation/perplexity.h"
#include "engine/formats/hub_folder.h"

namespace quire {
namespace {

using Clock = std::chrono::steady_clock;

struct EvalOptions {
  std::string model = "storyteller";
  std::string tokenizer;
  std::string dtype = "auto";
  DeviceFlags device;
  CorpusOptions corpus;
  bool prepend_endoftext = false;
  PerplexityOptions perplexity;
  int completions = 0;
  bool json = false;
};

void add_flags(Flags& flags, EvalOptions& o) {
  flags.group("Model");
  flags.add("model,m,model-dir", o.model, "DIR", "a folder, a file, a bundled model or a Hub name");
  flags.add("tokenizer", o.tokenizer, "DIR", "where the tokenizer lies, if not with the model");
  flags.add_choice("dtype", o.dtype, {"auto", "float32"}, "weights as stored, or all in float32");
  o.device.add_to(flags);
  flags.group("Data");
  flags.add("data,data-dir", o.corpus.paths, "PATH...",
            "texts: .txt, .csv, .tsv, .jsonl, folders of .txt, patterns", ListStyle::several);
  flags.add("text-column", o.corpus.text_column, "NAME", "the column or field that holds the text");
  flags.add("template", o.corpus.template_text, "TEXT",
            "a text made of several columns, \"{a}: {b}\"");
  flags.add("line-by-line", o.corpus.line_by_line, "every line of a .txt is a text of its own");
  flags.add("prepend-endoftext", o.prepend_endoftext,
            "put <|endoftext|> before each text, so that its first token is scored too");
  flags.group("Windows");
  flags.add("window", o.perplexity.window, "N", "tokens the model sees at once; 0 is its context",
            at_least(0));
  flags.add(
      "stride", o.perplexity.stride, "N",
      "tokens from window to window: smaller is slower and gives each token more context; 0 is "
      "half a window",
      at_least(0));
  flags.add("batch-size", o.perplexity.batch, "N", "windows computed together", at_least(1));
  flags.group("Completions");
  flags.add("completions", o.completions, "K",
            "instead of perplexity: how often the last column of the --template is what the model "
            "writes after the others, as the likeliest text and among the K likeliest",
            at_least(0));
  flags.group("Output");
  flags.add("json", o.json, "one JSON line: loss, perplexity, tokens, scored, bits_per_byte, ...");
  flags.add_quiet();
  flags.example("quire eval --model gpt2 --data book.txt --stride 512");
}

/// A text as ids, and its length in bytes.
struct Text {
  std::vector<TokenId> ids;
  std::size_t bytes = 0;
};

std::vector<Text> read_texts(const EvalOptions& o, const Tokenizer& tokenizer) {
  if (o.corpus.paths.empty()) {
    throw Error(Fault::usage, "there is nothing to score", {},
                "quire eval --model DIR --data FILE");
  }
  if (o.prepend_endoftext && !tokenizer.end_of_text()) {
    throw Error(Fault::usage, "--prepend-endoftext: the tokenizer has no <|endoftext|>");
  }
  std::vector<Text> texts;
  for (const Record& record : read_records(o.corpus)) {
    if (!record.labels.empty()) {
      throw Error(Fault::usage, "the data has labels, and perplexity scores every token",
                  {"eval reads texts, or input_ids alone"});
    }
    Text text;
    if (o.prepend_endoftext) text.ids.push_back(*tokenizer.end_of_text());
    if (record.input_ids.empty()) {
      tokenizer.encode(record.text, SpecialTokens::parse, text.ids);
      text.bytes = record.text.size();
    } else {
      text.ids.insert(text.ids.end(), record.input_ids.begin(), record.input_ids.end());
      for (const TokenId id : record.input_ids) text.bytes += tokenizer.token_bytes(id).size();
    }
    texts.push_back(std::move(text));
  }
  return texts;
}

/// Ids that the model has no row for would be out of bounds in its tables.
void check_ids(const std::vector<Text>& texts, const Gpt2Config& config) {
  for (const Text& text : texts) {
    for (const TokenId id : text.ids) {
      if (id >= 0 && id < config.vocab_size) continue;
      throw Error(Fault::bad_data,
                  fmt::format("the data has token {}, the model's vocabulary has {}", id,
                              config.vocab_size),
                  {"the tokenizer is that of another model"}, "--tokenizer DIR");
    }
  }
}

/// That the most tokens that are scored together fit into the device's memory.
void check_largest_batch(const Device& device, const LoadedModel& model,
                         const std::vector<Text>& texts, const PerplexityOptions& windows) {
  std::int64_t most_rows = 1, longest = 0;
  for (const Text& text : texts) {
    const std::int64_t length = std::min<std::int64_t>(windows.window, std::ssize(text.ids));
    const std::int64_t beyond = std::ssize(text.ids) - length;
    const std::int64_t rows =
        std::min<std::int64_t>(windows.batch, 1 + (beyond + windows.stride - 1) / windows.stride);
    if (rows * length <= most_rows * longest) continue;
    most_rows = rows;
    longest = length;
  }
  check_scoring_memory(device, model.config, model.parameters.wte().dtype(),
                       static_cast<int>(most_rows), static_cast<int>(longest));
}

/// --completions: the table's last column against what the model writes.
int run_completions(EvalOptions options, const std::filesystem::path& folder,
                    const Tokenizer& tokenizer) {
  options.corpus.loss_on_completion = true;
  const std::vector<Record> records = read_records(options.corpus);
  const std::unique_ptr<Device> device = options.device.open();
  const LoadedModel model = load_model(
      *device, folder, options.dtype == "float32" ? WeightStorage::f32 : WeightStorage::as_stored);
  const InterruptGuard interrupts;
  ProgressLine progress;
  const Clock::time_point start = Clock::now();
  const CompletionScores scores = score_completions(
      *device, model, tokenizer, records, options.completions, [&](std::int64_t done) {
        if (progress.due()) {
          progress.show(
              fmt::format("{}/{} records", with_commas(done), with_commas(records.size())));
        }
        return interrupted();
      });
  progress.clear();
  const auto share = [&](std::int64_t count) {
    return static_cast<double>(count) /
           static_cast<double>(std::max<std::int64_t>(scores.records, 1));
  };
  const std::string among = fmt::format("among {} likeliest", options.completions);
  if (options.json) {
    const nlohmann::ordered_json line = {{"records", scores.records},
                                         {"exact_match", share(scores.best)},
                                         {"top", options.completions},
                                         {"among_top", share(scores.among)}};
    print(line.dump() + "\n");
  } else {
    print(fmt::format("{:<20}{:.4f} ({} of {})\n{:<20}{:.4f} ({} of {})\n", "exact match",
                      share(scores.best), with_commas(scores.best), with_commas(scores.records),
                      among, share(scores.among), with_commas(scores.among),
                      with_commas(scores.records)));
  }
  const std::chrono::duration<double> seconds = Clock::now() - start;
  note(fmt::format("{} in {}", counted(static_cast<std::size_t>(scores.records), "record"),
                   human_duration(seconds.count())));
  return scores.interrupted ? interrupt_exit_code() : 0;
}

int run(const std::vector<std::string>& arguments) {
  EvalOptions options;
  Flags flags("eval", "--model DIR --data PATH... [OPTION...]",
              "Scores texts: loss and perplexity, every token after the first of a text once.");
  add_flags(flags, options);
  if (!flags.parse(arguments)) return 0;

  const std::filesystem::path folder = resolve_model(options.model);
  const std::filesystem::path model_folder = tokenizer_folder(folder);
  const Gpt2Config config = read_config(model_folder / "config.json");
  const PerplexityOptions windows = resolve(options.perplexity, config);
  const Tokenizer tokenizer = Tokenizer::load(
      options.tokenizer.empty() ? model_folder : std::filesystem::path(options.tokenizer));
  if (options.completions > 0) return run_completions(options, folder, tokenizer);
  const std::vector<Text> texts = read_texts(options, tokenizer);
  check_ids(texts, config);
  std::int64_t tokens = 0;
  std::int64_t to_score = 0;
  std::size_t bytes = 0;
  for (const Text& text : texts) {
    tokens += std::ssize(text.ids);
    to_score += std::max<std::int64_t>(std::ssize(text.ids) - 1, 0);
    bytes += text.bytes;
  }
  if (to_score == 0) {
    throw Error(Fault::bad_data,
                fmt::format("the data has {} tokens, none of them to score", tokens),
                {"the first token of a text has nothing before it"}, "--prepend-endoftext");
  }
  if (windows.stride == windows.window && to_score >= windows.window) {
    note(
        "note: with the stride as long as the window, the first token of each window is scored "
        "without "
        "its context; a smaller --stride gives the model's true perplexity");
  }

  const std::unique_ptr<Device> device = options.device.open();
  const LoadedModel model = load_model(
      *device, folder, options.dtype == "float32" ? WeightStorage::f32 : WeightStorage::as_stored);
  check_largest_batch(*device, model, texts, windows);
  Gpt2 gpt2(*device, model.config, model.parameters);
  const InterruptGuard interrupts;
  ProgressLine progress;
  PerplexityResult result;
  const Clock::time_point start = Clock::now();
  const auto on_progress = [&](const PerplexityResult& text_so_far, std::int64_t) {
    if (progress.due()) {
      PerplexityResult so_far = result;
      so_far += text_so_far;
      const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
      const double rate = static_cast<double>(so_far.scored) / seconds;
      progress.show(
          fmt::format("{}/{} tokens  perplexity {:.3f}  {:.0f} tokens/s  {} left",
                      with_commas(so_far.scored), with_commas(to_score), so_far.perplexity(), rate,
                      human_duration(static_cast<double>(to_score - so_far.scored) / rate)));
    }
    return interrupted();
  };
  for (const Text& text : texts) {
    result += perplexity(gpt2, model.config, text.ids, windows, on_progress);
    if (interrupted()) break;
  }
  progress.clear();
  const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
  if (interrupted()) {
    note(fmt::format("stopped after {} of {} tokens, perplexity so far {:.3f}",
                     with_commas(result.scored), with_commas(to_score), result.perplexity()));
    return interrupt_exit_code();
  }
  const double bits_per_byte = result.loss_sum / std::log(2.0) / static_cast<double>(bytes);
  if (options.json) {
    const nlohmann::ordered_json line = {
        {"loss", result.loss()},   {"perplexity", result.perplexity()}, {"tokens", tokens},
        {"scored", result.scored}, {"bits_per_byte", bits_per_byte},    {"window", windows.window},
        {"stride", windows.stride}};
    print(line.dump() + "\n");
  } else {
    print(
        fmt::format("loss           {:.6f}\nperplexity     {:.6f}\nbits per byte  {:.6f}\n"
                    "tokens         {} ({} scored)\n",
                    result.loss(), result.perplexity(), bits_per_byte, with_commas(tokens),
                    with_commas(result.scored)));
  }
  note(fmt::format("{} windows of {} tokens, stride {}: {:.2f} s, {:.0f} tokens/s", result.windows,
                   windows.window, windows.stride, seconds,
                   static_cast<double>(result.scored) / seconds));
  return 0;
}

}  // namespace

const Command kEvalCommand = {"eval", "perplexity of texts under a model, with a stride", run};

}  // namespace quire
