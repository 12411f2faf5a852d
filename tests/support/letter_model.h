// A model folder with a tokenizer: the small model of tests/data with a vocabulary of single letters,
// a space, a line break, the two halves of "é", and a token of two letters.
#pragma once

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "tests/support/fixtures.h"
#include "tests/support/scratch.h"
#include "tokenizer/tokenizer.h"

namespace quire::test {

/// How GPT-2's vocabulary writes each byte: as itself in Latin-1 where that can be seen, else as
/// the next character from U+0100 on.
inline std::vector<std::string> byte_alphabet() {
  std::vector<std::string> written;
  int next = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    const bool visible = (byte > 0x20 && byte < 0x7F) || (byte > 0xA0 && byte != 0xAD);
    const int c = visible ? byte : next++;
    if (c < 0x80) {
      written.emplace_back(1, static_cast<char>(c));
    } else {
      written.push_back({static_cast<char>(0xC0 | (c >> 6)), static_cast<char>(0x80 | (c & 0x3F))});
    }
  }
  return written;
}

/// Ids: a … z are 0 … 25, A … G 26 … 32, space 33, line break 34, "é" 35 and 36, "." 37, "th" 38,
/// <|endoftext|> 39; then the other bytes.
inline Tokenizer letter_tokenizer() {
  Tokenizer::Vocabulary vocabulary;
  for (char c = 'a'; c <= 'z'; ++c) vocabulary.tokens.emplace_back(1, c);
  for (char c = 'A'; c <= 'G'; ++c) vocabulary.tokens.emplace_back(1, c);
  for (const char* token : {"\u0120", "\u010A", "\u00C3", "\u00A9", ".", "th"}) {
    vocabulary.tokens.emplace_back(token);
  }
  vocabulary.merges = {{"t", "h"}};
  vocabulary.tokens.emplace_back("<|endoftext|>");
  // A byte-level vocabulary has all bytes; the model has no rows for these.
  for (const std::string& token : byte_alphabet()) {
    if (std::find(vocabulary.tokens.begin(), vocabulary.tokens.end(), token) ==
        vocabulary.tokens.end()) {
      vocabulary.tokens.push_back(token);
    }
  }
  vocabulary.special_tokens = {"<|endoftext|>"};
  return Tokenizer::from_vocabulary(vocabulary);
}

/// The model folder, made anew in the scratch folder.
inline std::string make_letter_model(const ScratchFolder& scratch) {
  const std::filesystem::path folder = scratch.path() / "model";
  std::filesystem::create_directories(folder);
  for (const char* name : {"config.json", "model.safetensors"}) {
    std::filesystem::copy_file(test_data("tied") / name, folder / name);
  }
  letter_tokenizer().save(folder, 16);
  return folder.string();
}

}  // namespace quire::test
