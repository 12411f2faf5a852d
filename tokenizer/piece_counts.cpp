#include "tokenizer/piece_counts.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <thread>

#include "base/utf8.h"
#include "tokenizer/added_tokens.h"
#include "tokenizer/splitter.h"
#include "tokenizer/unicode.h"

namespace quire {

void PieceCounts::add(std::string_view piece, std::uint64_t count) {
  const auto hash = static_cast<std::uint32_t>(std::hash<std::string_view>()(piece));
  const std::size_t mask = entries_.size() - 1;
  std::size_t i = hash & mask;
  for (; entries_[i].bytes != nullptr; i = (i + 1) & mask) {
    if (entries_[i].hash == hash && entries_[i].piece() == piece) {
      entries_[i].count += count;
      return;
    }
  }
  entries_[i] = {store(piece), static_cast<std::uint32_t>(piece.size()), hash, count};
  if (++used_ * 2 > entries_.size()) grow();
}

void PieceCounts::add(const PieceCounts& other) {
  other.for_each([&](const Entry& entry) { add(entry.piece(), entry.count); });
}

void PieceCounts::grow() {
  std::vector<Entry> old(entries_.size() * 2);
  old.swap(entries_);
  const std::size_t mask = entries_.size() - 1;
  for (const Entry& entry : old) {
    if (entry.bytes == nullptr) continue;
    std::size_t i = entry.hash & mask;
    while (entries_[i].bytes != nullptr) i = (i + 1) & mask;
    entries_[i] = entry;
  }
}

const char* PieceCounts::store(std::string_view piece) {
  constexpr std::size_t block = 1 << 16;
  if (piece.size() > block_left_) {
    block_left_ = std::max(block, piece.size());
    blocks_.push_back(std::make_unique_for_overwrite<char[]>(block_left_));
    block_at_ = blocks_.back().get();
  }
  std::memcpy(block_at_, piece.data(), piece.size());
  const char* stored = block_at_;
  block_at_ += piece.size();
  block_left_ -= piece.size();
  return stored;
}

namespace {

using unicode::CharClass;

/// Whether a piece ends between these neighbours whatever stands around them. Runs of letters and
/// numbers end where the class changes, and anything ends before a space; but "'s" and " a" join
/// classes, so a change after other characters or spaces says nothing.
bool always_ends_between(CharClass before, CharClass after) {
  if (before == CharClass::letter || before == CharClass::number) return before != after;
  return before == CharClass::other && after == CharClass::space;
}

/// The last place in (first, limit] where valid text can be cut without changing its split, or 0.
std::size_t last_cut(std::string_view text, std::size_t first, std::size_t limit) {
  const auto class_at = [&](std::size_t at) {
    return unicode::class_of(utf8::character(text.data() + at).code);
  };
  if (limit >= text.size()) limit = text.size() - 1;
  std::size_t at = utf8::begin_of_character(text, limit);
  CharClass after = class_at(at);
  while (at > first) {
    const std::size_t previous = utf8::begin_of_character(text, at - 1);
    const CharClass before = class_at(previous);
    if (always_ends_between(before, after)) return at;
    at = previous;
    after = before;
  }
  return 0;
}

constexpr std::size_t part_bytes = std::size_t{1} << 20;  // a thread's share of a chunk

}  // namespace

PieceCounter::PieceCounter(std::vector<std::string> special_tokens, int threads)
    : counts_(static_cast<std::size_t>(std::max(1, threads))) {
  std::vector<AddedToken> tokens;
  tokens.reserve(special_tokens.size());
  for (std::string& content : special_tokens) {
    tokens.push_back({.content = std::move(content), .id = static_cast<int>(tokens.size())});
  }
  specials_ = AddedTokenFinder(std::move(tokens));
}

void PieceCounter::count(std::string_view whole) {
  std::size_t from = 0;
  while (from < whole.size()) {
    const AddedTokenFinder::Match match = specials_.find(whole, from, from);
    const std::size_t end = match.id < 0 ? whole.size() : match.begin;
    count_segment(whole.substr(from, end - from));
    from = match.id < 0 ? end : match.end;
  }
}

void PieceCounter::count_segment(std::string_view segment) {
  const auto count_into = [](PieceCounts& into, std::string_view part) {
    for_each_piece(part, [&](const char* piece, std::size_t length) {
      into.add({piece, length}, 1);
    });
  };
  // Parts go to threads in turn; sums do not depend on which thread took what.
  while (counts_.size() > 1 && segment.size() > part_bytes) {
    std::vector<std::jthread> threads;
    for (PieceCounts& into : counts_) {
      const std::size_t cut = segment.size() > part_bytes ? last_cut(segment, 0, part_bytes) : 0;
      const std::string_view part = segment.substr(0, cut == 0 ? segment.size() : cut);
      segment.remove_prefix(part.size());
      threads.emplace_back(count_into, std::ref(into), part);
      if (segment.empty()) break;
    }
  }
  count_into(counts_.front(), segment);
}

void PieceCounter::add_chunk(std::string_view bytes) {
  if (!raw_.empty()) bytes = raw_.append(bytes);
  const std::size_t finished = utf8::finished_prefix(bytes);
  utf8::append_replacing_invalid(bytes.substr(0, finished), text_);
  raw_ = std::string(bytes.substr(finished));
  // A special token may begin in the last bytes, or contain the cut: such cuts are not taken.
  const std::size_t reserve = specials_.longest();
  if (text_.size() <= reserve) return;
  const std::size_t limit = text_.size() - reserve;
  std::size_t cut = last_cut(text_, without_cut_, limit);
  for (AddedTokenFinder::Match match = specials_.find(text_, 0, 0);
       match.id >= 0 && match.begin < cut; match = specials_.find(text_, match.end, match.end)) {
    if (match.end > cut) cut = match.begin;
  }
  without_cut_ = cut == 0 ? limit : 0;
  if (cut == 0) return;
  count(std::string_view(text_).substr(0, cut));
  text_.erase(0, cut);
}

void PieceCounter::end_text() {
  utf8::append_replacing_invalid(raw_, text_);
  raw_.clear();
  count(text_);
  text_.clear();
  without_cut_ = 0;
}

PieceCounts PieceCounter::take() {
  end_text();
  PieceCounts all = std::move(counts_.front());
  for (std::size_t i = 1; i < counts_.size(); ++i) all.add(counts_[i]);
  for (PieceCounts& counts : counts_) counts = PieceCounts();
  return all;
}

}  // namespace quire
