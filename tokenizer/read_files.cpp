// Reading a tokenizer's files. A folder holds one or more of
//
//   tokenizer.json           everything in one file, as the Hugging Face tokenizers write it
//   vocab.json, merges.txt   {"token": id, …} and one merge a line, "left right", after "#version"
//   encoder.json, vocab.bpe  the same under OpenAI's names
//   added_tokens.json        {"token": id, …}: tokens beside the vocabulary (older transformers)
//   tokenizer_config.json, special_tokens_map.json    which tokens are special, and their roles
//   tokenizer.bin            llm.c's: llmc_file.h
//
// tokenizer.json wins over the others, as in transformers: it alone knows all added tokens.
// tokenizer.bin comes last: it knows the least.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <unordered_set>

#include "base/error.h"
#include "base/file.h"
#include "base/foreign_file.h"
#include "base/json.h"
#include "base/text.h"
#include "tokenizer/impl.h"
#include "tokenizer/llmc_file.h"

namespace quire {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

/// The text of a file, without a byte-order mark. `what` it is not, where it is something else.
std::string_view text_of(const MappedFile& file, const char* what) {
  std::string_view text = file.text();
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
  if (const auto foreign = recognise_foreign(text.substr(0, 1024))) {
    fail(file.path().string(), what, {foreign->what}, foreign->next);
  }
  return text;
}

/// "left right" into the merges; false where it is none.
bool add_merge(std::string_view merge, TokenizerParts& parts) {
  const std::size_t space = merge.find(' ');
  if (space == std::string_view::npos || space == 0 || space + 1 == merge.size() ||
      merge.find(' ', space + 1) != std::string_view::npos) {
    return false;
  }
  parts.merges.push_back(merge.substr(0, space));
  parts.merges.push_back(merge.substr(space + 1));
  return true;
}

/// Reads JSON into a tree, except for the vocabulary (an object token → id) and the list of merges,
/// which go straight into lists: a tree of 100,000 nodes would take ten times as long to make.
class JsonReader : public nlohmann::json_sax<json> {
 public:
  enum class Vocabulary { whole_file, in_model, nowhere };

  JsonReader(const fs::path& path, TokenizerParts& parts, Vocabulary vocabulary)
      : file_(path.string()), parts_(parts), vocabulary_(vocabulary) {
    const MappedFile mapped(path);
    const std::string_view text = text_of(mapped, "not valid JSON");
    text_ = text;
    try {
      // check_json_limits() takes a tenth of the time of all: the events tell the depth as well.
      if (text.size() > kJsonBytes || text.find('\0') != std::string_view::npos) {
        check_json_limits(text);
      }
      json::sax_parse(text.begin(), text.end(), this);
    } catch (const json::parse_error& error) {
      parse_error(error.byte, "", error);
    }
    text_ = {};
  }

  json tree;
  bool has_vocabulary = false;
  bool has_merges = false;

  bool null() override { return scalar(nullptr); }
  bool boolean(bool value) override { return scalar(value); }
  bool number_float(double value, const std::string&) override { return scalar(value); }
  bool number_integer(std::int64_t value) override {
    return mode_ == Mode::vocabulary ? token(value) : scalar(value);
  }
  bool number_unsigned(std::uint64_t value) override {
    return mode_ == Mode::vocabulary
               ? token(static_cast<std::int64_t>(std::min<std::uint64_t>(value, INT64_MAX)))
               : scalar(value);
  }
  bool string(std::string& value) override {
    if (mode_ == Mode::merges) {
      if (!add_merge(value, parts_)) bad_merge("'" + value + "'");
      return true;
    }
    if (mode_ == Mode::merge) {
      if (++merge_parts_ <= 2) parts_.merges.push_back(value);
      return true;
    }
    return scalar(value);
  }
  bool binary(json::binary_t&) override { return false; }  // JSON has none

