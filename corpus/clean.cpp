#include "corpus/clean.h"

#include <fmt/format.h>
#include <unicode/bytestream.h>
#include <unicode/normalizer2.h>
#include <unicode/stringpiece.h>

#include <algorithm>
#include <array>
#include <functional>
#include <limits>

#include "base/error.h"
#include "base/nearest.h"
#include "base/text.h"
#include "base/utf8.h"
#include "corpus/mojibake.h"
#include "corpus/records.h"

namespace quire {
namespace {

const icu::Normalizer2& nfc() {
  UErrorCode status = U_ZERO_ERROR;
  const icu::Normalizer2* instance = icu::Normalizer2::getNFCInstance(status);
  if (U_FAILURE(status)) throw Error(Fault::internal, "ICU has no data for Unicode's normal forms");
  return *instance;
}

icu::StringPiece piece(std::string_view text) {
  if (text.size() > static_cast<std::size_t>(std::numeric_limits<int32_t>::max())) {
    throw Error(Fault::bad_data, "a record of more than 2 GB cannot be normalised", {},
                "`line_by_line`, or `document_separator` TEXT"_named);
  }
  return {text.data(), static_cast<int32_t>(text.size())};
}

std::string to_nfc(std::string_view text) {
  const std::string valid = replace_invalid_utf8(text);
  std::string result;
  UErrorCode status = U_ZERO_ERROR;
  icu::StringByteSink<std::string> sink(&result);
  nfc().normalizeUTF8(0, piece(valid), sink, nullptr, status);
  if (U_FAILURE(status)) throw std::bad_alloc();  // nothing else can fail here
  return result;
}

// Bytes of the control character at `at`: 1 for ASCII's but tab and line ends, 2 for U+0080 to
// U+009F, 0 for what is none.
std::size_t control_bytes(std::string_view text, std::size_t at) {
  const auto byte = static_cast<unsigned char>(text[at]);
  if (byte < 0x20) return byte != '\t' && byte != '\n' && byte != '\r';
  if (byte == 0x7F) return 1;
  const bool second = at + 1 < text.size() && static_cast<unsigned char>(text[at + 1]) >= 0x80 &&
                      static_cast<unsigned char>(text[at + 1]) <= 0x9F;
  return byte == 0xC2 && second ? 2 : 0;
}

std::string without_control(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t control = control_bytes(text, at);
    if (control == 0) result += text[at++];
    at += control;
  }
  return result;
}

// Changes what is before and after the prompt's end by themselves, so that the end is known after.
bool change(Record& record, const std::function<bool(std::string_view)>& needed,
            const std::function<std::string(std::string_view)>& changed) {
  if (!needed(record.text)) return false;
  if (record.prompt_bytes == 0) {
    record.text = changed(record.text);
    return true;
  }
  const std::string_view text = record.text;
  std::string whole = changed(text.substr(0, record.prompt_bytes));
  const std::size_t prompt = whole.size();
  whole += changed(text.substr(record.prompt_bytes));
  record.prompt_bytes = prompt;
  record.text = std::move(whole);
  return true;
}

}  // namespace

const char* name_of(CleaningStep step) {
  constexpr std::array kNames = {"nfc", "control", "repair-mojibake", "long-lines", "duplicates"};
  return kNames[static_cast<std::size_t>(step)];
}

std::vector<CleaningStep> cleaning_steps(const std::vector<std::string>& names) {
  std::vector<std::string> known;
  known.reserve(kCleaningSteps.size());
  for (const CleaningStep step : kCleaningSteps) known.emplace_back(name_of(step));
  std::vector<CleaningStep> steps;
  const auto add = [&](const std::string& name) {
    const auto found = std::find(known.begin(), known.end(), name);
    if (found == known.end()) {
      const std::string close = nearest(name, known);
      throw Error(Fault::usage, "`steps`: there is no step '"_named + name + "'",
                  {fmt::format("steps: {}", fmt::join(known, ", "))},
                  "`steps` "_named + (close.empty() ? "nfc,control,duplicates" : close));
    }
    steps.push_back(kCleaningSteps[found - known.begin()]);
  };
  for (const std::string& list : names) {
    for (std::size_t at = 0; at <= list.size();) {
      const std::size_t end = std::min(list.find(',', at), list.size());
      add(list.substr(at, end - at));
      at = end + 1;
    }
  }
  return steps;
}

