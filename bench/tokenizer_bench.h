// How fast text becomes ids and ids become text, how fast a vocabulary loads and how fast one is
// trained. The text is the caller's, or made here from a seed: prose in English, and a mix of what
// is hard (code, numbers, accents, Chinese, Japanese, Korean, Cyrillic, emoji).
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

#include "bench/report.h"

namespace quire {

struct TokenizerBenchOptions {
  std::filesystem::path
      tokenizer;  // what resolve_tokenizer() gave; empty: one is trained on the prose first
  std::filesystem::path prose;  // UTF-8 files; empty: made here
  std::filesystem::path mix;
  std::size_t bytes = 1'000'000;  // of each text made here
  int vocab_size = 8000;          // of the training
  double seconds = 0.5;           // at least, for each entry
};

/// Entries, all with one thread but the training, bytes being those of the text (or of the files
/// loaded) and items its tokens:
///   encode/prose, encode/mix   the tokenizer has seen the text before: its cache of pieces is warm
///   encode/…/cold              a tokenizer just loaded
///   encode/one_letter          one piece as long as the whole text
///   decode/prose, decode/mix
///   load, train
/// `note` is called with a line for people before each.
BenchReport run_tokenizer_bench(const TokenizerBenchOptions& options,
                                const std::function<void(const std::string&)>& note);

/// The texts that are encoded when the caller has none, of that many bytes or a few more.
std::string synthetic_prose(std::size_t bytes, std::uint64_t seed = 1);
std::string synthetic_mix(std::size_t bytes, std::uint64_t seed = 1);

}  // namespace quire