  bool start_object(std::size_t) override {
    go_deeper();
    if (mode_ != Mode::tree) wrong_value();
    const bool here = vocabulary_ == Vocabulary::whole_file
                          ? stack_.empty()
                          : vocabulary_ == Vocabulary::in_model && at_model_key("vocab");
    if (here) {
      mode_ = Mode::vocabulary;
      has_vocabulary = true;
      return true;
    }
    open(json::object());
    return true;
  }
  bool key(std::string& name) override {
    name_.swap(name);
    return true;
  }
  bool end_object() override {
    --depth_;
    if (mode_ == Mode::vocabulary) {
      mode_ = Mode::tree;
    } else {
      close();
    }
    return true;
  }
  bool start_array(std::size_t) override {
    go_deeper();
    if (mode_ == Mode::merges) {
      mode_ = Mode::merge;
      merge_parts_ = 0;
    } else if (mode_ != Mode::tree) {
      wrong_value();
    } else if (vocabulary_ == Vocabulary::in_model && at_model_key("merges")) {
      mode_ = Mode::merges;
      has_merges = true;
    } else {
      open(json::array());
    }
    return true;
  }
  bool end_array() override {
    --depth_;
    if (mode_ == Mode::merge) {
      if (merge_parts_ != 2) bad_merge(std::to_string(merge_parts_) + " strings");
      mode_ = Mode::merges;
    } else if (mode_ == Mode::merges) {
      mode_ = Mode::tree;
    } else {
      close();
    }
    return true;
  }
  bool parse_error(std::size_t, const std::string&, const json::exception& exception) override {
    fail(file_, "not valid JSON", {json_trouble(exception)});
  }

 private:
  enum class Mode { tree, vocabulary, merges, merge };

  void go_deeper() {
    if (++depth_ > kJsonDepth) check_json_limits(text_);  // throws: it knows the place
  }
  bool at_model_key(std::string_view name) const {
    return stack_.size() == 2 && model_ == stack_.back() && name_ == name;
  }
  json* put(json value) {
    if (stack_.empty()) return &(tree = std::move(value));
    json& parent = *stack_.back();
    if (parent.is_array()) return &parent.emplace_back(std::move(value));
    return &(parent[name_] = std::move(value));
  }
  void open(json value) {
    const bool model = stack_.size() == 1 && stack_.back()->is_object() && name_ == "model";
    // Parents do not move while a child is open: elements are appended to the innermost alone.
    stack_.push_back(put(std::move(value)));
    if (model) model_ = stack_.back();
  }
  void close() {
    if (stack_.back() == model_) model_ = nullptr;
    stack_.pop_back();
  }
  bool scalar(json value) {
    if (mode_ != Mode::tree) wrong_value();
    put(std::move(value));
    return true;
  }
  bool token(std::int64_t id) {
    parts_.tokens.push_back(name_);
    parts_.ids.push_back(id);
    return true;
  }
  [[noreturn]] void bad_merge(const std::string& found) {
    fail(file_, fmt::format("merge {} is not a pair of tokens", parts_.merges.size() / 2 + 1),
         {"it is " + found + "; expected [\"left\", \"right\"] or \"left right\""});
  }
  [[noreturn]] void wrong_value() {
    if (mode_ == Mode::vocabulary) {
      fail(file_, "the id of token '" + name_ + "' is not a number",
           {"the vocabulary is an object {\"token\": id, …}"});
    }
    bad_merge("not made of strings");
  }