bool is_nfc(std::string_view text) {
  if (is_ascii(text)) return true;
  UErrorCode status = U_ZERO_ERROR;
  return nfc().isNormalizedUTF8(piece(text), status) && U_SUCCESS(status);
}

bool has_control_character(std::string_view text) {
  for (std::size_t at = 0; at < text.size(); ++at) {
    if (control_bytes(text, at) > 0) return true;
  }
  return false;
}

std::int64_t longest_line(std::string_view text) {
  std::int64_t longest = 0;
  while (!text.empty()) {
    const std::string_view line = take_until('\n', text);
    if (std::ssize(line) > longest) {  // characters are bytes or fewer
      longest = std::max(longest, utf8::count_characters(line));
    }
  }
  return longest;
}

Cleaner::Cleaner(const CleaningOptions& options) : max_line_length_(options.max_line_length) {
  for (const CleaningStep step : kCleaningSteps) {
    if (std::find(options.steps.begin(), options.steps.end(), step) != options.steps.end()) {
      counts_.push_back({.step = step});
    }
  }
  changed_.resize(counts_.size());
}

bool Cleaner::makes(CleaningStep step) const {
  return std::any_of(counts_.begin(), counts_.end(),
                     [&](const StepCount& count) { return count.step == step; });
}

bool Cleaner::clean(Record& record) {
  if (!record.input_ids.empty()) return true;
  change_text(record);
  if (record.more) return true;
  const bool keep = end_record(record.text.empty(),
                               makes(CleaningStep::long_lines) ? longest_line(record.text) : 0,
                               makes(CleaningStep::duplicates) ? hash128(record.text) : Hash128{});
  std::fill(changed_.begin(), changed_.end(), false);
  return keep;
}

bool needs_all(const CleaningOptions& options, bool utf8) {
  return std::any_of(options.steps.begin(), options.steps.end(), [&](CleaningStep step) {
    return step == CleaningStep::long_lines || step == CleaningStep::duplicates ||
           (step == CleaningStep::nfc && !utf8);
  });
}

/// By those steps that do.
void Cleaner::change_text(Record& record) {
  const auto is_normal = [&](auto text) { return !normalise_ && is_nfc(text); };
  for (std::size_t i = 0; i < counts_.size(); ++i) {
    const CleaningStep step = counts_[i].step;
    if (step == CleaningStep::nfc) {
      changed_[i] |= change(record, std::not_fn(is_normal), to_nfc);
    } else if (step == CleaningStep::control) {
      changed_[i] |= change(record, has_control_character, without_control);
    } else if (step == CleaningStep::repair_mojibake) {
      changed_[i] |= change(
          record, [](auto text) { return find_mojibake(text).has_value(); },
          [](auto text) { return repair_mojibake(std::string(text)); });
    }
  }
}

/// Counts what was done to a record of this text, whether it is to be dropped too.
bool Cleaner::end_record(bool empty, std::int64_t longest, const Hash128& hash) {
  bool keep = true;
  for (std::size_t i = 0; keep && i < counts_.size(); ++i) {
    StepCount& count = counts_[i];
    if (count.step == CleaningStep::control) keep = !empty;
    if (count.step == CleaningStep::long_lines) keep = longest <= max_line_length_;
    if (count.step == CleaningStep::duplicates) keep = seen_.insert(hash).second;
    count.changed += keep && changed_[i];
    count.dropped += !keep;
  }
  return keep;
}

std::string Cleaner::changed_text(std::string&& text) {
  Record part{.text = std::move(text)};
  change_text(part);
  return std::move(part.text);
}

bool Cleaner::clean_parts(const ForEachPart& parts,
                          const std::function<void(std::string&&, bool last)>& take) {
  if (!counts_.empty() && counts_.front().step == CleaningStep::nfc) {
    bool normal = true;
    parts([&](std::string&& text, bool) { normal = normal && is_nfc(text); });
    normalise_ = !normal;
  }
  std::int64_t longest = 0;
  bool empty = true;
  HashStream hash;
  parts([&](std::string&& part, bool) {
    const std::string text = changed_text(std::move(part));
    longest = std::max(longest, longest_line(text));
    empty = empty && text.empty();
    hash.add(text);
  });
  const bool keep = end_record(empty, longest, hash.hash128());
  if (keep) {
    parts([&](std::string&& part, bool last) { take(changed_text(std::move(part)), last); });
  }
  std::fill(changed_.begin(), changed_.end(), false);
  normalise_ = false;
  return keep;
}

}  // namespace quire
