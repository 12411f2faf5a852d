// Cleaning of records, step by step. Nothing is done that was not asked for, and every step counts
// what it did.
//
//   nfc              Unicode's normal form C: "e" and an accent become "é"
//   control          control characters go, line ends and tabs stay
//   repair-mojibake  UTF-8 that was read as another encoding is read again (mojibake.h)
//   long-lines       records with a line of more than max_line_length characters are dropped
//   duplicates       records whose text was there before are dropped
//
// The steps are made in this order, whatever the order they are named in: a text is a duplicate
// when it is one as it will be learnt.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "base/hash.h"

namespace quire {

struct Record;

enum class CleaningStep { nfc, control, repair_mojibake, long_lines, duplicates };
inline constexpr std::array kCleaningSteps = {CleaningStep::nfc, CleaningStep::control,
                                              CleaningStep::repair_mojibake,
                                              CleaningStep::long_lines, CleaningStep::duplicates};
const char* name_of(CleaningStep step);

struct CleaningOptions {
  std::vector<CleaningStep> steps;
  std::int64_t max_line_length = 10'000;  ///< characters
};

/// The steps of "nfc,control". Throws Error(usage) with the names there are.
std::vector<CleaningStep> cleaning_steps(const std::vector<std::string>& names);

/// What one step did.
struct StepCount {
  CleaningStep step;
  std::int64_t changed = 0, dropped = 0;  ///< records
};

/// The text of a record, in parts that end where can_cut() says (records.h):
/// calls its argument with each and whether it is the last, in order. It can be gone through again.
using ForEachPart = std::function<void(const std::function<void(std::string&&, bool last)>&)>;

class Cleaner {
 public:
  explicit Cleaner(const CleaningOptions& options);

  /// Changes the record; false: it is to be dropped. Records that brought their ids stay as they
  /// are. One that comes in parts (Record::more) is counted with its last part; steps that need all
  /// of a record cannot be made then: see needs_all().
  bool clean(Record& record);
  /// The same for a record of text that no memory holds at once: `take` gets its parts, cleaned as
  /// the whole would be, unless it is to be dropped.
  bool clean_parts(const ForEachPart& parts,
                   const std::function<void(std::string&&, bool last)>& take);
  /// In the order in which the steps are made.
  const std::vector<StepCount>& counts() const { return counts_; }

 private:
  bool makes(CleaningStep step) const;
  void change_text(Record& record);
  std::string changed_text(std::string&& text);
  bool end_record(bool empty, std::int64_t longest, const Hash128& hash);

  std::int64_t max_line_length_;
  std::vector<StepCount> counts_;
  bool normalise_ = false;     // this part of a record, since another part needs it
  std::vector<char> changed_;  // by each step: parts of the record that goes on
  std::unordered_set<Hash128, HashOfHash> seen_;
};

/// Whether a step does something to one part of a record that depends on the others: long_lines and
/// duplicates do, and nfc does where the text is not all UTF-8, since it is then made UTF-8 if
/// anything in it is to be changed.
bool needs_all(const CleaningOptions& options, bool utf8);

/// What the steps look for.
bool is_nfc(std::string_view text);
bool has_control_character(std::string_view text);
/// Characters of the longest line.
std::int64_t longest_line(std::string_view text);

}  // namespace quire