  std::string file_;
  TokenizerParts& parts_;
  Vocabulary vocabulary_;
  Mode mode_ = Mode::tree;
  int merge_parts_ = 0;
  std::string_view text_;  // while it is parsed
  std::size_t depth_ = 0;
  std::string name_;
  std::vector<json*> stack_;
  json* model_ = nullptr;
};

json read_json(const fs::path& path) {
  TokenizerParts unused;
  json tree = JsonReader(path, unused, JsonReader::Vocabulary::nowhere).tree;
  if (!tree.is_object()) fail(path.string(), "not a JSON object", {});
  return tree;
}

/// A setting that may be missing or null.
template <typename T>
T setting(const json& object, const char* name, T otherwise, const std::string& file) {
  const auto found = object.find(name);
  if (found == object.end() || found->is_null()) return otherwise;
  try {
    return found->get<T>();
  } catch (const json::exception&) {
    fail(file, "'" + std::string(name) + "' is " + found->dump(),
         {"that is not the type expected"});
  }
}

AddedToken added_token(const json& entry, std::int64_t id, const std::string& file) {
  if (!entry.is_object() || !entry.contains("content")) {
    fail(file, "an added token is " + json_text(entry), {"expected an object with 'content'"});
  }
  AddedToken token;
  token.content = setting<std::string>(entry, "content", "", file);
  if (id < 0 || id >= static_cast<std::int64_t>(MergeTable::max_tokens)) {
    fail(file, "added token '" + token.content + "' has id " + std::to_string(id), {});
  }
  token.id = static_cast<TokenId>(id);
  token.special = setting(entry, "special", false, file);
  token.strip_left = setting(entry, "lstrip", false, file);
  token.strip_right = setting(entry, "rstrip", false, file);
  token.single_word = setting(entry, "single_word", false, file);
  token.second = setting(entry, "normalized", !token.special, file);
  return token;
}

[[noreturn]] void unsupported(const std::string& file, const std::string& what) {
  fail(file, what, {"only GPT-2's byte-level BPE is supported"},
       "use the tokenizer of a GPT-2 model");
}

/// Refuses what would make other ids than GPT-2's byte-level BPE does.
void check_pipeline(const json& tree, const std::string& file) {
  const auto part = [&](const char* name) -> const json& {
    static const json none;
    const auto found = tree.find(name);
    return found == tree.end() ? none : *found;
  };
  const auto type = [&](const json& object) {
    return object.is_object() ? setting<std::string>(object, "type", "", file) : json_text(object);
  };
  if (!part("normalizer").is_null()) {
    unsupported(file, "the normalizer is '" + type(part("normalizer")) + "'");
  }
  const json& splitting = part("pre_tokenizer");
  if (type(splitting) != "ByteLevel" || !setting(splitting, "use_regex", true, file)) {
    unsupported(file,
                "the pre_tokenizer is '" + type(splitting) + "', not ByteLevel with its regex");
  }
  if (setting(splitting, "add_prefix_space", false, file)) {
    unsupported(file, "the pre_tokenizer adds a space before the text (add_prefix_space)");
  }
  const json& after = part("post_processor");
  if (!after.is_null() && type(after) != "ByteLevel" &&
      (type(after) != "TemplateProcessing" || !after.value("special_tokens", json()).empty())) {
    unsupported(file, "the post_processor '" + type(after) + "' adds tokens");
  }
  const json& model = part("model");
  if (type(model) != "BPE") unsupported(file, "the model is '" + type(model) + "', not BPE");
  for (const char* affix : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (!setting<std::string>(model, affix, "", file).empty()) {
      unsupported(file, "the model has a " + std::string(affix));
    }
  }
  if (setting(model, "byte_fallback", false, file)) unsupported(file, "byte_fallback is on");
  if (setting(model, "dropout", 0.0, file) != 0.0) unsupported(file, "the merges have dropout");
}

void read_tokenizer_json(const fs::path& path, TokenizerParts& parts) {
  const std::string file = path.string();
  parts.tokens_source = parts.merges_source = file;
  const JsonReader reader(path, parts, JsonReader::Vocabulary::in_model);
  if (!reader.tree.is_object()) fail(file, "not a JSON object", {});
  check_pipeline(reader.tree, file);
  if (!reader.has_vocabulary) fail(file, "the model has no object 'vocab'", {});
  if (!reader.has_merges) fail(file, "the model has no list 'merges'", {});
  parts.whole_pieces_first = setting(reader.tree["model"], "ignore_merges", false, file);
  for (const json& entry : reader.tree.value("added_tokens", json::array())) {
    const json id = entry.is_object() ? entry.value("id", json(-1)) : json(-1);
    parts.added.push_back(
        added_token(entry, id.is_number_integer() ? id.get<std::int64_t>() : -1, file));
  }
}

void read_merges(const fs::path& path, TokenizerParts& parts) {
  parts.merges_source = path.string();
  const MappedFile mapped(path);
  std::string_view text = text_of(mapped, "not a list of merges");
  for (std::uint32_t number = 1; !text.empty(); ++number) {
    std::string_view line = take_until('\n', text);
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.starts_with("#version") || (line.empty() && text.empty())) continue;
    if (!add_merge(line, parts)) {
      constexpr std::size_t shown = 60;
      fail(
          fmt::format("{}:{}", parts.merges_source, number), "not a merge",
          {fmt::format("the line is '{}{}'", line.substr(0, shown), line.size() > shown ? "…" : ""),
           "expected two tokens with one space between them"});
    }
    parts.merge_lines.push_back(number);
  }
}

