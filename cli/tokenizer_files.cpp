// quire tokenizer add|convert: a tokenizer from wherever it lies into files of its own, with more
// tokens or as it is.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/text.h"
#include "cli/command.h"
#include "cli/flags.h"
#include "cli/help_text.h"
#include "cli/option_names.h"
#include "cli/terminal.h"
#include "pipeline/model_tokenizer.h"
#include "tokenizer/tokenizer.h"

namespace quire {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr int kUsualLength = 1024;

struct Rewrite {
  std::vector<std::string> names;  // FROM and TO
  std::vector<std::string> specials, plain;
  std::string bos, eos, unknown, padding;
  int max_length = 0;
  bool overwrite = false, json = false;

  bool adds() const { return !specials.empty() || !plain.empty() || !roles().empty(); }
  TokenRoles roles() const {
    TokenRoles named;
    for (const auto& [role, content] :
         {std::pair("bos_token", bos), std::pair("eos_token", eos), std::pair("unk_token", unknown),
          std::pair("pad_token", padding)}) {
      if (!content.empty()) named.emplace_back(role, content);
    }
    return named;
  }
  /// What is to be there, roles included: transformers adds those that are new as special tokens.
  std::vector<AddedToken> tokens() const {
    std::vector<AddedToken> all;
    for (const std::string& token : specials) all.push_back({.content = token});
    for (const auto& role : roles()) all.push_back({.content = role.second});
    for (const std::string& token : plain) {
      all.push_back({.content = token, .special = false, .second = true});
    }
    return all;
  }
  fs::path from() const { return names[0]; }
  fs::path to() const { return names[1]; }
  bool to_llmc() const { return to().extension() == ".bin"; }
};

void add_output(Flags& flags, Rewrite& c) {
  flags.group("Output");
  flags.add("model-max-length", c.max_length, "N",
            "noted in tokenizer_config.json; 0 is the context of the model in FROM, or 1024",
            at_least(0));
  flags.add(kOverwriteFolderNames, c.overwrite, "replace a tokenizer that is there");
  flags.add("json", c.json, "one JSON line on stdout: tokens, the ids of those added, the output");
  flags.add_quiet();
  flags.positional("FROM TO", c.names);
}

constexpr const char* kPlaces =
    "FROM is a folder, a file that has a tokenizer (tokenizer.json, x.gguf, llm.c's tokenizer.bin) "
    "or "
    "a Hub name. TO is a folder, which gets tokenizer.json, vocab.json, merges.txt and what "
    "transformers reads beside them, or a file x.bin, which is llm.c's.";

void check_places(const Flags& flags, const Rewrite& c) {
  if (c.names.size() != 2) {
    flags.refuse(fmt::format("{} named: FROM and TO are wanted", counted(c.names.size(), "place")));
  }
  std::error_code ignored;
  if (c.to().extension() == ".gguf") {
    throw Error(Fault::usage, "a GGUF file holds a model with its tokenizer",
                {"none is written with a tokenizer alone"},
                fmt::format("quire convert MODEL {}", in_shell(c.to().string())));
  }
  if (!c.to_llmc() && fs::is_regular_file(c.to(), ignored)) {
    throw Error(Fault::usage, c.to().string() + " is a file", {"TO is a folder, or a file x.bin"},
                "another name");
  }
  const bool there = c.to_llmc() ? fs::exists(c.to(), ignored) : Tokenizer::exists(c.to());
  if (there && !c.overwrite) {
    throw Error(
        Fault::usage,
        c.to().string() + (c.to_llmc() ? " is there already" : " holds a tokenizer already"), {},
        "another name, or --overwrite-output-dir");
  }
}

void save(const Rewrite& c, const Tokenizer& tokenizer) {
  if (c.to_llmc()) {
    if (!tokenizer.save_llmc(c.to())) {
      warn(
          fmt::format("{} decodes, but does not encode: its merges do not follow from the order of "
                      "its tokens, and the file has no place for them",
                      c.to().string()));
    }
    return;
  }
  const std::int64_t context =
      c.max_length > 0 ? c.max_length : context_beside(resolve_tokenizer(c.names[0]));
  tokenizer.save(c.to(), context > 0 ? static_cast<int>(context) : kUsualLength);
}

int rewrite(const Rewrite& c) {
  const Tokenizer before = named_tokenizer(c.names[0]);
  const Tokenizer tokenizer = c.adds() ? before.with_added(c.tokens(), c.roles()) : before;
  save(c, tokenizer);

  Json ids = Json::object();
  for (const AddedToken& token : c.tokens()) {
    const TokenId id = tokenizer.token_to_id(token.content).value();
    if (ids.contains(token.content)) continue;
    ids[token.content] = id;
    note(fmt::format("{:>7} {}{}", id, token.content,
                     id < before.vocab_size() ? "  (was there)" : ""));
  }
  note(fmt::format("{} saved in {}", counted(tokenizer.vocab_size(), "token"), c.to().string()));
  if (tokenizer.vocab_size() > before.vocab_size()) {
    note(
        fmt::format("a model gets rows for them by quire train --resize-vocab, or\n"
                    "  try: quire convert MODEL OUT --resize-vocab {}",
                    tokenizer.vocab_size()));
  }
  if (c.json) {
    print(json_text(Json{{"tokens", tokenizer.vocab_size()},
                         {"ids", std::move(ids)},
                         {"output", c.to().string()}}) +
          "\n");
  }
  return 0;
}

}  // namespace

int run_tokenizer_add(const std::vector<std::string>& arguments) {
  Rewrite c;
  Flags flags("tokenizer add", "FROM TO [OPTION...]",
              fmt::format("Adds tokens to a tokenizer, behind its last id.\n\n{}", kPlaces));
  flags.group("Tokens");
  flags.add(
      "special-token", c.specials, "TEXT",
      "a special token, which is left out of decoded text where that is asked for; repeatable");
  flags.add("token", c.plain, "TEXT", "a token that is text; repeatable");
  flags.add("bos-token", c.bos, "TEXT", "the special token that begins a text");
  flags.add("eos-token", c.eos, "TEXT", "the one that ends it");
  flags.add("unk-token", c.unknown, "TEXT", "the one for what is unknown");
  flags.add("pad-token", c.padding, "TEXT", "the one that fills up rows");
  add_output(flags, c);
  flags.example(
      "quire tokenizer add gpt2 chat-tokenizer --special-token '<|user|>' "
      "--special-token '<|bot|>' --pad-token '<|pad|>'");
  if (!flags.parse(arguments)) return 0;
  check_places(flags, c);
  if (!c.adds()) flags.refuse("there is nothing to add: --special-token, --token or --pad-token");
  return rewrite(c);
}

int run_tokenizer_convert(const std::vector<std::string>& arguments) {
  Rewrite c;
  Flags flags("tokenizer convert", "FROM TO [OPTION...]",
              fmt::format("Writes a tokenizer in another form.\n\n{}", kPlaces));
  add_output(flags, c);
  flags.example("quire tokenizer convert model.gguf tokenizer");
  flags.example("quire tokenizer convert gpt2 gpt2_tokenizer.bin");
  if (!flags.parse(arguments)) return 0;
  check_places(flags, c);
  return rewrite(c);
}

}  // namespace quire
