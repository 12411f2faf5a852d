// quire eval: perplexity of texts under a model; or what can be said of generated texts themselves.
//
// --data FILE scores texts under --model, --split what a training run held out, --texts FILE measures
// texts. Each is set beside another one with --baseline: another model's score of the same data, or
// another model's texts.
#include <fmt/format.h>

#include <functional>
#include <tuple>
#include <utility>

#include "base/file.h"
#include "base/text.h"
#include "cli/command.h"
#include "cli/corpus_flags.h"
#include "cli/eval_scoring.h"
#include "cli/flags.h"
#include "cli/help_text.h"
#include "cli/hub_model.h"
#include "cli/option_names.h"
#include "cli/signals.h"
#include "cli/terminal.h"
#include "cli/train_flags.h"
#include "pipeline/eval_report.h"
#include "pipeline/measures.h"
#include "pipeline/metric_names.h"
#include "pipeline/model_path.h"

namespace quire {
namespace {

struct EvalOptions {
  ScoringFlags scoring;
  CorpusOptions corpus{.command = "quire eval --data"};
  SampleOptions texts{.command = "quire eval --texts"};
  TextFormatFlags format;
  std::vector<std::string> training_data;
  std::string training_text_column;
  int copied_ngram = 5;
  SplitFlags split;
  std::string baseline;
  std::vector<std::string> metrics;  // empty: all
  std::filesystem::path output_dir;
  int completions = 0;
  DownloadFlag download;
  bool overwrite = false, json = false;
};

void add_flags(Flags& flags, EvalOptions& o) {
  ScoringFlags& scoring = o.scoring;
  flags.group("Model");
  flags.add(kModelNames, scoring.model, "DIR",
            "a folder, a file, an adapter, a bundled model or a Hub name; with --texts none unless "
            "given");
  o.download.add_to(flags);
  flags.add(kTokenizerNames, scoring.tokenizer, "DIR",
            "where the tokenizer lies, if not with the model");
  add_storage(flags, scoring.storage);
  scoring.device.add_to(flags);
  flags.group("Perplexity of data");
  flags.add("data,data-dir,validation-file,eval-data-file", o.corpus.paths, "PATH...",
            "texts: .txt, .csv, .tsv, .jsonl, folders of .txt, patterns", ListStyle::several);
  o.split.add_to(
      flags,
      "the part of its data that a training run held out, or the part that it learned from, "
      "read and tokenized as it did; --data, if the data lie elsewhere now");
  flags.add("text-column", o.corpus.text_column, "NAME", "the column or field that holds the text");
  flags.add("template", o.corpus.template_text, "TEXT",
            "a text made of several columns, \"{a}: {b}\"");
  flags.add("line-by-line", o.corpus.line_by_line, "every line of a .txt is a text of its own");
  o.format.add_to(flags);
  flags.add("prepend-endoftext", scoring.prepend_endoftext,
            "put <|endoftext|> before each text, so that its first token is scored too");
  flags.add("window", scoring.perplexity.window, "N",
            "tokens the model sees at once; 0 is its context, with --split the rows of the run",
            at_least(0));
  flags.add(
      "stride", scoring.perplexity.stride, "N",
      "tokens from window to window: smaller is slower and gives each token more context; 0 is "
      "half a window",
      at_least(0));
  flags.add("batch-size", scoring.perplexity.batch, "N", "windows computed together", at_least(1));
  flags.add("completions", o.completions, "K",
            "instead of perplexity: how often the last column of the --template is what the model "
            "writes after the others, as the likeliest text and among the K likeliest",
            at_least(0));
  flags.group("Metrics of generated texts");
  flags.add("texts", o.texts.paths, "FILE...",
            "what quire generate wrote, as .txt (texts between lines \"---\") or --json; or a "
            ".csv, a .jsonl: distinct n-grams, self-BLEU, repetition, coherence; with --model also "
            "perplexity",
            ListStyle::several);
  flags.add("training-data", o.training_data, "PATH...",
            "what the model learned from: gives the share of the texts' words that is copied from "
            "it",
            ListStyle::several);
  flags.add("training-text-column", o.training_text_column, "NAME",
            "its column or field; without it as --text-column");
  flags.add("copied-ngram", o.copied_ngram, "N", "words in a row that make a copy", at_least(1));
  flags.add("keywords-column", o.texts.keywords_column, "NAME",
            "the column or field that holds each text's keywords, between commas: gives the share "
            "of them that the texts have, as whole words of either case");
  flags.group("Output");
  flags.add("metrics,metric", o.metrics, "NAME...",
            "only these numbers: perplexity, exact_match, distinct_2, self_bleu4, ... "
            "(docs/metrics.md has all, and what each is); without it all there are",
            ListStyle::several);
  flags.add("baseline", o.baseline, "DIR|FILE",
            "with --data another model, with --texts other texts: both, and the difference");
  flags.add(kOutputFolderNames, o.output_dir, "DIR",
            "gets evaluation_metrics.txt and evaluation_metrics.csv");
  flags.add(kOverwriteFolderNames, o.overwrite, "replace those that are there");
  flags.add("json", o.json,
            "one JSON line with all numbers: loss, perplexity, tokens, ... or distinct_1, ...");
  flags.add_quiet();
  flags.example("quire eval --model gpt2 --data book.txt --stride 512");
  flags.example(
      "quire eval --texts out.txt --training-data samples/quotes.csv --training-text-column quote");
  flags.example(
      "quire eval --model tuned --baseline gpt2 --data held-out.txt --output-dir results");
  flags.example("quire eval --model out --baseline narrator --split validation");
  flags.example(where_models_come_from());
}

/// The records, and a word on what reading them came upon.
std::vector<Record> read_and_tell(CorpusOptions options) {
  ReadingReport report;
  options.report = &report;
  std::vector<Record> records = read_records(options);
  tell(report);
  return records;
}

/// Nothing when it was interrupted.
using Metrics = std::optional<std::vector<Metric>>;
using Measure = std::function<Metrics(const EvalOptions& of)>;

/// What is evaluated, and the baseline where there is one: to stdout and into files. `few` is for
/// people who ask for neither a baseline nor certain metrics; without it they get the table.
int evaluate(const EvalOptions& o, const std::string& title, const std::string& measured,
             const Measure& measure, const std::function<std::string()>& few = {}) {
  EvalReport report{.title = title, .baseline_title = o.baseline};
  const bool two = !o.baseline.empty();
  EvalOptions of = o;
  if (two) {
    std::tie(report.name, report.baseline_name) = distinct_names(measured, o.baseline);
    of.scoring.label = report.name + ": ";
  }
  Metrics metrics = measure(of);
  if (!metrics) return interrupt_exit_code();
  report.metrics = std::move(*metrics);
  if (two) {
    of.scoring.label = report.baseline_name + ": ";
    if (o.texts.paths.empty()) {
      of.scoring.model = o.baseline;
    } else {
      of.texts.paths = {o.baseline};
    }
    metrics = measure(of);
    if (!metrics) return interrupt_exit_code();
    report.baseline = std::move(*metrics);
  }
  report = select_metrics(report, o.metrics);
  if (!o.output_dir.empty()) {
    note(fmt::format("saved {} and .csv", write_report(o.output_dir, report).string()));
  }
  print(o.json                             ? to_json(report) + "\n"
        : few && !two && o.metrics.empty() ? few()
                                           : to_table(report, output_columns()));
  return 0;
}

std::optional<Scored> score_records(const ScoringFlags& scoring,
                                    const std::vector<Record>& records) {
  return watch_scoring(scoring, [&](const auto& callbacks, const auto& on_progress) {
    return score(scoring, records, callbacks, on_progress);
  });
}

std::optional<Scored> score_run(ScoringFlags scoring, const TrainedRun& run) {
  if (scoring.perplexity.window == 0) scoring.perplexity.window = run.block_size();
  return watch_scoring(scoring, [&](const auto& callbacks, const auto& on_progress) {
    return score(scoring, run.tokens(), run.tokenizer(), callbacks, on_progress);
  });
}

/// What is scored: the part of a run's data that is asked for, or records.
struct Data {
  std::optional<TrainedRun> run;
  std::vector<Record> records;