void read_vocabulary_and_merges(const fs::path& vocabulary, const fs::path& merges,
                                TokenizerParts& parts) {
  parts.tokens_source = vocabulary.string();
  const JsonReader reader(vocabulary, parts, JsonReader::Vocabulary::whole_file);
  if (!reader.has_vocabulary) {
    fail(parts.tokens_source, "not a vocabulary", {"expected an object {\"token\": id, …}"});
  }
  if (!fs::exists(merges)) {
    fail(merges.string(), "no such file", {"the vocabulary " + parts.tokens_source + " needs it"},
         "put " + merges.filename().string() + " beside " + vocabulary.filename().string());
  }
  read_merges(merges, parts);

  parts.added_by_name_alone = true;
  const fs::path added = vocabulary.parent_path() / "added_tokens.json";
  if (!fs::exists(added)) return;
  const json tree = read_json(added);
  for (const auto& [content, id] : tree.items()) {
    if (!id.is_number_integer())
      fail(added.string(), "the id of '" + content + "' is not a number", {});
    parts.added.push_back(added_token({{"content", content}, {"normalized", false}},
                                      id.get<std::int64_t>(), added.string()));
  }
}

/// The string of a token in a configuration: "…" or {"content": "…", …}; empty if it is neither.
std::string content_of(const json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_object() && value.contains("content") && value["content"].is_string()) {
    return value["content"].get<std::string>();
  }
  return {};
}

AddedToken* find_added(TokenizerParts& parts, std::string_view content) {
  for (AddedToken& token : parts.added) {
    if (token.content == content) return &token;
  }
  return nullptr;
}

void read_configuration(const fs::path& path, TokenizerParts& parts) {
  if (!fs::exists(path)) return;
  const std::string file = path.string();
  const json tree = read_json(path);
  if (setting(tree, "add_prefix_space", false, file)) {
    unsupported(file, "a space is added before the text (add_prefix_space)");
  }
  const json decoder = tree.value("added_tokens_decoder", json::object());
  for (const auto& [id, entry] : decoder.items()) {
    AddedToken* const known = find_added(parts, content_of(entry));
    if (known != nullptr && !parts.added_by_name_alone) continue;
    const bool digits =
        !id.empty() && id.size() < 10 && id.find_first_not_of("0123456789") == std::string::npos;
    AddedToken token = added_token(entry, digits ? std::stoll(id) : -1, file);
    if (known == nullptr) {
      parts.added.push_back(std::move(token));
    } else if (known->id == token.id) {
      token.special |= known->special;
      *known = std::move(token);
    }
  }
  for (const char* role : {"bos_token", "eos_token", "unk_token", "sep_token", "pad_token",
                           "cls_token", "mask_token"}) {
    const std::string content = tree.contains(role) ? content_of(tree[role]) : std::string();
    const bool known = std::any_of(parts.roles.begin(), parts.roles.end(),
                                   [&](const auto& entry) { return entry.first == role; });
    if (make_special(parts, content) && !known) parts.roles.emplace_back(role, content);
  }
  for (const char* list : {"additional_special_tokens", "extra_special_tokens"}) {
    for (const json& entry : tree.value(list, json::array()))
      make_special(parts, content_of(entry));
  }
}

