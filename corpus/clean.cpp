#include "corpus/clean.h"

#include <unicode/bytestream.h>
#include <unicode/normalizer2.h>
#include <unicode/stringpiece.h>

#include <algorithm>
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
  switch (step) {
    case CleaningStep::nfc:
      return "nfc";
    case CleaningStep::control:
      return "control";
    case CleaningStep::repair_mojibake:
      return "repair-mojibake";
    case CleaningStep::long_lines:
      return "long-lines";
    case CleaningStep::duplicates:
      return "duplicates";
  }
  return "";
}

std::vector<CleaningStep> cleaning_steps(const std::vector<std::string>& names) {
  std::vector<std::string> known;
  std::string listed;
  for (const CleaningStep step : kCleaningSteps) {
    known.emplace_back(name_of(step));
    listed += (listed.empty() ? "" : ", ") + known.back();
  }
  std::vector<CleaningStep> steps;
  const auto add = [&](const std::string& name) {
    const auto found = std::find(known.begin(), known.end(), name);
    if (found == known.end()) {
      const std::string close = nearest(name, known);
      throw Error(Fault::usage, "`steps`: there is no step '"_named + name + "'",
                  {"steps: " + listed},
                  "`steps` "_named + (close.empty() ? "nfc,control,duplicates" : close));
    }
    steps.push_back(kCleaningSteps[static_cast<std::size_t>(found - known.begin())]);
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
  const bool ascii = std::all_of(text.begin(), text.end(),
                                 [](char c) { return static_cast<signed char>(c) >= 0; });
  if (ascii) return true;
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
    const std::string_view line = text.substr(0, text.find('\n'));
    if (static_cast<std::int64_t>(line.size()) > longest) {  // characters are bytes or fewer
      longest = std::max(longest, utf8::count_characters(line));
    }
    text.remove_prefix(std::min(line.size() + 1, text.size()));
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

bool Cleaner::clean(Record& record) {
  if (!record.input_ids.empty()) return true;
  for (std::size_t step = 0; step < counts_.size(); ++step) {
    if (!apply(step, record)) return false;
  }
  return true;
}

bool needs_all(const CleaningOptions& options, bool utf8) {
  return std::any_of(options.steps.begin(), options.steps.end(), [&](CleaningStep step) {
    return step == CleaningStep::long_lines || step == CleaningStep::duplicates ||
           (step == CleaningStep::nfc && !utf8);
  });
}

/// Of the steps that change text alone. Whether the step changed it.
bool Cleaner::change_text(CleaningStep step, Record& record) const {
  switch (step) {
    case CleaningStep::nfc:
      return change(
          record, [&](auto text) { return normalise_ || !is_nfc(text); }, to_nfc);
    case CleaningStep::control:
      return change(record, has_control_character, without_control);
    case CleaningStep::repair_mojibake:
      return change(
          record, [](auto text) { return find_mojibake(text).has_value(); },
          [](auto text) { return repair_mojibake(std::string(text)); });
    case CleaningStep::long_lines:
    case CleaningStep::duplicates:
      break;
  }
  return false;
}

bool Cleaner::apply(std::size_t step, Record& record) {
  StepCount& count = counts_[step];
  const bool changed = change_text(count.step, record);
  bool keep = true;
  if (count.step == CleaningStep::control) keep = !record.text.empty();
  if (count.step == CleaningStep::long_lines) {
    keep = longest_line(record.text) <= max_line_length_;
  }
  if (count.step == CleaningStep::duplicates) keep = seen_.insert(hash128(record.text)).second;
  if (record.more) {
    changed_[step] |= changed;
    return true;
  }
  count.changed += keep && (changed || changed_[step]);
  changed_[step] = false;
  count.dropped += !keep;
  return keep;
}

std::string Cleaner::changed_text(std::string&& text) {
  Record part{.text = std::move(text), .input_ids = {}, .labels = {}};
  for (std::size_t step = 0; step < counts_.size(); ++step) {
    changed_[step] |= change_text(counts_[step].step, part);
  }
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
  bool keep = true;
  for (std::size_t step = 0; keep && step < counts_.size(); ++step) {
    StepCount& count = counts_[step];
    if (count.step == CleaningStep::control) keep = !empty;
    if (count.step == CleaningStep::long_lines) keep = longest <= max_line_length_;
    if (count.step == CleaningStep::duplicates) keep = seen_.insert(hash.hash128()).second;
    count.changed += keep && changed_[step];
    count.dropped += !keep;
  }
  if (keep) {
    parts([&](std::string&& part, bool last) { take(changed_text(std::move(part)), last); });
  }
  std::fill(changed_.begin(), changed_.end(), false);
  normalise_ = false;
  return keep;
}

}  // namespace quire
