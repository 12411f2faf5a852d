#include "bench/tokenizer_bench.h"

#include <unistd.h>

#include <algorithm>
#include <random>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/utf8.h"
#include "pipeline/model_tokenizer.h"
#include "tokenizer/tokenizer.h"

namespace quire {
namespace {

using Random = std::mt19937_64;

std::size_t below(Random& random, std::size_t end) {
  return random() % end;
}

template <std::size_t N>
std::string_view one_of(Random& random, const std::string_view (&list)[N]) {
  return list[below(random, N)];
}

/// Small numbers are likelier, about as words are in a language.
std::size_t mostly_small(Random& random, std::size_t end) {
  return below(random, 1 + below(random, 1 + below(random, end)));
}

constexpr std::string_view common_words[] = {
    "the",  "of",    "and",   "to",    "a",     "in",     "that",  "it",      "was",   "he",
    "for",  "on",    "with",  "his",   "as",    "I",      "be",    "at",      "by",    "had",
    "not",  "are",   "but",   "from",  "or",    "have",   "an",    "they",    "which", "one",
    "you",  "were",  "her",   "all",   "she",   "there",  "would", "their",   "we",    "him",
    "been", "has",   "when",  "who",   "will",  "more",   "no",    "if",      "out",   "so",
    "said", "what",  "up",    "its",   "about", "into",   "than",  "them",    "can",   "only",
    "time", "some",  "could", "these", "two",   "may",    "then",  "do",      "first", "any",
    "my",   "now",   "such",  "like",  "our",   "over",   "man",   "me",      "even",  "most",
    "made", "after", "also",  "did",   "many",  "before", "must",  "through", "years", "where"};
constexpr std::string_view stems[] = {
    "walk",   "light",  "water",   "night",  "garden",  "stone",  "river",  "king",
    "letter", "moon",   "call",    "open",   "turn",    "sing",   "wonder", "travel",
    "paint",  "answer", "whisper", "shadow", "mount",   "storm",  "bridge", "cloud",
    "wander", "master", "friend",  "silver", "winter",  "forest", "hand",   "heart",
    "house",  "child",  "morning", "voice",  "silence", "silk",   "candle", "harbour"};
constexpr std::string_view endings[] = {"",   "s",    "ed",   "ing",  "er",   "ly",  "ful",
                                        "en", "less", "ness", "ship", "like", "ward"};
constexpr std::string_view contractions[] = {"'s", "'ll", "n't", "'re", "'d", "'ve", "'m"};

std::string word(Random& random) {
  if (below(random, 10) < 7) {
    return std::string(common_words[mostly_small(random, std::size(common_words))]);
  }
  std::string made(one_of(random, stems));
  if (below(random, 8) == 0) made += one_of(random, stems);
  made += endings[mostly_small(random, std::size(endings))];
  return made;
}

std::string sentence(Random& random) {
  std::string text = word(random);
  if (text[0] >= 'a') text[0] = static_cast<char>(text[0] - 'a' + 'A');
  for (std::size_t words = 3 + below(random, 16); words > 0; --words) {
    if (below(random, 9) == 0) text += ',';
    text += ' ';
    text += word(random);
    if (below(random, 25) == 0) text += one_of(random, contractions);
  }
  text += "....?!;"[below(random, 7)];
  return text;
}

/// A run of characters of one script, those at its start likelier.
void append_script(Random& random, char32_t first, char32_t last, std::size_t count,
                   std::string& to) {
  for (; count > 0; --count) {
    utf8::append(first + static_cast<char32_t>(mostly_small(random, last - first + 1)), to);
  }
}

void append_code(Random& random, std::string& to) {
  constexpr std::string_view lines[] = {"for (int i = 0; i < ",
                                        "if (value != nullptr && value->size() > ",
                                        "return self.weights[layer] * ",
                                        "const auto& entry = table[hash & mask] + ",
                                        "def forward(self, x, mask=None):  # ",
                                        "std::vector<float> buffer(width * height + ",
                                        "\"name\": \"item_\", \"id\": ",
                                        "SELECT id, name FROM users WHERE age >= "};
  constexpr std::string_view ends[] = {";\n", ") {\n", "):\n", ",\n", "];\n", "});\n\n"};
  to.append(4 * below(random, 5), ' ');
  to += one_of(random, lines);
  to += std::to_string(below(random, 1000));
  to += one_of(random, ends);
}

void append_numbers(Random& random, std::string& to) {
  to += std::to_string(below(random, 3000)) + "-" + std::to_string(below(random, 13)) + " ";
  to += std::to_string(static_cast<double>(below(random, 1'000'000)) / 1000.0) + " ";
  to += "0x" + std::to_string(below(random, 1'000'000)) + ", " + std::to_string(random()) + "\n";
}

void append_accents(Random& random, std::string& to) {
  constexpr std::string_view words[] = {"déjà ",    "café, ", "naïve ",    "Straße ", "größer ",
                                        "señor ",   "l’été ", "übermut ",  "façade ", "ångström ",
                                        "čeština ", "żółć ",  "İstanbul ", "œuvre. ", "Øresund "};
  for (std::size_t count = 4 + below(random, 8); count > 0; --count) to += one_of(random, words);
}

void append_emoji(Random& random, std::string& to) {
  append_script(random, 0x1F600, 0x1F64F, 1 + below(random, 3), to);
  if (below(random, 3) == 0) to += "\U0001F468\u200D\U0001F469\u200D\U0001F467";
  to += below(random, 2) == 0 ? "\u2764\uFE0F " : " ";
}

/// A folder for one tokenizer, gone with the object.
struct TemporaryFolder {
  std::filesystem::path path = std::filesystem::temp_directory_path() /
                               ("quire-bench-tokenizer-" + std::to_string(::getpid()));
  TemporaryFolder() { std::filesystem::create_directories(path); }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
};

struct TokenizerBench {
  const TokenizerBenchOptions& options;
  const std::function<void(const std::string&)>& note;
  TemporaryFolder temporary = {};
  std::filesystem::path folder = {};
  BenchReport report = {};