struct FileNames {
  const char* vocabulary;
  const char* merges;
};
constexpr std::array<FileNames, 2> pairs = {
    {{"vocab.json", "merges.txt"}, {"encoder.json", "vocab.bpe"}}};

bool is_pair_in(const fs::path& folder, const FileNames& names) {
  return fs::exists(folder / names.vocabulary) && fs::exists(folder / names.merges);
}

}  // namespace

bool make_special(TokenizerParts& parts, const std::string& content) {
  return make_special(parts, std::span(&content, 1)) == nullptr;
}

const std::string* make_special(TokenizerParts& parts, std::span<const std::string> contents) {
  std::unordered_set<std::string_view> wanted(contents.begin(), contents.end());
  wanted.erase("");
  for (AddedToken& token : parts.added) token.special |= wanted.erase(token.content) > 0;
  // From the end: special tokens are the last of most vocabularies.
  for (std::size_t i = parts.tokens.size(); i-- > 0 && !wanted.empty();) {
    const auto found = wanted.find(parts.tokens[i]);
    if (found == wanted.end()) continue;
    if (parts.ids[i] < 0 || parts.ids[i] >= static_cast<std::int64_t>(MergeTable::max_tokens)) {
      continue;  // refused where the tokens are checked
    }
    parts.added.push_back(
        {.content = std::string(*found), .id = static_cast<TokenId>(parts.ids[i])});
    wanted.erase(found);
  }
  const auto left = std::find_if(contents.begin(), contents.end(), [&](const std::string& content) {
    return content.empty() || wanted.contains(content);
  });
  return left == contents.end() ? nullptr : &*left;
}

void fail(const std::string& file, const std::string& what, std::vector<std::string> details,
          const std::string& next) {
  throw Error(Fault::bad_data, file + ": " + what, std::move(details),
              next.empty() ? "take the tokenizer's files again from where the model came" : next);
}

TokenizerParts read_tokenizer_files(const fs::path& path) {
  TokenizerParts parts;
  const bool is_file = fs::is_regular_file(path);
  const fs::path folder = is_file ? path.parent_path() : path;
  const fs::path whole = is_file ? path : folder / "tokenizer.json";
  if (is_file && (path.extension() == ".bin" || is_llmc_tokenizer(path))) {
    read_llmc_tokenizer(path, parts);
    return parts;
  }
  if (fs::exists(whole)) {
    read_tokenizer_json(whole, parts);
  } else {
    const auto found = std::find_if(pairs.begin(), pairs.end(), [&](const FileNames& names) {
      return fs::exists(folder / names.vocabulary) || fs::exists(folder / names.merges);
    });
    if (found == pairs.end()) {
      if (const fs::path file = llmc_tokenizer_in(folder); !file.empty()) {
        read_llmc_tokenizer(file, parts);
        return parts;
      }
      throw Error(Fault::bad_data, "no tokenizer in " + folder.string(),
                  {fs::exists(folder) ? "looked for tokenizer.json, vocab.json with merges.txt, "
                                        "encoder.json with vocab.bpe, and llm.c's tokenizer.bin"
                                      : "the folder does not exist"},
                  "copy the model's tokenizer files there, or: quire tokenizer train");
    }
    read_vocabulary_and_merges(folder / found->vocabulary, folder / found->merges, parts);
  }
  read_configuration(folder / "special_tokens_map.json", parts);
  read_configuration(folder / "tokenizer_config.json", parts);
  make_special(parts, "<|endoftext|>");
  return parts;
}

bool Tokenizer::exists(const fs::path& folder) {
  if (fs::is_regular_file(folder)) {
    return folder.filename() == "tokenizer.json" || is_llmc_tokenizer(folder);
  }
  return fs::exists(folder / "tokenizer.json") ||
         std::any_of(pairs.begin(), pairs.end(),
                     [&](const FileNames& names) { return is_pair_in(folder, names); }) ||
         !llmc_tokenizer_in(folder).empty();
}

}  // namespace quire