  explicit Data(const EvalOptions& o) {
    if (o.split.asked()) {
      run.emplace(o.split.read(o.scoring.model, o.corpus.paths));
      if (o.completions > 0) records = run->records(/*as_completion=*/true);
    } else {
      records = read_and_tell(o.corpus);
    }
    if (!o.baseline.empty()) resolve_model(o.baseline);  // said now, not after the first is scored
  }
};

int evaluate_data(const EvalOptions& o) {
  const Data data(o);
  std::optional<Scored> first;
  const auto measure = [&](const EvalOptions& of) -> Metrics {
    const std::optional<Scored> scored =
        data.run ? score_run(of.scoring, *data.run) : score_records(of.scoring, data.records);
    if (!scored) return std::nullopt;
    if (!first) first = scored;
    if (scored->tokens != first->tokens) {
      note(
          "note: the two models cut the data into different tokens: compare bits_per_byte, not the "
          "perplexity of a token");
    }
    return metrics_of(*scored);
  };
  const std::string title = data.run ? data.run->title() : "data";
  return evaluate(o, title + " under " + o.scoring.model, o.scoring.model, measure, [&] {
    return fmt::format(
        "loss           {}\nperplexity     {}\nbits per byte  {}\n"
        "tokens         {} ({} scored)\n",
        fixed_number(first->result.loss(), 4), fixed_number(first->result.perplexity(), 4),
        fixed_number(first->bits_per_byte(), 4), with_commas(first->tokens),
        with_commas(first->result.scored));
  });
}

int evaluate_completions(EvalOptions& o) {
  o.corpus.loss_on_completion = true;
  const Data data(o);
  const auto measure = [&](const EvalOptions& of) -> Metrics {
    const auto scores = watch_completions(of.scoring, data.records, o.completions);
    if (!scores) return std::nullopt;
    return metrics_of(*scores, o.completions);
  };
  const std::string of_run = data.run ? " of " + data.run->title() : "";
  return evaluate(o, "completions" + of_run + " by " + o.scoring.model, o.scoring.model, measure);
}

/// Nothing when it was interrupted.
Metrics measure_samples(const EvalOptions& o, const std::vector<std::string>* training,
                        bool with_model) {
  ReadingReport report;
  SampleOptions texts = o.texts;
  texts.report = &report;
  const std::vector<Sample> samples = read_samples(texts);
  tell(report);
  std::vector<Metric> metrics =
      measure_texts(samples, training, static_cast<std::size_t>(o.copied_ngram));
  if (!with_model) return metrics;
  std::vector<Record> records;
  for (const Sample& sample : samples) {
    if (!sample.text.empty()) {
      records.push_back({.text = sample.text, .input_ids = {}, .labels = {}});
    }
  }
  const std::optional<Scored> scored = score_records(o.scoring, records);
  if (!scored) return std::nullopt;
  metrics.push_back({.name = "perplexity", .value = scored->result.perplexity()});
  metrics.push_back({.name = "bits_per_byte", .value = scored->bits_per_byte()});
  return metrics;
}

int evaluate_texts(EvalOptions& o, bool with_model) {
  o.texts.text_column = o.corpus.text_column;
  o.texts.line_by_line = o.corpus.line_by_line;
  o.texts.format = o.corpus.format;
  std::vector<std::string> training;
  if (!o.training_data.empty()) {
    const bool own_column = !o.training_text_column.empty();
    for (Record& record : read_and_tell({.paths = o.training_data,
                          .text_column = own_column ? o.training_text_column : o.corpus.text_column,
                          .command = "quire eval --texts FILE --training-data",
                          .column_option = "training_text_column",
                          .format = o.corpus.format})) {
      training.push_back(std::move(record.text));
    }
  }
  const std::vector<std::string>* training_texts = o.training_data.empty() ? nullptr : &training;
  if (!o.baseline.empty()) find_files({o.baseline});  // whether it is there
  const auto measure = [&](const EvalOptions& of) {
    return measure_samples(of, training_texts, with_model);
  };
  return evaluate(o, fmt::format("texts of {}", fmt::join(o.texts.paths, " ")),
                  o.texts.paths.size() == 1 ? o.texts.paths[0] : "texts", measure);
}

/// Throws Error(usage) for options that do not go together.
void check_combination(const Flags& flags, const EvalOptions& o) {
  const bool data = !o.corpus.paths.empty(), texts = !o.texts.paths.empty();
  const bool split = o.split.asked(), nothing = !data && !texts && !split;
  if (data && texts) {
    flags.refuse("--data and --texts exclude each other",
                 {"--data gives perplexity under a model, --texts what texts are like"});
  }
  const struct {
    bool holds;
    std::vector<const char*> names;  // none of these may be given
    const char* why;
  } rules[] = {
      {split, {"texts"}, "and --split do not go together"},
      {split,
       {"text-column", "template", "line-by-line", "encoding", "delimiter", "no-header",
        "prepend-endoftext"},
       "does not go with --split: the run said how its data are read"},
      {!split, {"run"}, "wants --split"},
      {texts, {"template"}, "is for --data: generated texts are whole"},
      {texts && !flags.given("training-data"),
       {"training-text-column", "copied-ngram"},
       "wants --training-data"},
      {texts && !flags.given("model"),
       {"tokenizer", "dtype", "prepend-endoftext", "window", "stride", "batch-size"},
       "wants --model: it is about the texts' perplexity"},
      {!texts && !nothing,
       {"training-data", "training-text-column", "copied-ngram", "keywords-column"},
       "is for --texts"},
      {o.completions > 0 && !nothing,
       {"texts", "prepend-endoftext", "window", "stride", "batch-size"},
       "and --completions do not go together"},
  };
  for (const auto& rule : rules) {
    for (const char* name : rule.names) {
      if (rule.holds && flags.given(name)) flags.refuse(fmt::format("--{} {}", name, rule.why));
    }
  }
  if (nothing) {
    throw Error(Fault::usage, "there is nothing to score", {},
                "quire eval --model DIR --data FILE, or quire eval --texts FILE");
  }
}

int run_eval(const std::vector<std::string>& arguments) {
  EvalOptions options;
  Flags flags(
      "eval", "(--model DIR --data PATH... | --texts FILE...) [OPTION...]",
      "Scores texts under a model: loss and perplexity, every token after the first of a "
      "text once.\n"
      "Or measures generated texts: repetition, likeness, copying, keywords, coherence.\n"
      "Coherence is, of each text of two sentences or more, the mean over neighbouring "
      "sentences of\n"
      "|A and B| / sqrt(|A| |B|), A and B their sets of words in lower case without English "
      "stop words\n"
      "(0 where one is empty); then the mean over these texts.");
  add_flags(flags, options);
  if (!flags.parse(arguments)) return 0;
  options.corpus.format = options.format.finish();
  check_combination(flags, options);
  const bool with_texts = !options.texts.paths.empty();
  options.metrics = split_metrics(options.metrics);
  check_metrics(options.metrics,
                with_texts                ? Evaluation::texts
                : options.completions > 0 ? Evaluation::completions
                                          : Evaluation::data,
                [&](const std::string& option) { return flags.given(option); });
  if (!options.output_dir.empty()) {
    if (!options.overwrite) check_no_report(options.output_dir);
    make_folder(options.output_dir);
  }
  for (const std::string& model : {options.scoring.model, options.baseline}) {
    if (!options.download.get(model)) return interrupt_exit_code();
  }
  if (options.completions > 0) return evaluate_completions(options);
  return with_texts ? evaluate_texts(options, flags.given("model")) : evaluate_data(options);
}

}  // namespace

const Command kEvalCommand = {
    "eval", "perplexity under a model; repetition and copying of generated texts", run_eval};

}  // namespace quire
