// From the parts that files give to the tables that encoding reads. Everything that can disagree is
// checked here: ids without holes, every byte has a token, every merge joins two tokens to a third.
#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "base/error.h"
#include "tokenizer/byte_alphabet.h"
#include "tokenizer/impl.h"

namespace quire {
namespace {

/// tokens[i] for i = id, where the ids are 0 … n-1 in any order.
std::vector<std::string_view> names_by_id(const TokenizerParts& parts) {
  const std::size_t count = parts.tokens.size();
  std::vector<std::string_view> names(count + parts.added.size());
  std::vector<bool> taken(names.size());
  std::size_t used = 0;
  std::int64_t largest = -1;
  const auto take = [&](std::string_view name, std::int64_t id) {
    if (id < 0 || id >= static_cast<std::int64_t>(MergeTable::max_tokens)) {
      fail(parts.tokens_source, fmt::format("token '{}' has id {}", name, id),
           {fmt::format("ids run from 0 to at most {}", MergeTable::max_tokens - 1)});
    }
    largest = std::max(largest, id);
    const auto i = static_cast<std::size_t>(id);
    if (i >= names.size()) return;  // leaves a hole, which is found below
    if (taken[i] && names[i] != name) {
      fail(parts.tokens_source, fmt::format("id {} is given twice", id),
           {fmt::format("to '{}' and to '{}'", names[i], name)});
    }
    used += !taken[i];
    taken[i] = true;
    names[i] = name;
  };
  for (std::size_t i = 0; i < count; ++i) take(parts.tokens[i], parts.ids[i]);
  for (const AddedToken& token : parts.added) take(token.content, token.id);

  if (largest + 1 != static_cast<std::int64_t>(used)) {
    const auto hole = std::find(taken.begin(), taken.end(), false) - taken.begin();
    fail(parts.tokens_source, fmt::format("no token has id {}", hole),
         {fmt::format("it gives {} ids up to {}; they must have no holes", used, largest)});
  }
  names.resize(used);
  return names;
}

}  // namespace

void TokenIndex::reserve(std::size_t tokens) {
  slots_.assign(std::bit_ceil(std::max<std::size_t>(1, 2 * tokens)), -1);
}

std::size_t TokenIndex::slot_of(const StringList& names, std::string_view name) const {
  const std::size_t mask = slots_.size() - 1;
  std::size_t i = std::hash<std::string_view>()(name) & mask;
  while (slots_[i] >= 0 && names[slots_[i]] != name) i = (i + 1) & mask;
  return i;
}

std::int32_t TokenIndex::add(const StringList& names, std::int32_t id) {
  std::int32_t& slot = slots_[slot_of(names, names[id])];
  if (slot >= 0) return slot;
  slot = id;
  return -1;
}

std::int32_t TokenIndex::find(const StringList& names, std::string_view name) const {
  return slots_[slot_of(names, name)];
}

namespace {

void index_tokens(const TokenizerParts& parts, Tokenizer::Impl& impl) {
  const std::vector<std::string_view> names = names_by_id(parts);
  impl.special.resize(names.size());
  std::vector<bool> is_added(names.size());
  for (const AddedToken& token : parts.added) {
    if (token.content.empty()) {
      fail(parts.tokens_source, "an added token is empty", {fmt::format("its id is {}", token.id)});
    }
    is_added[token.id] = true;
    impl.special[token.id] = token.special;
  }
  std::size_t characters = 0;
  for (const std::string_view name : names) characters += name.size();
  impl.names.reserve(names.size(), characters);
  impl.bytes.reserve(names.size(), characters);
  impl.index.reserve(names.size());
  std::string bytes;
  for (std::size_t id = 0; id < names.size(); ++id) {
    impl.names.push_back(names[id]);
    bytes.clear();
    if (is_added[id] || !append_bytes_of_printable(names[id], bytes)) bytes = names[id];
    impl.bytes.push_back(bytes);
    const std::int32_t other = impl.index.add(impl.names, id);
    if (other >= 0) {
      fail(parts.tokens_source, fmt::format("token '{}' is there twice", names[id]),
           {fmt::format("with id {} and with id {}", other, id)});
    }
  }
  for (int byte = 0; byte < 256; ++byte) {
    const char character = static_cast<char>(byte);
    const std::string name = printable({&character, 1});
    const std::int32_t id = impl.index.find(impl.names, name);
    if (id < 0) {
      fail(parts.tokens_source, fmt::format("no token for byte {}, written '{}'", byte, name),
           {"a byte-level vocabulary has a token for each of the 256 bytes"},
           "use the vocabulary of a GPT-2 model, or: quire tokenizer train");
    }
    impl.byte_ids[byte] = id;
  }
}

void add_merges(const TokenizerParts& parts, Tokenizer::Impl& impl) {
  const std::size_t count = parts.merges.size() / 2;
  if (count >= MergeTable::max_merges) {
    throw Error(Fault::bad_data,
                fmt::format("{}: {} merges are too many", parts.merges_source, count),
                {fmt::format("at most {} can be used", MergeTable::max_merges - 1)});
  }
  impl.merges.reserve(count);
  std::int32_t result = 255;
  for (std::size_t i = 0; i < count; ++i) {
    const std::string_view left = parts.merges[2 * i];
    const std::string_view right = parts.merges[2 * i + 1];
    const std::string_view joined(left.data(),
                                  left.size() + right.size());  // they lie side by side
    const auto refuse = [&](const std::string& why) {
      const bool lines = !parts.merge_lines.empty();
      fail(lines ? fmt::format("{}:{}", parts.merges_source, parts.merge_lines[i])
                 : parts.merges_source,
           fmt::format("merge{} of '{}' and '{}' does not fit the vocabulary",
                       lines ? "" : fmt::format(" {}", i + 1), left, right),
           {why, fmt::format("the vocabulary is {}, {} tokens", parts.tokens_source, impl.size())},
           "make sure that both files come from the same model");
    };
    const auto find = [&](std::string_view name) {
      const std::int32_t id = impl.index.find(impl.names, name);
      if (id < 0) refuse(fmt::format("it has no token '{}'", name));
      return id;
    };
    if (left.empty() || right.empty()) refuse("one of them is empty");
    const std::int32_t left_id = find(left);
    const std::int32_t right_id = find(right);
    // Most vocabularies number the results in order: then the next id needs no look-up.
    ++result;
    if (result >= impl.size() || impl.names[result] != joined) result = find(joined);
    if (!impl.merges.add({left_id, right_id, result})) {
      refuse("the same merge stands further up");
    }
    impl.junctions.insert(impl.bytes[left_id].back(), impl.bytes[right_id].front());
  }
}

}  // namespace

std::shared_ptr<const Tokenizer::Impl> build_tokenizer(TokenizerParts parts) {
  const auto impl = std::make_shared<Tokenizer::Impl>();
  index_tokens(parts, *impl);
  add_merges(parts, *impl);
  impl->added = std::move(parts.added);
  std::sort(impl->added.begin(), impl->added.end(),
            [](const AddedToken& a, const AddedToken& b) { return a.id < b.id; });
  std::vector<AddedToken> first, second;
  for (const AddedToken& token : impl->added) (token.second ? second : first).push_back(token);
  impl->find_plain = {AddedTokenFinder(first, /*specials_are_text=*/true),
                      AddedTokenFinder(second, /*specials_are_text=*/true)};
  impl->find_added = {AddedTokenFinder(std::move(first)), AddedTokenFinder(std::move(second))};
  impl->roles = std::move(parts.roles);
  impl->whole_pieces_first = parts.whole_pieces_first;
  return impl;
}

}  // namespace quire