  BenchReport run() {
    const std::string prose = text_of(options.prose, synthetic_prose);
    const std::string mix = text_of(options.mix, synthetic_mix);
    const std::filesystem::path training_file = temporary.path / "prose.txt";
    write_file(training_file, prose);

    train(training_file, prose.size());
    load();
    encode("prose", prose);
    encode("mix", mix);
    encode_one_letter();
    decode("prose", prose);
    decode("mix", mix);
    return std::move(report);
  }

  std::string text_of(const std::filesystem::path& path,
                      std::string (*make)(std::size_t, std::uint64_t)) {
    return path.empty() ? make(options.bytes, 1) : read_file(path);
  }

  BenchEntry entry(const std::string& name, std::size_t bytes, std::size_t items) {
    note(name);
    BenchEntry entry;
    entry.name = name;
    entry.bytes = static_cast<double>(bytes);
    entry.items = static_cast<double>(items);
    return entry;
  }

  template <class Run>
  void add(const std::string& name, std::size_t bytes, std::size_t items, const Run& run,
           int least_samples = 10) {
    BenchEntry timed = entry(name, bytes, items);
    time_runs(timed, run, options.seconds, least_samples);
    report.entries.push_back(timed);
  }

  void train(const std::filesystem::path& file, std::size_t bytes) {
    BpeTrainingOptions training;
    training.vocab_size = options.vocab_size;
    add("train/vocab:" + std::to_string(options.vocab_size), bytes, 0,
        [&] { train_bpe(std::vector{file}, training); });
    folder = options.tokenizer;
    if (folder.empty()) {
      folder = temporary.path;
      train_bpe(std::vector{file}, training).save(folder);
    } else if (!Tokenizer::exists(folder)) {  // inside a model's file, or of another folder
      folder = temporary.path;
      tokenizer_of(options.tokenizer).save(folder);
    }
  }

  void load() {
    const auto size_of = [&](const char* name) {
      std::error_code missing;
      const std::size_t size = std::filesystem::file_size(folder / name, missing);
      return missing ? 0 : size;
    };
    const std::size_t whole = size_of("tokenizer.json");  // read alone where it is there
    const std::size_t bytes = whole > 0 ? whole : size_of("vocab.json") + size_of("merges.txt");
    const int items = Tokenizer::load(folder).vocab_size();
    add("load", bytes, static_cast<std::size_t>(items), [&] { Tokenizer::load(folder); });
  }

  void encode(const std::string& name, const std::string& text) {
    const Tokenizer tokenizer = Tokenizer::load(folder);
    std::vector<TokenId> ids = tokenizer.encode(text, SpecialTokens::plain);
    const auto once = [&](const Tokenizer& with) {
      ids.clear();
      with.encode(text, SpecialTokens::plain, ids);
    };
    add("encode/" + name, text.size(), ids.size(), [&] { once(tokenizer); });

    BenchEntry cold = entry("encode/" + name + "/cold", text.size(), ids.size());
    std::vector<double> seconds;
    while (seconds.size() < 10) {
      const Tokenizer fresh = Tokenizer::load(folder);
      const double begin = clock_seconds();
      once(fresh);
      seconds.push_back(clock_seconds() - begin);
    }
    summarize(cold, std::move(seconds));
    report.entries.push_back(cold);
  }

  void encode_one_letter() {
    const Tokenizer tokenizer = Tokenizer::load(folder);
    const std::string text(options.bytes, 'a');
    const std::size_t items = tokenizer.encode(text).size();
    add(
        "encode/one_letter", text.size(), items, [&] { tokenizer.encode(text); }, 3);
  }

  void decode(const std::string& name, const std::string& text) {
    const Tokenizer tokenizer = Tokenizer::load(folder);
    const std::vector<TokenId> ids = tokenizer.encode(text, SpecialTokens::plain);
    add("decode/" + name, text.size(), ids.size(), [&] { tokenizer.decode(ids); });
  }
};

}  // namespace

std::string synthetic_prose(std::size_t bytes, std::uint64_t seed) {
  Random random(seed);
  std::string text;
  while (text.size() < bytes) {
    text += sentence(random);
    text += below(random, 5) == 0 ? "\n\n" : " ";
  }
  return text;
}

std::string synthetic_mix(std::size_t bytes, std::uint64_t seed) {
  Random random(seed);
  std::string text;
  while (text.size() < bytes) {
    switch (below(random, 9)) {
      case 0:
      case 1:
      case 2:
        append_code(random, text);
        break;
      case 3:
        append_numbers(random, text);
        break;
      case 4:
        append_accents(random, text);
        break;
      case 5:
        append_emoji(random, text);
        break;
      case 6:
        append_script(random, 0x4E00, 0x9FA5, 5 + below(random, 25), text);
        text += "\u3002";
        break;
      case 7:
        append_script(random, 0x3041, 0x30F6, 3 + below(random, 10), text);
        append_script(random, 0xAC00, 0xD7A3, 2 + below(random, 6), text);
        text += ' ';
        break;
      default:
        append_script(random, 0x0430, 0x044F, 3 + below(random, 8), text);
        text += ' ' + sentence(random) + '\n';
    }
  }
  return text;
}

BenchReport run_tokenizer_bench(const TokenizerBenchOptions& options,
                                const std::function<void(const std::string&)>& note) {
  return TokenizerBench{options, note}.run();
}

}  // namespace quire
