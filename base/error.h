// The one exception type of the project.
//
// The library throws and never prints or exits; cli/ prints an Error and turns its fault into the
// exit code. An error says what, where, why and the next command:
//
//   error: emoji_df.csv has no column 'text'
//     columns: emoji, name, group, codepoints (4,590 rows, UTF-8, CRLF)
//     try: quire train --model DIR --data emoji_df.csv --template "{name} => {emoji}"
//
// Below cli/ a message names the fields of options, in backticks: "`block_size` is 0"_named. What the
// user of the program knows them by is for the program to say: cli/ makes flags of them.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace quire {

/// What a message calls a field of the library's options: `block_size`, or what name_fields_by() says.
std::string field_name(std::string_view field);
/// A text with field_name() of the fields that stand in it in backticks.
std::string operator""_named(const char* text, std::size_t size);
/// For a program whose users know the fields by other names. To be called before anything else of
/// the library; not by several threads.
void name_fields_by(std::string (*name_of)(std::string_view field));

/// What kind of trouble it is. The values are the program's exit codes.
enum class Fault : int {
  internal = 1,  ///< a bug of ours: a broken precondition between our own parts
  usage = 2,     ///< an option or argument that makes no sense
  bad_data = 3,  ///< a data or model file that is missing, damaged or inconsistent
  no_space = 4,  ///< not enough memory or disk
  device = 5,    ///< the device is missing or unsupported
  diverged = 6,  ///< training ran into numbers that are not finite
  check = 7,     ///< a check that the user asked for failed
};

class Error : public std::runtime_error {
 public:
  /// `what` is one line without a full stop; `details` are further lines (where, why), each
  /// complete; `next` is a command or an action to try, or empty.
  Error(Fault fault, const std::string& what, std::vector<std::string> details = {},
        std::string next = {})
      : std::runtime_error(what),
        fault_(fault),
        details_(std::move(details)),
        next_(std::move(next)) {}

  Fault fault() const { return fault_; }
  const std::vector<std::string>& details() const { return details_; }
  const std::string& next() const { return next_; }

  /// For who catches an error by reference, says more and throws it on.
  void add_place(std::string where) { details_.insert(details_.begin(), std::move(where)); }
  void add_detail(std::string detail) { details_.push_back(std::move(detail)); }
  void set_next(std::string next) { next_ = std::move(next); }

  /// The whole message as printed: "error: …", then the indented details, then "try: …".
  std::string message() const {
    std::string text = "error: " + std::string(what());
    for (const std::string& detail : details_) text += "\n  " + detail;
    if (!next_.empty()) text += "\n  try: " + next_;
    return text;
  }

 private:
  Fault fault_;
  std::vector<std::string> details_;
  std::string next_;
};

}  // namespace quire
